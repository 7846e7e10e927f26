"""Progress of long runs: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

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

from vots_hqtrack.cli.console import err

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
