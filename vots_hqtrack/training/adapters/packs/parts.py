"""Part files: tar archives that begin with their own index, read in place.

The first member of ``part-00.tar``, ``part-01.tar``, ... is ``index.json``. It names the data sets,
what of them is in this part, and where: every piece by its offset from the end of the index member,
its size and its CRC-32. So a piece is one seek and one read, and ``tar x`` unpacks a part as well.
"""

from __future__ import annotations

import json
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.adapters.files import take

FORMAT, VERSION = "hqtrack-pack", 1
INDEX_NAME = "index.json"
PART_PATTERN = "part-*.tar"
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a part file.

    Attributes:
        path: The part.
        offset: Where they begin in the file.
        size: Their number.
        crc: Their CRC-32.
    """

    path: Path
    offset: int
    size: int
    crc: int

    def read(self) -> bytes:
        """Read the bytes; the file is opened for that, so processes may share a piece.

        Raises:
            InputError: The part is missing, cut short or damaged.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
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
class Part:
    """An opened part file.

    Attributes:
        path: The file.
        index: Its index, a JSON table.
        start: Where the members after the index begin.
    """

    path: Path
    index: dict[str, object]
    start: int

    def piece(self, numbers: object) -> Piece:
        """Turn an index entry ``[offset, size, crc]`` into a piece.

        Raises:
            InputError: It has another form.
        """
        if (
            not isinstance(numbers, list)
            or len(numbers) != 3
            or not all(isinstance(number, int) and number >= 0 for number in numbers)
        ):
            raise InputError(f"{self.path}: wanted a piece [offset, size, crc], got {numbers!r}")
        offset, size, crc = numbers
        return Piece(self.path, self.start + offset, size, crc)


def open_part(path: Path) -> Part:
    """Read the index of a part.

    Raises:
        InputError: It is no part, damaged, or written by a newer version.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            member = tar.next()
            if member is None or member.name != INDEX_NAME:
                raise InputError(f"{path} is no part of a pack: wanted {INDEX_NAME} first")
            start = member.offset_data + _padded(member.size)
            file.seek(member.offset_data)
            index = json.loads(file.read(member.size))
    except (tarfile.TarError, OSError, ValueError) as error:
        raise InputError(f"cannot read the part {path}: {error}") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise InputError(f"{path} is no part of a pack: its index is of another format")
    version = take(index, "version", int, path)
    if version > VERSION:
        raise InputError(f"{path} has version {version}, this program reads up to {VERSION}")
    return Part(path, index, start)


def open_parts(folder: Path) -> list[Part]:
    """Open all parts in a folder, in order.

    Returns:
        The parts; none where the folder has none.

    Raises:
        InputError: A part is missing or damaged, or they belong to different packs.
    """
    parts = [open_part(path) for path in sorted(folder.glob(PART_PATTERN))]
    if not parts:
        return []
    packs = {take(part.index, "pack", str, part.path) for part in parts}
    if len(packs) > 1:
        raise InputError(f"the parts in {folder} are of {len(packs)} different packs; wanted one")
    wanted = range(take(parts[0].index, "num_parts", int, parts[0].path))
    there = [take(part.index, "part", int, part.path) for part in parts]
    missing = [number for number in wanted if number not in there]
    if missing or len(there) != len(wanted):
        lost = ", ".join(part_name(number) for number in missing) or "no other file"
        raise InputError(f"wanted the {len(wanted)} parts of the pack in {folder}; missing: {lost}")
    return sorted(parts, key=lambda part: take(part.index, "part", int, part.path))


def part_name(number: int) -> str:
    """Return the file name of a part.

    Example:
        >>> part_name(3)
        'part-03.tar'
    """
    return f"part-{number:02d}.tar"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive to be written.

    Attributes:
        name: Its name in the archive.
        size: Its bytes.
        chunks: The files and ranges ``(path, offset, size)`` that make it up, in order.
    """

    name: str
    size: int
    chunks: tuple[tuple[Path, int, int], ...]

    @property
    def header(self) -> bytes:
        """What the archive has in front of the content."""
        return _header(self.name, self.size)


def member_offsets(members: Sequence[Member]) -> list[int]:
    """Where each member's content begins, counted from the end of the index member."""
    offsets, position = [], 0
    for member in members:
        position += len(member.header)
        offsets.append(position)
        position += _padded(member.size)
    return offsets


def member_room(name: str) -> int:
    """Most bytes of a member's header and padding."""
    return len(_header(name, 0)) + BLOCK


def part_size(index_size: int, members: Sequence[Member]) -> int:
    """Bytes of a part with an index of so many bytes."""
    body = sum(len(member.header) + _padded(member.size) for member in members)
    return len(_header(INDEX_NAME, index_size)) + _padded(index_size) + body + 2 * BLOCK


def write_part(path: Path, index: Mapping[str, object], members: Sequence[Member]) -> None:
    """Write a part; the caller gives it its final name.

    Args:
        path: Where to.
        index: Its index.
        members: Its other members.

    Raises:
        InputError: An encoded file vanished or changed meanwhile.
    """
    content = index_bytes(index)
    with path.open("wb") as file:
        _write_member(file, INDEX_NAME, len(content), iter([content]))
        for member in members:
            _write_member(file, member.name, member.size, _read_chunks(member))
        file.write(bytes(2 * BLOCK))
        file.flush()
        os.fsync(file.fileno())


def index_bytes(index: Mapping[str, object]) -> bytes:
    """Write an index as JSON, the same bytes for the same content."""
    text = json.dumps(index, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode()


def _write_member(file: BinaryIO, name: str, size: int, chunks: Iterator[bytes]) -> None:
    file.write(_header(name, size))
    written = 0
    for chunk in chunks:
        file.write(chunk)
        written += len(chunk)
    if written != size:
        raise InputError(f"wanted {size} encoded bytes for {name}, got {written}")
    file.write(bytes(_padded(size) - size))


def _read_chunks(member: Member) -> Iterator[bytes]:
    for path, offset, size in member.chunks:
        with path.open("rb") as file:
            file.seek(offset)
            yield file.read(size)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
