"""How a training run shows on the terminal."""

from __future__ import annotations

from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from vots_hqtrack.cli.console import err

LINES = 100
"""Lines that a whole run prints where there is no terminal."""


class TrainProgress:
    """Bars on a terminal, lines elsewhere; nothing before the first news.

    Args:
        steps: Of the whole run.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
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

    def __enter__(self) -> TrainProgress:
        """Return the progress."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the bars as they are."""
        if self._tasks:
            self._bars.stop()

    def cached(self, name: str, done: int, total: int) -> None:
        """Show that a clip has its features on disk."""
        self._show(f"features of {name}", done, total, "")

    def stepped(self, step: int, loss: float) -> None:
        """Show a step and its loss."""
        self._show("training", step, self._steps, f"loss {loss:.3f}{self._best}")

    def evaluated(self, step: int, mean: float, best: float) -> None:
        """Show what the dev split gave."""
        self._best = f", best J {best:.3f}"
        err.print(f"step {step}: mean J of the dev split {mean:.3f}", markup=False)

    def _show(self, title: str, done: int, total: int, news: str) -> None:
        if not err.is_terminal:
            if done % max(1, total // LINES) == 0 or done == total:
                err.print(f"{title}: {done}/{total} {news}".rstrip(), markup=False)
            return
        if title not in self._tasks:
            self._bars.start()
            self._tasks[title] = self._bars.add_task(title, total=total, news="")
        self._bars.update(self._tasks[title], completed=done, news=news)
