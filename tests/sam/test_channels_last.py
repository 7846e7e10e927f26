"""Pieces for maps with their channels last give what PyTorch's own functions give."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn

from vots_hqtrack.sam.channels_last import centred, gelu_, norm_centred_


@pytest.mark.parametrize("shape", [(2, 8, 3, 5), (1, 4, 1, 1), (1, 3, 5, 8)])
def test_gelu_does_not_depend_on_the_layout(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    for layout in (torch.contiguous_format, torch.channels_last):
        laid_out = x.clone(memory_format=layout)
        found = gelu_(laid_out)
        assert found is laid_out
        torch.testing.assert_close(found, F.gelu(x), atol=1e-6, rtol=1e-5)


def norm_behind(conv: nn.Module, norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    return norm(conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("kind", ["convolution", "transposed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_behind_a_centred_convolution(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    is_transposed = kind == "transposed"
    conv = nn.ConvTranspose2d(6, 16, 2, 2) if is_transposed else nn.Conv2d(6, 16, 3, padding=1)
    norm = nn.LayerNorm(16, eps=1e-3)
    for parameter in (*norm.parameters(), conv.bias):
        nn.init.uniform_(parameter, 0.5, 2.0)
    x = torch.randn(2, 6, 5, 7).contiguous(memory_format=torch.channels_last)
    wanted = norm_behind(conv, norm, x)
    before = copy.deepcopy(conv.state_dict())

    made = centred(conv, outputs=1 if is_transposed else 0).to(dtype)
    with torch.no_grad():
        found = norm_centred_(made(x.to(dtype)), copy.deepcopy(norm).to(dtype))

    assert all(torch.equal(conv.state_dict()[name], tensor) for name, tensor in before.items())
    # In bfloat16 numbers are rounded half a dozen times on the way, by 2 to the -9 each.
    tolerance = 1e-5 if dtype == torch.float32 else 0.04
    torch.testing.assert_close(found.float(), wanted, atol=tolerance, rtol=tolerance)
