"""Measurements of the GPU kit on work of known size, and every attention against the reference."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from vots_hqtrack import ops
from vots_hqtrack.bench.gpu.attention import (
    QUICK_SHAPES,
    SHAPES,
    AttentionShape,
    attention_timing,
    attentions,
    compare_attention,
)
from vots_hqtrack.bench.gpu.measure import count_operations, measure_card, profile_frames
from vots_hqtrack.bench.gpu.models import CutieModel
from vots_hqtrack.errors import ConfigError, OpsError
from vots_hqtrack.frame import plan_aligned_frame, plan_frame
from vots_hqtrack.ops.attention import global_attention_reference
from vots_hqtrack.ops.attention_table import read_timings, update_timings
from vots_hqtrack.presets import load_preset
from vots_hqtrack.types import Size

CPU = torch.device("cpu")


def test_profile_and_count_of_known_work() -> None:
    left, right = torch.ones(64, 32), torch.ones(32, 16)
    cost = profile_frames(lambda: left @ right, 3, CPU)
    kernels, busy, wall = (cost[name] for name in ("kernels", "busy_ms", "wall_ms"))
    assert isinstance(kernels, list)
    assert [count for name, _, count in kernels if name == "aten::mm"] == [1.0]
    assert 0 < busy <= wall  # type: ignore[operator]
    assert count_operations(lambda: left @ right) == 2 * 64 * 32 * 16


@pytest.mark.parametrize("widths", [(16, 32), (20, 50), (24, 8)])
def test_every_attention_gives_the_same(widths: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    query, *keys = (torch.randn(2, 30, widths[0], generator=generator) for _ in range(3))
    values = [torch.randn(2, 30, widths[1], generator=generator) for _ in keys]
    exact = global_attention_reference(query, keys, values)
    for attend in attentions(CPU).values():
        torch.testing.assert_close(attend(query, keys, values), exact, atol=1e-5, rtol=0)


def test_attention_is_timed() -> None:
    found = compare_attention(QUICK_SHAPES[0], CPU, torch.float32)
    assert found["fastest"] in ("blocks", "fused")
    blocks = found["blocks"]
    assert isinstance(blocks, dict)
    assert blocks["ms"] > 0
    assert blocks["error"] < 1e-5
    assert AttentionShape("", 2, 10, 3, 4, 5).flops == 2 * 2 * 10 * 30 * 9


def test_measured_attention_fills_the_table(tmp_path: Path) -> None:
    """Versions that failed or were wrong are left out; a table begins as the shipped one."""
    shape = QUICK_SHAPES[0]
    values: dict[str, object] = {
        "blocks": {"ms": 1.5, "tflops": 1.0, "error": 0.01},
        "fused": {"ms": 0.5, "tflops": 3.0, "error": 0.06},
        "another": {"failed": "no kernel"},
        "triton": {"ms": 0.25, "tflops": 6.0, "error": math.nan},
        "fastest": "triton",
    }
    tables = [tmp_path / "attention.json", tmp_path / "another.json"]
    timing = attention_timing(shape, CPU, torch.float32, values)
    assert timing is not None
    for table in tables:
        update_timings(table, timing)
        *shipped, row = read_timings(table)
        assert shipped == read_timings()
        assert (row.card, row.dtype, row.milliseconds) == ("cpu", "float32", {"blocks": 1.5})
        assert (row.key_width, row.value_width, row.num_scores) == (16, 32, 70 * 140)
    assert attention_timing(shape, CPU, torch.float32, {"fused": {"failed": "no"}}) is None
    found = compare_attention(shape, CPU, torch.float32)
    timing = attention_timing(shape, CPU, torch.float32, found)
    assert timing is not None
    assert set(timing.milliseconds) == set(attentions(CPU))


def test_shapes_are_those_of_the_presets() -> None:
    """Widths of keys and values follow the blocks' widths, lengths the frame's size."""
    frame = Size(720, 1280)
    for name, size in (
        ("lite", plan_frame(frame, 1024).network_size),
        ("vmos", plan_aligned_frame(frame, min_short_edge=480, max_long_edge=1040).network_size),
    ):
        config = load_preset(name)
        for stride, width in ((16, config.vmos.width_s16), (8, config.vmos.width_s8)):
            length = -(-size.height // stride) * -(-size.width // stride)
            (shape,) = [x for x in SHAPES if x.name == f"{name}, 720p, stride {stride}, memory"]
            assert (shape.key_width, shape.value_width) == (width // 2, 4 * width)
            assert (shape.length, shape.num_frames) == (length, config.memory.capacity)


def test_numbers_of_the_machine() -> None:
    found = measure_card(CPU, is_quick=True)
    for name in ("matmul_bfloat16_tflops", "matmul_float32_tflops", "copy_tb_s", "launch_us"):
        value = found[name]
        assert isinstance(value, float)
        assert value > 0
    versions = found["versions"]
    assert isinstance(versions, dict)
    assert versions["torch"] == torch.__version__


def test_backend_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_backend", "triton")
    with pytest.raises(OpsError, match="got 'other'"), ops.use_backend("other"):  # type: ignore[arg-type]
        pytest.fail("an unknown backend was taken")
    assert ops.resolve_backend() == "triton"
    with ops.use_backend("torch"):
        assert ops.resolve_backend() == "torch"
    assert ops.resolve_backend() == "triton"


def test_exception_other_tracker_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "omegaconf", None)
    with pytest.raises(ConfigError, match=r"pip install .*\[bench\]"):
        CutieModel("base", CPU)
