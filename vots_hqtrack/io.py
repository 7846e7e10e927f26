"""Writing files so that they appear complete or not at all, and one process after the other."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from vots_hqtrack.errors import ConfigError


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


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a new temporary folder to write into; it becomes ``path`` if no error occurs.

    The temporary folder is beside ``path`` and hidden. It is deleted after an error; one that is
    left of a process that was killed is deleted by the next call for the same path.

    Args:
        path: Final folder; it must not exist, or be empty.

    Raises:
        ConfigError: Another process writes the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    lock_path = path.with_name(f".{path.name}.lock")
    with hold_lock(lock_path, busy=f"another run writes {path} now"):
        try:
            if temporary.exists():
                shutil.rmtree(temporary)
            temporary.mkdir()
            yield temporary
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            lock_path.unlink(missing_ok=True)


@contextlib.contextmanager
def hold_lock(
    path: Path, *, busy: str, on_wait: Callable[[str], object] | None = None
) -> Iterator[None]:
    """Hold a lock between processes for the body; a process that dies releases it.

    Args:
        path: Lock file, made where it is missing and left there; its folder must exist.
        busy: Message for the case that another process holds the lock.
        on_wait: Called once with that message before this process waits; None refuses to wait.

    Raises:
        ConfigError: Another process holds the lock and ``on_wait`` is None, or the lock file cannot
            be made.
    """
    # One object for each path, so that a process that holds the lock may hold it once more.
    lock = FileLock(path, is_singleton=True)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is None:
                raise ConfigError(busy) from None
            on_wait(busy)
            lock.acquire()
    except OSError as error:
        raise ConfigError(f"cannot lock {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
