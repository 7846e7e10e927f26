"""Downloads one file over HTTP: goes on where it was cut, tries again, and checks what came.

Until a file has passed its checks it lies beside its place under a name of its own (``.part``), so
a file with its final name is whole. Proxies are those of the environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vots_hqtrack.checkpoints.manifest import sha256_of
from vots_hqtrack.checkpoints.request import Answer, TryAgainError, open_url
from vots_hqtrack.errors import WeightsError

if sys.platform != "win32":
    import fcntl

NUM_TRIES = 5
"""How often in a row a download may fail without a new byte."""
LONGEST_WAIT = 60.0
"""Seconds between two tries at most."""

Progress = Callable[[int, "int | None"], None]
"""Is told how many bytes are here, and how many there will be if that is known."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A hash that the file should have.

    Attributes:
        sha256: Its first digits, or all 64.
        whose: Who names it, as in "the sha256 that *the hub names*".
    """

    sha256: str
    whose: str


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that has come whole.

    Attributes:
        path: Where it lies.
        sha256: Its hash.
        check: How it was checked, in words.
    """

    path: Path
    sha256: str
    check: str


def download(
    url: str,
    path: Path,
    *,
    expected: tuple[Expected, ...] = (),
    is_offline: bool = False,
    on_progress: Progress = lambda done, total: None,
    wait: Callable[[float], None] = time.sleep,
) -> Downloaded:
    """Download a file, or the rest of it.

    Args:
        url: Its ``http`` or ``https`` address.
        path: Its place; the folder is made.
        expected: Hashes that it must have, besides the one that the hub itself may name.
        is_offline: True refuses before any connection.
        on_progress: Is called after each piece.
        wait: Sleeps for a number of seconds.

    Returns:
        The file and how it was checked.

    Raises:
        WeightsError: The server does not give the file, there is no connection or no room, or the
            file is not the one that was wanted.
    """
    if is_offline:
        raise WeightsError(
            "offline mode is on (VOTS_HQTRACK_OFFLINE or HF_HUB_OFFLINE), so "
            f"{url} is not fetched; give a file that you have: "
            "hqtrack weights import FILE --as KIND"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            return _Download(url, path, on_progress).run(expected, wait)
    except OSError as error:
        raise _disk_error(path, error) from error


class _Download:
    """The state of one download, which lies in two files: the bytes so far, and whose they are.

    Args:
        url: Address of the file.
        path: Its place in the end.
        on_progress: Is called after each piece.
    """

    def __init__(self, url: str, path: Path, on_progress: Progress) -> None:
        self.url = url
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self.notes = path.with_name(f"{path.name}.part.json")
        self.on_progress = on_progress

    def run(self, expected: tuple[Expected, ...], wait: Callable[[float], None]) -> Downloaded:
        """Try until the file is whole, then check it and give it its name."""
        most, failures = 0, 0
        while True:
            try:
                answer = self._attempt()
                break
            except TryAgainError as again:
                if again.is_stale:
                    self._forget()
                come = self._size()
                failures = 1 if come > most else failures + 1
                most = max(most, come)
                if failures >= NUM_TRIES:
                    raise WeightsError(
                        f"cannot fetch {self.url}: {again} ({failures} tries in a row); "
                        f"{come} bytes are kept, and the same command goes on from there"
                    ) from again
                wait(min(again.seconds or 2.0 ** (failures - 1), LONGEST_WAIT))
        return self._check(answer, expected)

    def _attempt(self) -> Answer:
        """Ask for what is missing and write it; TryAgainError where it did not come whole."""
        before = self._resumable()
        have = self._size() if before else 0
        if before and have == before.total:
            return before
        with open_url(self.url, start=have, tag=before.tag if before else "") as (answer, body):
            if answer.start and not (before and answer.start == have and answer.continues(before)):
                self._forget()
                raise TryAgainError("the file on the server is another one than before")
            self._require_room(answer)
            self.notes.write_text(json.dumps(dataclasses.asdict(answer)), encoding="utf-8")
            self._write(body, answer)
        if answer.total is not None and self._size() != answer.total:
            come = self._size()
            if come > answer.total:
                self._forget()
            raise TryAgainError(f"the line was cut after {come} of {answer.total} bytes")
        return answer

    def _write(self, body: Iterator[bytes], answer: Answer) -> None:
        done = answer.start
        # Without a buffer nothing waits to be written when the disk turns out to be full.
        with self.part.open("ab" if answer.start else "wb", buffering=0) as file:
            for block in body:
                left = memoryview(block)
                while left:
                    left = left[file.write(left) :]
                done += len(block)
                self.on_progress(done, answer.total)

    def _resumable(self) -> Answer | None:
        """Return what is known of the bytes that are here; None if they cannot be gone on with."""
        try:
            before = Answer(**json.loads(self.notes.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        ours = before.url == self.url and (before.tag or before.sha256) and before.total
        return before if ours and 0 < self._size() <= (before.total or 0) else None

    def _check(self, answer: Answer, expected: tuple[Expected, ...]) -> Downloaded:
        named = (Expected(answer.sha256, "that the hub names"),) if answer.sha256 else ()
        found = sha256_of(self.part)
        for wanted in (*expected, *named):
            if not found.startswith(wanted.sha256):
                self._forget()
                raise WeightsError(
                    f"{self.url} is not the file that was wanted, or was damaged on its way: "
                    f"wanted the sha256 {wanted.sha256} {wanted.whose}, got {found}; "
                    "the download was deleted"
                )
        self.part.replace(self.path)
        self.notes.unlink(missing_ok=True)
        return Downloaded(self.path, found, _describe((*expected, *named), answer))

    def _require_room(self, answer: Answer) -> None:
        missing = (answer.total or 0) - answer.start
        free = shutil.disk_usage(self.path.parent).free + (0 if answer.start else self._size())
        if missing > free:
            raise WeightsError(
                f"no room for {self.url} in {self.path.parent}: wanted {missing / 1e6:.0f} MB, "
                f"free are {free / 1e6:.0f} MB; VOTS_HQTRACK_CACHE names another folder"
            )

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


def _describe(expected: tuple[Expected, ...], answer: Answer) -> str:
    if expected:
        named = " and ".join(
            f"{'the one' if len(wanted.sha256) == 64 else f'its first {len(wanted.sha256)} digits'}"
            f" {wanted.whose}"
            for wanted in expected
        )
        return f"its sha256 is {named}"
    if answer.total is not None:
        return "only its length was checked: nobody names a sha256 for it"
    return "nothing was checked: the server names neither length nor sha256"


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep a second process from writing the same file; where the system has no locks, trust."""
    if sys.platform == "win32":
        yield
        return
    lock = path.with_name(f"{path.name}.lock")
    with lock.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WeightsError(f"another process is fetching {path}; wait for it") from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _disk_error(path: Path, error: OSError) -> WeightsError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WeightsError(
            f"the disk of {path.parent} is full; what has come is kept: make room, or name another "
            "folder by VOTS_HQTRACK_CACHE"
        )
    return WeightsError(f"cannot write {path}: {error.strerror or error}")
