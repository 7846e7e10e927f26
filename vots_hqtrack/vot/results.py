"""Masks that a tracker reported, read back from the toolkit's result files.

A ``.bin`` file begins with the version (int16, 1) and the number of frames (uint32); each frame
then has a type byte and its region, all little-endian: 0, a code (1 = the tracker was given this
mask); 1, a rectangle; 2, a polygon; 3, a mask cut to its box.
"""

from __future__ import annotations

import glob
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import MaskArray, ObjectId, Size
from vots_hqtrack.vot.region_text import Region
from vots_hqtrack.vot.sequences import (
    SequenceCheck,
    find_truth,
    read_lines,
    read_sequence_info,
    read_truth,
)
from vots_hqtrack.vot.workspace import EXPERIMENT, Workspace

_HEADER = struct.Struct("<hI")
_CODE = struct.Struct("<I")
_COUNT = struct.Struct("<H")
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


def read_tracked(
    workspace: Workspace, tracker: str, sequence: Path, *, start: int = 0
) -> Iterator[TrackedFrame]:
    """Yield the frames of a sequence's folder with the masks that a tracker reported.

    One frame is in memory at a time.

    Args:
        workspace: The workspace with the results.
        tracker: The tracker's identifier.
        sequence: Folder of the sequence.
        start: First frame to yield; the masks before it are not drawn.

    Raises:
        InputError: The sequence or the results are missing or damaged.
    """
    info = read_sequence_info(sequence)
    truths = {number: read_truth(file.path) for number, file in find_truth(sequence).items()}
    paths = result_paths(workspace, tracker, sequence)
    results = {number: read_regions(path) for number, path in paths.items()}
    for index, path in enumerate(info.frame_paths):
        wanted = {number: next(regions, None) for number, regions in truths.items()}
        reported: dict[ObjectId, Region] = {}
        for number, regions in results.items():
            region = next(regions, None)
            if region is None:
                ends = f"the results of {tracker} on {sequence.name} end at frame {index}"
                raise InputError(f"{ends}, before the sequence does; evaluate again")
            reported[number] = region
        if index < start:
            continue
        known = {
            n: None if region is None else region.to_mask(info.size) for n, region in wanted.items()
        }
        masks: dict[ObjectId, MaskArray] = {}
        for number, region in reported.items():
            mask = region.to_mask(info.size) if region.is_known else known[number]
            masks[number] = np.zeros(info.size, dtype=np.bool_) if mask is None else mask
        yield TrackedFrame(index, path, masks, known)


def result_paths(workspace: Workspace, tracker: str, sequence: Path) -> dict[ObjectId, Path]:
    """Files with the masks of a sequence's objects, by object id."""
    folder = workspace.results_of(tracker) / EXPERIMENT / sequence.name
    truth = find_truth(sequence)
    return {
        object_id: result_path(folder, sequence.name, file.name, num_objects=len(truth))
        for object_id, file in truth.items()
    }


def result_path(
    folder: Path, sequence: str, object_id: ObjectId | str, *, num_objects: int
) -> Path:
    """File with one object's masks in a sequence's folder of results.

    The toolkit leaves the object, which may be given by its number or its name, out of the file's
    name where the sequence has one only. It writes binary files, or text where the user wants it.
    """
    name = object_id if isinstance(object_id, str) else f"object{object_id}"
    stem = f"{sequence}_001" if num_objects == 1 else f"{sequence}_{name}_001"
    text = folder / f"{stem}.txt"
    return text if text.is_file() else folder / f"{stem}.bin"


def time_path(path: Path) -> Path:
    """File with the seconds of each frame beside a file with masks."""
    return path.with_name(f"{path.stem}_time.value")


