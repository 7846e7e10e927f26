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

from vots_hqtrack.ops.attention import global_attention_reference
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
ATTENTION_SIZES = [(1, [1], 8, 5), (70, [37, 1, 64], 20, 40)]
"""Queries, tokens of each frame, and channels of keys and values."""


def test_in_the_interpreter() -> None:
    """Triton interprets what is imported under its variable, so that takes a fresh process."""
    if INTERPRETING:
        return
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-m", "not gpu"]
    ended = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-rf", __file__],
        env={
            **os.environ,
            "TRITON_INTERPRET": "1",
            "OMP_NUM_THREADS": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert re.search(r"1[89] passed", ended.stdout), ended.stdout[-500:]


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


@pytest.fixture(scope="module")
def attention() -> ModuleType:
    if not INTERPRETING:
        pytest.skip("runs in the process of test_in_the_interpreter")
    return importlib.import_module("vots_hqtrack.ops.triton_attention")


def draw_sampling(batch: int, height: int, width: int, groups: int, channels: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(height * 100 + width)
    positions = (batch, height, width, groups)
    # In the layout in which the encoder gives them: all x of a pixel, then all y.
    offsets = torch.randn(*positions[:3], 2, groups, 9, generator=generator).movedim(3, -1) * 1.5
    return [
        torch.randn(*positions[:3], groups * channels, generator=generator),
        offsets,
        torch.randn(*positions, 9, generator=generator).softmax(-1),
    ]


def draw_window(height: int, width: int, radius: int, channels: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(height * 100 + width)
    widths = [20, 20, channels, (2 * radius + 1) ** 2]
    return [torch.randn(2, height, width, c, generator=generator) for c in widths]


def draw_attention(
    length: int, lengths: list[int], key_width: int, value_width: int, spread: float = 1.0
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(length)
    query = torch.randn(2, length, key_width, generator=generator) * spread
    keys = [torch.randn(2, n, key_width, generator=generator) for n in lengths]
    return query, keys, [torch.randn(2, n, value_width, generator=generator) for n in lengths]


def each(dtype: torch.dtype, tensors: list[Tensor]) -> list[Tensor]:
    return [x.to(dtype) for x in tensors]


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


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("size", ATTENTION_SIZES)
def test_attention(
    attention: ModuleType, size: tuple[int, list[int], int, int], dtype: torch.dtype
) -> None:
    query, keys, values = draw_attention(*size)
    exact = global_attention_reference(
        query.double(), each(torch.float64, keys), each(torch.float64, values)
    )
    found = attention.global_attention_triton(
        query.to(dtype), each(dtype, keys), each(dtype, values)
    )
    assert found.dtype == torch.float32
    assert (found.double() - exact).abs().max() < TOLERANCE[dtype]


def test_attention_splits_wide_values(
    attention: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part of the value keeps running sums of its own."""
    monkeypatch.setattr(attention, "VALUE_PART", 32)
    query, keys, values = draw_attention(9, [40, 3], 8, 40)
    exact = global_attention_reference(query, keys, values)
    found = attention.global_attention_triton(query, keys, values)
    torch.testing.assert_close(found, exact, atol=2e-6, rtol=1e-5)


def test_attention_to_scores_that_rise_from_frame_to_frame(attention: ModuleType) -> None:
    """Nothing overflows, and what was summed before fades."""
    query, keys, values = draw_attention(5, [40, 40], 8, 4, spread=40)
    keys = sorted(keys, key=lambda key: float((query @ key.transpose(1, 2)).amax()))
    exact = global_attention_reference(
        query.double(), each(torch.float64, keys), each(torch.float64, values)
    )
    found = attention.global_attention_triton(query, keys, values)
    assert torch.isfinite(found).all()
    # Scores of about 100 have 5 digits behind the point in float32.
    assert (found.double() - exact).abs().max() < 1e-4


def test_attention_with_precise_keys_and_rounded_values(attention: ModuleType) -> None:
    query, keys, values = draw_attention(20, [25, 25], 8, 5, spread=3)
    exact = global_attention_reference(query, keys, values)
    found = attention.global_attention_triton(query, keys, each(torch.float16, values))
    assert (found - exact).abs().max() < TOLERANCE[torch.float16]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("widths", [(64, 512), (128, 1024), (32, 256), (208, 80)])
def test_attention_on_gpu(dtype: torch.dtype, widths: tuple[int, int]) -> None:
    from vots_hqtrack.ops.triton_attention import global_attention_triton

    drawn = draw_attention(700, [700, 651, 3], *widths)
    query, keys, values = (
        drawn[0].cuda(),
        [x.cuda() for x in drawn[1]],
        [x.cuda() for x in drawn[2]],
    )
    exact = global_attention_reference(
        query.double(), each(torch.float64, keys), each(torch.float64, values)
    )
    found = global_attention_triton(query.to(dtype), each(dtype, keys), each(dtype, values))
    assert (found.double() - exact).abs().max() < 2 * TOLERANCE[dtype]


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
