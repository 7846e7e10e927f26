"""Masks of a video as all formats exchange them: frame by frame, by object id."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.formats.files import IdArray
from vots_hqtrack.types import FrameArray, MaskArray, Size
from vots_hqtrack.video.images import open_image
from vots_hqtrack.video.reader import FrameSource
from vots_hqtrack.vot.region_text import MAX_MASK_AREA

MAX_FRAMES = 10**6
"""Frames of a video, at most: nine hours of 30 frames a second."""

DEFAULT_NAME = "object"
"""Name of objects that have none."""


class ObjectNames(Mapping[int, str]):
    """Names of objects by id, found when they are first asked for: all files may have to be read.

    Args:
        find: Returns the names by id, ascending.
    """

    def __init__(self, find: Callable[[], Mapping[int, str]]) -> None:
        self._find = find

    @cached_property
    def _names(self) -> Mapping[int, str]:
        return self._find()

    def __getitem__(self, number: int) -> str:
        """Return the name of an object."""
        return self._names[number]

    def __iter__(self) -> Iterator[int]:
        """Iterate over the ids."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._names)


@dataclass(frozen=True, slots=True)
class FrameName:
    """Number of a frame in its video, from 0, and its name, a file's stem."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class FrameMasks:
    """Masks of one annotated frame.

    Attributes:
        masks: Bool ``(H, W)`` by object id, none of them empty; they may overlap. An object that is
            not there is not seen on the frame.
        scores: Confidence in ``[0, 1]`` by object id, where there is one.
        unknown: Objects of which the frame says nothing, neither a mask nor that they are absent.
    """

    masks: Mapping[int, MaskArray]
    scores: Mapping[int, float] = field(default_factory=dict)
    unknown: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class MaskVideo:
    """Masks of a video, read when a frame is asked for.

    Attributes:
        name: Name of the video.
        size: Size of its frames.
        frames: The annotated frames, ascending.
        objects: Names of the objects by id, ascending.
        read: Reads the masks of an annotated frame by its position in ``frames``.
        images: Files of all frames of the video in order, where they are known.
        source: The video itself, where it was given.
        fps: Frames per second, where they are known.
        has_scores: Whether masks have scores.
        fault: Reason why masks are missing that should be there; empty if nothing is.
    """

    name: str
    size: Size
    frames: tuple[FrameName, ...]
    objects: Mapping[int, str]
    read: Callable[[int], FrameMasks]
    images: tuple[Path, ...] = ()
    source: FrameSource | None = None
    fps: float | None = None
    has_scores: bool = False
    fault: str = ""

    def __iter__(self) -> Iterator[tuple[FrameName, FrameMasks]]:
        """Yield the annotated frames with their masks, which must have the video's size.

        Raises:
            InputError: A file is missing or damaged.
            ShapeError: A mask has another size.
        """
        for position, frame in enumerate(self.frames):
            found = self.read(position)
            for number, mask in found.masks.items():
                if mask.shape != tuple(self.size):
                    got = "x".join(map(str, reversed(mask.shape)))
                    raise ShapeError(
                        f"the mask of object {number} on frame {frame.name} of {self.name} must "
                        f"have the size {self.size}, got {got}"
                    )
            yield frame, found

    @property
    def num_frames(self) -> int:
        """Number of frames of the video; up to the last annotated one where it is not known."""
        if self.source is not None and self.source.length is not None:
            return self.source.length
        return len(self.images) or (self.frames[-1].index + 1 if self.frames else 0)

    def image_name(self, frame: FrameName) -> str:
        """Name of a frame's image file."""
        if self.images:
            return self.images[frame.index].name
        return f"{frame.name}.jpg"

    def pixels(self, start: int = 0) -> Iterator[tuple[str, FrameArray | Path]]:
        """Yield the name of each frame of the video with its file, or its pixels.

        A JPEG or PNG file is given as it is; what is turned by its EXIF orientation, or comes of a
        video file, as uint8 ``(H, W, 3)`` RGB.

        Args:
            start: Index of the first frame.

        Raises:
            InputError: A frame cannot be read.
        """
        if self.source is None:
            yield from ((path.stem, path) for path in self.images[start:])
            return
        paths = self.source.paths
        for index, named in enumerate(self.source.read(start), start):
            is_plain = bool(paths) and paths[index].suffix.lower() in (".jpg", ".jpeg", ".png")
            if is_plain:
                stored = open_image(paths[index].read_bytes(), paths[index])
                is_plain = stored is not None and stored.orientation == 1
            yield named.name, paths[index] if is_plain else named.frame


