"""Masks that a tracker reported, read back from the toolkit's result files.

A ``.bin`` file begins with the version (int16, 1) and the number of frames (uint32); each frame
then has a type byte and its region, all little-endian. Where we report masks only three types
occur: 0, a code (1 = the tracker was given this mask); 1, a rectangle; 3, a mask cut to its box.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import MaskArray, ObjectId, Size
from vots_hqtrack.vot.region_text import fill_rectangle, place_runs
from vots_hqtrack.vot.sequences import read_groundtruth, read_sequence_info
from vots_hqtrack.vot.workspace import EXPERIMENT, Workspace

_HEADER = struct.Struct("<hI")
_CODE = struct.Struct("<I")
_RECTANGLE = struct.Struct("<4f")
_MASK = struct.Struct("<hhHHH")


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """One frame of an evaluated sequence.

    Attributes:
        index: Its number, counted from 0.
        path: Its image file.
        masks: Reported masks, bool ``(H, W)`` by object; the given mask where the object was given.
        truth: True masks; None where nothing is known or the object has not started.
    """

    index: int
    path: Path
    masks: dict[ObjectId, MaskArray]
    truth: dict[ObjectId, MaskArray | None]


def read_tracked(workspace: Workspace, tracker: str, sequence: Path) -> Iterator[TrackedFrame]:
    """Yield the frames of a sequence's folder with the masks that a tracker reported.

    Raises:
        InputError: The sequence or the results are missing or damaged.
    """
    info = read_sequence_info(sequence)
    truth = read_groundtruth(sequence, info.size)
    folder = workspace.results / tracker / EXPERIMENT / sequence.name
    readers = {
        object_id: read_result(
            result_path(folder, sequence.name, object_id, num_objects=len(truth)), info.size
        )
        for object_id in truth
    }
    for index, path in enumerate(info.frame_paths):
        known = {n: track[index] if index < len(track) else None for n, track in truth.items()}
        masks: dict[ObjectId, MaskArray] = {}
        try:
            for object_id, reader in readers.items():
                mask = next(reader)
                given = known[object_id] if mask is None else mask
                masks[object_id] = np.zeros(info.size, dtype=np.bool_) if given is None else given
        except StopIteration:
            ends = f"the results of {tracker} on {sequence.name} end at frame {index}"
            raise InputError(f"{ends}, before the sequence does; evaluate again") from None
        yield TrackedFrame(index, path, masks, known)


def result_path(folder: Path, sequence: str, object_id: ObjectId, *, num_objects: int) -> Path:
    """File with one object's masks in a sequence's folder of results.

    The toolkit leaves the object out of the name where the sequence has one only.
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
        position = _HEADER.size
        for _ in range(num_frames):
            mask, position = _read_region(data, position, size, path)
            yield mask
    except struct.error as error:
        raise InputError(f"the result {path} is cut short; remove it and evaluate again") from error


def _read_region(
    data: bytes, position: int, size: Size, path: Path
) -> tuple[MaskArray | None, int]:
    """Read the region at a position; return its mask and the position after it."""
    (kind,) = struct.unpack_from("B", data, position)
    position += 1
    if kind == 0:
        _CODE.unpack_from(data, position)
        return None, position + _CODE.size
    if kind == 1:
        bounds = _RECTANGLE.unpack_from(data, position)
        return fill_rectangle(bounds, size), position + _RECTANGLE.size
    if kind == 3:
        left, top, width, height, num_runs = _MASK.unpack_from(data, position)
        position += _MASK.size
        runs = struct.unpack_from(f"<{num_runs}H", data, position)
        mask = place_runs((left, top), Size(height, width), runs, size)
        return mask, position + 2 * num_runs
    raise InputError(f"{path}: wanted masks, rectangles or codes, got a region of type {kind}")
