"""Position of a video frame in SAM's square input; maps to it and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.devices import device_table, host_can_read
from vots_hqtrack.masks import mask_boxes
from vots_hqtrack.types import Size

EDGE = 2
"""Mask pixels round those above the threshold that are resized with them: interpolation reads one,
and the crop's border spoils one."""


Window = tuple[slice, slice]
"""Rows and columns of an image, both with start and stop."""


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

    def mask_window(self, window: Window) -> Window:
        """Return the low-resolution mask pixels from which those of a window of the frame come."""
        sides = zip(self.frame_size, self.input_size, self.covered, window, strict=True)
        rows, columns = (
            _pixels_read(
                frame_side, input_side, cut, self.mask_stride, min(last + 1, self.mask_side)
            )
            for frame_side, input_side, last, cut in sides
        )
        return rows, columns


def scale_points(points: Tensor, geometry: SamGeometry) -> Tensor:
    """Bring pixel indices from the frame into SAM's input, as SAM does.

    Args:
        points: ``(..., 2)`` float, ``(x, y)`` in frame pixels.
        geometry: The frame's position in SAM's input.

    Returns:
        ``(..., 2)`` float32, ``(x, y)`` in pixels of SAM's input.
    """
    # float64 as in the package's predictor: the same prompts to the last bit.
    x, y = points.to(torch.float64).unbind(-1)
    x = x * (geometry.input_size.width / geometry.frame_size.width)
    y = y * (geometry.input_size.height / geometry.frame_size.height)
    return torch.stack([x, y], dim=-1).to(torch.float32)


@device_table
def linear_indices(output_side: int, input_side: int, device: torch.device) -> LinearIndices:
    """Return indices and weights of bilinear interpolation with ``align_corners=False``."""
    scale = torch.tensor(input_side, dtype=torch.float32) / output_side
    position = (scale * (torch.arange(output_side, dtype=torch.float32) + 0.5) - 0.5).clamp_(min=0)
    low = position.long().clamp_(max=input_side - 1)
    high = (low + 1).clamp_(max=input_side - 1)
    return LinearIndices(low.to(device), high.to(device), (position - low).to(device))


def masks_in_frame(logits: Tensor, geometry: SamGeometry, window: Window | None = None) -> Tensor:
    """Bring low-resolution logits to the frame and threshold them, as SAM does.

    SAM's way is bilinear to its input's size, the padding cut off, bilinear to the frame. Here it
    is computed only round the pixels above the threshold: elsewhere all is background.

    Args:
        logits: ``(N, H', W')`` float32: SAM's mask pixels from the first row and column on, all of
            them or those that the frame covers and one more each way.
        geometry: The frame's position in SAM's input.
        window: Rows and columns of the frame; elsewhere the masks are False. None for all of it.

    Returns:
        ``(N, H, W)`` bool, frame pixels.
    """
    # Interpolation reaches one mask pixel beyond the frame.
    rows, columns = (min(side + 1, geometry.mask_side) for side in geometry.covered)
    seen = logits[:, :rows, :columns]
    frame = geometry.frame_size
    whole = slice(0, frame.height), slice(0, frame.width)
    if not host_can_read(logits):
        return _resized(seen, 0, 0, geometry, whole) > 0
    wanted = window or whole
    read_rows, read_columns = geometry.mask_window(wanted)
    masks = torch.zeros((len(logits), *frame), dtype=torch.bool, device=logits.device)
    boxes = mask_boxes(seen > 0).int().tolist()
    for low, mask, (left, top, right, bottom) in zip(seen, masks, boxes, strict=True):
        is_empty = right == 0
        left, top = max(left - EDGE, read_columns.start), max(top - EDGE, read_rows.start)
        right, bottom = min(right + EDGE, read_columns.stop), min(bottom + EDGE, read_rows.stop)
        if is_empty or right <= left or bottom <= top:
            continue
        part = low[None, top:bottom, left:right]
        length, width = (side * geometry.mask_stride for side in part.shape[1:])
        down = _cut(frame.height, geometry.input_size.height, top * geometry.mask_stride, length)
        along = _cut(frame.width, geometry.input_size.width, left * geometry.mask_stride, width)
        down, along = _common(down, wanted[0]), _common(along, wanted[1])
        mask[down, along] = (_resized(part, top, left, geometry, (down, along)) > 0)[0]
    return masks


def _cut(frame_side: int, input_side: int, start: int, length: int) -> slice:
    """Return the frame's pixels that read within ``length`` samples from ``start`` on."""
    low, high, _ = linear_indices(frame_side, input_side, torch.device("cpu"))
    first = int(torch.searchsorted(low, start).numpy())
    return slice(first, int(torch.searchsorted(high, start + length).numpy()))


def _common(left: slice, right: slice) -> slice:
    """Return the indices of both slices."""
    start = max(left.start, right.start)
    return slice(start, max(start, min(left.stop, right.stop)))


def _pixels_read(frame_side: int, input_side: int, cut: slice, stride: int, last: int) -> slice:
    """Return the mask pixels along one side, ``last`` at most, that a part of the frame reads."""
    low, high, _ = linear_indices(frame_side, input_side, torch.device("cpu"))
    first, end = int(low[cut.start].numpy()), int(high[cut.stop - 1].numpy())
    return slice(max(first // stride - EDGE, 0), min(end // stride + 1 + EDGE, last))


def _resized(
    part: Tensor, top: int, left: int, geometry: SamGeometry, window: tuple[slice, slice]
) -> Tensor:
    """Resize a part of low-resolution logits to SAM's input, then to a window of the frame.

    Args:
        part: ``(N, h, w)`` float32.
        top: Row of the low-resolution masks with which it begins.
        left: Column with which it begins.
        geometry: The frame's position in SAM's input.
        window: Rows and columns of the frame.
    """
    stride = geometry.mask_stride
    size = [side * stride for side in part.shape[1:]]
    fine = F.interpolate(part[None], size, mode="bilinear", align_corners=False)[0]
    frame, content = geometry.frame_size, geometry.input_size
    sides = zip(frame, content, (top * stride, left * stride), window, strict=True)
    for dim, (frame_side, input_side, start, cut) in enumerate(sides, start=1):
        low, high, weight = linear_indices(frame_side, input_side, part.device)
        weight = weight[cut, None] if dim == 1 else weight[cut]
        fine = torch.lerp(
            fine.index_select(dim, low[cut] - start),
            fine.index_select(dim, high[cut] - start),
            weight,
        )
    return fine
