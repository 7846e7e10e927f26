"""Packed data sets, read in place: opened by the adapters where they find no folder.

A pack is zip archives ``part-00.zip``, ... of stored members. Each part begins with the index
of the whole pack, ``index.json``: the data sets, their items in order, sizes and losses, licences.
An item has two members, ``SET/images/ITEM.mp4`` (or ``.webp``, ``.avif``) and
``SET/labels/ITEM.xz`` (or ``.webp``). So a piece is one seek and one read, checked by the archive's
CRC-32, and any program that unpacks zip files unpacks a part.
"""

from __future__ import annotations

import functools
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.files import IdArray
from vots_hqtrack.training.adapters.packs import codecs
from vots_hqtrack.training.adapters.videos import Video
from vots_hqtrack.types import FrameArray, LabelArray, Size

FORMAT, VERSION = "hqtrack-pack", 2
INDEX_NAME = "index.json"
PART_PATTERN = "part-*.zip"
Layout = Literal["davis", "folder"]
LAYOUTS: tuple[Layout, ...] = ("davis", "folder")
"""Layouts that are packed."""
DECODED_VIDEOS = 8
"""Videos kept decoded in each process, about 90 MB each at 480p; a clip has objects of six."""
LOCAL_HEADER = 30
"""Bytes before the name in a zip member's header; the last four are the lengths of what follows."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stored member of a part: offset of its header, size and CRC-32 of its content."""

    path: Path
    offset: int
    size: int
    crc: int

    def read(self) -> bytes:
        """Read the content; the file is opened for that, so processes may share a piece.

        Raises:
            InputError: The part is missing, cut short or damaged.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset + LOCAL_HEADER - 4)
                file.seek(sum(int.from_bytes(file.read(2), "little") for _ in range(2)), 1)
                content = file.read(self.size)
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"cannot read the part {self.path}: {reason}") from error
        if len(content) != self.size or zlib.crc32(content) != self.crc:
            raise InputError(
                f"the part {self.path} is damaged: wanted {self.size} bytes of CRC-32 "
                f"{self.crc:08x} at {self.offset}, got {len(content)} of {zlib.crc32(content):08x}"
            )
        return content


@dataclass(frozen=True, slots=True)
class PackedVideo:
    """Frames and label maps of a packed video; a `FrameSequence`.

    Attributes:
        name: Data set and video that have the frames.
        video: The encoded frames.
        labels: The encoded label maps.
        size: Size of a frame.
        num_encoded: Frames of the encoded video.
        positions: Those of them that the label maps belong to.
    """

    name: str
    video: Piece
    labels: Piece
    size: Size
    num_encoded: int
    positions: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of frames with a label map."""
        return len(self.positions)

    def label(self, position: int) -> str:
        """Return a frame's origin, for messages."""
        return f"{self.name} in {self.video.path}, frame {self.positions[position]}"

    def read(self, position: int) -> FrameArray:
        """Return one frame; the whole video is decoded and kept.

        Raises:
            InputError: The part is damaged.
        """
        frames = _decode_kept(self.video, self.num_encoded, self.size, self.name)
        return np.array(frames[self.positions[position]])

    def read_all(self) -> FrameArray:
        """Decode all frames once, in order; nothing is kept.

        Raises:
            InputError: The part is damaged.
        """
        frames = codecs.decode_video(self.video.read(), self.num_encoded, self.size, self.name)
        is_whole = self.positions == tuple(range(self.num_encoded))
        return frames if is_whole else frames[list(self.positions)]

    def read_ids(self, position: int) -> IdArray:
        """Return one label map, int32 ``(H, W)``; all are decoded and kept.

        Raises:
            InputError: The part is damaged.
        """
        label_maps = _decode_kept_labels(self.labels, len(self), self.size, self.name)
        label_map: LabelArray = label_maps[position]
        return label_map.astype(np.int32)


@functools.lru_cache(maxsize=DECODED_VIDEOS)
def _decode_kept(piece: Piece, num_frames: int, size: Size, name: str) -> FrameArray:
    return codecs.decode_video(piece.read(), num_frames, size, name)


@functools.lru_cache(maxsize=DECODED_VIDEOS)
def _decode_kept_labels(piece: Piece, num_frames: int, size: Size, name: str) -> LabelArray:
    return codecs.decode_label_maps(piece.read(), num_frames, size, name)


@dataclass(frozen=True, slots=True)
class PackedSet:
    """A packed data set: images or videos.

    Attributes:
        photos: By name, in order: reads an image and its object numbers.
        videos: Its videos by name, in order.
        lists: Lists of videos by their path below ``ImageSets``; None where it had none.
    """

    photos: Mapping[str, Callable[[], tuple[FrameArray, IdArray]]]
    videos: Mapping[str, Video]
    lists: Mapping[str, str] | None


