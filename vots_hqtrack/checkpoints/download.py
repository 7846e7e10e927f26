"""Downloads one file over HTTP: resumes, retries, and verifies before the file gets its name.

The bytes so far are in ``NAME.part``; ``NAME.part.json`` says which version of which file they are
of, and their hash. Proxies and certificates are those of the environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2

import vots_hqtrack
from vots_hqtrack.errors import WeightsError
from vots_hqtrack.io import write_json

NUM_TRIES = 5
"""Attempts in a row without progress after which a download fails."""
MIN_PROGRESS = 1 << 16
"""Bytes that an attempt must bring to count as progress."""
MAX_WAIT = 60.0
"""Maximum of seconds between two attempts."""
MIN_SPEED = 1000
"""Bytes per second below which a connection is cut."""
SPEED_SECONDS = 30.0
"""Seconds over which the speed is measured; also the timeout of a connection without a byte."""
MAX_BYTES = 16 << 30
"""Maximum size of a file of unknown size."""
_NOTE_BYTES = 1 << 26
"""Bytes after which the notes are written again."""
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which another attempt may succeed."""
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})")

Progress = Callable[[int, "int | None"], None]
"""Callback with the bytes so far and the bytes in total, if that is known."""


@dataclass(frozen=True, slots=True)
class ExpectedHash:
    """A hash that the file must have.

    Attributes:
        sha256: Its first digits, or all 64.
        origin: Source of the hash, as in "the sha256 *that the hub names*".
    """

    sha256: str
    origin: str

    def __str__(self) -> str:
        """Return words such as "the one that the hub names"."""
        digits = len(self.sha256)
        return f"{'the one' if digits == 64 else f'its first {digits} digits'} {self.origin}"


@dataclass(frozen=True, slots=True)
class _Version:
    """A version of a file on a server, as far as the server describes it."""

    url: str
    total: int | None
    tag: str
    sha256: str


