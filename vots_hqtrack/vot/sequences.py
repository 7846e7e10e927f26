"""VOTS sequences on disk: frames, one ground-truth file for each object, and the list of names.

Layout of one sequence folder (what the VOT toolkit 0.9 reads)::

    sequence                    key=value lines: where the frames are, frame rate, size, length
    color/00000001.jpg ...      frames, counted from 1
    groundtruth_object1.txt     one region for each frame

The lines of a ground-truth file are described in `vots_hqtrack.vot.region_text`.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.io import atomic_path
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId, Size, check_frame
from vots_hqtrack.video.label_maps import mask_box
from vots_hqtrack.video.reader import read_frame
from vots_hqtrack.vot.region_text import EncodedMask, Region, encode_region, parse_region
from vots_hqtrack.vot.workspace import check_toolkit_path

FRAME_SUFFIXES = (".jpg", ".png")
JPEG_QUALITY = 95

_TRUTH_PREFIX = "groundtruth_"
_CHANNELS = {"channels.color", "channels.depth", "channels.ir"}
_PAIR = re.compile(r"([a-zA-Z0-9_\-.]+) *= *(.*)$")


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


@dataclass(frozen=True, slots=True)
class TruthFile:
    """Ground truth of one object.

    Attributes:
        name: The toolkit's name of the object, as in the names of result files.
        path: Its file.
    """

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class SequenceCheck:
    """A sequence that the toolkit can run.

    Attributes:
        folder: The sequence's folder.
        num_frames: Number of frames.
        size: Size of the frames.
        objects: The toolkit's names of the objects.
        is_measurable: Whether every object has truth after the frame where it starts.
    """

    folder: Path
    num_frames: int
    size: Size
    objects: tuple[str, ...]
    is_measurable: bool

    @property
    def name(self) -> str:
        """Name of the sequence."""
        return self.folder.name


def write_sequence(
    folder: Path,
    frames: Iterable[FrameArray | Path],
    masks: Mapping[int, Sequence[MaskArray | EncodedMask | None]],
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
            checked, and copied byte by byte.
        masks: For every object id, bool ``(H, W)`` frame by frame, or the same encoded; None where
            nothing is known. Frames after the last mask count as unknown.
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
    check_sequence_name(folder.name)
    if not masks:
        raise InputError("a sequence needs at least one object, got none")
    (folder / "color").mkdir(parents=True, exist_ok=True)
    count, size, suffix = 0, Size(0, 0), ""
    for count, frame in enumerate(frames, start=1):
        suffix = suffix or _frame_suffix(frame)
        if _frame_suffix(frame) != suffix:
            raise InputError(f"the frames of a sequence must all be {suffix} files, got {frame}")
        target = folder / "color" / f"{count:08d}{suffix}"
        size = _write_frame(frame, target, size if count > 1 else None, link=link)
    if count == 0:
        raise InputError(f"a sequence needs at least one frame, got none for {folder.name}")
    for object_id in sorted(masks):
        _write_groundtruth(folder, int(object_id), masks[object_id], size, count)
    _write_description(folder, suffix, fps, size, count)
    return size


def write_sequence_list(folder: Path, names: Iterable[str]) -> None:
    """Write ``list.txt``: names of a folder's sequences, or absolute paths, in their order.

    Raises:
        InputError: A name would not be read back as it is.
    """
    names = list(names)
    for name in names:
        check_sequence_name(Path(name).name)
    with atomic_path(folder / "list.txt") as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def check_sequence_name(name: str) -> None:
    """Refuse a name that ``list.txt`` cannot hold, or that is not the name of a folder.

    Raises:
        InputError: It is empty, ``.`` or ``..``, holds a slash or a control character, or has
            blanks at its ends.
    """
    is_line = name == name.strip() and name.isprintable()
    if not is_line or name in ("", ".", "..") or "/" in name or "\\" in name:
        raise InputError(
            f"a name must be one line without slashes or blanks at its ends, got {name!r}"
        )


def read_sequence_list(folder: Path) -> list[Path]:
    """Return the sequences that ``list.txt`` names, in order.

    Raises:
        InputError: The list is missing or damaged, or it names a missing folder or one name twice.
    """
    list_path = folder / "list.txt"
    if not list_path.is_file():
        raise InputError(
            f"{folder} holds no VOTS sequences: wanted a file list.txt with their names"
        )
    lines = read_lines(list_path, encoding="utf-8")
    names = [line.strip() for line in lines if line.strip()]
    for name in names:
        check_sequence_name(os.path.basename(name))
    paths = [folder / name for name in names]
    missing = [path.name for path in paths if not _is_sequence(path)]
    if not paths or missing:
        lost = f"names {', '.join(missing[:5])}, but no such sequence is there"
        raise InputError(f"{list_path} {lost if missing else 'is empty'}")
    names = [path.name for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or len(lines) > len(paths):
        what = f"names {', '.join(twice[:5])} twice" if twice else "has empty lines"
        raise InputError(f"{list_path} {what}, which the VOT toolkit cannot use")
    return paths


def read_lines(path: Path, *, encoding: str) -> list[str]:
    """Read the lines of a text file, whatever their ends are.

    Raises:
        InputError: The file cannot be read, has another encoding, or begins with a byte order mark.
    """
    try:
        text = path.read_text(encoding=encoding)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} must be {encoding.upper()} text: {error}") from error
    if text.startswith("\ufeff") or "\x00" in text:
        what = "a NUL character" if "\x00" in text else "a byte order mark"
        raise InputError(f"{path} holds {what}, which the VOT toolkit cannot read: remove it")
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def read_sequence_info(folder: Path) -> SequenceInfo:
    """Read a sequence's own description and find its frames, as the toolkit does.

    Raises:
        InputError: The description or the frames are missing, or they contradict each other.
    """
    values = _read_description(folder)
    if not _CHANNELS & set(values):
        values["channels.color"] = "color/%08d.jpg"
    if "channels.color" not in values:
        has = ", ".join(sorted(_CHANNELS & set(values)))
        raise InputError(f"the sequence {folder} has no channel color, only {has}")
    length = _read_length(values.get("length"), folder)
    channels = {
        key: _list_frames(folder, values[key], length) for key in sorted(_CHANNELS & set(values))
    }
    frame_paths = channels["channels.color"]
    counts = {key: len(paths) for key, paths in channels.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"the channels of {folder} must have the same number of frames: {counts}")
    size = check_frame(read_frame(frame_paths[0]))
    for key, actual in (("width", size.width), ("height", size.height)):
        if values.get(key, "").isdecimal() and int(values[key]) != actual:
            raise InputError(
                f"the sequence {folder} says {key}={values[key]}, but its frames have {actual}"
            )
    return SequenceInfo(folder, size, tuple(frame_paths), _read_rate(values, folder))


def find_truth(folder: Path) -> dict[ObjectId, TruthFile]:
    """Find the ground-truth file of every object of a sequence, as the toolkit does.

    Returns:
        By object id, ascending. The id is the number in ``groundtruth_object<number>.txt``; objects
        with other names get the numbers that are left over, in the order of their names.

    Raises:
        InputError: All such files are missing, or a name is not usable.
    """
    paths = sorted(folder.glob(f"{_TRUTH_PREFIX}*.txt"))
    files = [TruthFile(path.stem.removeprefix(_TRUTH_PREFIX), path) for path in paths]
    if not files:
        name = _read_description(folder).get("groundtruth", "groundtruth.txt")
        files = [TruthFile("object", folder / name)]
    if not files[0].path.is_file():
        wanted = f"{_TRUTH_PREFIX}object1.txt or {files[0].path.name}"
        raise InputError(f"the sequence {folder} has no ground truth: wanted {wanted}")
    numbered: dict[ObjectId, TruthFile] = {}
    others = []
    for file in files:
        check_sequence_name(file.name)
        number = file.name.removeprefix("object")
        if not file.name.isascii():
            raise InputError(f"an object's name must be ASCII, got {file.path}")
        if number != file.name and number.isdecimal() and str(int(number)) == number:
            numbered[ObjectId(int(number))] = file
        else:
            others.append(file)
    free = (ObjectId(n) for n in range(1, len(files) + 1) if n not in numbered)
    return dict(sorted({**numbered, **dict(zip(free, others, strict=False))}.items()))


def read_groundtruth(folder: Path, size: Size) -> dict[ObjectId, Iterator[MaskArray | None]]:
    """Read the ground truth of every object of a sequence.

    Returns:
        By object id, ascending: one mask per frame, drawn as it is asked for; None where nothing is
        known. A line that cannot be read is an `InputError` when its mask is asked for.

    Raises:
        InputError: All such files are missing.
    """

    def draw(path: Path) -> Iterator[MaskArray | None]:
        for region in read_truth(path):
            yield region.to_mask(size)

    return {object_id: draw(file.path) for object_id, file in find_truth(folder).items()}


def read_truth(path: Path) -> Iterator[Region]:
    """Read the regions of a ground-truth file, one for each frame.

    Raises:
        InputError: The file cannot be read, or a line is not a region.
    """
    for number, line in enumerate(read_lines(path, encoding="ascii"), start=1):
        try:
            yield parse_region(line)
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from error


def check_sequence(folder: Path) -> SequenceCheck:
    """Check everything that a run and its analysis by the toolkit will need of a sequence.

    Raises:
        InputError: Something is missing, cannot be read, or would be measured wrongly.
    """
    check_toolkit_path(folder)
    info = read_sequence_info(folder)
    check_toolkit_path(info.frame_paths[0])
    truth = find_truth(folder)
    starts, is_measurable = [], True
    for file in truth.values():
        regions = list(read_truth(file.path))
        start = next((n for n, region in enumerate(regions) if region.is_known), None)
        if start is None:
            raise InputError(f"{file.path}: the object never starts: every line is unknown")
        if len(regions) > len(info.frame_paths):
            raise InputError(
                f"{file.path} has {len(regions)} lines for {len(info.frame_paths)} frames"
            )
        if not _starts_an_object(regions[start], info.size):
            raise InputError(
                f"{file.path}, line {start + 1}: the object starts with an empty region; a mask "
                "must be more than one pixel wide and tall for the VOT toolkit"
            )
        starts.append(start)
        is_measurable &= any(region.kind != "unknown" for region in regions[start + 1 :])
    if min(starts) > 0:
        raise InputError(
            f"no object of {folder} starts on the first frame, which the VOT toolkit needs: "
            f"leave out the {min(starts)} frames before the first object"
        )
    names = tuple(file.name for file in truth.values())
    return SequenceCheck(folder, len(info.frame_paths), info.size, names, is_measurable)


def _starts_an_object(region: Region, size: Size) -> bool:
    mask = region.to_mask(size)
    if mask is None or (box := mask_box(mask)) is None:
        return False
    return region.kind != "mask" or min(box[2:]) > 1


def _is_sequence(folder: Path) -> bool:
    return (folder / "sequence").is_file() or (folder / "groundtruth.txt").is_file()


def _read_description(folder: Path) -> dict[str, str]:
    """Read the pairs of a sequence's description; one without it has frames beside the truth."""
    path = folder / "sequence"
    if not path.is_file() and (folder / "groundtruth.txt").is_file():
        return {"channels.color": "%08d.jpg"}
    if not path.is_file():
        raise InputError(f"{folder} is not a VOTS sequence: wanted a file named sequence")
    matches = (_PAIR.match(line.strip()) for line in read_lines(path, encoding="utf-8"))
    return {match[1]: match[2] for match in matches if match}


