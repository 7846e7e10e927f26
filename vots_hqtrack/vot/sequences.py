"""VOTS sequences on disk: frames, one ground-truth file for each object, and the list of names.

Layout of one sequence folder (what the VOT toolkit 0.9 reads)::

    sequence                    key=value lines: where the frames are, frame rate, size, length
    color/00000001.jpg ...      frames, counted from 1
    groundtruth_object1.txt     one region for each frame

What stands in a ground-truth line is told in `vots_hqtrack.vot.region_text`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId, Size, check_frame
from vots_hqtrack.vot.region_text import decode_region, encode_region

FRAME_SUFFIXES = (".jpg", ".png")

_GROUNDTRUTH_PREFIX = "groundtruth_object"


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """What the file ``sequence`` and the frames' folder say.

    Attributes:
        folder: The sequence's folder.
        size: Size of the frames.
        frame_paths: The frames in order.
        fps: Frames a second.
    """

    folder: Path
    size: Size
    frame_paths: tuple[Path, ...]
    fps: float


def write_sequence(
    folder: Path,
    frames: Iterable[FrameArray | Path],
    masks: Mapping[int, Sequence[MaskArray | None]],
    *,
    fps: float = 30.0,
    jpeg_quality: int = 95,
    link: bool = False,
) -> Size:
    """Write one sequence in the VOTS layout.

    The masks are written as they are given: the toolkit starts an object at its first line that is
    not unknown, an empty mask included. Give None up to the frame where the object should start.

    Args:
        folder: Folder to be made; it must not exist or be empty.
        frames: uint8 ``(H, W, 3)`` RGB arrays, written as JPEG; or paths of JPEG or PNG files,
            taken over byte by byte.
        masks: For every object id, bool ``(H, W)`` frame by frame; None where nothing is known.
            Frames after the last mask count as unknown.
        fps: Frames a second.
        jpeg_quality: 1..100, for arrays.
        link: Make symbolic links to given files instead of copies.

    Returns:
        The size of the frames.

    Raises:
        InputError: The folder is not empty, there are no frames or objects, there are more masks
            than frames, or a frame's file cannot be used.
        ShapeError: A frame or mask has another size than the first frame.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"cannot write a sequence into {folder}: it exists and is not an empty folder"
        )
    if not masks:
        raise InputError("a sequence needs at least one object, got none")
    (folder / "color").mkdir(parents=True, exist_ok=True)
    count, size, suffix = 0, Size(0, 0), ""
    for count, frame in enumerate(frames, start=1):
        if count == 1:
            suffix = _frame_suffix(frame)
            size = _frame_size(frame)
        elif _frame_suffix(frame) != suffix:
            raise InputError(f"the frames of a sequence must all be {suffix} files, got {frame}")
        target = folder / "color" / f"{count:08d}{suffix}"
        if isinstance(frame, Path):
            _take_over(frame, target, link=link)
        else:
            check_frame(frame, expected=size)
            write_jpeg(target, frame, quality=jpeg_quality)
    if count == 0:
        raise InputError(f"a sequence needs at least one frame, got none for {folder.name}")
    for object_id in sorted(masks):
        _write_groundtruth(folder, int(object_id), masks[object_id], size, count)
    _write_description(folder, suffix, fps, size, count)
    return size


def write_sequence_list(folder: Path, names: Iterable[str]) -> None:
    """Write ``list.txt``, which tells the toolkit the sequences of a folder and their order.

    Args:
        folder: Folder that holds the sequences' folders.
        names: Their names, or absolute paths of sequences elsewhere.
    """
    text = "".join(f"{name}\n" for name in names)
    (folder / "list.txt").write_text(text, encoding="utf-8")


def read_sequence_list(folder: Path) -> list[Path]:
    """Return the sequences that ``list.txt`` names, in order.

    Raises:
        InputError: There is no list, or it names a folder that is not there.
    """
    list_path = folder / "list.txt"
    if not list_path.is_file():
        raise InputError(
            f"{folder} holds no VOTS sequences: wanted a file list.txt with their names"
        )
    names = [name.strip() for name in list_path.read_text(encoding="utf-8").splitlines()]
    paths = [folder / name for name in names if name]
    missing = [path.name for path in paths if not (path / "sequence").is_file()]
    if not paths or missing:
        what = (
            f"names {', '.join(missing[:5])}, but no such sequence is there"
            if missing
            else "is empty"
        )
        raise InputError(f"{list_path} {what}")
    return paths


