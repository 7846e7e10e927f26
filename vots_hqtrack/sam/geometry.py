"""Position of a video frame in SAM's square input; maps to it and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.masks import mask_boxes
from vots_hqtrack.types import Size

EDGE = 2
"""Mask pixels round those above the threshold that are resized with them: interpolation reads one,
and the crop's border spoils one."""


class LinearIndices(NamedTuple):
    """Interpolation indices and weights along one side.

    Attributes:
        low: ``(output side,)`` int64, the nearer to 0 of two samples.
        high: ``(output side,)`` int64, the other one.
        weight: ``(output side,)`` float32 in ``[0, 1)``, weight of the latter.
    """

    low: Tensor
    high: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class SamGeometry:
    """Position of a video frame in SAM's square input: resized, then padded right and below.

    Attributes:
        frame_size: Size of the video frame.
        input_size: Size of the resized frame inside SAM's input.
        side: Side of SAM's input in pixels.
        mask_side: Side of SAM's low-resolution masks in pixels.
    """

    frame_size: Size
    input_size: Size
    side: int
    mask_side: int

    @property
    def mask_stride(self) -> int:
        """Pixels of SAM's input per pixel of a low-resolution mask, in each direction."""
        return self.side // self.mask_side

    @property
    def covered(self) -> Size:
        """Low-resolution mask pixels that the frame covers, the last ones perhaps in part."""
        height, width = self.input_size
        return Size(-(-height // self.mask_stride), -(-width // self.mask_stride))


def scale_points(points: Tensor, geometry: SamGeometry) -> Tensor:
    """Bring pixel indices from the frame into SAM's input, as SAM does.

    Args:
        points: ``(..., 2)`` float, ``(x, y)`` in frame pixels.
        geometry: The frame's position in SAM's input.

    Returns:
        ``(..., 2)`` float32, ``(x, y)`` in pixels of SAM's input.
    """
    scale = [
        geometry.input_size.width / geometry.frame_size.width,
        geometry.input_size.height / geometry.frame_size.height,
    ]
    # float64 as in the package's predictor: the same prompts to the last bit.
    scaled = points.to(torch.float64) * torch.tensor(
        scale, dtype=torch.float64, device=points.device
    )
    return scaled.to(torch.float32)


@lru_cache(maxsize=64)
def linear_indices(output_side: int, input_side: int) -> LinearIndices:
    """Return indices and weights of bilinear interpolation with ``align_corners=False``."""
    scale = torch.tensor(input_side, dtype=torch.float32) / output_side
    position = (scale * (torch.arange(output_side, dtype=torch.float32) + 0.5) - 0.5).clamp_(min=0)
    low = position.long().clamp_(max=input_side - 1)
    return LinearIndices(low, (low + 1).clamp_(max=input_side - 1), position - low)


def masks_in_frame(logits: Tensor, geometry: SamGeometry) -> Tensor:
    """Bring low-resolution logits to the frame and threshold them, as SAM does.

    SAM's way is bilinear to its input's size, the padding cut off, bilinear to the frame. Here it
    is computed only round the pixels above the threshold: elsewhere all is background.

    Args:
        logits: ``(N, H', W')`` float32: SAM's mask pixels from the first row and column on, all of
            them or those that the frame covers and one more each way.
        geometry: The frame's position in SAM's input.

    Returns:
        ``(N, H, W)`` bool, frame pixels.
    """
    masks = torch.zeros((len(logits), *geometry.frame_size), dtype=torch.bool, device=logits.device)
    # Interpolation reaches one mask pixel beyond the frame.
    rows, columns = (min(side + 1, geometry.mask_side) for side in geometry.covered)
    seen = logits[:, :rows, :columns]
    stride = geometry.mask_stride
    boxes = mask_boxes(seen > 0).int().tolist()
    for low, mask, (left, top, right, bottom) in zip(seen, masks, boxes, strict=True):
        if right == 0:
            continue
        left, top = max(left - EDGE, 0), max(top - EDGE, 0)
        part = low[top : bottom + EDGE, left : right + EDGE]
        fine = F.interpolate(
            part[None, None],
            (part.shape[0] * stride, part.shape[1] * stride),
            mode="bilinear",
            align_corners=False,
        )[0, 0]
        frame, content = geometry.frame_size, geometry.input_size
        down, first_row = _cut(frame.height, content.height, top * stride, fine.shape[0])
        along, first_column = _cut(frame.width, content.width, left * stride, fine.shape[1])
        resized = _resample(fine, down, 0)
        inside = _resample(resized, along, 1) > 0
        mask[
            first_row : first_row + inside.shape[0], first_column : first_column + inside.shape[1]
        ] = inside
    return masks


def _cut(frame_side: int, input_side: int, start: int, length: int) -> tuple[LinearIndices, int]:
    """Keep what reads within ``length`` samples from ``start`` on; also returns its first pixel."""
    low, high, weight = linear_indices(frame_side, input_side)
    first = int(torch.searchsorted(low, start).numpy())
    last = int(torch.searchsorted(high, start + length).numpy())
    cut = slice(first, last)
    return LinearIndices(low[cut] - start, high[cut] - start, weight[cut]), first


def _resample(samples: Tensor, indices: LinearIndices, dim: int) -> Tensor:
    """Interpolate ``(H, W)`` float along one dimension."""
    device = samples.device
    low, high = (
        samples.index_select(dim, index.to(device)) for index in (indices.low, indices.high)
    )
    weight = indices.weight.to(device)
    return torch.lerp(low, high, weight[:, None] if dim == 0 else weight)
