"""Contact sheets of training clips: what the network sees, at a glance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.datasets import Clip
from vots_hqtrack.types import FrameArray, LabelArray, ObjectId
from vots_hqtrack.video.overlay import draw_overlay
from vots_hqtrack.vot.sequences import write_jpeg

ROWS = 6
CELL_HEIGHT = 200
MAX_CELL_WIDTH = 400
CAPTION_HEIGHT, CAPTION_DROP = 26, 8
MARGIN = 6
TINT = 0.3
PAPER, INK = 245, 20
JPEG_QUALITY = 92

_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5


def write_contact_sheets(clips: Iterable[Clip], folder: Path, *, rows: int = ROWS) -> list[Path]:
    """Write pictures of clips, some clips a picture.

    Args:
        clips: Clips of any sizes; they are read one picture's worth at a time.
        folder: Where to; it is made. Pictures of an earlier call are replaced.
        rows: Clips of one picture.

    Returns:
        The pictures' paths, ``clips-00.jpg`` and so on.

    Raises:
        InputError: There is no clip, or ``rows`` is not positive.
    """
    if rows < 1:
        raise InputError(f"a contact sheet needs 1 row or more, got {rows}")
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    remaining = iter(clips)
    while chosen := list(islice(remaining, rows)):
        paths.append(folder / f"clips-{len(paths):02d}.jpg")
        contact_sheet(chosen, paths[-1])
    if not paths:
        raise InputError("a contact sheet needs at least one clip, got none")
    return paths


def contact_sheet(clips: Sequence[Clip], path: Path) -> None:
    """Write one picture: a row for each clip, a column for each frame.

    Objects are tinted, outlined and numbered. Above each row stand the clip's origin, its size in
    pixels, and the number of its objects.

    Args:
        clips: At least one.
        path: JPEG file to write; a file there is replaced.

    Raises:
        InputError: There is no clip.
    """
    if not clips:
        raise InputError("a contact sheet needs at least one clip, got none")
    strips = [_draw_row(clip) for clip in clips]
    width = max(strip.shape[1] for strip in strips)
    padded = [_fill_right(strip, width) for strip in strips]
    write_jpeg(path, np.concatenate(padded), quality=JPEG_QUALITY)


def _draw_row(clip: Clip) -> FrameArray:
    cells = [
        _draw_cell(frame, labels) for frame, labels in zip(clip.frames, clip.labels, strict=True)
    ]
    # OpenCV's font has no other letters.
    caption = _caption(clip).encode("ascii", "replace").decode("ascii")
    (needed, _), _ = cv2.getTextSize(caption, _FONT, _FONT_SCALE, 1)
    height, width = cells[0].shape[:2]
    total = max(len(cells) * (width + MARGIN) + MARGIN, needed + 2 * MARGIN)
    row = np.full((CAPTION_HEIGHT + height + MARGIN, total, 3), PAPER, dtype=np.uint8)
    for column, cell in enumerate(cells):
        left = MARGIN + column * (width + MARGIN)
        row[CAPTION_HEIGHT : CAPTION_HEIGHT + height, left : left + width] = cell
    origin = (MARGIN, CAPTION_HEIGHT - CAPTION_DROP)
    cv2.putText(row, caption, origin, _FONT, _FONT_SCALE, (INK,) * 3, 1, cv2.LINE_AA)
    return row


def _draw_cell(frame: FrameArray, labels: LabelArray) -> FrameArray:
    height, width = labels.shape
    scale = min(CELL_HEIGHT / height, MAX_CELL_WIDTH / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shrinks = scale < 1.0
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    small_labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    masks = {ObjectId(int(n)): small_labels == n for n in np.unique(small_labels) if n}
    # Drawn after shrinking, so that outlines and numbers stay readable.
    return draw_overlay(np.asarray(small, dtype=np.uint8), masks, alpha=TINT)


def _caption(clip: Clip) -> str:
    num_frames, height, width = clip.labels.shape
    objects = "1 object" if clip.num_objects == 1 else f"{clip.num_objects} objects"
    counts = f"{num_frames} frames of {width} x {height}, {objects}"
    lost = set(np.unique(clip.labels)) - set(np.unique(clip.labels[0]))
    warning = f", NOT in the first frame: {sorted(map(int, lost))}" if lost else ""
    return f"{clip.origin or 'clip'} | {counts}{warning}"


def _fill_right(row: FrameArray, width: int) -> FrameArray:
    return np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=PAPER)
