"""Pieces of SAM's decoder that bring maps to a higher resolution, prepared for inference."""

from __future__ import annotations

import copy
from typing import Any

import torch.nn.functional as F  # noqa: N812 - PyTorch's own spelling
from torch import Tensor, nn

from vots_hqtrack.sam.channels_last import centred, channel_norm, gelu_, norm_centred_


class TransposedConv(nn.Module):
    """A transposed convolution and the norm of its channels, if there is one, then GELU.

    Args:
        conv: Stride and kernel are equal; it is copied.
        norm: The package's ``LayerNorm2d``, or None.
    """

    def __init__(self, conv: nn.Module, norm: nn.Module | None = None) -> None:
        super().__init__()
        source: Any = copy.deepcopy(conv) if norm is None else centred(conv, outputs=1)
        self.weight = nn.Parameter(source.weight, requires_grad=False)
        self.bias = nn.Parameter(source.bias, requires_grad=False)
        self.stride = source.stride
        self.norm = None if norm is None else channel_norm(norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H', W')``, channels last, to ``(N, C', 2 H', 2 W')``, the same layout."""
        x = F.conv_transpose2d(x, self.weight, self.bias, self.stride)
        if self.norm is not None:
            x = norm_centred_(x, self.norm)
        return gelu_(x)
