"""Check of the toolkit's messages before TraX's C library reads them.

That library takes the process down on an empty region text and on a mask of negative size, waits
for ever after a message that only servers send, and loops over a mask as large as its text says. So
a thread reads the stream first and passes on the messages that are as they should be.
"""

from __future__ import annotations

import os
import re
import threading

from vots_hqtrack.errors import InputError, ProtocolError
from vots_hqtrack.vot.region_text import parse_region

MAX_MESSAGE_BYTES = 2**28
"""Longest message; a mask of a frame of 8K needs less than a tenth of it."""

_MARK = b"@@TRAX:"
_MESSAGE = re.compile(rb'@@TRAX:([a-z]+)((?: +"(?:[^"\\]|\\.)*")*) *\r?')
_FIRST = re.compile(rb' *"((?:[^"\\]|\\.)*)"')
_WAKE_UP = b'@@TRAX:frame "file:///"\n'
_CHUNK_BYTES = 1 << 16


class MessageGuard:
    """Passes the messages of a stream on, up to the first one that is not usable.

    Args:
        source: File descriptor of the client's messages.

    Attributes:
        output: File descriptor for TraX to read; it ends where the source ends.
    """

    def __init__(self, source: int) -> None:
        """Start to read; the thread ends with the process."""
        self.output, self._input = os.pipe()
        self._source = source
        self._error: ProtocolError | None = None
        threading.Thread(target=self._pass_on, name="message guard", daemon=True).start()

    def check(self) -> None:
        """Raise what is wrong with the message at which the guard stopped.

        Raises:
            ProtocolError: There is such a message.
        """
        if self._error is not None:
            raise self._error

    def _pass_on(self) -> None:
        rest = bytearray()
        try:
            while chunk := os.read(self._source, _CHUNK_BYTES):
                start = max(len(rest) - 1, 0)
                rest += chunk
                if (end := rest.rfind(b"\n", start)) < 0:
                    if len(rest) > MAX_MESSAGE_BYTES:
                        raise ProtocolError(f"a message is longer than {MAX_MESSAGE_BYTES} bytes")
                    continue
                lines, rest = bytes(rest[: end + 1]), rest[end + 1 :]
                for line in lines[:-1].split(b"\n"):
                    check_message(line)
                _write_all(self._input, lines)
            if rest:
                raise ProtocolError(
                    f"the stream ends in the middle of a message: {_shown(bytes(rest))}"
                )
        except ProtocolError as error:
            self._error = error
            _write_all(self._input, _WAKE_UP)
        except OSError:
            pass  # the other end of a pipe is gone: TraX sees the end of the stream
        finally:
            os.close(self._input)


def check_message(line: bytes) -> None:
    """Check one line of a client.

    Args:
        line: A message without its line end, or text that is none, which TraX skips.

    Raises:
        ProtocolError: It is a message that TraX or this server cannot work with.
    """
    if not line.startswith(_MARK):
        if _MARK in line:
            raise ProtocolError(f"a message must begin a line, got {_shown(line)}")
        return
    if not line.isascii() or b"\x00" in line:
        raise ProtocolError(f"TraX takes ASCII only, paths too, got {_shown(line)}")
    match = _MESSAGE.fullmatch(line)
    if match is None:
        raise ProtocolError(f"wanted a message with arguments in quotes, got {_shown(line)}")
    verb = match[1].decode()
    first = _FIRST.match(match[2])
    if verb == "quit":
        return
    if verb == "initialize":
        if first is not None:  # a bare one says that a video in the same session begins
            _check_region(first[1].decode())
    elif verb == "frame":
        if first is None or not re.match(rb"file://.", first[1]):
            raise ProtocolError(f"a frame must come as file://<path>, got {_shown(line)}")
    else:
        raise ProtocolError(f"a client must send initialize, frame or quit, got {verb}")


def _check_region(text: str) -> None:
    try:
        is_usable = parse_region(text.replace("mask:", "m", 1)).is_known
    except InputError as error:
        raise ProtocolError(f"an object must come with a region: {error}") from error
    if not is_usable:
        raise ProtocolError(f"an object must come with a region, got {text!r}")


def _shown(line: bytes) -> str:
    return repr(line[:80].decode("ascii", errors="backslashreplace"))


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
