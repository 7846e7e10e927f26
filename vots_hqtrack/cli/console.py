"""Two consoles: results go to stdout; errors, logs and progress to stderr."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def set_up_logging(level: int) -> None:
    """Send the package's log lines from a level upwards to stderr, between the progress bars."""
    logger = logging.getLogger("vots_hqtrack")
    logger.handlers = [RichHandler(console=err, show_path=False, show_time=level <= logging.DEBUG)]
    logger.setLevel(level)


def print_error(text: str) -> None:
    """Print an error as one line on stderr."""
    err.print(f"error: {' '.join(text.split())}", style="bold red", markup=False, soft_wrap=True)


class FramesPerSecondColumn(ProgressColumn):
    """Frames per second over the last half minute."""

    def render(self, task: Task) -> Text:
        """Return the column's text."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.2f} frames/s")


def frame_progress() -> Progress:
    """Return a progress bar that counts frames; without a terminal it is drawn once, at the end."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        FramesPerSecondColumn(),
        TimeRemainingColumn(),
        console=err,
    )
