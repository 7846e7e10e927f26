"""Two consoles: results go to stdout; errors, logs and progress to stderr."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import textwrap
from collections.abc import Iterable
from typing import IO, TextIO, cast

from rich.console import Console

from vots_hqtrack.errors import printable

_GAP, _INDENT = "  ", "    "
_MIN_WIDTH = 20
"""Columns that the last column of a list has at least beside the others."""


class Stderr(io.TextIOBase):
    """Standard error, or nothing once it is closed: a lost terminal must not end a run."""

    @property
    def _stream(self) -> TextIO | None:
        # While a progress bar is shown, Rich puts a stream of its own before the real one.
        stream: TextIO | None = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        return stream

    def write(self, text: str) -> int:
        """Write text if somebody may read it."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush it."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """Number of the open file."""
        if self._stream is None:
            raise io.UnsupportedOperation("standard error is closed")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has it as an attribute
        """Encoding of the text."""
        return getattr(self._stream, "encoding", None) or "utf-8"


class Stdout(Console):
    """Console of the results; a reader who went away is the caller's error to handle."""

    def on_broken_pipe(self) -> None:
        """Raise the error again that is being handled."""
        raise


out = Stdout(highlight=False)
err = Console(file=cast(IO[str], Stderr()), highlight=False)


def show(text: object) -> None:
    """Print a line of results as it is, however wide the terminal."""
    out.print(str(text), markup=False, soft_wrap=True)


def say(text: object) -> None:
    """Print a line for people as it is on stderr, however wide the terminal."""
    err.print(str(text), markup=False, soft_wrap=True)


def set_up_logging(level: int) -> None:
    """Send the package's log lines from a level upwards to stderr, between the progress bars."""
    from rich.logging import RichHandler

    logger = logging.getLogger("vots_hqtrack")
    logger.handlers = [RichHandler(console=err, show_path=False, show_time=level <= logging.DEBUG)]
    logger.setLevel(level)


def print_error(text: str) -> None:
    """Print an error as one line on stderr."""
    line = printable(" ".join(text.split()))
    err.print(f"error: {line}", style="bold red", markup=False, soft_wrap=True)


def print_json(content: object) -> None:
    """Print a value as JSON on stdout, for other programs."""
    out.print(json.dumps(content, indent=2), markup=False, soft_wrap=True)


def print_rows(rows: Iterable[tuple[str, ...]], *, head: tuple[str, ...] = ()) -> None:
    """Print rows as columns without lines; only the last column is wrapped, at its spaces.

    Where the terminal is too narrow for that, the last column goes below the others, indented.

    Args:
        rows: Plain strings.
        head: Titles of the columns; empty for none.
    """
    lines = [
        [printable(text, keep_breaks=True) for text in row] for row in ([head] if head else [])
    ]
    lines += [[printable(text, keep_breaks=True) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)][:-1]
    indent = sum(widths) + len(_GAP) * len(widths)
    is_narrow = out.width - indent < _MIN_WIDTH
    room = max(out.width - (len(_INDENT) if is_narrow else indent), _MIN_WIDTH)
    for *first, last in lines:
        start = "".join(text.ljust(n) + _GAP for text, n in zip(first, widths, strict=True))
        below = _INDENT if is_narrow else " " * indent
        if is_narrow:
            show(start.rstrip())
            start = below
        for index, text in enumerate(_wrap(last, room)):
            if text or not is_narrow:
                show(((below if index else start) + text).rstrip())


def _wrap(text: str, width: int) -> list[str]:
    """Break lines at spaces; a longer word, such as a path, stays whole, to be copied."""
    wrap = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return [part for line in text.split("\n") for part in wrap.wrap(line) or [""]]
