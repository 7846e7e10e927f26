"""Reading shared by the formats: JSON tables and images of wide object numbers.

All errors name the file and say what was wanted in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from vots_hqtrack.errors import InputError

IdArray = npt.NDArray[np.int32]
"""``(H, W)``: number of the object that a pixel belongs to, as the data set gives it; 0 is none."""

Value = TypeVar("Value")

_SHOWN_KEYS = 8
_MAX_DIGITS = 18
"""Digits of whole numbers in files: such numbers fit 64 bits."""


def require_file(kind: str, path: Path) -> Path:
    """Return the path if it is a file; `InputError` otherwise."""
    if not path.is_file():
        raise InputError(f"a {kind} data set needs the file {path}, found none")
    return path


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
    except (OSError, ValueError, RecursionError) as error:
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


def whole_number(text: str) -> int | None:
    """Read a whole number without a sign; None if it is none, or too long to be meant.

    Example:
        >>> whole_number("007"), whole_number("-7"), whole_number("9" * 30)
        (7, None, None)
    """
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else None


def read_wide(path: Path) -> IdArray:
    """Read a PNG of more than 8 bits: 16-bit grey, or colours as ``R + 256 G + 65536 B``.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
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