def result_fault(folder: Path, sequence: SequenceCheck) -> str | None:
    """Say what keeps a sequence's results from being whole, None where nothing does.

    Args:
        folder: Folder of the results of one tracker on the sequence.
        sequence: The sequence.

    Returns:
        The first missing or damaged file and what it lacks.
    """
    num_objects, num_frames = len(sequence.objects), sequence.num_frames
    try:
        for name in sequence.objects:
            path = result_path(folder, sequence.name, name, num_objects=num_objects)
            count = sum(1 for _ in read_regions(path))
            if count != num_frames:
                raise InputError(f"{path} has {count} frames, but the sequence has {num_frames}")
            if path.suffix == ".txt" and path.with_suffix(".bin").exists():
                raise InputError(f"{path} and {path.stem}.bin are both there")
            read_times(time_path(path), num_frames)
            for other in folder.glob(f"{glob.escape(path.stem)}_*.value"):
                count = len(read_lines(other, encoding="utf-8"))
                if count != num_frames:
                    raise InputError(f"{other} has {count} lines for {num_frames} frames")
    except InputError as error:
        return str(error)
    return None


def read_times(path: Path, num_frames: int | None = None) -> list[float]:
    """Read the seconds of each frame.

    Raises:
        InputError: The file is missing, holds something else, or is not of ``num_frames`` lines.
    """
    lines = read_lines(path, encoding="ascii")
    try:
        times = [float(line) for line in lines]
    except ValueError as error:
        raise InputError(f"{path} must hold seconds: {error}") from error
    if not all(0 <= seconds < math.inf for seconds in times):
        raise InputError(f"{path} must hold seconds of 0 or more")
    if num_frames is not None and len(times) != num_frames:
        raise InputError(f"{path} has {len(times)} lines for {num_frames} frames")
    return times


def read_result(path: Path, size: Size) -> Iterator[MaskArray | None]:
    """Read one object's masks, frame by frame.

    Args:
        path: A ``.bin`` or ``.txt`` file of the toolkit.
        size: Size of the sequence's frames.

    Yields:
        Bool ``(H, W)``, all False where the object was reported absent; None where the file says no
        more than a code, as on the frame where the object was given.

    Raises:
        InputError: The file is missing, cut short, or holds a region of another type.
    """
    for region in read_regions(path):
        yield region.to_mask(size) if region.is_known else None


def read_regions(path: Path) -> Iterator[Region]:
    """Read the regions of a file of results, one for each frame; codes are not known regions.

    Raises:
        InputError: The file is missing, damaged, or holds a region of another type.
    """
    if path.suffix == ".txt":
        yield from read_truth(path)
        return
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
            region, position = _read_region(data, position, path)
            yield region
    except struct.error as error:
        raise InputError(_cut(path)) from error
    if position != len(data):
        raise InputError(f"the result {path} goes on after its {num_frames} frames")


def _read_region(data: bytes, position: int, path: Path) -> tuple[Region, int]:
    """Read the region at a position, and return the position after it."""
    (kind,) = struct.unpack_from("B", data, position)
    position += 1
    if kind not in (0, 1, 2, 3):
        wanted = "masks, rectangles, polygons or codes"
        raise InputError(f"{path}: wanted {wanted}, got a region of type {kind}")
    try:
        if kind == 0:
            _CODE.unpack_from(data, position)
            return Region("unknown"), position + _CODE.size
        if kind == 3:
            left, top, width, height, count = _MASK.unpack_from(data, position)
            position += _MASK.size
            runs = struct.unpack_from(f"<{count}H", data, position)
            return Region.mask((left, top, width, height, *runs)), position + 2 * count
        count = 4
        if kind == 2:
            count, position = 2 * _COUNT.unpack_from(data, position)[0], position + _COUNT.size
        numbers = struct.unpack_from(f"<{count}f", data, position)
        region = Region.shape("rectangle" if kind == 1 else "polygon", numbers)
        return region, position + 4 * count
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except struct.error as error:
        raise InputError(_cut(path, f" in a region of type {kind}")) from error


def _cut(path: Path, where: str = "") -> str:
    return f"the result {path} is cut short{where}: remove it and evaluate again"