def _read_length(text: str | None, folder: Path) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError as error:
        raise InputError(
            f"the sequence {folder} has a length that is not a number: {text!r}"
        ) from (error)


def _read_rate(values: Mapping[str, str], folder: Path) -> float:
    text = values.get("fps", "30")
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise InputError(f"the sequence {folder} must have a positive frame rate, got fps={text}")
    return rate


def _list_frames(folder: Path, pattern: str, length: int | None) -> list[Path]:
    """List a channel's frames: so many as the description says, or up to the last one."""
    if not os.path.splitext(pattern)[1]:
        pattern = f"{pattern}/%08d.jpg"
    if os.path.splitext(pattern)[1] not in FRAME_SUFFIXES:
        wanted = " or ".join(FRAME_SUFFIXES)
        raise InputError(f"the VOT toolkit reads frames as {wanted}, got {pattern!r} in {folder}")
    try:
        is_numbered = pattern % 1 != pattern % 2
    except (TypeError, ValueError) as error:
        raise InputError(f"wanted a pattern such as color/%08d.jpg, got {pattern!r}") from error
    if not is_numbered:
        raise InputError(f"wanted a pattern such as color/%08d.jpg, got {pattern!r}")
    found: list[Path] = []
    while (path := folder / (pattern % (len(found) + 1))).is_file() and len(found) != length:
        found.append(path)
    if not found:
        raise InputError(f"the sequence {folder} has no frames: wanted {pattern % 1}")
    if len(found) != length and (
        length is not None or (folder / (pattern % (len(found) + 2))).is_file()
    ):
        raise InputError(f"the sequence {folder} has no frame {pattern % (len(found) + 1)}")
    return found


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
    folder: Path,
    object_id: int,
    masks: Sequence[MaskArray | EncodedMask | None],
    size: Size,
    num_frames: int,
) -> None:
    if len(masks) > num_frames:
        raise InputError(
            f"object {object_id} has {len(masks)} masks, but there are {num_frames} frames"
        )
    for index, mask in enumerate(masks):
        if mask is not None and mask.shape != tuple(size):
            shape = "x".join(str(side) for side in reversed(mask.shape))
            raise ShapeError(
                f"the mask of object {object_id} on frame {index} must have the frame size {size}, "
                f"got {shape}"
            )
    lines = (m.text if isinstance(m, EncodedMask) else encode_region(m) for m in masks)
    text = "".join(f"{line}\n" for line in lines)
    (folder / f"{_TRUTH_PREFIX}object{object_id}.txt").write_text(text, encoding="ascii")


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


def _write_frame(
    frame: FrameArray | Path, target: Path, expected: Size | None, *, link: bool
) -> Size:
    """Write a frame, or copy its file after a look at it, and return its size."""
    if not isinstance(frame, Path):
        size = check_frame(frame, expected=expected)
        write_jpeg(target, frame, quality=JPEG_QUALITY)
        return size
    if not frame.is_file():
        raise InputError(f"cannot read the frame {frame}: the file is missing")
    try:
        size = check_frame(read_frame(frame), expected=expected)
    except ShapeError as error:
        raise ShapeError(f"{frame}: {error}") from error
    if link:
        target.symlink_to(frame.resolve())
    else:
        shutil.copyfile(frame, target)
    return size
