"""Progress of a training run on the terminal."""

from __future__ import annotations

from contextlib import AbstractContextManager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from vots_hqtrack.cli.console import err, say
from vots_hqtrack.training.callback import Callback, LogEntry

LINES = 100
"""Lines of a whole run without a terminal."""


class TrainProgress(Callback, AbstractContextManager["TrainProgress"]):
    """Bars on a terminal, lines elsewhere; nothing before the first news.

    Args:
        steps: Steps of the whole run.
        minutes: Length of the run where the clock decides, else 0.
    """

    def __init__(self, steps: int, minutes: float = 0.0) -> None:
        self._steps = steps
        self._seconds = round(60 * minutes)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[news]}"),
            console=err,
        )
        self._tasks: dict[str, TaskID] = {}
        self._best = ""
        self._speed = ""

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they are."""
        if self._tasks:
            self._bars.stop()

    def cached(self, name: str, done: int, total: int) -> None:
        """Show that a clip has its features on disk."""
        self._show(f"features of {name}", done, total, "")

    def stepped(self, step: int, loss: float) -> None:
        """Show a step and its loss."""
        if not self._seconds:
            news = f"loss {loss:.3f}{self._best}{self._speed}"
            self._show("training", step, self._steps, news)

    def logged(self, entry: LogEntry) -> None:
        """Show clips a second and where the time goes; the seconds where the clock decides."""
        self._speed = _speed(entry)
        if self._seconds:
            done = min(round(60 * entry.minutes), self._seconds)
            news = f"step {entry.step}, loss {entry.loss:.3f}{self._best}{self._speed}"
            self._show("training, seconds", done, self._seconds, news, is_line=True)

    def evaluated(self, step: int, mean: float, best: float) -> None:
        """Show what the dev split gave."""
        self._best = f", best J {best:.3f}"
        say(f"step {step}: mean J of the dev split {mean:.3f}")

    def _show(self, title: str, done: int, total: int, news: str, *, is_line: bool = False) -> None:
        if not err.is_terminal:
            if is_line or done % max(1, total // LINES) == 0 or done == total:
                say(f"{title}: {done}/{total} {news}".rstrip())
            return
        if title not in self._tasks:
            self._bars.start()
            self._tasks[title] = self._bars.add_task(title, total=total, news="")
        self._bars.update(self._tasks[title], completed=done, news=news)


def _speed(entry: LogEntry) -> str:
    """Write a speed such as ``, 201 clips/s (data 1, encode 90 ms), 31.2 GiB``."""
    if entry.clips_per_second is None:
        return ""
    parts = [f"{name} {each:.0f}" for name, each in entry.milliseconds.items()]
    times = f" ({', '.join(parts)} ms)" if parts else ""
    return f", {entry.clips_per_second:.3g} clips/s{times}, {entry.memory_gib:.1f} GiB"
