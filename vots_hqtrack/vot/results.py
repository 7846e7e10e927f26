"""What a tracker reported, read back from the toolkit's result files.

A ``.bin`` file begins with the version (int16, 1) and the number of frames (uint32); each frame
then has a type byte and its region, all little-endian. Where we report masks only three types
occur: 0, a code (1 = the tracker was given this mask); 1, a rectangle; 3, a mask cut to its box.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import MaskArray, ObjectId, Size
from vots_hqtrack.vot.region_text import place_runs

_HEADER = struct.Struct("<hI")
_CODE = struct.Struct("<I")
_RECTANGLE = struct.Struct("<4f")
_MASK = struct.Struct("<hhHHH")


def result_path(folder: Path, sequence: str, object_id: ObjectId, *, num_objects: int) -> Path:
    """Return the file that holds one object's masks.

    Args:
        folder: The sequence's folder among a tracker's results.
        sequence: Name of the sequence.
        object_id: The object.
        num_objects: Objects in the sequence: the toolkit leaves the object out of the file's name
            where there is one only.
    """
    middle = "" if num_objects == 1 else f"_object{object_id}"
    return folder / f"{sequence}{middle}_001.bin"


def read_result(path: Path, size: Size) -> Iterator[MaskArray | None]:
    """Read one object's masks, frame by frame.

    Args:
        path: A ``.bin`` file of the toolkit.
        size: Size of the sequence's frames.

    Yields:
        Bool ``(H, W)``, all False where the object was reported absent; None where the file says no
        more than a code, as on the frame where the object was given.

    Raises:
        InputError: The file is missing, cut short, or holds a region of another type.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the result {path}: {error.strerror}") from error
    try:
        version, num_frames = _HEADER.unpack_from(data)
        if version != 1:
            raise InputError(f"{path}: wanted version 1 of the toolkit's results, got {version}")
        place = _HEADER.size
        for _ in range(num_frames):
            mask, place = _read_region(data, place, size, path)
            yield mask
    except struct.error as error:
        raise InputError(f"the result {path} is cut short; remove it and evaluate again") from error


def _read_region(data: bytes, place: int, size: Size, path: Path) -> tuple[MaskArray | None, int]:
    kind = data[place : place + 1]
    place += 1
    if kind == b"\x00":
        _CODE.unpack_from(data, place)
        return None, place + _CODE.size
    if kind == b"\x01":
        left, top, width, height = _RECTANGLE.unpack_from(data, place)
        box = Size(round(height), round(width))
        mask = place_runs((round(left), round(top)), box, [0, box.height * box.width], size)
        return mask, place + _RECTANGLE.size
    if kind == b"\x03":
        left, top, width, height, num_runs = _MASK.unpack_from(data, place)
        place += _MASK.size
        runs = struct.unpack_from(f"<{num_runs}H", data, place)
        mask = place_runs((left, top), Size(height, width), runs, size)
        return mask, place + 2 * num_runs
    if not kind:
        raise struct.error("no type byte")
    raise InputError(f"{path}: wanted masks, rectangles or codes, got a region of type {kind[0]}")
