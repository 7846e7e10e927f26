"""Fusion of a propagated stream with the encoder's features at a finer stride (paper, Figure 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

NORM_GROUPS = 8


def to_map(x: Tensor) -> Tensor:
    """View ``(B, H', W', C)`` as ``(B, C, H', W')`` for a convolution, in channels-last memory."""
    return x.permute(0, 3, 1, 2)


def from_map(x: Tensor) -> Tensor:
    """Bring ``(B, C, H', W')`` to contiguous ``(B, H', W', C)``: channels-last maps as they are."""
    return x.permute(0, 2, 3, 1).contiguous()


class ConvNorm(nn.Module):
    """A convolution and a group normalisation."""

    def __init__(self, dim_in: int, dim_out: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim_in, dim_out, kernel, padding=kernel // 2)
        self.norm = nn.GroupNorm(NORM_GROUPS, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, dim_in, H', W')`` to ``(B, dim_out, H', W')``."""
        normed: Tensor = self.norm(self.conv(x))
        return normed


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with group normalisation, and a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNorm(width, width, 3)
        self.second = ConvNorm(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, width, H', W')`` to the same shape."""
        change: Tensor = self.second(F.relu(self.first(F.relu(x))))
        return x + change


class Fusion(nn.Module):
    """Brings a stream to a finer stride: reduce, resize, add the encoder's features, refine.

    Args:
        dim_in: Channels of the stream at the larger stride.
        width: Channels at the finer stride.
        align_corners: Rule of resizing the stream.
    """

    def __init__(self, dim_in: int, width: int, *, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.reduce = ConvNorm(dim_in, width)
        self.refine = nn.Sequential(ResidualBlock(width), ResidualBlock(width))

    def forward(self, stream: Tensor, features: Tensor) -> Tensor:
        """Fuse.

        Args:
            stream: ``(B, H', W', dim_in)`` float.
            features: ``(B, H'', W'', width)`` float, projected encoder features.

        Returns:
            ``(B, H'', W'', width)`` float.
        """
        # CUDA's group norm leaves channels-last memory, in which 3 x 3 convolutions are faster.
        reduced = F.relu(self.reduce(to_map(stream))).contiguous(memory_format=torch.channels_last)
        size = features.shape[1:3]
        resized = F.interpolate(reduced, size, mode="bilinear", align_corners=self.align_corners)
        return from_map(F.relu(self.refine(resized + to_map(features))))
