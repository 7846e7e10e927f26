"""Reading shared by the adapters: folders, JSON tables, images of object numbers.

All errors name the file and say what was wanted in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import LabelArray
from vots_hqtrack.video.label_maps import LabelMaps
from vots_hqtrack.video.reader import IMAGE_SUFFIXES

IdArray = npt.NDArray[np.int32]
"""``(H, W)``: number of the object that a pixel belongs to, as the data set gives it; 0 is none."""

Value = TypeVar("Value")

_SHOWN_KEYS = 8


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


def require_file(kind: str, path: Path) -> Path:
    """Return the path if it is a file; `InputError` otherwise."""
    if not path.is_file():
        raise InputError(f"a {kind} data set needs the file {path}, found none")
    return path


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


def read_json(path: Path, kind: str) -> dict[str, object]:
    """Read a JSON file that holds a table.

    Args:
        path: The file.
        kind: Layout that needs it, for the message.

    Raises:
        InputError: The file is missing, not JSON, or not a table.
    """
    require_file(kind, path)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} as JSON: {error}") from error
    if not isinstance(table, dict):
        raise InputError(f"{path}: wanted a JSON table, got {type(table).__name__}")
    return table


def take(table: object, key: str, kind: type[Value], where: object) -> Value:
    """Return one entry of a JSON table, checked.

    Args:
        table: The table; anything else is an error.
        key: Entry wanted.
        kind: Type of its value.
        where: Origin of the table, for the message.

    Raises:
        InputError: Not a table, or the entry is missing or of another type.

    Example:
        >>> take({"id": 3}, "id", int, "images.json")
        3
    """
    if not isinstance(table, dict):
        raise InputError(f"{where}: wanted a table with {key!r}, got {type(table).__name__}")
    if key not in table:
        keys = ", ".join(map(str, list(table)[:_SHOWN_KEYS])) or "nothing"
        raise InputError(f"{where}: wanted an entry {key!r}, got {keys}")
    value = table[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        got = type(value).__name__
        raise InputError(f"{where}: wanted {key!r} as {kind.__name__}, got {got}")
    return value


def read_ids(path: Path) -> IdArray:
    """Read an image of object numbers that is alone, by the rules of `LabelMaps`.

    Raises:
        InputError: The file cannot be read.
    """
    return LabelMaps([path]).read(path).astype(np.int32)


class SequenceIds:
    """Object numbers of a video's label maps, in which a colour is the same object in all frames.

    Args:
        paths: Label maps of the video, in the order of its frames.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._maps = LabelMaps(self._paths)

    def read(self, position: int) -> IdArray:
        """Read the object numbers of a frame; `InputError` as `LabelMaps.read`."""
        return self._maps.read(self._paths[position]).astype(np.int32)


def read_wide(path: Path) -> IdArray:
    """Read a PNG of more than 8 bits: 16-bit grey, or colours as ``R + 256 G + 65536 B``.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not an image, or a damaged one"
        raise InputError(f"cannot read the label map {path}: {reason}") from error
    if values.ndim == 3 and values.shape[2] >= 3 and values.dtype == np.uint8:
        parts = values[..., :3].astype(np.int32)
        return parts[..., 0] + 256 * parts[..., 1] + 65536 * parts[..., 2]
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise InputError(
            f"{path}: wanted one whole number per pixel, got {values.dtype} {values.shape}"
        )
    return values.astype(np.int32)


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
