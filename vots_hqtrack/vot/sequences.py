"""VOTS sequences on disk: frames, one ground-truth file for each object, and the list of names.

Layout of one sequence folder (what the VOT toolkit 0.9 reads)::

    sequence                    key=value lines: where the frames are, frame rate, size, length
    color/00000001.jpg ...      frames, counted from 1
    groundtruth_object1.txt     one region for each frame

The lines of a ground-truth file are described in `vots_hqtrack.vot.region_text`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId, Size, check_frame
from vots_hqtrack.video.reader import read_frame
from vots_hqtrack.vot.region_text import decode_region, encode_region

FRAME_SUFFIXES = (".jpg", ".png")
JPEG_QUALITY = 95

_GROUNDTRUTH_PREFIX = "groundtruth_object"


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """Frames of a sequence and its description.

    Attributes:
        folder: The sequence's folder.
        size: Size of the frames.
        frame_paths: The frames in order.
        fps: Frames per second.
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
    link: bool = False,
) -> Size:
    """Write one sequence in the VOTS layout.

    The masks are written as they are given: the toolkit starts an object at its first line that is
    not unknown, an empty mask included. Give None up to the frame where the object should start.

    Args:
        folder: Folder to be made; it must not exist or be empty.
        frames: uint8 ``(H, W, 3)`` RGB arrays, written as JPEG; or paths of JPEG or PNG files,
            copied byte by byte.
        masks: For every object id, bool ``(H, W)`` frame by frame; None where nothing is known.
            Frames after the last mask count as unknown.
        fps: Frames per second.
        link: Make symbolic links to given files instead of copies.

    Returns:
        The size of the frames.

    Raises:
        InputError: The folder is not empty, there are no frames or objects, there are more masks
            than frames, or a frame's file cannot be used.
        ShapeError: A frame or mask has another size than the first frame.
    """
    check_empty(folder, "write a sequence")
    if not masks:
        raise InputError("a sequence needs at least one object, got none")
    (folder / "color").mkdir(parents=True, exist_ok=True)
    count, size, suffix = 0, Size(0, 0), ""
    for count, frame in enumerate(frames, start=1):
        if count == 1:
            suffix = _frame_suffix(frame)
            size = check_frame(read_frame(frame) if isinstance(frame, Path) else frame)
        elif _frame_suffix(frame) != suffix:
            raise InputError(f"the frames of a sequence must all be {suffix} files, got {frame}")
        target = folder / "color" / f"{count:08d}{suffix}"
        if isinstance(frame, Path):
            _copy_frame(frame, target, link=link)
        else:
            check_frame(frame, expected=size)
            write_jpeg(target, frame, quality=JPEG_QUALITY)
    if count == 0:
        raise InputError(f"a sequence needs at least one frame, got none for {folder.name}")
    for object_id in sorted(masks):
        _write_groundtruth(folder, int(object_id), masks[object_id], size, count)
    _write_description(folder, suffix, fps, size, count)
    return size


def write_sequence_list(folder: Path, names: Iterable[str]) -> None:
    """Write ``list.txt``: names of a folder's sequences, or absolute paths, in their order."""
    text = "".join(f"{name}\n" for name in names)
    (folder / "list.txt").write_text(text, encoding="utf-8")


def read_sequence_list(folder: Path) -> list[Path]:
    """Return the sequences that ``list.txt`` names, in order.

    Raises:
        InputError: The list is missing, or it names a missing folder.
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
        lost = f"names {', '.join(missing[:5])}, but no such sequence is there"
        raise InputError(f"{list_path} {lost if missing else 'is empty'}")
    return paths


def read_sequence_info(folder: Path) -> SequenceInfo:
    """Read a sequence's own description and find its frames.

    Raises:
        InputError: The description or the frames are missing.
    """
    try:
        text = (folder / "sequence").read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{folder} is not a VOTS sequence: wanted a file named sequence"
        ) from error
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    values = {key.strip(): value.strip() for key, _, value in pairs}
    pattern = values.get("channels.color", "color/%08d.jpg")
    frame_paths: list[Path] = []
    while (path := folder / (pattern % (len(frame_paths) + 1))).is_file():
        frame_paths.append(path)
    if not frame_paths:
        raise InputError(f"the sequence {folder} has no frames: wanted {pattern % 1}")
    size = check_frame(read_frame(frame_paths[0]))
    return SequenceInfo(folder, size, tuple(frame_paths), float(values.get("fps", 30)))


def read_groundtruth(folder: Path, size: Size) -> dict[ObjectId, list[MaskArray | None]]:
    """Read the ground truth of every object of a sequence that `write_sequence` wrote.

    Returns:
        By object id, ascending: one mask per frame, None where nothing is known.

    Raises:
        InputError: All such files are missing, or a line cannot be read.
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
    """Write a uint8 ``(H, W, 3)`` RGB frame as JPEG, quality 1..100, under any path.

    Raises:
        InputError: OpenCV cannot encode it.
    """
    bgr = np.ascontiguousarray(frame[..., ::-1])
    # Full chroma resolution: with halved chroma an object's colour bleeds over its mask's edge.
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
    done, data = cv2.imencode(".jpg", bgr, [*options, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444])
    if not done:
        raise InputError(f"cannot encode the frame of {frame.shape} for {path} as JPEG")
    path.write_bytes(data.tobytes())


def check_empty(folder: Path, action: str) -> None:
    """Refuse an output folder that is a file or holds something; ``action`` is for the message.

    Raises:
        InputError: It exists and is not an empty folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"cannot {action} into {folder}: it exists and is not an empty folder")


def _write_groundtruth(
    folder: Path, object_id: int, masks: Sequence[MaskArray | None], size: Size, num_frames: int
) -> None:
    if len(masks) > num_frames:
        raise InputError(
            f"object {object_id} has {len(masks)} masks, but there are {num_frames} frames"
        )
    for index, mask in enumerate(masks):
        if mask is not None and mask.shape != tuple(size):
            shape = "x".join(str(side) for side in mask.shape)
            raise ShapeError(
                f"the mask of object {object_id} on frame {index} must have the frame size {size}, "
                f"got {shape}"
            )
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


def _copy_frame(source: Path, target: Path, *, link: bool) -> None:
    if not source.is_file():
        raise InputError(f"cannot read the frame {source}: the file is missing")
    if link:
        target.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, target)