def open_packed(root: Path, layout: Layout) -> PackedSet | None:
    """Open a data set of a pack.

    Args:
        root: ``PACKS/NAME``, where ``PACKS`` holds parts of a pack and no folder ``NAME``.
        layout: Layout that it must have had.

    Returns:
        The data set, or None for any other path.

    Raises:
        InputError: The parts hold no such data set, one of another layout, or are damaged.
    """
    folder = next((path for path in root.parents if path.is_dir()), None)
    if root.exists() or folder is None or next(folder.glob(PART_PATTERN), None) is None:
        return None
    name = root.relative_to(folder).as_posix()
    index, pieces = open_parts(folder)
    sets = index["sets"]
    if name not in sets:
        raise InputError(f"the parts in {folder} hold no data set {name}; only {', '.join(sets)}")
    packed = sets[name]
    if packed["layout"] != layout:
        raise InputError(
            f"the data set {name} in {folder} has the layout {packed['layout']}; wanted {layout}"
        )
    items = packed["items"]
    if layout == "davis":
        videos = {item: _open_video(name, item, sets, pieces) for item in items}
        return PackedSet({}, videos, packed["lists"])
    suffix = index["encoders"]["image_format"]
    photos = {}
    for item in items:
        image, labels = f"{name}/images/{item}.{suffix}", f"{name}/labels/{item}.webp"
        photos[item] = functools.partial(_read_photo, item, pieces[image], pieces[labels])
    return PackedSet(photos, {}, None)


def _read_photo(name: str, image: Piece, labels: Piece) -> tuple[FrameArray, IdArray]:
    ids = codecs.decode_image(labels.read(), name)[..., 0]
    return codecs.decode_image(image.read(), name), ids.astype(np.int32)


def open_parts(folder: Path) -> tuple[dict[str, Any], dict[str, Piece]]:
    """Open all parts in a folder.

    Returns:
        The pack's index, and the pieces of all parts by name.

    Raises:
        InputError: A part is missing or damaged, or they belong to different packs.
    """
    pieces: dict[str, Piece] = {}
    paths = sorted(folder.glob(PART_PATTERN))
    indices = {_open_part(path, pieces) for path in paths}
    if len(indices) > 1:
        raise InputError(f"the parts in {folder} are of {len(indices)} different packs; wanted one")
    index = json.loads(indices.pop())
    wanted = [part_name(number) for number in range(index["num_parts"])]
    lost = set(wanted) - {path.name for path in paths}
    if lost:
        missing = ", ".join(sorted(lost))
        raise InputError(
            f"wanted the {len(wanted)} parts of the pack in {folder}; missing: {missing}"
        )
    return index, pieces


def part_name(number: int) -> str:
    """Return the file name of a part.

    Example:
        >>> part_name(3)
        'part-03.zip'
    """
    return f"part-{number:02d}.zip"


def _open_part(path: Path, pieces: dict[str, Piece]) -> bytes:
    """Add the pieces of a part to others, and return its index."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(INDEX_NAME)
            index = json.loads(content)
            for info in archive.infolist():
                pieces[info.filename] = Piece(path, info.header_offset, info.file_size, info.CRC)
    except KeyError as error:
        raise InputError(f"{path} is not a part of a pack: it has no {INDEX_NAME}") from error
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"cannot read the part {path}: {error}") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise InputError(f"{path} is not a part of a pack: its index is of another format")
    if index["version"] != VERSION:
        raise InputError(f"{path} has version {index['version']}, this program reads {VERSION}")
    return content


def _open_video(
    set_name: str, name: str, sets: Mapping[str, Any], pieces: Mapping[str, Piece]
) -> Video:
    facts = sets[set_name]["items"][name]
    owner, owner_video = facts.get("frames_of", (set_name, name))
    encoded = sets[owner]["items"][owner_video]
    if encoded["size"] != facts["size"]:
        raise InputError(
            f"{set_name}/{name}: wanted frames of {facts['size']}, got {encoded['size']}"
        )
    positions = {frame: position for position, frame in enumerate(encoded["frames"])}
    video = PackedVideo(
        f"{owner}/{owner_video}",
        pieces[f"{owner}/images/{owner_video}.mp4"],
        pieces[f"{set_name}/labels/{name}.xz"],
        Size(*facts["size"]),
        len(positions),
        tuple(positions[frame] for frame in facts["frames"]),
    )
    return Video(name, video, video.read_ids)
