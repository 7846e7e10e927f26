"""Two consoles: results go to stdout; errors, logs and progress to stderr."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from typing import IO, TextIO, cast

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

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


def show(text: object) -> None:
    """Print a line of results as it is, however wide the terminal."""
    out.print(str(text), markup=False, soft_wrap=True)


def say(text: object) -> None:
    """Print a line for people as it is on stderr, however wide the terminal."""
    err.print(str(text), markup=False, soft_wrap=True)


def set_up_logging(level: int) -> None:
    """Send the package's log lines from a level upwards to stderr, between the progress bars."""
    logger = logging.getLogger("vots_hqtrack")
    logger.handlers = [RichHandler(console=err, show_path=False, show_time=level <= logging.DEBUG)]
    logger.setLevel(level)


def print_error(text: str) -> None:
    """Print an error as one line on stderr."""
    line = printable(" ".join(text.split()))
    err.print(f"error: {line}", style="bold red", markup=False, soft_wrap=True)


_SECONDS_OF_SPEED = 120.0
"""Time over which speed is measured: slow frames must not leave it, and the time left, unknown."""


_SECONDS_BETWEEN_LINES = 30.0
"""Seconds between two lines that say how far a run is, where no terminal shows it."""


class FramesPerSecondColumn(ProgressColumn):
    """Frames per second over the last two minutes."""

    def render(self, task: Task) -> Text:
        """Return the column's text."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.2f} frames/s")


class FrameProgress(Progress):
    """Progress bar that also says how far it is on a console without a terminal, as in a log."""

    _said_at: float | None = None

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Advance a task."""
        super().advance(task_id, advance)
        if self.console.is_terminal:
            return
        now = self.get_time()
        if self._said_at is None:
            self._said_at = now
        elif now - self._said_at >= _SECONDS_BETWEEN_LINES:
            self._said_at = now
            task = self.tasks[self.task_ids.index(task_id)]
            total = "" if task.total is None else f" of {task.total:.0f}"
            speed = f", {task.speed:.2f} frames/s" if task.speed else ""
            self.console.print(
                f"{task.description}: {task.completed:.0f}{total} frames{speed}", soft_wrap=True
            )


def frame_progress() -> Progress:
    """Return a progress bar that counts frames.

    Without a terminal it is drawn once, at the end, and a line is written every half a minute.
    """
    return FrameProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        FramesPerSecondColumn(),
        TimeRemainingColumn(),
        console=err,
        speed_estimate_period=_SECONDS_OF_SPEED,
    )
