"""Window attention: the tiled version against the gathered one, and both against global
attention."""

import pytest
import torch
from torch import Tensor

from vots_hqtrack.ops.window import local_attention, local_attention_reference

SIZES = [(1, 1, 2), (5, 7, 2), (13, 40, 7), (9, 35, 3), (8, 32, 7)]


def draw(height: int, width: int, radius: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(height * 100 + width)
    channels = [4, 4, 6, (2 * radius + 1) ** 2]
    return [torch.randn(2, height, width, c, generator=generator, dtype=dtype) for c in channels]


@pytest.mark.parametrize(("height", "width", "radius"), SIZES)
def test_tiles_match_reference(height: int, width: int, radius: int) -> None:
    inputs = draw(height, width, radius)
    tiled = local_attention(*inputs, radius=radius, scale=0.5)
    gathered = local_attention_reference(*inputs, radius=radius, scale=0.5)
    assert tiled.shape == (2, height, width, 6)
    torch.testing.assert_close(tiled, gathered, atol=2e-6, rtol=1e-5)


def test_wide_window_is_global_attention() -> None:
    query, key, value, _ = draw(4, 5, 1)
    bias = torch.zeros(2, 4, 5, 81)
    found = local_attention_reference(query, key, value, bias, radius=4, scale=0.5)
    flat = [x.flatten(1, 2) for x in (query, key, value)]
    weights = (flat[0] @ flat[1].transpose(1, 2) * 0.5).softmax(-1)
    torch.testing.assert_close(found.flatten(1, 2), weights @ flat[2], atol=2e-6, rtol=1e-5)


def test_convention_bias_index_is_row_by_row() -> None:
    """A large bias at (row +1, column -2) makes every inner token read exactly that neighbour."""
    radius, side = 2, 5
    query, key, value, bias = draw(7, 9, radius)
    bias = torch.zeros_like(bias)
    bias[..., (1 + radius) * side + (-2 + radius)] = 1e4
    found = local_attention(query, key, value, bias, radius=radius, scale=1.0)
    torch.testing.assert_close(found[:, :-1, 2:], value[:, 1:, :-2])


def test_gradients() -> None:
    inputs = [x.requires_grad_() for x in draw(3, 4, 1, torch.float64)]
    assert torch.autograd.gradcheck(
        lambda *x: local_attention(*x, radius=1, scale=0.5), inputs, fast_mode=True
    )
