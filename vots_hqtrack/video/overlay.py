"""Masks drawn over frames, and videos of them, for people to look at."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from functools import cache

import cv2
import numpy as np

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId, check_frame
from vots_hqtrack.video.label_maps import mask_box
from vots_hqtrack.video.video_writer import VideoWriter

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINES_PER_STROKE = 360
"""Frame height in pixels for each pixel of line width."""


@cache
def object_colour(object_id: int) -> tuple[int, int, int]:
    """Return the colour in which an object is drawn: 8-bit RGB.

    Hues are cyan to magenta, and yellow: neither grass nor bricks have them. They follow each other
    by the golden section, so that neighbouring ids look far apart.

    Example:
        >>> object_colour(1), object_colour(2)
        ((203, 38, 255), (38, 143, 255))
    """
    position = object_id * 0.618034 % 1.0 * 195
    hue = 165 + position if position < 165 else position - 125
    saturation = (0.85, 0.45)[(object_id - 1) // 5 % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue / 360, saturation, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


@cache
def outline_colour(object_id: int) -> tuple[int, int, int]:
    """Return the object's colour, lightened so that it stands out on its own tint: 8-bit RGB."""
    red, green, blue = object_colour(object_id)
    return (red + 255) // 2, (green + 255) // 2, (blue + 255) // 2


def draw_overlay(
    frame: FrameArray, masks: Mapping[ObjectId, MaskArray], *, alpha: float = 0.5
) -> FrameArray:
    """Draw masks over a frame: a tint, an outline and the id of every object.

    Args:
        frame: ``(H, W, 3)`` uint8 RGB; it stays as it is.
        masks: Bool ``(H, W)`` by object id; empty ones leave no trace.
        alpha: Strength of the tint, 0 to 1.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        InputError: ``alpha`` is outside 0 to 1.
        ShapeError: The frame or a mask has another shape or dtype.
    """
    size = check_frame(frame)
    if not 0.0 <= alpha <= 1.0:
        raise InputError(f"alpha must be a number from 0 to 1, got {alpha}")
    image = frame.copy()
    stroke = max(1, round(size.height / _LINES_PER_STROKE))
    tags: list[tuple[ObjectId, tuple[int, int]]] = []
    for object_id in sorted(masks):
        mask = masks[object_id]
        if mask.dtype != np.bool_ or mask.shape != tuple(size):
            raise ShapeError(
                f"the mask of object {object_id} must be bool {size}, got {mask.dtype} {mask.shape}"
            )
        if (box := mask_box(mask)) is not None:
            x, y, width, height = box
            window = slice(y, y + height), slice(x, x + width)
            _tint(image[window], mask[window], object_id, alpha, stroke)
            on_top = np.flatnonzero(mask[y, window[1]])  # the pixels of its highest row
            tags.append((object_id, (x + int(on_top[len(on_top) // 2]), y)))
    for object_id, top in tags:  # last, so that no tint covers them
        _draw_tag(image, object_id, top, stroke)
    return image


class OverlayWriter(VideoWriter):
    """Writes frames with their masks into an MP4 file that browsers play, see `VideoWriter`."""

    def write(
        self,
        frame: FrameArray,
        masks: Mapping[ObjectId, MaskArray],
        *,
        seconds: float | None = None,
    ) -> None:
        """Append a uint8 ``(H, W, 3)`` RGB frame with its objects' bool ``(H, W)`` masks.

        Args:
            frame: The frame.
            masks: Its masks.
            seconds: Time at which it is shown; by default one frame after the last.

        Raises:
            OutputError: The file cannot be written.
            ShapeError: The frame or a mask has another size.
        """
        check_frame(frame, expected=self.size)
        self.append(draw_overlay(frame, masks), seconds=seconds)


def _tint(
    window: FrameArray, mask: MaskArray, object_id: ObjectId, alpha: float, stroke: int
) -> None:
    """Tint the mask's pixels of a window of the image in place, and outline them."""
    colour = np.array(object_colour(object_id), np.float32)
    levels = np.arange(256, dtype=np.float64)[:, None]
    table = np.rint(levels * (1.0 - alpha) + colour * alpha).astype(np.uint8)
    cv2.copyTo(cv2.LUT(window, table[None]), mask.view(np.uint8), window)
    kernel = np.ones((2 * stroke + 1, 2 * stroke + 1), dtype=np.uint8)
    # Beyond the window counts as nothing: an object cut by the frame's edge is outlined there too.
    inner = cv2.erode(mask.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    window[mask & (inner == 0)] = outline_colour(object_id)


def _draw_tag(image: FrameArray, object_id: ObjectId, top: tuple[int, int], stroke: int) -> None:
    """Write the id in a box above the highest pixel of its mask, ``(x, y)``, inside the image."""
    text, scale, pad = str(object_id), 0.4 * stroke, 2 * stroke
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, stroke)
    left = min(max(0, top[0] - width // 2 - pad), max(0, image.shape[1] - width - 2 * pad))
    above = max(0, top[1] - height - 2 * pad)
    right, bottom = left + width + 2 * pad, above + height + 2 * pad
    cv2.rectangle(image, (left, above), (right, bottom), outline_colour(object_id), cv2.FILLED)
    origin = (left + pad, bottom - pad)
    cv2.putText(image, text, origin, _FONT, scale, (0, 0, 0), stroke, cv2.LINE_AA)
