"""Distances to the outside of masks by tensor operations: nothing waits for the device.

The host has OpenCV for it, which is faster there; these are for other devices and compiled graphs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

TILE_SIDE = 8
"""Pixels between those of which the depth is known first."""
NUM_TILES = 128
"""Tiles round the deepest of them in which every pixel's depth is computed."""


def squared_distances(masks: Tensor) -> Tensor:
    """Squared distance of every pixel to the nearest one of its mask.

    Args:
        masks: ``(N, H, W)`` bool, of low resolution: the memory goes with ``H W^2``.

    Returns:
        ``(N, H, W)`` float32; very large for an empty mask.
    """
    columns = torch.arange(masks.shape[2], device=masks.device, dtype=torch.float32)
    apart = (columns[:, None] - columns).square()
    return (_along_columns(~masks, beyond=False)[:, :, None] + apart).amin(-1)


def deepest_pixels(masks: Tensor) -> Tensor:
    """The pixel of each mask that is farthest from everything that is not the mask.

    Everything beyond the frame counts as not the mask. Depth changes by no more than one from a
    pixel to the next, so the deepest one is near the deepest of every eighth row and column. Only
    in masks with a very long ridge, where more than `NUM_TILES` tiles could hold it, may the pixel
    found be less deep, by 6 pixels at most.

    Args:
        masks: ``(N, H, W)`` bool.

    Returns:
        ``(N, 2)`` int64, ``(x, y)``; of equally deep pixels the first in reading order. ``(0, 0)``
        for an empty mask.
    """
    count, height, width = masks.shape
    # One column of outside on either side; what is above and below counts in the columns.
    vertical = F.pad(_along_columns(masks, beyond=True), (1, 1))
    first = TILE_SIDE // 2
    rows = torch.arange(min(first, height - 1), height, TILE_SIDE, device=masks.device)
    columns = torch.arange(min(first, width - 1), width, TILE_SIDE, device=masks.device)
    at_row = rows.repeat_interleave(len(columns)).expand(count, -1)
    at_column = columns.repeat(len(rows)).expand(count, -1)
    sampled = _depths(vertical, at_row, at_column)
    tiles = sampled.topk(min(NUM_TILES, sampled.shape[1])).indices
    step = torch.arange(TILE_SIDE, device=masks.device) - first
    down, along = step.repeat_interleave(TILE_SIDE), step.repeat(TILE_SIDE)
    at_row = (at_row.gather(1, tiles)[..., None] + down).flatten(1).clamp(0, height - 1)
    at_column = (at_column.gather(1, tiles)[..., None] + along).flatten(1).clamp(0, width - 1)
    depth = _depths(vertical, at_row, at_column)
    index = at_row * width + at_column
    deepest = depth.amax(1, keepdim=True)
    index = torch.where((depth == deepest) & (deepest > 0), index, height * width).amin(1)
    index = torch.where(index < height * width, index, 0)
    return torch.stack([index % width, index.div(width, rounding_mode="floor")], dim=1)


def _along_columns(masks: Tensor, *, beyond: bool) -> Tensor:
    """Squared distance to the nearest pixel outside the mask in the same column, float32.

    Args:
        masks: ``(N, H, W)`` bool.
        beyond: The rows above and below the map are outside.
    """
    height = masks.shape[1]
    far = 0 if beyond else -(2**11)
    row = torch.arange(1, height + 1, device=masks.device)[:, None]

    def above(inside: Tensor) -> Tensor:
        return row - torch.where(inside, far, row).cummax(1).values

    nearest = torch.minimum(above(masks), above(masks.flip(1)).flip(1))
    return nearest.float().square()


def _depths(vertical: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Squared depths ``(N, K)`` of K pixels, from ``(N, H, W + 2)`` along columns."""
    lines = vertical.gather(1, rows[..., None].expand(-1, -1, vertical.shape[2]))
    across = torch.arange(vertical.shape[2], device=rows.device) - 1 - columns[..., None]
    return (lines + across.float().square()).amin(-1)
