"""``runtime.dtype=auto`` on the CPU follows a measurement, which is kept for the machine."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vots_hqtrack import processor
from vots_hqtrack.cli.doctor import find_devices
from vots_hqtrack.devices import pick_dtype

CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VOTS_HQTRACK_CACHE", str(tmp_path / "cache"))
    processor.bfloat16_ratio.cache_clear()
    yield tmp_path / "cache"
    processor.bfloat16_ratio.cache_clear()


def test_the_measurement_is_real_short_and_kept(cache: Path) -> None:
    ratio = processor.bfloat16_ratio()
    assert 0 < ratio < 1000
    (kept,) = json.loads((cache / processor.FILE_NAME).read_text()).values()
    assert kept == ratio


def test_the_faster_of_both_is_taken(cache: Path) -> None:
    """Clock readings: float32 takes 2 s, bfloat16 3 s at its best."""
    steps = itertools.accumulate(itertools.cycle([1.0, 2.0, 1.0, 3.0]))
    assert processor.measure_ratio(lambda: next(steps)) == pytest.approx(1.5)


@pytest.mark.parametrize(("ratio", "dtype"), [(0.5, torch.bfloat16), (1.6, torch.float32)])
def test_auto_follows_what_was_measured(
    cache: Path, monkeypatch: pytest.MonkeyPatch, ratio: float, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "cpu_name": "a Xeon"}
    )
    processor.bfloat16_ratio()
    path = cache / processor.FILE_NAME
    (key,) = json.loads(path.read_text())
    assert "a Xeon" in key
    assert torch.__version__ in key
    path.write_text(json.dumps({key: ratio}))
    processor.bfloat16_ratio.cache_clear()
    assert pick_dtype("auto", CPU) == dtype
    assert f"bfloat16 takes {ratio:.2f} of float32's time" in find_devices()["cpu"]


def test_a_processor_without_bfloat16_is_not_measured(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert pick_dtype("auto", CPU) == torch.float32
    assert not cache.exists()
    assert "no instructions for bfloat16" in find_devices()["cpu"]


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"a": 1}', "null", "[" * 9999, '"x"', "\ud800"], ids=repr
)
def test_a_damaged_file_is_measured_again(cache: Path, content: str) -> None:
    cache.mkdir()
    path = cache / processor.FILE_NAME
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    assert processor.bfloat16_ratio() > 0
    assert len(json.loads(path.read_text())) == (2 if '"a"' in content else 1)


def test_a_folder_that_cannot_be_written_is_no_error(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert processor.bfloat16_ratio() > 0


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "9"}])
def test_idle_threads_sleep_unless_the_user_chose(given: dict[str, str]) -> None:
    code = (
        "import os, sys, vots_hqtrack.vot.__main__, vots_hqtrack.cli.main as cli\n"
        "assert 'torch' not in sys.modules\n"
        "before = os.environ.get('OMP_WAIT_POLICY')\n"
        "cli.app = lambda: print(before, os.environ.get('OMP_WAIT_POLICY'))\n"
        "cli.main()"
    )
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    rest = {name: value for name, value in os.environ.items() if name not in names}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**rest, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = given.get("OMP_WAIT_POLICY", None if given else "PASSIVE")
    assert ended.stdout.split() == [str(given.get("OMP_WAIT_POLICY")), str(wanted)]