class _RetryError(Exception):
    """The attempt failed in a way that may pass; ``seconds`` is the wait that the server wants."""

    def __init__(self, reason: str, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


def download(
    url: str,
    path: Path,
    expected: tuple[ExpectedHash, ...] = (),
    max_bytes: int = MAX_BYTES,
    *,
    on_progress: Progress = lambda done, total: None,
    wait: Callable[[float], None] = time.sleep,
) -> str:
    """Download a file, or the rest of it. The caller sees to it that nobody else does so.

    Args:
        url: Its ``http`` or ``https`` address.
        path: The complete file; its folder is made.
        expected: Hashes that it must have, besides the one that the hub itself may name.
        max_bytes: Maximum size.
        on_progress: Callback after each block.
        wait: Sleeps for a number of seconds.

    Returns:
        The check that the file passed, in words.

    Raises:
        WeightsError: The server does not give the file, there is no connection or no room, or the
            file is another one than expected.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _Download(url, path, max_bytes, on_progress).run(expected, wait)
    except OSError as error:
        reason = error.strerror or error
        if error.errno == errno.ELOOP:
            reason = f"{path}.part is a link or no plain file; delete it"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = (
                f"{reason}: the bytes so far are kept; make room, or choose another folder with "
                "VOTS_HQTRACK_CACHE"
            )
        raise WeightsError(f"cannot write {path}: {reason}") from error


class _Download:
    """One download: its two files and the hash of the bytes so far."""

    def __init__(self, url: str, path: Path, max_bytes: int, on_progress: Progress) -> None:
        self.url = url
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self.notes = path.with_name(f"{path.name}.part.json")
        self.max_bytes = max_bytes
        self.on_progress = on_progress
        self.size = 0
        self.digest = hashlib.sha256()

    def run(self, expected: tuple[ExpectedHash, ...], wait: Callable[[float], None]) -> str:
        """Attempt until the file is complete, then verify it and give it its name."""
        best = failures = 0
        while True:
            try:
                return self._verify(self._attempt(), expected)
            except _RetryError as error:
                failures = 1 if self.size >= best + MIN_PROGRESS else failures + 1
                best = max(best, self.size)
                if failures >= NUM_TRIES:
                    raise WeightsError(
                        f"cannot fetch {self.url}: {error} ({failures} tries in a row); "
                        f"{self.size} bytes are kept, and the same command goes on from there"
                    ) from error
                wait(min(error.seconds or 2.0 ** (failures - 1), MAX_WAIT))

    def _attempt(self) -> _Version:
        """Request the missing bytes and write them; _RetryError if they do not all come."""
        before = self._resume()
        if before and self.size == before.total:
            return before
        with _open(self.url, self.size, before, lambda: self.size) as response:
            if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._forget()
                raise _RetryError("the server has no such range")
            _require_success(self.url, response)
            version, start = _read_version(self.url, response)
            if start and (start != self.size or version != before):
                self._forget()
                raise _RetryError("the file on the server is another one than before")
            if not start:
                self.size, self.digest = 0, hashlib.sha256()
            self._require_room(version)
            self._write(response.iter_raw(), version)
        if version.total is not None and self.size != version.total:
            raise _RetryError(f"the connection was cut after {self.size} of {version.total} bytes")
        return version

    def _resume(self) -> _Version | None:
        """Find the bytes of an earlier attempt, as many as are certain to be of one version."""
        self.size, self.digest = 0, hashlib.sha256()
        try:
            notes = json.loads(self.notes.read_text(encoding="utf-8"))
            size, digest, version = notes["size"], notes["sha256"], _Version(**notes["version"])
            is_known = version.url == self.url and (version.tag or version.sha256)
            if not is_known or not 0 < size <= min(version.total or 0, self.part.stat().st_size):
                return None
            with _open_file(self.part) as file:
                for start in range(0, size, _NOTE_BYTES):
                    self.digest.update(file.read(min(_NOTE_BYTES, size - start)))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        if digest != self.digest.hexdigest():
            return None
        self.size = size
        return version

    def _write(self, blocks: Iterator[bytes], version: _Version) -> None:
        noted = self.size
        try:
            with _open_file(self.part) as file:
                file.truncate(self.size)
                file.seek(self.size)
                self._save_notes(version)
                for block in blocks:
                    if self.size + len(block) > (version.total or self.max_bytes):
                        self._forget()
                        raise WeightsError(
                            f"{self.url} sends more than the {version.total or self.max_bytes} "
                            "bytes that were wanted; the download was deleted"
                        )
                    left = memoryview(block)
                    while left:
                        left = left[file.write(left) :]
                    self.size += len(block)
                    self.digest.update(block)
                    self.on_progress(self.size, version.total)
                    if self.size - noted >= _NOTE_BYTES:
                        noted = self.size
                        self._save_notes(version)
        finally:
            if self.part.exists():
                self._save_notes(version)

    def _save_notes(self, version: _Version) -> None:
        notes = {
            "size": self.size,
            "sha256": self.digest.hexdigest(),
            "version": dataclasses.asdict(version),
        }
        write_json(self.notes, notes)

    def _verify(self, version: _Version, expected: tuple[ExpectedHash, ...]) -> str:
        if version.sha256:
            expected = (*expected, ExpectedHash(version.sha256, "that the hub names"))
        found = self.digest.hexdigest()
        for wanted in expected:
            if not found.startswith(wanted.sha256):
                self._forget()
                raise WeightsError(
                    f"{self.url} is not the file that was wanted, or was damaged on its way: "
                    f"wanted the sha256 {wanted.sha256} {wanted.origin}, got {found}; "
                    "the download was deleted"
                )
        self.part.replace(self.path)
        self.notes.unlink(missing_ok=True)
        if expected:
            return f"its sha256 is {' and '.join(map(str, expected))}"
        if version.total is not None:
            return "only its length was checked: nobody names a sha256 for it"
        return "nothing was checked: the server names neither length nor sha256"

    def _require_room(self, version: _Version) -> None:
        missing = (version.total or 0) - self.size
        free = shutil.disk_usage(self.path.parent).free
        if missing > free:
            raise WeightsError(
                f"no room for {self.url} in {self.path.parent}: wanted {missing / 1e6:.0f} MB, "
                f"free are {free / 1e6:.0f} MB; VOTS_HQTRACK_CACHE names another folder"
            )
        if (version.total or 0) > self.max_bytes:
            raise WeightsError(
                f"{self.url} has {version.total} bytes, wanted {self.max_bytes} at most"
            )

    def _forget(self) -> None:
        self.size = 0
        self.part.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


def _open_file(path: Path) -> Any:  # noqa: ANN401 - typeshed keeps its class private
    """Open a file to read and write, without a buffer; a link to another file is an error."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
    facts = os.fstat(file.fileno())
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
        file.close()
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return file


@contextlib.contextmanager
def _open(
    url: str, start: int, before: _Version | None, count: Callable[[], int]
) -> Iterator[httpx2.Response]:
    """Request a file from a byte on; errors of the connection are raised as ours.

    Redirects are followed, but only to http and https, and not from https to http.
    """
    schemes = {"http", "https"}

    def check_scheme(request: httpx2.Request) -> None:
        if request.url.scheme not in schemes:
            raise WeightsError(
                f"{url} leads to {request.url}, which is not followed: wanted an address that "
                "begins with http:// or https://, and https after https"
            )
        if request.url.scheme == "https":
            schemes.discard("http")

    headers = {
        "User-Agent": f"vots_hqtrack/{vots_hqtrack.__version__}",
        "Accept-Encoding": "identity",
    }
    if start and before:
        headers["Range"] = f"bytes={start}-"
        if before.tag:
            headers["If-Range"] = str(before.tag)
    options: Any = {"timeout": SPEED_SECONDS, "event_hooks": {"request": [check_scheme]}}
    slow = threading.Event()
    try:
        with (
            httpx2.Client(follow_redirects=True, **options) as client,
            _watch_speed(count, slow) as trace,
            client.stream("GET", url, headers=headers, extensions={"trace": trace}) as response,
        ):
            yield response
    except (httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
        raise WeightsError(f"cannot fetch {url!r}: {error}") from error
    except httpx2.HTTPError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise WeightsError(
                    f"the server of {url} cannot prove who it is: {cause}"
                ) from error
            cause = cause.__context__
        reason = f"slower than {MIN_SPEED} bytes per second" if slow.is_set() else str(error)
        raise _RetryError(f"no connection: {reason or type(error).__name__}") from error


@contextlib.contextmanager
def _watch_speed(
    count: Callable[[], int], slow: threading.Event
) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Shut down a connection that brings too few bytes; without this, a byte a second would do.

    Yields:
        Callback for the HTTP library's events, by which it gets the network streams.
    """
    stop, streams = threading.Event(), []

    def trace(event: str, info: dict[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            streams.append(info["return_value"])

    def watch() -> None:
        before = count()
        while not stop.wait(SPEED_SECONDS):
            if count() - before < MIN_SPEED * SPEED_SECONDS:
                slow.set()
                for stream in streams:
                    with contextlib.suppress(OSError):
                        socket.socket.shutdown(stream.get_extra_info("socket"), socket.SHUT_RDWR)
                return
            before = count()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield trace
    finally:
        stop.set()
        thread.join()


def _require_success(url: str, response: httpx2.Response) -> None:
    status = response.status_code
    said = f"HTTP status {status} {response.reason_phrase[:80]}"
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return
    if status in _TRANSIENT:
        after = response.headers.get("Retry-After", "")
        raise _RetryError(said, float(after) if re.fullmatch(r"\d{1,9}", after) else 0.0)
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        raise WeightsError(
            f"there is no file at {url} ({said}); if it has moved, give its new address by "
            "--from URL, or a file that you have by: hqtrack weights import FILE --as KIND"
        )
    raise WeightsError(f"the server does not give {url}: {said}")


def _read_version(url: str, response: httpx2.Response) -> tuple[_Version, int]:
    """Return the server's description of the file, and the number of the first byte that comes."""
    headers = response.headers
    length = headers.get("Content-Length", "")
    start, total = 0, int(length) if re.fullmatch(r"\d{1,19}", length) else None
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        found = _RANGE.fullmatch(headers.get("Content-Range", ""))
        if found is None:
            raise WeightsError(
                f"{url} answers with a part, wanted a header Content-Range such as "
                f"'bytes 10-99/100', got {headers.get('Content-Range')!r}"
            )
        start, total = int(found[1]), int(found[2])
    tag = headers.get("ETag", "")
    # The hub names a large file's hash in the answer that redirects to its storage; the tags of
    # small files are not hashes of this kind.
    answers = (*response.history, response)
    linked = (_SHA256.fullmatch(answer.headers.get("X-Linked-Etag", "")) for answer in answers)
    sha256 = next((found[1] for found in linked if found), "")
    # Bytes may only be put together under a strong tag.
    return _Version(url, total, tag if tag.startswith('"') else "", sha256), start
