"""Resizing of 8-bit images on a device, with the results of the libraries that the CPU uses.

Pillow's filter is computed in its own fixed-point numbers, so that the results are equal in every
bit; PyTorch's anti-aliased resize differs in a fifth of the pixels (decision 0056).
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.devices import device_table
from vots_hqtrack.types import Size

_BITS = 22
"""Bits of a weight behind the binary point, in Pillow."""


def resize_bilinear(pixels: Tensor, size: Size) -> Tensor:
    """Resize as Pillow does: anti-aliased bilinear filter, rounded after each axis.

    Args:
        pixels: ``(H, W, C)`` uint8.
        size: Size of the result.

    Returns:
        ``(*size, C)`` uint8.
    """
    for axis in (1, 0):
        indices, weights = _interpolation(pixels.shape[axis], size[axis], pixels.device)
        shape = [-1 if axis == other else 1 for other in range(3)]
        total = torch.full((), 1 << (_BITS - 1), dtype=torch.int32, device=pixels.device)
        for index, weight in zip(indices, weights, strict=True):
            total = total + pixels.index_select(axis, index) * weight.view(shape)
        pixels = (total >> _BITS).to(torch.uint8)
    return pixels


def resize_cubic(pixels: Tensor, size: Size) -> Tensor:
    """Resize as OpenCV does: cubic filter without anti-aliasing, rounded once.

    Where OpenCV's sum is near one half, the result may be 1 off.

    Args:
        pixels: ``(H, W, C)`` uint8.
        size: Size of the result.

    Returns:
        ``(*size, C)`` uint8.
    """
    maps = pixels.permute(2, 0, 1)[None].float()
    resized = F.interpolate(maps, tuple(size), mode="bicubic", align_corners=False)
    return resized[0].round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)


@device_table
def _interpolation(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices ``(taps, target)`` int64 of one axis, and weights int32 times ``2 ** _BITS``."""
    scale = source / target
    support = max(scale, 1.0)
    centre = (np.arange(target) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), source)
    index = first + np.arange(2 * math.ceil(support) + 1)[:, None]
    weight = np.maximum(1 - np.abs((index - centre + 0.5) / support), 0) * (index < last)
    fixed = weight / weight.sum(0) * (1 << _BITS) + 0.5
    return (
        torch.from_numpy(np.minimum(index, source - 1)).to(device),
        torch.from_numpy(fixed.astype(np.int32)).to(device),
    )
