"""Writing files so that they appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to; it is renamed to ``path`` if no error occurs.

    The temporary file is in the same folder and hidden; after an error it is deleted, and a file
    that was at ``path`` stays as it was.

    Args:
        path: Final path; its folder must exist.
        durable: Flush the file to the disk before it is renamed, so that it also survives a power
            failure.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "note.txt")
        >>> with atomic_path(path) as temporary:
        ...     _ = temporary.write_text("complete")
        >>> path.read_text()
        'complete'
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
