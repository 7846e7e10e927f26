"""One video or photograph, encoded: a file in the work folder that later runs find again.

Its name is a digest of all that decides its content (names, sizes and times of the source files,
options), so a run that was cut short goes on, and a changed option encodes anew what it concerns.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vots_hqtrack.errors import InputError
from vots_hqtrack.io import atomic_path

SUFFIX = ".item"


@dataclass(frozen=True, slots=True)
class EncodedItem:
    """An encoded video or photograph.

    Attributes:
        path: File that holds its pieces.
        facts: What the index says of it.
        quality: PSNR of the sampled frames, decibels.
        pieces: By name: ``(offset, size, crc)`` of the pieces in the file.
    """

    path: Path
    facts: dict[str, object]
    quality: tuple[float, ...]
    pieces: dict[str, tuple[int, int, int]]

    @property
    def num_bytes(self) -> int:
        """Bytes of all pieces."""
        return sum(size for _, size, _ in self.pieces.values())


@dataclass(frozen=True, slots=True)
class ItemContent:
    """What encoding gives.

    Attributes:
        facts: What the index says of it; JSON.
        quality: PSNR of the sampled frames, decibels.
        pieces: Bytes by name.
    """

    facts: Mapping[str, object]
    quality: Sequence[float]
    pieces: Mapping[str, bytes]


def digest_of(facts: Sequence[object], files: Sequence[Path]) -> str:
    """Return a name for what these facts and files will be encoded to.

    Args:
        facts: JSON values.
        files: Source files; their names, sizes and times count.

    Raises:
        InputError: A file is missing.
    """
    try:
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error
    return hashlib.sha256(json.dumps([list(facts), stats]).encode()).hexdigest()[:24]


def encoded_item(work: Path, digest: str, encode: Callable[[], ItemContent]) -> EncodedItem:
    """Return an item of the work folder; it is encoded first if it is not there.

    Args:
        work: The work folder.
        digest: From :func:`digest_of`.
        encode: Makes the content.
    """
    path = work / f"{digest}{SUFFIX}"
    if not path.exists():
        _write(path, encode())
    with path.open("rb") as file:
        header = file.readline()
    table = json.loads(header)
    pieces, offset = {}, len(header)
    for name, size, crc in table["pieces"]:
        pieces[name] = (offset, size, crc)
        offset += size
    return EncodedItem(path, table["facts"], tuple(table["quality"]), pieces)


def _write(path: Path, content: ItemContent) -> None:
    rows = [(name, len(piece), zlib.crc32(piece)) for name, piece in content.pieces.items()]
    table = {"facts": content.facts, "quality": list(content.quality), "pieces": rows}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(json.dumps(table).encode() + b"\n")
        for piece in content.pieces.values():
            file.write(piece)
