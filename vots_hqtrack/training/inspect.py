"""Contact sheets of training clips: what the network sees, at a glance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.datasets import Clip
from vots_hqtrack.video.sheet import SheetRow, draw_thumbnail, write_sheet

ROWS = 6


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
        path: JPEG, PNG or WebP file to write; a file there is replaced.

    Raises:
        InputError: There is no clip, or the file's ending is another one.
    """
    if not clips:
        raise InputError("a contact sheet needs at least one clip, got none")
    write_sheet(path, [_make_row(clip) for clip in clips])


def _make_row(clip: Clip) -> SheetRow:
    num_frames, height, width = clip.labels.shape
    objects = "1 object" if clip.num_objects == 1 else f"{clip.num_objects} objects"
    caption = f"{clip.origin or 'clip'} | {num_frames} frames of {width} x {height}, {objects}"
    late = set(np.unique(clip.labels)) - set(np.unique(clip.labels[0]))
    if late:
        caption += f", NOT in the first frame: {sorted(map(int, late))}"
    return SheetRow(
        caption, [draw_thumbnail(*pair) for pair in zip(clip.frames, clip.labels, strict=True)]
    )
