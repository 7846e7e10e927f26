"""Standard streams of the server: everything but the protocol goes to a log file.

The toolkit reads a tracker's standard output and standard error as one TraX stream, in which a
progress bar, a character outside ASCII or a line of another thread ends the session. Before the
session begins, both are therefore redirected to a log file, and TraX gets a copy of the output. A
disk that is full costs the log, not the session.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vots_hqtrack.vot.guard import MessageGuard

if TYPE_CHECKING:
    from collections.abc import Iterator

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_TAIL_BYTES = 8_192
_REASON_LENGTH = 1_000


@dataclass(frozen=True, slots=True)
class ProtocolStreams:
    """Streams of the protocol, and the log file.

    Attributes:
        guard: The toolkit's messages, checked.
        protocol_out: File descriptor of ours.
        log_path: File that replaces standard output and standard error; None where no folder of
            temporary files takes one.
    """

    guard: MessageGuard
    protocol_out: int
    log_path: Path | None

    @classmethod
    def take_over(cls) -> ProtocolStreams:
        """Redirect this process's standard streams to a log file, until the process ends."""
        sys.stdout.flush()
        sys.stderr.flush()
        handle, log_path = _open_log()
        protocol_in, protocol_out = os.dup(_STDIN), os.dup(_STDOUT)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, _STDIN), (handle, _STDOUT), (handle, _STDERR)):
            os.dup2(source, target)
        os.close(nothing)
        os.close(handle)
        sys.stdout, sys.stderr = LogStream(_STDOUT), LogStream(_STDERR)
        return cls(MessageGuard(protocol_in), protocol_out, log_path)

    @contextlib.contextmanager
    def trax_environment(self) -> Iterator[None]:
        """Give the protocol's descriptors to a TraX server that is made in the body."""
        os.environ |= {"TRAX_IN": str(self.guard.output), "TRAX_OUT": str(self.protocol_out)}
        try:
            yield
        finally:
            del os.environ["TRAX_IN"], os.environ["TRAX_OUT"]

    def send_log_tail(self) -> None:
        """Write the end of the log into the protocol's stream, for the toolkit's own log file.

        Must be called between two messages. The text goes out as full lines of ASCII, none of which
        looks like a message.
        """
        if self.log_path is None:
            return
        with self.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(size - _TAIL_BYTES, 0))
            tail = log.read().decode("utf-8", errors="replace")
        text = to_ascii(tail).replace("@@TRAX", "@_TRAX").rstrip("\n") + "\n"
        remaining = text.encode("ascii")
        while remaining:
            remaining = remaining[os.write(self.protocol_out, remaining) :]

    def remove_log(self) -> None:
        """Delete the log of a session that ended well."""
        if self.log_path is not None:
            with contextlib.suppress(OSError):
                self.log_path.unlink()


class _LossyFile(io.FileIO):
    """File that says it wrote what it could not write."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write, or lose, all of the data."""
        remaining = memoryview(data)
        with contextlib.suppress(OSError):
            while remaining:
                remaining = remaining[super().write(remaining) :]
        return len(data)


class LogStream(io.TextIOWrapper):
    """Text stream into the log that takes any character, and loses what the disk cannot hold."""

    def __init__(self, descriptor: int) -> None:
        """Write to a descriptor at once, so that nothing is kept back for a later failure."""
        raw = _LossyFile(descriptor, "w", closefd=False)
        super().__init__(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def _open_log() -> tuple[int, Path | None]:
    """Open a file for the log, or what swallows it."""
    try:
        handle, name = tempfile.mkstemp(prefix="vots-hqtrack-", suffix=".log")
    except OSError:
        return os.open(os.devnull, os.O_WRONLY), None
    return handle, Path(name)


def describe_error(error: BaseException, log_path: Path | None) -> str:
    r"""Describe an error in one line of ASCII, the only characters that the protocol takes.

    The line has the error's type and message, cut after 1,000 characters, and the log's path if
    there is a log.

    Example:
        >>> describe_error(ValueError("bad\nf\u00f6rm"), Path("/tmp/a.log"))
        'ValueError: bad f\\xf6rm (log: /tmp/a.log)'
    """
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if len(text) > _REASON_LENGTH:
        text = text[:_REASON_LENGTH] + " ..."
    return to_ascii(text if log_path is None else f"{text} (log: {log_path})")


def to_ascii(text: str) -> str:
    r"""Escape everything but printable ASCII characters, line ends and tabs.

    Example:
        >>> to_ascii("100 % \u2588 done\r")
        '100 % \\u2588 done\\x0d'
    """
    escaped = text.encode("ascii", errors="backslashreplace").decode("ascii")
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else f"\\x{ord(letter):02x}"
        for letter in escaped
    )
