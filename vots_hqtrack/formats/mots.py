"""MOTS: KITTI's 16-bit label maps, and the run lengths of MOTSChallenge.

An object's number is ``1000 * class + instance``; 10000 marks regions that belong to none.
"""

from __future__ import annotations

import configparser
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from PIL import Image

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.files import IdArray, read_wide, whole_number
from vots_hqtrack.formats.rle import decode_segmentation, encode_mask
from vots_hqtrack.formats.stream import (
    DEFAULT_NAME,
    FrameMasks,
    FrameName,
    MaskVideo,
    ObjectNames,
    Overlaps,
    check_length,
    check_size,
    file_name,
    split_ids,
)
from vots_hqtrack.types import Size
from vots_hqtrack.video.reader import list_images

IGNORED = 10_000
CLASS = 2
"""Class of every object that is written: the only one that MOTSChallenge knows, pedestrian."""
PER_CLASS = 1000
INSTANCES = "instances"
_COLUMNS = 6
_PNG_NAME, _JPEG_NAME = "%06d.png", "%06d.jpg"


@dataclass(frozen=True, slots=True)
class ChallengeMasks:
    """Content of a file of MOTSChallenge.

    Attributes:
        size: Size of the frames.
        frames: Packed masks by frame, from 1, and by object number; ignored regions are left out.
        lines: First line of each frame, from 1, for messages.
    """

    size: Size
    frames: Mapping[int, Mapping[int, Mapping[str, object]]]
    lines: Mapping[int, int]


def write_mots_png(videos: Sequence[MaskVideo], out: Path, overlaps: Overlaps) -> None:
    """Write ``instances/<video>/<frame>.png``, 16 bits a pixel, frames from 0."""
    for video in videos:
        folder = out / INSTANCES / file_name(video.name)
        folder.mkdir(parents=True)
        for frame, found in video:
            ids = overlaps.paint(found.masks, video.size)
            ids[ids > 0] += PER_CLASS * CLASS
            Image.fromarray(ids.astype(np.uint16)).save(folder / (_PNG_NAME % frame.index))


def write_mots_text(videos: Sequence[MaskVideo], out: Path, overlaps: Overlaps) -> None:
    """Write ``<video>/gt/gt.txt`` and ``<video>/seqinfo.ini``, frames from 1."""
    for video in videos:
        folder = out / file_name(video.name)
        (folder / "gt").mkdir(parents=True)
        with (folder / "gt" / "gt.txt").open("w", encoding="ascii", newline="\n") as file:
            for frame, found in video:
                for number, mask in overlaps.separate(found.masks, video.size).items():
                    head = (frame.index + 1, PER_CLASS * CLASS + number, CLASS, *video.size)
                    counts = encode_mask(mask)["counts"]
                    file.write(f"{' '.join(map(str, head))} {counts}\n")
        _write_info(folder / "seqinfo.ini", video)


def is_mots_png(path: Path) -> bool:
    """Whether a folder has KITTI's layout."""
    return (path / INSTANCES).is_dir()


def is_mots_text(path: Path) -> bool:
    """Whether a folder has MOTSChallenge's layout."""
    return path.is_dir() and bool(find_lists(path))


def find_lists(root: Path) -> list[Path]:
    """Find the files of masks of MOTSChallenge's layout, right here or under ``train``."""
    return sorted([*root.glob("*/gt/gt.txt"), *root.glob("train/*/gt/gt.txt")])


def read_mots_png(root: Path) -> list[MaskVideo]:
    """Read the videos of KITTI's layout; all maps of a video are looked at for its objects.

    Raises:
        InputError: A map cannot be read, or is not named by its frame number.
    """
    folders = sorted(path for path in (root / INSTANCES).iterdir() if path.is_dir())
    return [_read_png_video(folder) for folder in folders]


def read_mots_text(root: Path) -> list[MaskVideo]:
    """Read the videos of MOTSChallenge's layout.

    Raises:
        InputError: A file is damaged.
    """
    return [_read_text_video(path) for path in find_lists(root)]


def read_label_image(path: Path) -> IdArray:
    """Read a map of object numbers, without ignored regions."""
    ids = read_wide(path)
    return np.where(ids == IGNORED, 0, ids).astype(np.int32)