def check_size(height: int, width: int, where: object) -> Size:
    """Check the size of a video's frames that a file names.

    Raises:
        InputError: It is empty, or larger than any mask may be.
    """
    if height < 1 or width < 1 or height * width > MAX_MASK_AREA:
        raise InputError(
            f"{where}: wanted frames of 1 to {MAX_MASK_AREA} pixels, got {width}x{height}"
        )
    return Size(height, width)


def check_length(num_frames: int, where: object) -> int:
    """Check the number of frames that a file names.

    Raises:
        InputError: There are more than any video has.
    """
    if num_frames > MAX_FRAMES:
        raise InputError(f"{where}: wanted at most {MAX_FRAMES} frames, got {num_frames}")
    return num_frames


def renumber(video: MaskVideo) -> MaskVideo:
    """Number the objects of a video 1, 2, ... in the order of their ids."""
    numbers = {old: new for new, old in enumerate(sorted(video.objects), start=1)}

    def read(position: int) -> FrameMasks:
        found = video.read(position)
        return FrameMasks(
            {numbers[i]: mask for i, mask in found.masks.items()},
            {numbers[i]: score for i, score in found.scores.items()},
            frozenset(numbers[i] for i in found.unknown),
        )

    objects = {numbers[i]: name for i, name in sorted(video.objects.items())}
    return replace(video, objects=objects, read=read)


def split_ids(ids: IdArray) -> dict[int, MaskArray]:
    """Split a map of object numbers into masks, by number, ascending; 0 is the background."""
    return {int(number): ids == number for number in np.unique(ids) if number}


def paint_masks(masks: Mapping[int, MaskArray], size: Size) -> IdArray:
    """Paint masks into one map; where they overlap, the smallest is on top.

    Of masks of one size the lowest id wins.

    Args:
        masks: Bool ``(H, W)`` by object number.
        size: Size of the frame.

    Example:
        >>> left, right = np.array([[True, True, False]]), np.array([[False, True, True]])
        >>> paint_masks({7: right, 2: left}, Size(1, 3))
        array([[2, 2, 7]], dtype=int32)
    """
    ids = np.zeros(size, dtype=np.int32)
    areas = {number: int(np.count_nonzero(mask)) for number, mask in masks.items()}
    for number in sorted(masks, key=lambda number: (areas[number], number), reverse=True):
        ids[masks[number]] = number
    return ids


class Overlaps:
    """Paints masks where a format gives a pixel to one object, and counts what that loses."""

    def __init__(self) -> None:
        self._num_frames = 0
        self._hidden: set[int] = set()

    def paint(self, masks: Mapping[int, MaskArray], size: Size) -> IdArray:
        """Paint the masks of a frame; see `paint_masks`."""
        ids = paint_masks(masks, size)
        if sum(int(np.count_nonzero(mask)) for mask in masks.values()) > np.count_nonzero(ids):
            self._num_frames += 1
            shown = set(np.unique(ids).tolist())
            self._hidden |= {number for number in masks if number not in shown}
        return ids

    def separate(self, masks: Mapping[int, MaskArray], size: Size) -> dict[int, MaskArray]:
        """Return the masks of a frame without their overlaps."""
        ids = self.paint(masks, size)
        return {number: ids == number for number in masks if (ids == number).any()}

    @property
    def loss(self) -> str:
        """The loss in words; empty if nothing was lost."""
        if not self._num_frames:
            return ""
        hidden = f"; wholly covered: {_names(self._hidden)}" if self._hidden else ""
        return (
            f"masks overlap on {self._num_frames} frames, where the smaller one is on top{hidden}"
        )


def _names(numbers: set[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers)[:5]))
    return f"object {shown}" + (", ..." if len(numbers) > 5 else "")


def file_name(name: str) -> str:
    """Check the name of a video or frame that becomes a file or folder.

    Raises:
        InputError: It names another folder, or has several lines, which lists cannot hold.
    """
    if name in ("", ".", "..") or set(name) & set("/\\\0") or len(name.splitlines()) > 1:
        raise InputError(f"a video or frame must be named like a file, in a line, got {name!r}")
    return name
