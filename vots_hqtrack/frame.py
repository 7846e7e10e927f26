"""Video frame to network input, and back.

There are two geometries. In the lite preset's the frame is resized so that its long side is SAM's
1024 pixels, and padded at the right and bottom to multiples of 32. VMOS's network image exists only
as a coordinate system, half the encoder's input: labels are resized to it, features come from the
encoder. Pixel centres are at ``i + 0.5``.

In the released model's geometry the frame is resized to sides of ``16 k + 1`` without padding, and
the outermost samples of every map are on the centres of the outermost pixels (``align_corners``).

Interpolation tables are computed once for each size and device.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from PIL import Image
from torch import Tensor

from vots_hqtrack.devices import device_table, upload
from vots_hqtrack.ops.resize import resize_bilinear, resize_cubic
from vots_hqtrack.types import FrameArray, LabelArray, ObjectId, Size

_logger = logging.getLogger(__name__)

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NETWORK_STRIDE = 2
"""Pixels of the encoder's input for each pixel of the network image."""
PADDING_DIVISOR = 32
"""Both sides of the encoder's input are multiples of this: 16 network pixels."""
LOGITS_STRIDE = 4
TOKEN_STRIDE = 16
"""Pixels of the network image for each token of the memory, along each side."""
_TINY_AREA = 64
"""Pixels of the network image, four of the logits', below which an object is tiny."""
_NAMED_TINY = 3
_MAX_LONG_EDGE = 1024
"""Largest value of the option ``frame.long_edge``."""
ALIGNED_STRIDE = 16
"""Both sides of an aligned network image are a multiple of this and one more."""


