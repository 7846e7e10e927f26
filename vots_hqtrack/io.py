"""Writing files: whole or not at all, never through a link, one process after the other."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from vots_hqtrack.errors import ConfigError, HQTrackError

if TYPE_CHECKING:
    from torch import Tensor

_TEMPORARY_NAME = re.compile(r"\.hqtrack-[0-9a-f]{16}\.part(\.[0-9a-z]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")


@contextlib.contextmanager
def atomic_path(path: Path, *, durable: bool = False, suffix: str = "") -> Iterator[Path]:
    """Give a temporary path to write to; it is renamed to ``path`` if no error occurs.

    The temporary file is a new one in the same folder, hidden, and with a name of its own, so that
    nothing is written through a link; a link at ``path`` is replaced, not followed. After an error
    the temporary file is deleted, and a file that was at ``path`` stays as it was.

    Args:
        path: Final path; its folder must exist. A new file has the permissions of the one that it
            replaces.
        durable: Flush the file to the disk before it is renamed, so that it also survives a power
            failure.
        suffix: End of the temporary name, for libraries that go by it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "note.txt")
        >>> with atomic_path(path) as temporary:
        ...     _ = temporary.write_text("complete")
        >>> path.read_text()
        'complete'
    """
    temporary = path.with_name(f".hqtrack-{secrets.token_hex(8)}.part{suffix}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        if path.is_file() and not path.is_symlink():
            shutil.copymode(path, temporary)
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    durable: bool = False,
) -> None:
    """Write a safetensors file, whole or not at all; the same content makes the same file.

    The library's own writer would leave a file of another name behind where it is killed, and
    writes the metadata in a random order.

    Args:
        path: The file.
        tensors: Contiguous, on the CPU, by name; no two share memory.
        metadata: Strings for the header.
        durable: As for :func:`atomic_path`.

    Raises:
        OSError: It cannot be written.
    """
    from safetensors.torch import save

    content = memoryview(save(dict(tensors), dict(metadata or {})))
    length = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8:length]))
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # the tensors begin at a multiple of 8
    with atomic_path(path, durable=durable) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(content[length:])


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a new temporary folder to write into; it becomes ``path`` if no error occurs.

    The temporary folder is beside ``path`` and hidden. It is deleted after an error, with folders
    that were made for it; one that is left of a process that was killed is deleted by the next call
    for the same path.

    Args:
        path: Final folder; it must not exist, or be empty.

    Raises:
        ConfigError: Another process writes the same folder.
    """
    temporary = path.with_name(f".{path.name}.part")
    lock_path = path.with_name(f".{path.name}.lock")
    busy = f"another run writes {path} now"
    with remove_new_folders(path.parent), hold_lock(lock_path, busy=busy, remove=True):
        try:
            if temporary.exists():
                shutil.rmtree(temporary)
            temporary.mkdir()
            yield temporary
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def remove_new_folders(path: Path) -> Iterator[None]:
    """Remove those folders of a path that the body makes and leaves empty."""
    new = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    try:
        yield
    finally:
        for folder in new:
            with contextlib.suppress(OSError):  # it holds something, or was not made
                folder.rmdir()


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that :func:`atomic_path` was writing.

    Example:
        >>> is_temporary(".hqtrack-0123456789abcdef.part.mp4"), is_temporary("mine.part")
        (True, False)
    """
    return _TEMPORARY_NAME.fullmatch(name) is not None


def remove_temporaries(folder: Path) -> int:
    """Remove what killed processes left in a folder that is locked, and return how many files."""
    found = [path for path in folder.iterdir() if is_temporary(path.name)]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


@contextlib.contextmanager
def hold_lock(
    path: Path,
    *,
    busy: str,
    on_wait: Callable[[str], object] | None = None,
    max_wait: float = -1,
    remove: bool = False,
    error: type[HQTrackError] = ConfigError,
) -> Iterator[None]:
    """Hold a lock between processes for the body; a process that dies releases it.

    Args:
        path: Lock file, made where it is missing; its folder too.
        busy: Message for the case that another process holds the lock.
        on_wait: Called once with that message before this process waits; None refuses to wait.
        max_wait: Seconds to wait at most; negative waits for as long as it takes.
        remove: Remove the file at the end instead of leaving it, and refuse this process a second
            hold.
        error: Class of the error.

    Raises:
        HQTrackError: Another process holds the lock and ``on_wait`` is None, or still holds it, or
            the lock file cannot be made; of the class ``error``.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            raise error(f"the lock {path} is a link, which is not followed; remove it")
        try:
            lock = _acquire(path, timeout=0, is_removed=remove)
        except Timeout:
            if on_wait is None:
                raise error(busy) from None
            on_wait(busy)
            lock = _acquire(path, timeout=max_wait, is_removed=remove)
    except Timeout:
        raise error(busy) from None
    except OSError as cause:
        raise error(f"cannot lock {path}: {cause.strerror or cause}") from cause
    try:
        yield
    finally:
        if remove:
            with contextlib.suppress(OSError):  # Windows does not remove open files
                path.unlink(missing_ok=True)
        lock.release()


def _acquire(path: Path, timeout: float, *, is_removed: bool) -> FileLock:
    """Acquire a lock, the file of which the process that held it before may have removed."""
    if not is_removed:
        # One object for each path, so that who holds the lock may hold it once more.
        lock = FileLock(path, is_singleton=True)
        lock.acquire(timeout=timeout)
        return lock
    while True:
        opened: list[int] = []
        lock = FileLock(path, on_acquired=opened.append)
        lock.acquire(timeout=timeout)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(opened[0]), path.stat()):
                return lock
        # The file was removed between its opening and its locking: this lock excludes nobody.
        lock.release()


def to_json(value: object, *, indent: int | None = None) -> str:
    r"""Write strict JSON: numbers that are not finite become null, any file name comes back.

    Example:
        >>> to_json({"score": float("nan"), "name": "ü\udcff"})
        '{"score": null, "name": "ü\\udcff"}'
    """
    text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    # Names that are not UTF-8 hold lone surrogates, which JSON takes escaped.
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_json(path: Path, content: object, *, indent: int | None = None) -> None:
    """Write a whole file of strict JSON, as :func:`to_json` does."""
    with atomic_path(path) as temporary:
        temporary.write_text(to_json(content, indent=indent) + "\n", encoding="utf-8")


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return value