def read_challenge(path: Path) -> ChallengeMasks:
    """Read a file of lines ``frame object class height width runs``.

    Raises:
        InputError: A line has another form, an object is there twice on a frame, or sizes differ.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    sizes: set[Size] = set()
    frames: dict[int, dict[int, Mapping[str, object]]] = {}
    first_lines: dict[int, int] = {}
    for count, line in enumerate(lines, start=1):
        words = line.split()
        numbers = [number for word in words[:-1] if (number := whole_number(word)) is not None]
        if len(words) != _COLUMNS or len(numbers) != _COLUMNS - 1:
            raise InputError(
                f"{path}, line {count}: wanted 'frame object class height width runs', "
                f"got {line[:60]!r}"
            )
        frame, number, _, height, width = numbers
        sizes.add(check_size(height, width, f"{path}, line {count}"))
        check_length(frame, f"{path}, line {count}")
        masks = frames.setdefault(frame, {})
        first_lines.setdefault(frame, count)
        if number in masks or frame < 1:
            what = f"object {number} is there twice on frame {frame}"
            raise InputError(f"{path}, line {count}: {what if frame else 'frames count from 1'}")
        if number != IGNORED:
            masks[number] = {"counts": words[-1]}
    if len(sizes) != 1:
        raise InputError(f"{path}: wanted masks of one size, got {sorted(sizes)}")
    return ChallengeMasks(sizes.pop(), dict(sorted(frames.items())), first_lines)


def _read_png_video(folder: Path) -> MaskVideo:
    paths = list_images(folder, (".png",))
    bad = [path.name for path in paths if not path.stem.isdecimal()]
    if bad or not paths:
        got = bad[0] if bad else "none"
        raise InputError(f"{folder}: wanted label maps named by their frame number, got {got}")
    size = Size(*read_label_image(paths[0]).shape)
    frames = tuple(FrameName(int(path.stem), path.stem) for path in paths)
    maps = _LabelImages(paths)
    return MaskVideo(folder.name, size, frames, ObjectNames(maps.objects), maps.read)


class _LabelImages:
    """Label maps of a video, all of which are looked at when the first object's id is needed."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    @cached_property
    def _ids(self) -> Mapping[int, int]:
        shown = {int(n) for path in self._paths for n in np.unique(read_label_image(path)) if n}
        return _object_ids(shown)

    def objects(self) -> dict[int, str]:
        return dict.fromkeys(sorted(self._ids.values()), DEFAULT_NAME)

    def read(self, position: int) -> FrameMasks:
        masks = split_ids(read_label_image(self._paths[position]))
        return FrameMasks({self._ids[number]: mask for number, mask in masks.items()})


def _read_text_video(path: Path) -> MaskVideo:
    folder = path.parent.parent
    content = read_challenge(path)
    ids = _object_ids({number for masks in content.frames.values() for number in masks})
    images = tuple(list_images(folder / "img1")) if (folder / "img1").is_dir() else ()
    length, fps = _read_info(folder / "seqinfo.ini")
    length = length or len(images) or max(content.frames)
    if max(content.frames) > length:
        raise InputError(f"{path}: wanted frames 1 to {length}, got {max(content.frames)}")
    check_length(length, path)
    frames = tuple(FrameName(index, f"{index + 1:06d}") for index in range(length))
    objects = dict.fromkeys(sorted(ids.values()), DEFAULT_NAME)
    read = partial(_read_packed, content, ids, path)
    images = images if len(images) == length else ()
    return MaskVideo(folder.name, content.size, frames, objects, read, images, fps=fps)


def _read_packed(
    content: ChallengeMasks, ids: Mapping[int, int], path: Path, position: int
) -> FrameMasks:
    frame = position + 1
    masks = {
        ids[number]: decode_segmentation(packed, content.size, f"{path}, frame {frame}")
        for number, packed in content.frames.get(frame, {}).items()
    }
    return FrameMasks({number: mask for number, mask in masks.items() if mask.any()})


def _object_ids(numbers: set[int]) -> dict[int, int]:
    """Return the id of each object number: its instance, if no two classes share one."""
    instances = {number: number % PER_CLASS for number in numbers}
    is_unique = len(set(instances.values())) == len(numbers) and 0 not in instances.values()
    return instances if is_unique else {number: number for number in numbers}


def _write_info(path: Path, video: MaskVideo) -> None:
    lines = {
        "name": video.name,
        "imDir": "img1",
        "frameRate": f"{video.fps or 25:g}",
        "seqLength": video.num_frames,
        "imWidth": video.size.width,
        "imHeight": video.size.height,
        "imExt": ".jpg",
    }
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    path.write_text(f"[Sequence]\n{text}", encoding="utf-8", errors="surrogateescape")


def _read_info(path: Path) -> tuple[int | None, float | None]:
    """Read the length and the frame rate of a sequence; None where they are not known."""
    if not path.is_file():
        return None, None
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8", errors="surrogateescape"))
        part = parser["Sequence"]
        length, fps = part.getint("seqLength"), part.getfloat("frameRate")
    except (configparser.Error, KeyError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return length, fps if fps is not None and 0 < fps < math.inf else None
