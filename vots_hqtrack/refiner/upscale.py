"""Pieces of SAM's decoder that bring maps to a higher resolution, prepared for inference."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own spelling
from torch import Tensor, nn


class TransposedConv(nn.Module):
    """A transposed convolution and the norm of its channels, if there is one, then GELU.

    Args:
        conv: Stride and kernel are equal; it is copied.
        norm: The package's ``LayerNorm2d``, or None.
    """

    def __init__(self, conv: nn.Module, norm: nn.Module | None = None) -> None:
        super().__init__()
        source: Any = conv
        weight = source.weight.detach().clone()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(source.bias.detach().clone(), requires_grad=False)
        self.stride = source.stride
        self.norm = None if norm is None else channel_norm(norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H', W')``, channels last, to ``(N, C', 2 H', 2 W')``, the same layout."""
        x = F.conv_transpose2d(x, self.weight, self.bias, self.stride)
        if self.norm is not None:
            x = norm_channels(x, self.norm)
        return gelu_(x)


def channel_norm(layer: nn.Module) -> nn.LayerNorm:
    """Return the package's ``LayerNorm2d`` as a norm of tokens."""
    source: Any = layer
    norm = nn.LayerNorm(len(source.weight), eps=source.eps)
    norm.load_state_dict({"weight": source.weight, "bias": source.bias})
    return norm.requires_grad_(False)


def norm_channels(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Norm the channels of ``(N, C, H', W')``; cheap where they lie last in memory."""
    normed: Tensor = norm(x.permute(0, 2, 3, 1))
    return normed.permute(0, 3, 1, 2)


def gelu_(x: Tensor) -> Tensor:
    """Apply GELU in place: a fresh map costs as much as the function itself."""
    activated: Tensor = torch.ops.aten.gelu_(x)
    return activated
