"""Deformable sampling: the fast version, the reference, loops in Python, and a fixed grid."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.ops.dcnv3 import deformable_sampling, deformable_sampling_reference

Sampling = Callable[[Tensor, Tensor, Tensor], Tensor]
BOTH = pytest.mark.parametrize("sample", [deformable_sampling, deformable_sampling_reference])
SIZES = [(1, 1, 1, 2, 1), (2, 3, 5, 4, 3), (1, 7, 4, 2, 2), (3, 4, 1, 1, 8)]
"""Batch, height, width, groups and channels of a group."""
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 4e-2, torch.float16: 5e-3}


def draw(
    batch: int, height: int, width: int, groups: int, channels: int, *, spread: float = 1.5
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(height * 100 + width)
    positions = (batch, height, width, groups)
    return [
        torch.randn(*positions[:3], groups * channels, generator=generator, dtype=torch.float64),
        torch.randn(*positions, 9, 2, generator=generator, dtype=torch.float64) * spread,
        torch.randn(*positions, 9, generator=generator, dtype=torch.float64).softmax(-1),
    ]


def read(value: Tensor, y: float, x: float) -> Tensor:
    """Bilinear value of one ``(H', W', C)`` map at a point, zero outside."""
    total = torch.zeros_like(value[0, 0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < value.shape[0] and 0 <= column < value.shape[1]:
                total = total + value[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def sample_by_loops(value: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    batch, height, width, groups, points = weights.shape
    grouped = value.unflatten(-1, (groups, -1))
    out = torch.zeros_like(grouped)
    for b, y, x, g, p in torch.cartesian_prod(
        *(torch.arange(n) for n in (batch, height, width, groups, points))
    ).tolist():
        shift_x, shift_y = offsets[b, y, x, g, p].tolist()
        found = read(grouped[b, :, :, g], y + p % 3 - 1 + shift_y, x + p // 3 - 1 + shift_x)
        out[b, y, x, g] += weights[b, y, x, g, p] * found
    return out.flatten(-2)


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_matches_loops(sample: Sampling, size: tuple[int, ...]) -> None:
    inputs = draw(*size)
    found = sample(*inputs)
    assert found.shape == inputs[0].shape
    torch.testing.assert_close(found, sample_by_loops(*inputs), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("size", [(2, 31, 54, 16, 16), (1, 25, 33, 32, 8)])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_fast_version_matches_reference(size: tuple[int, ...], dtype: torch.dtype) -> None:
    exact = deformable_sampling_reference(*draw(*size))
    value, offsets, weights = (x.to(dtype) for x in draw(*size))
    rounded = deformable_sampling_reference(value, offsets, weights)
    found = deformable_sampling(value, offsets, weights)
    assert found.dtype == dtype
    assert (found.double() - rounded.double()).abs().max() < TOLERANCE[dtype]
    if dtype == torch.float32:
        assert (found - exact).abs().max() < TOLERANCE[dtype]


@BOTH
def test_no_offsets_is_a_fixed_grid(sample: Sampling) -> None:
    """With the same weights everywhere and no offsets it is a depth-wise convolution."""
    value, offsets, weights = draw(2, 6, 8, 4, 3)
    weights = weights[:1, :1, :1].expand_as(weights)
    found = sample(value, torch.zeros_like(offsets), weights)
    kernels = weights[0, 0, 0].unflatten(-1, (3, 3)).transpose(1, 2)
    maps = value.permute(0, 3, 1, 2)
    kernel = kernels.repeat_interleave(3, 0).unsqueeze(1)
    expected = F.conv2d(maps, kernel, padding=1, groups=12).permute(0, 2, 3, 1)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)


@BOTH
def test_convention_points_run_down_columns_and_offsets_are_xy(sample: Sampling) -> None:
    value = torch.arange(20.0).view(1, 4, 5, 1)  # value = 5 * y + x

    def at(point: int, x: float, y: float) -> float:
        """Return the value that pixel (1, 2) reads by one point."""
        weights = torch.zeros(1, 4, 5, 1, 9)
        weights[..., point] = 1
        offsets = torch.tensor([x, y]).expand(1, 4, 5, 1, 9, 2)
        return float(sample(value, offsets, weights)[0, 1, 2, 0])

    assert at(4, 0, 0) == pytest.approx(7)
    assert at(1, 0, 0) == pytest.approx(6)  # the second point is left of the centre
    assert at(3, 0, 0) == pytest.approx(2)  # the fourth is above it
    assert at(4, 1, 0) == pytest.approx(8)
    assert at(4, 0, 1) == pytest.approx(12)
    assert at(4, 0.25, 0.5) == pytest.approx(7 + 0.25 + 2.5)
    assert at(4, 2.5, 0) == pytest.approx(4.5)  # half of it is outside, which is zero
    assert at(4, 0, -1.5) == pytest.approx(1)
    assert at(4, 3, 0) == pytest.approx(0, abs=1e-5)


@BOTH
@pytest.mark.parametrize("far", [1e3, -1e9, 1e30])
def test_far_outside_is_zero(sample: Sampling, far: float) -> None:
    value, offsets, weights = draw(1, 3, 4, 2, 2)
    found = sample(value, torch.full_like(offsets, far), weights)
    assert not found.any()


def test_non_contiguous_input() -> None:
    value, offsets, weights = draw(1, 5, 6, 2, 3)
    strided = value.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert not strided.is_contiguous()
    assert torch.equal(
        deformable_sampling(strided, offsets, weights), deformable_sampling(value, offsets, weights)
    )


@BOTH
@pytest.mark.parametrize(
    ("offsets", "weights"),
    [
        ((1, 4, 5, 2, 9, 2), (1, 4, 5, 2, 4)),
        ((1, 4, 5, 2, 4, 2), (1, 4, 5, 2, 4)),
        ((1, 4, 5, 4, 9, 2), (1, 4, 5, 4, 9)),
        ((1, 5, 4, 2, 9, 2), (1, 5, 4, 2, 9)),
        ((1, 4, 5, 2, 9, 3), (1, 4, 5, 2, 9)),
        ((1, 4, 5, 9, 2), (1, 4, 5, 9)),
    ],
)
def test_exception(sample: Sampling, offsets: tuple[int, ...], weights: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"wants values \(B, H', W', C\).*got \(1, 4, 5, 6\)"):
        sample(torch.zeros(1, 4, 5, 6), torch.zeros(offsets), torch.zeros(weights))


@BOTH
def test_gradients(sample: Sampling) -> None:
    inputs = [x.requires_grad_() for x in draw(2, 3, 4, 2, 2, spread=0.7)]
    assert torch.autograd.gradcheck(sample, inputs, fast_mode=True)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gpu_matches_cpu(dtype: torch.dtype) -> None:
    inputs = [x.to(dtype) for x in draw(2, 31, 54, 16, 16)]
    exact = deformable_sampling_reference(*(x.double() for x in inputs))
    found = deformable_sampling(*(x.to("cuda") for x in inputs)).cpu()
    assert (found.double() - exact).abs().max() < TOLERANCE[dtype]