def read_sequence_info(folder: Path) -> SequenceInfo:
    """Read a sequence's own description and find its frames.

    Raises:
        InputError: The description or the frames are missing.
    """
    try:
        text = (folder / "sequence").read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder} is no VOTS sequence: wanted a file named sequence") from error
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    values = {key.strip(): value.strip() for key, _, value in pairs}
    pattern = values.get("channels.color", "color/%08d.jpg")
    frame_paths: list[Path] = []
    while (path := folder / (pattern % (len(frame_paths) + 1))).is_file():
        frame_paths.append(path)
    if not frame_paths:
        raise InputError(f"the sequence {folder} has no frames: wanted {pattern % 1}")
    size = _frame_size(frame_paths[0])
    return SequenceInfo(folder, size, tuple(frame_paths), float(values.get("fps", 30)))


def read_groundtruth(folder: Path, size: Size) -> dict[ObjectId, list[MaskArray | None]]:
    """Read the ground truth of every object of a sequence that `write_sequence` wrote.

    Args:
        folder: The sequence's folder.
        size: Size of its frames.

    Returns:
        By object id, ascending: one mask a frame, None where nothing is known.

    Raises:
        InputError: There is no such file, or a line cannot be read.
    """
    found: dict[ObjectId, list[MaskArray | None]] = {}
    for path in folder.glob(f"{_GROUNDTRUTH_PREFIX}*.txt"):
        name = path.stem.removeprefix(_GROUNDTRUTH_PREFIX)
        if not name.isdecimal():
            raise InputError(f"wanted a number after {_GROUNDTRUTH_PREFIX!r}, got {path.name}")
        lines = path.read_text(encoding="ascii").splitlines()
        found[ObjectId(int(name))] = [decode_region(line, size) for line in lines]
    if not found:
        raise InputError(
            f"the sequence {folder} has no ground truth: wanted {_GROUNDTRUTH_PREFIX}1.txt"
        )
    return dict(sorted(found.items()))


def write_jpeg(path: Path, frame: FrameArray, *, quality: int) -> None:
    """Write an RGB frame as JPEG, under any path the system knows.

    Args:
        path: File to be written.
        frame: uint8 ``(H, W, 3)`` RGB.
        quality: 1..100.
    """
    bgr = np.ascontiguousarray(frame[..., ::-1])
    # Full chroma resolution: with halved chroma an object's colour bleeds over its mask's edge.
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
    done, data = cv2.imencode(".jpg", bgr, [*options, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444])
    if not done:
        raise InputError(f"cannot encode the frame of {frame.shape} for {path} as JPEG")
    path.write_bytes(data.tobytes())


def _write_groundtruth(
    folder: Path, object_id: int, masks: Sequence[MaskArray | None], size: Size, num_frames: int
) -> None:
    if len(masks) > num_frames:
        raise InputError(
            f"object {object_id} has {len(masks)} masks, but there are {num_frames} frames"
        )
    for place, mask in enumerate(masks):
        if mask is not None and mask.shape != tuple(size):
            shape = "x".join(str(side) for side in mask.shape)
            wanted = (
                f"the mask of object {object_id} on frame {place} must have the frame size {size}"
            )
            raise ShapeError(f"{wanted}, got {shape}")
    text = "".join(f"{encode_region(mask)}\n" for mask in masks)
    (folder / f"{_GROUNDTRUTH_PREFIX}{object_id}.txt").write_text(text, encoding="ascii")


def _write_description(folder: Path, suffix: str, fps: float, size: Size, count: int) -> None:
    lines = {
        "name": folder.name,
        "format": "default",
        "channels.color": f"color/%08d{suffix}",
        "fps": f"{fps:g}",
        "width": size.width,
        "height": size.height,
        "length": count,
    }
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    (folder / "sequence").write_text(text, encoding="utf-8")


def _frame_suffix(frame: FrameArray | Path) -> str:
    if not isinstance(frame, Path):
        return ".jpg"
    suffix = ".jpg" if frame.suffix.lower() == ".jpeg" else frame.suffix.lower()
    if suffix not in FRAME_SUFFIXES:
        raise InputError(
            f"the VOT toolkit reads frames as {' or '.join(FRAME_SUFFIXES)}, got {frame}"
        )
    return suffix


def _frame_size(frame: FrameArray | Path) -> Size:
    if not isinstance(frame, Path):
        return check_frame(frame)
    try:
        data = np.fromfile(frame, dtype=np.uint8)
    except OSError as error:
        raise InputError(f"cannot read the frame {frame}: {error.strerror}") from error
    # Orientation tags are left alone, as the toolkit and the trackers leave them.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(data, flags) if len(data) else None
    if image is None:
        raise InputError(f"cannot read the frame {frame}: it is no image that OpenCV can decode")
    return Size(int(image.shape[0]), int(image.shape[1]))


def _take_over(source: Path, target: Path, *, link: bool) -> None:
    if not source.is_file():
        raise InputError(f"cannot read the frame {source}: there is no such file")
    if link:
        os.symlink(source.resolve(), target)
    else:
        shutil.copyfile(source, target)
