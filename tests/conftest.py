"""Resources that tests ask for by marker or fixture; a missing one skips with a reason.

``VOTS_HQTRACK_REQUIRE=gpu,weights`` (any of gpu, weights, vot, cluster, browser, data) makes
failures of those skips.

Tests and their subprocesses compute on one thread unless ``OMP_NUM_THREADS`` is set: their sizes
are too small for more, and threads that wait for work take processor time.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says only how busy the machine is.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

collect_ignore_glob = ["*conftest.py"]  # --doctest-modules would take them for test modules

# pytest-xdist gives its workers COLUMNS=80, which a Rich console keeps from its making on.
os.environ.pop("COLUMNS", None)

REPOSITORY = Path(__file__).resolve().parents[1]


def _lacks_gpu() -> str:
    import torch

    return "" if torch.cuda.is_available() else "no CUDA device"


def _lacks_weights() -> str:
    from vots_hqtrack.checkpoints.manifest import resolve
    from vots_hqtrack.errors import WeightsError

    try:
        for name in ("sam-vit-tiny", "vmos-lite"):
            resolve(name)
    except WeightsError as error:
        return str(error)
    return ""


def _lacks_vot() -> str:
    return "" if importlib.util.find_spec("vot") else "the extra 'toolkit' is not installed"


def _lacks_ray() -> str:
    return "" if importlib.util.find_spec("ray") else "the extra 'cluster' is not installed"


def _required() -> set[str]:
    return {name.strip() for name in os.environ.get("VOTS_HQTRACK_REQUIRE", "").split(",")}


def _lacks_room() -> str:
    reason = "takes minutes or 6 GB of memory; runs with VOTS_HQTRACK_REQUIRE=large"
    return "" if "large" in _required() else reason


def _lacks_browser() -> str:
    for package in ("nicegui", "playwright"):
        if not importlib.util.find_spec(package):
            return f"{package} is not installed"
    return "" if shutil.which("chromium") else "no chromium on the path"


_LACKS: dict[str, Callable[[], str]] = {
    "gpu": _lacks_gpu,
    "weights": _lacks_weights,
    "vot": _lacks_vot,
    "cluster": _lacks_ray,
    "browser": _lacks_browser,
    "large": _lacks_room,
}


def _skip_or_fail(resource: str, reason: str) -> None:
    if resource in _required():
        pytest.fail(f"{resource} is required by VOTS_HQTRACK_REQUIRE: {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail where it is required, a test with a missing resource."""
    for resource, lacks in _LACKS.items():
        if item.get_closest_marker(resource) and (reason := lacks()):
            _skip_or_fail(resource, reason)


@pytest.fixture
def fast_16_bit() -> Iterator[None]:
    """Compute 16-bit matmuls in float32 and round, on processors without instructions for them."""
    from pretend_cuda import SumInFloat32

    from vots_hqtrack.processor import names_bfloat16

    with contextlib.nullcontext() if names_bfloat16() else SumInFloat32():
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """Top folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with ``davis2016-train`` and ``static-instances``: not in the repository."""
    named = os.environ.get("VOTS_HQTRACK_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        _skip_or_fail(
            "data", "no real data: set VOTS_HQTRACK_DATA to a folder with davis2016-train"
        )
    return folder
