"""Masks drawn over frames, and videos of them, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId, check_frame
from vots_hqtrack.video.label_maps import mask_box, palette
from vots_hqtrack.video.video_writer import VideoWriter

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINES_PER_STROKE = 360
"""Frame height in pixels for each pixel of line width."""


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
            tags.append((object_id, (x, y)))
    for object_id, corner in tags:  # last, so that no tint covers them
        _draw_tag(image, object_id, corner, stroke)
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
    colour = palette()[object_id].astype(np.float32)
    levels = np.arange(256, dtype=np.float64)[:, None]
    table = np.rint(levels * (1.0 - alpha) + colour * alpha).astype(np.uint8)
    cv2.copyTo(cv2.LUT(window, table[None]), mask.view(np.uint8), window)
    kernel = np.ones((2 * stroke + 1, 2 * stroke + 1), dtype=np.uint8)
    # Beyond the window counts as nothing: an object cut by the frame's edge is outlined there too.
    inner = cv2.erode(mask.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    window[mask & (inner == 0)] = _outline_colour(object_id)


def _outline_colour(object_id: ObjectId) -> tuple[int, int, int]:
    """Return the object's colour, lightened so that it stands out on its own tint."""
    red, green, blue = (int(level) for level in palette()[object_id])
    return (red + 255) // 2, (green + 255) // 2, (blue + 255) // 2


def _draw_tag(image: FrameArray, object_id: ObjectId, corner: tuple[int, int], stroke: int) -> None:
    """Write the id in a box at the top left corner of its mask, inside the image."""
    text, scale, pad = str(object_id), 0.4 * stroke, 2 * stroke
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, stroke)
    left = min(corner[0], max(0, image.shape[1] - width - 2 * pad))
    top = max(0, corner[1] - height - 2 * pad)
    right, bottom = left + width + 2 * pad, top + height + 2 * pad
    cv2.rectangle(image, (left, top), (right, bottom), _outline_colour(object_id), cv2.FILLED)
    origin = (left + pad, bottom - pad)
    cv2.putText(image, text, origin, _FONT, scale, (0, 0, 0), stroke, cv2.LINE_AA)
