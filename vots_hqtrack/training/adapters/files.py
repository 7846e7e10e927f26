"""Reading shared by the adapters: folders and images of object numbers.

All errors name the file and say what was wanted in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.files import IdArray
from vots_hqtrack.types import LabelArray
from vots_hqtrack.video.reader import IMAGE_SUFFIXES

MAX_LABELS = 255
"""Objects of an image at most: label maps of training have 8 bits."""


def require_folder(kind: str, *candidates: Path) -> Path:
    """Return the first of several folders that exists.

    Args:
        kind: Layout that needs it, for the message.
        candidates: Folders, at least one.

    Raises:
        InputError: None exists.
    """
    for path in candidates:
        if path.is_dir():
            return path
    wanted = " or ".join(map(str, candidates))
    raise InputError(f"a {kind} data set needs the folder {wanted}, found none")


def list_folders(folder: Path) -> list[str]:
    """List the names of the folders in a folder, without hidden ones."""
    return [path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]


def find_frames(kind: str, folder: Path, stems: Iterable[str]) -> tuple[Path, ...]:
    """Find frames of any image format by their names without suffix.

    Raises:
        InputError: The folder or a frame is missing.
    """
    paths = require_folder(kind, folder).iterdir()
    found = {path.stem: path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES}
    names = list(stems)
    for name in names:
        if name not in found:
            raise InputError(f"a {kind} data set needs the frame {folder / name}.jpg, found none")
    return tuple(found[name] for name in names)


def numbers_in(ids: IdArray) -> list[int]:
    """Return the object numbers in a map, ascending, without 0.

    Example:
        >>> numbers_in(np.array([[0, 7, 7], [2, 0, 0]], dtype=np.int32))
        [2, 7]
    """
    flat = ids.ravel()
    # Only the first pixel of each run is looked at: sorting them all costs fifty times as much.
    starts = np.concatenate([flat[:1], flat[1:][flat[1:] != flat[:-1]]])
    return [int(number) for number in np.unique(starts) if number != 0]


def number_objects(ids: IdArray, chosen: list[int]) -> LabelArray:
    """Number the chosen objects from 1 in the given order; all others become background.

    Args:
        ids: ``(H, W)`` int32.
        chosen: At most 255 of their numbers.

    Returns:
        ``(H, W)`` uint8.
    """
    labels = np.zeros(ids.shape, dtype=np.uint8)
    for label, number in enumerate(chosen, start=1):
        labels[ids == number] = label
    return labels
