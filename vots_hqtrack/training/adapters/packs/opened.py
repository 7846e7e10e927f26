"""Packed data sets, read in place: what the adapters ask where they find no folder."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.adapters.files import IdArray, take
from vots_hqtrack.training.adapters.packs import codecs
from vots_hqtrack.training.adapters.packs.parts import PART_PATTERN, Part, Piece, open_parts
from vots_hqtrack.types import FrameArray, LabelArray, Size

DECODED_VIDEOS = 8
"""Videos kept decoded in each process, about 90 MB each at 480p; a clip has objects of six."""


@dataclass(frozen=True, slots=True)
class PackedFrames:
    """Frames of a packed video.

    Attributes:
        name: Data set and video that have them.
        piece: The encoded video.
        size: Size of a frame.
        num_encoded: Frames of the encoded video.
        places: Which of them these are.
    """

    name: str
    piece: Piece
    size: Size
    num_encoded: int
    places: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.places)

    def label(self, place: int) -> str:
        """Say where a frame is from, for messages."""
        return f"{self.name} in {self.piece.path}, frame {self.places[place]}"

    def read(self, place: int) -> FrameArray:
        """Return one frame, uint8 ``(H, W, 3)`` RGB; the whole video is decoded and kept.

        Raises:
            InputError: The part is damaged.
        """
        frame: FrameArray = _kept_frames(self)[self.places[place]]
        return frame.copy()

    def read_all(self) -> FrameArray:
        """Decode all frames once, in order; nothing is kept.

        Returns:
            uint8 ``(T, H, W, 3)`` RGB.

        Raises:
            InputError: The part is damaged.
        """
        frames = self.decode()
        is_whole = self.places == tuple(range(self.num_encoded))
        return frames if is_whole else frames[list(self.places)]

    def decode(self) -> FrameArray:
        """Decode the encoded video: uint8 ``(T, H, W, 3)`` RGB, of which these frames are some."""
        content = self.piece.read()
        return codecs.decode_video(content, self.num_encoded, self.size, self.name)


@dataclass(frozen=True, slots=True)
class PackedLabels:
    """Label maps of a packed video.

    Attributes:
        name: Data set and video.
        piece: The encoded label maps.
        size: Size of a label map.
        num_frames: Their number.
    """

    name: str
    piece: Piece
    size: Size
    num_frames: int

    def read(self, place: int) -> IdArray:
        """Return one label map, int32 ``(H, W)``.

        Raises:
            InputError: The part is damaged.
        """
        labels: LabelArray = _kept_labels(self)[place]
        return labels.astype(np.int32)


@dataclass(frozen=True, slots=True)
class PackedVideo:
    """One video of a packed data set.

    Attributes:
        name: Its name.
        frames: Its annotated frames.
        labels: Their label maps.
    """

    name: str
    frames: PackedFrames
    labels: PackedLabels


@dataclass(frozen=True, slots=True)
class PackedPhoto:
    """One photograph of a packed data set.

    Attributes:
        name: Its name.
        image: The encoded image.
        labels: Its encoded label map.
        size: Their size.
    """

    name: str
    image: Piece
    labels: Piece
    size: Size

    def read(self) -> tuple[FrameArray, IdArray]:
        """Read both: uint8 ``(H, W, 3)`` RGB and int32 ``(H, W)``.

        Raises:
            InputError: The part is damaged.
        """
        image = codecs.decode_image(self.image.read(), self.size, self.name)
        ids = codecs.decode_label_map(self.labels.read(), self.size, self.name)
        return image, ids.astype(np.int32)


@dataclass(frozen=True, slots=True)
class PackedSet:
    """A packed data set.

    Attributes:
        name: Its name: the folder that it was.
        layout: ``folder`` or ``davis``.
        photos: Its photographs in order.
        videos: Its videos by name, in order.
        lists: Lists of videos by their path below ``ImageSets``; None where it had none.
    """

    name: str
    layout: str
    photos: tuple[PackedPhoto, ...]
    videos: Mapping[str, PackedVideo]
    lists: Mapping[str, str] | None


def find_packed(root: Path) -> tuple[Path, str] | None:
    """Return the folder of parts and the data set's name in them, if a path means such a one.

    Args:
        root: ``PACKS/NAME``, where ``PACKS`` holds ``part-00.tar``, ... and no folder ``NAME``.
    """
    if root.exists():
        return None
    for folder in root.parents:
        if folder.is_dir():
            return (folder, root.relative_to(folder).as_posix()) if _has_parts(folder) else None
    return None


def open_packed(root: Path, layout: str) -> PackedSet | None:
    """Open a data set of a pack.

    Args:
        root: See :func:`find_packed`.
        layout: Layout that it must have had.

    Returns:
        The data set, or None if the path means none of a pack.

    Raises:
        InputError: The parts hold no such data set, one of another layout, or are damaged.
    """
    found = find_packed(root)
    if found is None:
        return None
    folder, name = found
    parts = open_parts(folder)
    packed = _read_set(parts, name)
    if packed.layout != layout:
        raise InputError(
            f"the data set {name} in {folder} has the layout {packed.layout}; wanted {layout}"
        )
    return packed


def _has_parts(folder: Path) -> bool:
    return next(folder.glob(PART_PATTERN), None) is not None


def _read_set(parts: list[Part], name: str) -> PackedSet:
    """Collect what the parts hold of a data set."""
    first = parts[0]
    sets = take(first.index, "sets", dict, first.path)
    if name not in sets:
        there = ", ".join(sets)
        raise InputError(f"the parts in {first.path.parent} hold no data set {name}; only {there}")
    layout = take(sets[name], "layout", str, first.path)
    rows = _rows(parts, name)
    if layout == "folder":
        photos = tuple(_photo(part, row) for part, row in rows)
        return PackedSet(name, layout, photos, {}, None)
    homes = {name: {take(row, "name", str, part.path): (part, row) for part, row in rows}}
    videos = {video: _video(parts, name, video, homes) for video in homes[name]}
    lists = sets[name].get("lists")
    return PackedSet(name, layout, (), videos, lists if isinstance(lists, dict) else None)


def _rows(parts: list[Part], name: str) -> list[tuple[Part, dict[str, object]]]:
    """Return the entries of a data set and their parts, in the order that the folder had."""
    rows: list[tuple[Part, dict[str, object]]] = []
    for part in parts:
        table = take(take(part.index, "sets", dict, part.path), name, dict, part.path)
        rows += [(part, row) for row in take(table, "items", list, part.path)]
    return sorted(rows, key=lambda pair: take(pair[1], "number", int, pair[0].path))


def _photo(part: Part, row: dict[str, object]) -> PackedPhoto:
    pieces = take(row, "pieces", dict, part.path)
    return PackedPhoto(
        take(row, "name", str, part.path),
        part.piece(take(pieces, "image", list, part.path)),
        part.piece(take(pieces, "labels", list, part.path)),
        _size(part, row),
    )


_Homes = dict[str, dict[str, tuple[Part, dict[str, object]]]]


def _video(parts: list[Part], set_name: str, name: str, homes: _Homes) -> PackedVideo:
    part, row = homes[set_name][name]
    pieces = take(row, "pieces", dict, part.path)
    names = take(row, "frames", list, part.path)
    title = f"{set_name}/{name}"
    labels = PackedLabels(
        title, part.piece(take(pieces, "labels", list, part.path)), _size(part, row), len(names)
    )
    if "frames_of" not in row:
        video = part.piece(take(pieces, "video", list, part.path))
        places = tuple(range(len(names)))
        frames = PackedFrames(title, video, _size(part, row), len(names), places)
    else:
        frames = _frames_elsewhere(parts, row, names, homes)
    if frames.size != labels.size:
        raise InputError(f"{title}: wanted frames of {labels.size}, got {frames.size}")
    return PackedVideo(name, frames, labels)


def _frames_elsewhere(
    parts: list[Part], row: dict[str, object], names: list[object], homes: _Homes
) -> PackedFrames:
    """Find the frames of another data set's video that a video's label maps belong to."""
    other, video = take(row, "frames_of", list, "frames_of")
    if other not in homes:
        homes[other] = {take(r, "name", str, p.path): (p, r) for p, r in _rows(parts, other)}
    if video not in homes[other]:
        raise InputError(f"wanted the frames of {other}/{video}, the parts do not hold them")
    whole = _video(parts, other, video, homes)
    part, theirs = homes[other][video]
    place_of = {name: place for place, name in enumerate(take(theirs, "frames", list, part.path))}
    lost = [name for name in names if name not in place_of]
    if lost:
        raise InputError(f"wanted the frame {lost[0]} of {other}/{video}, the parts have it not")
    places = tuple(place_of[name] for name in names)
    frames = whole.frames
    return PackedFrames(frames.name, frames.piece, frames.size, frames.num_encoded, places)


def _size(part: Part, row: dict[str, object]) -> Size:
    sides = take(row, "size", list, part.path)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise InputError(f"{part.path}: wanted a size [height, width], got {sides}")
    return Size(*sides)


def _kept_frames(frames: PackedFrames) -> FrameArray:
    return _decode_kept(frames.piece, frames.name, frames.num_encoded, frames.size)


@functools.lru_cache(maxsize=DECODED_VIDEOS)
def _decode_kept(piece: Piece, name: str, num_frames: int, size: Size) -> FrameArray:
    return codecs.decode_video(piece.read(), num_frames, size, name)


@functools.lru_cache(maxsize=DECODED_VIDEOS)
def _kept_labels(labels: PackedLabels) -> LabelArray:
    content = labels.piece.read()
    return codecs.decode_label_maps(content, labels.num_frames, labels.size, labels.name)
