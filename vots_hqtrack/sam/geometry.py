"""Where a video frame lies in SAM's square input, and the ways there and back."""

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
"""Cells round those above the threshold that are resized with them: one is read, one is spoilt."""


class Taps(NamedTuple):
    """Where bilinear interpolation reads along one side.

    Attributes:
        low: ``(output side,)`` int64, the nearer to 0 of two samples.
        high: ``(output side,)`` int64, the other one.
        share: ``(output side,)`` float32 in ``[0, 1)``, weight of the latter.
    """

    low: Tensor
    high: Tensor
    share: Tensor


@dataclass(frozen=True, slots=True)
class SamGeometry:
    """How a video frame lies in SAM's square input: resized, then padded right and below.

    Attributes:
        frame_size: Size of the video frame.
        input_size: Size of the resized frame inside SAM's input.
        side: Side of SAM's input in pixels.
        mask_side: Side of SAM's low-resolution masks in cells.
    """

    frame_size: Size
    input_size: Size
    side: int
    mask_side: int

    @property
    def cell(self) -> int:
        """Pixels of SAM's input per cell of a low-resolution mask, in each direction."""
        return self.side // self.mask_side

    @property
    def covered(self) -> Size:
        """Low-resolution cells that the frame covers, the last ones perhaps in part."""
        height, width = self.input_size
        return Size(-(-height // self.cell), -(-width // self.cell))


def scale_points(points: Tensor, geometry: SamGeometry) -> Tensor:
    """Bring pixel indices from the frame into SAM's input, as SAM does.

    Args:
        points: ``(..., 2)`` float, ``(x, y)`` in frame pixels.
        geometry: Where the frame lies in SAM's input.

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
def bilinear_taps(output_side: int, input_side: int) -> Taps:
    """Return where PyTorch's bilinear interpolation reads, pixel edges being aligned."""
    scale = torch.tensor(input_side, dtype=torch.float32) / output_side
    place = (scale * (torch.arange(output_side, dtype=torch.float32) + 0.5) - 0.5).clamp_(min=0)
    low = place.long().clamp_(max=input_side - 1)
    return Taps(low, (low + 1).clamp_(max=input_side - 1), place - low)


def masks_in_frame(logits: Tensor, geometry: SamGeometry) -> Tensor:
    """Bring low-resolution logits to the frame and threshold them, as SAM does.

    SAM's way is bilinear to its input's size, the padding cut off, bilinear to the frame. Here it
    goes over the cells round those above the threshold: elsewhere there is no mask.

    Args:
        logits: ``(N, H', W')`` float32: SAM's mask cells from the first row and column on, all of
            them or those that the frame covers and one more each way.
        geometry: Where the frame lies in SAM's input.

    Returns:
        ``(N, H, W)`` bool, frame pixels.
    """
    masks = torch.zeros((len(logits), *geometry.frame_size), dtype=torch.bool, device=logits.device)
    # Interpolation reaches one cell beyond the frame.
    rows, columns = (min(side + 1, geometry.mask_side) for side in geometry.covered)
    seen = logits[:, :rows, :columns]
    boxes = mask_boxes(seen > 0).int().tolist()
    for low, mask, (left, top, right, bottom) in zip(seen, masks, boxes, strict=True):
        if right == 0:
            continue
        left, top = max(left - EDGE, 0), max(top - EDGE, 0)
        part = low[top : bottom + EDGE, left : right + EDGE]
        fine = F.interpolate(
            part[None, None],
            (part.shape[0] * geometry.cell, part.shape[1] * geometry.cell),
            mode="bilinear",
            align_corners=False,
        )[0, 0]
        frame, content, cell = geometry.frame_size, geometry.input_size, geometry.cell
        down, first_row = _cut(frame.height, content.height, top * cell, fine.shape[0])
        along, first_column = _cut(frame.width, content.width, left * cell, fine.shape[1])
        resized = _resample(fine, down, 0)
        inside = _resample(resized, along, 1) > 0
        mask[
            first_row : first_row + inside.shape[0], first_column : first_column + inside.shape[1]
        ] = inside
    return masks


def _cut(frame_side: int, input_side: int, start: int, length: int) -> tuple[Taps, int]:
    """Cut the taps that read within ``length`` samples from ``start`` on, and their first pixel."""
    low, high, share = bilinear_taps(frame_side, input_side)
    first = int(torch.searchsorted(low, start))
    last = int(torch.searchsorted(high, start + length))
    cut = slice(first, last)
    return Taps(low[cut] - start, high[cut] - start, share[cut]), first


def _resample(samples: Tensor, taps: Taps, dim: int) -> Tensor:
    """Interpolate ``(H, W)`` float along one dimension."""
    device = samples.device
    low, high = (samples.index_select(dim, place.to(device)) for place in (taps.low, taps.high))
    share = taps.share.to(device)
    return torch.lerp(low, high, share[:, None] if dim == 0 else share)
