"""Two consoles: results go to stdout; errors, logs and progress to stderr."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from typing import IO, TextIO, cast

from rich.console import Console

from vots_hqtrack.errors import printable


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
