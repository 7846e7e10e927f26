"""Progress bars on stderr."""

from __future__ import annotations

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

from vots_hqtrack.cli.console import err


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