@dataclass(frozen=True, slots=True)
class FrameGeometry:
    """Layout of one video's frames in the network's input.

    Attributes:
        frame_size: Size of the video frame.
        input_size: Size of the resized frame inside the encoder's input, without padding.
        padded_size: Size of the encoder's input.
        network_size: Size of VMOS's network image, the padding included.
        is_aligned: The released model's geometry: no padding, and maps aligned by their corners.
    """

    frame_size: Size
    input_size: Size
    padded_size: Size
    network_size: Size
    is_aligned: bool = False

    @property
    def logits_size(self) -> Size:
        """Size of the logits, at 1/4 of the network image, rounded up."""
        height, width = self.network_size
        return Size(-(-height // LOGITS_STRIDE), -(-width // LOGITS_STRIDE))

    @property
    def content_size(self) -> Size:
        """Size of the logits' part that the frame covers, rounded up."""
        if self.is_aligned:
            return self.logits_size
        stride = NETWORK_STRIDE * LOGITS_STRIDE
        return Size(-(-self.input_size.height // stride), -(-self.input_size.width // stride))


def scaled_edge(long_edge: int, scale: float) -> int:
    """Return a fraction of a long side, rounded to the padding divisor.

    Example:
        >>> scaled_edge(1024, 0.375)
        384
    """
    return max(round(long_edge * scale / PADDING_DIVISOR), 1) * PADDING_DIVISOR


@lru_cache(maxsize=64)
def plan_frame(frame_size: Size, long_edge: int = 1024) -> FrameGeometry:
    """Lay out a frame size.

    Args:
        frame_size: Size of the video frame.
        long_edge: Long side of the encoder's input.
    """
    scale = long_edge / max(frame_size)
    height = max(int(frame_size.height * scale + 0.5), 1)
    width = max(int(frame_size.width * scale + 0.5), 1)
    padded = Size(
        -(-height // PADDING_DIVISOR) * PADDING_DIVISOR,
        -(-width // PADDING_DIVISOR) * PADDING_DIVISOR,
    )
    network = Size(padded.height // NETWORK_STRIDE, padded.width // NETWORK_STRIDE)
    return FrameGeometry(frame_size, Size(height, width), padded, network)


@lru_cache(maxsize=64)
def plan_aligned_frame(
    frame_size: Size, *, min_short_edge: int = 480, max_long_edge: int = 1040
) -> FrameGeometry:
    """Lay out a frame size as the released model does.

    Args:
        frame_size: Size of the video frame.
        min_short_edge: Frames with a smaller short side are enlarged to it; 0 never enlarges.
        max_long_edge: Frames with a larger long side, after that, are reduced to it. Rounding to
            ``16 k + 1`` comes last, so 1040 allows 1041.

    Example:
        >>> str(plan_aligned_frame(Size(720, 1280)).network_size)
        '1041x577'
    """
    height, width = float(frame_size.height), float(frame_size.width)
    short = min(height, width)
    if short < min_short_edge:
        height, width = (side * (min_short_edge / short) for side in (height, width))
    long = max(height, width)
    if long > max_long_edge:
        height, width = (side * (max_long_edge / long) for side in (height, width))
    size = Size(_aligned_side(height), _aligned_side(width))
    return FrameGeometry(frame_size, size, size, size, is_aligned=True)


def network_area(area: float, geometry: FrameGeometry) -> float:
    """Return how many pixels of the network image an area of the frame covers.

    Args:
        area: Pixels of the frame.
        geometry: Layout of the frame.

    Example:
        >>> network_area(64, plan_frame(Size(1080, 1920)))
        4.551111111111111
    """
    network = geometry.network_size if geometry.is_aligned else geometry.input_size
    divisor = 1 if geometry.is_aligned else NETWORK_STRIDE**2
    frame = geometry.frame_size.height * geometry.frame_size.width
    return area * network.height * network.width / (frame * divisor)


def is_small(area: int, geometry: FrameGeometry) -> bool:
    """Check whether an object of so many pixels of the frame has less than a memory token."""
    return 0 < network_area(area, geometry) < TOKEN_STRIDE**2


def find_small(label_map: LabelArray, geometry: FrameGeometry) -> dict[ObjectId, int]:
    """Find objects that cover less than one memory token.

    Args:
        label_map: ``(H, W)`` integer object ids at frame size.
        geometry: Layout of the frame.

    Returns:
        Pixels of the frame by object id.
    """
    areas = np.bincount(label_map.ravel())
    return {
        ObjectId(int(number)): int(areas[number])
        for number in np.flatnonzero(areas)
        if number and is_small(int(areas[number]), geometry)
    }


def warn_of_tiny(small: Mapping[ObjectId, int], geometry: FrameGeometry) -> None:
    """Warn of objects that are so small in the network image that they may vanish.

    The first three have a line each, all others one together.

    Args:
        small: Pixels of the frame by object id.
        geometry: Layout of the frame.
    """
    areas = {number: network_area(pixels, geometry) for number, pixels in small.items()}
    tiny = [number for number, area in areas.items() if area < _TINY_AREA]
    for object_id in tiny[:_NAMED_TINY]:
        area = areas[object_id]
        _logger.warning(
            "object %d is tiny: %d pixels of the frame are %.1f of the network image, %.2f of "
            "a memory token, so it may vanish; %s helps",
            object_id,
            small[object_id],
            area,
            area / TOKEN_STRIDE**2,
            _enlargement(area, geometry),
        )
    if others := tiny[_NAMED_TINY:]:
        smallest = min(others, key=areas.__getitem__)
        _logger.warning(
            "tiny objects beside these: %d, down to %d pixels of the frame (object %d), so they "
            "may vanish; %s helps",
            len(others),
            small[smallest],
            smallest,
            _enlargement(areas[smallest], geometry),
        )


def _enlargement(area: float, geometry: FrameGeometry) -> str:
    """Say how an object of an area in the network image becomes large enough."""
    side = (area / _TINY_AREA) ** 0.5
    height, width = (max(1, int(length * side)) for length in geometry.frame_size)
    window = f"a video cut out around it, of {width} x {height} pixels at most,"
    if geometry.is_aligned or max(geometry.input_size) >= _MAX_LONG_EDGE:
        return window
    return f"--set frame.long_edge={_MAX_LONG_EDGE}, or {window}"


def frame_to_image(frame: FrameArray, geometry: FrameGeometry, device: torch.device) -> Tensor:
    """Resize, normalise and pad a frame; see :func:`pixels_to_image`.

    Args:
        frame: uint8 ``(H, W, 3)`` RGB.
        geometry: Layout of the frame.
        device: Device of the image.
    """
    return pixels_to_image(upload_frame(frame, geometry, device), geometry)


def upload_frame(frame: FrameArray, geometry: FrameGeometry, device: torch.device) -> Tensor:
    """Bring a frame's pixels to a device; a GPU resizes them itself, others get them resized.

    The resize is SAM's own, Pillow's anti-aliased bilinear filter on 8-bit values, or OpenCV's
    cubic one in the released model's geometry.

    Args:
        frame: uint8 ``(H, W, 3)`` RGB.
        geometry: Layout of the frame.
        device: Device of the pixels.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    height, width = geometry.input_size
    if device.type != "cuda" and (height, width) != frame.shape[:2]:
        if geometry.is_aligned:
            frame = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC))
        else:
            resized = Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
            frame = np.asarray(resized)
    return upload(frame, device)


def pixels_to_image(pixels: Tensor, geometry: FrameGeometry) -> Tensor:
    """Resize pixels that are not resized yet, normalise and pad them.

    Args:
        pixels: ``(H, W, 3)`` uint8 RGB, of the frame's size or resized already.
        geometry: Layout of the frame.

    Returns:
        ``(1, 3, padded height, padded width)`` float32; the padding is 0 after normalisation.
    """
    height, width = geometry.input_size
    if pixels.shape[:2] != (height, width):
        resize = resize_cubic if geometry.is_aligned else resize_bilinear
        pixels = resize(pixels, geometry.input_size)
    if geometry.is_aligned:
        levels, offsets = _aligned_levels(pixels.device)
        normalised = levels.index_select(0, (pixels.int() + offsets).flatten())
        return normalised.view(1, height, width, 3).permute(0, 3, 1, 2)
    mean, std = _pixel_statistics(pixels.device)
    normalised = pixels.float().sub_(mean).div_(std)
    # Channels last in memory, as frame and encoder have them.
    image = normalised.new_zeros(1, *geometry.padded_size, 3)
    image[0, :height, :width] = normalised
    return image.permute(0, 3, 1, 2)


def labels_to_network(labels: Tensor, geometry: FrameGeometry) -> Tensor:
    """Bring a label map to the network image by nearest neighbour; the padding is background.

    Args:
        labels: ``(H, W)`` integer at frame size.
        geometry: Layout of the frame.

    Returns:
        ``(H', W')`` of the same dtype at network size.
    """
    if geometry.is_aligned:
        # PyTorch's own rounding of the positions is part of the released model.
        resized = _resize(labels.float()[None], geometry.network_size, mode="nearest")
        return resized[0].to(labels.dtype)
    sides = zip(geometry.frame_size, geometry.input_size, geometry.network_size, strict=True)
    (rows, in_rows), (columns, in_columns) = (_nearest(*side, labels.device) for side in sides)
    gathered = labels[rows][:, columns]
    return torch.where(in_rows[:, None] & in_columns, gathered, torch.zeros_like(gathered))


def mask_to_network(mask: Tensor, geometry: FrameGeometry) -> Tensor:
    """Enlarge a mask of the logits' size to the network image by nearest neighbour.

    Args:
        mask: ``(H'/4, W'/4)`` bool.
        geometry: Layout of the frame.

    Returns:
        ``(H', W')`` bool.
    """
    return _resize(mask.float()[None], geometry.network_size, mode="nearest")[0].bool()


def logits_to_frame(logits: Tensor, geometry: FrameGeometry) -> Tensor:
    """Bring logits to the frame's size by bilinear interpolation in one step, the padding cut off.

    Args:
        logits: ``(N, H'/4, W'/4)`` float.
        geometry: Layout of the frame.

    Returns:
        ``(N, H, W)`` float.
    """
    if geometry.is_aligned:
        return _resize(logits, geometry.frame_size, mode="bilinear", align_corners=True)
    sides = zip(geometry.frame_size, geometry.input_size, geometry.logits_size, strict=True)
    rows, columns = (_bilinear(*side, logits.device, logits.dtype) for side in sides)
    return rows @ (logits @ columns.T)


def logits_to_frame_rows(logits: Tensor, geometry: FrameGeometry, rows: slice) -> Tensor:
    """Bring logits to some rows of the frame, as :func:`logits_to_frame` does to all.

    Args:
        logits: ``(N, H'/4, W'/4)`` float.
        geometry: Layout of the frame.
        rows: First row and the one after the last.

    Returns:
        ``(N, rows, W)`` float.
    """
    (height, width), source = geometry.frame_size, logits.shape[1]
    if geometry.is_aligned:
        table = _bilinear_aligned(height, source, logits.device, logits.dtype)
    else:
        side = height, geometry.input_size.height, geometry.logits_size.height
        table = _bilinear(*side, logits.device, logits.dtype)
    # Only the logits around these rows have a weight.
    content = source if geometry.is_aligned else side[1] / (NETWORK_STRIDE * LOGITS_STRIDE)
    scale = content / height
    top = max(int(rows.start * scale) - 2, 0)
    bottom = min(int(rows.stop * scale) + 3, source)
    near = logits[:, top:bottom]
    if geometry.is_aligned:
        wide = _resize(near, Size(bottom - top, width), mode="bilinear", align_corners=True)
    else:
        sides = (width, geometry.input_size.width, geometry.logits_size.width)
        wide = near @ _bilinear(*sides, logits.device, logits.dtype).T
    return table[rows, top:bottom] @ wide


def _aligned_side(length: float) -> int:
    # Cut before it is rounded, and halves go to the even side: both as in the released code.
    return round((int(length) - 1) / ALIGNED_STRIDE) * ALIGNED_STRIDE + 1


def _resize(maps: Tensor, size: Size, *, mode: str, align_corners: bool | None = None) -> Tensor:
    return F.interpolate(maps[None], tuple(size), mode=mode, align_corners=align_corners)[0]


@device_table
def _pixel_statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.tensor(PIXEL_MEAN, device=device), torch.tensor(PIXEL_STD, device=device)


@device_table
def _aligned_levels(device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalised values ``(768,)`` of the channels' levels, in turns of 256; rounded once.

    The second tensor has the index of each channel's first level.
    """
    levels = np.arange(256)[:, None] / np.float64(255)
    table = ((levels - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32).T
    offsets = torch.arange(0, 768, 256, dtype=torch.int32, device=device)
    return torch.from_numpy(table.ravel()).to(device), offsets


@device_table
def _nearest(
    frame_side: int, input_side: int, network_side: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Frame pixel of each network pixel of one side, and whether the frame covers it."""
    centre = (torch.arange(network_side, dtype=torch.float64) + 0.5) * NETWORK_STRIDE
    index = (centre * frame_side / input_side).long().clamp_(max=frame_side - 1)
    return index.to(device), (centre < input_side).to(device)


@device_table
def _bilinear(
    frame_side: int, input_side: int, logits_side: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Interpolation weights ``(frame_side, logits_side)`` from logits to the pixels of one side."""
    content = input_side / (NETWORK_STRIDE * LOGITS_STRIDE)
    pixels = torch.arange(frame_side, dtype=torch.float64)
    centre = ((pixels + 0.5) * content / frame_side - 0.5).clamp_(0, logits_side - 1)
    return _linear_weights(centre, logits_side).to(device, dtype)


@device_table
def _bilinear_aligned(
    frame_side: int, logits_side: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return the same for aligned corners."""
    pixels = torch.arange(frame_side, dtype=torch.float64)
    centre = pixels * (logits_side - 1) / max(frame_side - 1, 1)
    return _linear_weights(centre, logits_side).to(device, dtype)


def _linear_weights(centre: Tensor, side: int) -> Tensor:
    weights = 1 - (centre[:, None] - torch.arange(side, dtype=torch.float64)).abs()
    return weights.clamp_(min=0).float()
