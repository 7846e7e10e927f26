"""Triton's kernels against the references: by Triton's interpreter on the CPU, and on a GPU."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from vots_hqtrack.ops.dcnv3 import deformable_sampling_reference
from vots_hqtrack.ops.window import local_attention_reference

pytest.importorskip("triton", reason="the extra 'gpu' is not installed")

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 4e-2, torch.float16: 6e-3}
"""For results of a few units. Measured in the interpreter: 1.7e-6, 1.6e-2 and 2e-3."""
SMALL = [torch.float32, torch.float16]
SAMPLING_SIZES = [(1, 1, 1, 2, 1), (2, 3, 5, 4, 3)]
"""Batch, height, width, groups and channels of a group."""
WINDOW_SIZES = [(1, 1, 2, 6), (4, 19, 3, 5)]
"""Height, width, radius and channels of the value."""


def test_in_the_interpreter() -> None:
    """Triton interprets what is imported under its variable, so that takes a fresh process."""
    if INTERPRETING:
        return
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rf", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert re.search(r"1[2-9] passed", ended.stdout), ended.stdout[-500:]


@pytest.fixture(scope="module")
def sampling() -> ModuleType:
    if not INTERPRETING:
        pytest.skip("runs in the process of test_in_the_interpreter")
    return importlib.import_module("vots_hqtrack.ops.triton_dcnv3")


@pytest.fixture(scope="module")
def windows() -> ModuleType:
    if not INTERPRETING:
        pytest.skip("runs in the process of test_in_the_interpreter")
    return importlib.import_module("vots_hqtrack.ops.triton_window")


def draw_sampling(batch: int, height: int, width: int, groups: int, channels: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(height * 100 + width)
    cells = (batch, height, width, groups)
    # In the layout in which the encoder gives them: all x of a cell, then all y.
    offsets = torch.randn(*cells[:3], 2, groups, 9, generator=generator).movedim(3, -1) * 1.5
    return [
        torch.randn(*cells[:3], groups * channels, generator=generator),
        offsets,
        torch.randn(*cells, 9, generator=generator).softmax(-1),
    ]


def draw_window(height: int, width: int, radius: int, channels: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(height * 100 + width)
    widths = [20, 20, channels, (2 * radius + 1) ** 2]
    return [torch.randn(2, height, width, c, generator=generator) for c in widths]


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("size", SAMPLING_SIZES)
def test_sampling(sampling: ModuleType, size: tuple[int, ...], dtype: torch.dtype) -> None:
    value, offsets, weights = draw_sampling(*size)
    exact = deformable_sampling_reference(value.double(), offsets.double(), weights.double())
    found = sampling.deformable_sampling_triton(value.to(dtype), offsets, weights)
    assert found.dtype == dtype
    assert (found.double() - exact).abs().max() < TOLERANCE[dtype]


def test_sampling_far_outside_is_zero(sampling: ModuleType) -> None:
    value, offsets, weights = draw_sampling(1, 3, 4, 2, 2)
    for far in (1e3, -1e9, 1e30):
        found = sampling.deformable_sampling_triton(value, torch.full_like(offsets, far), weights)
        assert not found.any()


def test_sampling_in_any_layout(sampling: ModuleType) -> None:
    value, offsets, weights = draw_sampling(2, 2, 3, 2, 4)
    expected = sampling.deformable_sampling_triton(value, offsets, weights)
    strided = [x.transpose(0, 2).contiguous().transpose(0, 2) for x in (value, offsets, weights)]
    assert not any(x.is_contiguous() for x in strided)
    assert torch.equal(sampling.deformable_sampling_triton(*strided), expected)


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("size", WINDOW_SIZES)
def test_window(windows: ModuleType, size: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = draw_window(*size)
    options = {"radius": size[2], "scale": 0.3}
    exact = local_attention_reference(*(x.double() for x in inputs), **options)
    found = windows.local_attention_triton(*(x.to(dtype) for x in inputs), **options)
    assert found.dtype == dtype
    assert (found.double() - exact).abs().max() < TOLERANCE[dtype]


def test_window_splits_wide_values(windows: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "VALUE_PART", 32)
    inputs = draw_window(2, 5, 1, 40)
    exact = local_attention_reference(*inputs, radius=1, scale=0.3)
    found = windows.local_attention_triton(*inputs, radius=1, scale=0.3)
    torch.testing.assert_close(found, exact, atol=2e-6, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sampling_on_gpu(dtype: torch.dtype) -> None:
    from vots_hqtrack.ops.triton_dcnv3 import deformable_sampling_triton

    value, offsets, weights = (x.to("cuda") for x in draw_sampling(2, 31, 54, 16, 16))
    exact = deformable_sampling_reference(value.double(), offsets.double(), weights.double())
    found = deformable_sampling_triton(value.to(dtype), offsets, weights)
    assert (found.double() - exact).abs().max() < TOLERANCE[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("widths", "radius"), [((64, 512), 7), ((128, 1024), 7), ((48, 384), 3)])
def test_window_on_gpu(dtype: torch.dtype, widths: tuple[int, int], radius: int) -> None:
    from vots_hqtrack.ops.triton_window import local_attention_triton

    generator = torch.Generator().manual_seed(0)
    channels = [widths[0], *widths, (2 * radius + 1) ** 2]
    inputs = [torch.randn(1, 23, 37, c, generator=generator).to("cuda") for c in channels]
    options = {"radius": radius, "scale": widths[0] ** -0.5}
    exact = local_attention_reference(*(x.double() for x in inputs), **options)
    found = local_attention_triton(*(x.to(dtype) for x in inputs), **options)
    assert (found.double() - exact).abs().max() < 4 * TOLERANCE[dtype]
