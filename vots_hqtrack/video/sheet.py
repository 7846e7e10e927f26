"""Contact sheets: thumbnails in captioned rows, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.types import FrameArray, LabelArray, ObjectId, check_frame
from vots_hqtrack.video.overlay import draw_overlay

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
THUMBNAIL_HEIGHT = 200
MAX_ASPECT = 2
CAPTION_HEIGHT, CAPTION_DROP = 26, 8
MARGIN = 6
TINT = 0.3
PAPER, INK = 245, 20

_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A row of a sheet.

    Attributes:
        caption: Line above it.
        images: uint8 ``(h, w, 3)`` RGB, all of one size, from left to right.
    """

    caption: str
    images: Sequence[FrameArray]


def draw_thumbnail(
    frame: FrameArray, label_map: LabelArray, *, height: int = THUMBNAIL_HEIGHT
) -> FrameArray:
    """Resize a frame to a thumbnail, and tint, outline and number its objects.

    Args:
        frame: uint8 ``(H, W, 3)`` RGB.
        label_map: uint8 ``(H, W)``; 0 is the background.
        height: Largest height of the thumbnail in pixels; it is at most twice as wide.

    Returns:
        uint8 ``(h, w, 3)`` RGB.

    Raises:
        ShapeError: The two differ in size.
    """
    rows, columns = check_frame(frame)
    if label_map.shape != (rows, columns):
        raise ShapeError(
            f"the label map must have the frame's size {(rows, columns)}, got {label_map.shape}"
        )
    scale = min(height / rows, MAX_ASPECT * height / columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(frame, size, interpolation=method), dtype=np.uint8)
    labels = cv2.resize(label_map, size, interpolation=cv2.INTER_NEAREST)
    masks = {ObjectId(int(n)): np.asarray(labels == n) for n in np.unique(labels) if n}
    # Drawn after shrinking, so that outlines and numbers stay readable.
    return draw_overlay(small, masks, alpha=TINT)


def write_sheet(path: Path, rows: Sequence[SheetRow], *, quality: int = 90) -> None:
    """Write rows of images below one another as one image.

    Args:
        path: JPEG, PNG or WebP file to write; an existing one is replaced.
        rows: At least one, each with at least one image.
        quality: 1..100, for JPEG and WebP.

    Raises:
        InputError: There is nothing to draw, or the file's ending is another one.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"a sheet must end in {', '.join(SUFFIXES)}, got {path}")
    if not rows or not all(row.images for row in rows):
        raise InputError("a sheet needs at least one image in every row, got none")
    strips = [_draw_row(row) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    padded = [
        np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=PAPER)
        for strip in strips
    ]
    Image.fromarray(np.concatenate(padded)).save(path, quality=quality, method=6)


def _draw_row(row: SheetRow) -> FrameArray:
    # OpenCV's font has no other letters.
    caption = row.caption.encode("ascii", "replace").decode("ascii")
    (needed, _), _ = cv2.getTextSize(caption, _FONT, _FONT_SCALE, 1)
    height, width = row.images[0].shape[:2]
    total = max(len(row.images) * (width + MARGIN) + MARGIN, needed + 2 * MARGIN)
    strip = np.full((CAPTION_HEIGHT + height + MARGIN, total, 3), PAPER, dtype=np.uint8)
    for column, image in enumerate(row.images):
        left = MARGIN + column * (width + MARGIN)
        strip[CAPTION_HEIGHT : CAPTION_HEIGHT + height, left : left + width] = image
    origin = (MARGIN, CAPTION_HEIGHT - CAPTION_DROP)
    cv2.putText(strip, caption, origin, _FONT, _FONT_SCALE, (INK,) * 3, 1, cv2.LINE_AA)
    return strip
