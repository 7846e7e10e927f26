"""Steps, measures and errors of a long run on the terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from vots_hqtrack.cli.console import err, say, show
from vots_hqtrack.errors import ProtocolError

if TYPE_CHECKING:
    from vots_hqtrack.measures import SegmentationMeasures
    from vots_hqtrack.vot.measures import Measures
    from vots_hqtrack.vot.run import EvaluationResult, Step, StepCallback

# Quality, accuracy and robustness are cut, so that 80 columns are enough.
MEASURE_NAMES: Mapping[str, str] = {
    "quality": "Qual.",
    "accuracy": "Acc.",
    "robustness": "Rob.",
    "nre": "NRE",
    "dre": "DRE",
    "adq": "ADQ",
}


_LEGEND = (
    "Higher is better: quality, accuracy (mean IoU of tracked frames), robustness (fraction of "
    "frames tracked), ADQ (fraction of absences noticed), J (regions), F (boundaries). Lower is "
    "better: NRE (fraction of frames where a visible object was reported absent), DRE (fraction "
    "where its mask was elsewhere)."
)


@contextlib.contextmanager
def show_steps() -> Iterator[StepCallback]:
    """Show each step of a run as a bar; without a terminal, as a line when it starts and ends."""
    if not err.is_terminal:
        yield show_as_lines()
        return
    tasks: dict[str, TaskID] = {}
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
        console=err,
    ) as progress:

        def show(step: Step) -> None:
            if step.text not in tasks:
                tasks[step.text] = progress.add_task(step.text, total=step.num_parts, detail="")
            progress.update(tasks[step.text], completed=step.num_done, detail=step.detail)

        yield show


def show_as_lines(repeat_s: float = 60) -> StepCallback:
    """Print a step's start and end, and how far it is about once in ``repeat_s`` seconds."""
    started: dict[str, float] = {}
    printed: dict[str, float] = {}
    done: set[str] = set()

    def show(step: Step) -> None:
        now = time.perf_counter()
        if step.text not in started:
            started[step.text] = printed[step.text] = now
            say(f"{step.text} ...")
        if step.num_done == step.num_parts and step.text not in done:
            done.add(step.text)
            say(f"{step.text}: done ({now - started[step.text]:.0f} s)")
        elif step.text not in done and now - printed[step.text] > repeat_s:
            printed[step.text] = now
            so_far = f"{step.num_done} of {step.num_parts}"
            say(f"{step.text}: {so_far}, {step.detail}")

    return show


@contextlib.contextmanager
def show_tool_errors() -> Iterator[None]:
    """Print the last lines of toolkit and tracker, so that the error itself is one line."""
    try:
        yield
    except ProtocolError as error:
        first, *others = str(error).splitlines()
        for line in others:
            say(line)
        raise ProtocolError(first) from error


def show_paths(**paths: Path | None) -> None:
    """Print the paths of files that a run left, each with its name."""
    for title, path in paths.items():
        if path is not None:
            show(f"{title + ':':12}{path}")


def measures_table(result: EvaluationResult) -> Table:
    """Lay out the measures: for every tracker all sequences together, then each one.

    J and F, as DAVIS defines them, are means over all frames after the one where an object was
    given; the objects of a sequence have rows of their own where there are several.
    """
    from vots_hqtrack.measures import mean_measures

    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=0, caption=_LEGEND, caption_justify="left"
    )
    table.add_column("", overflow="fold")
    for name in (*MEASURE_NAMES.values(), "J", "F", "J&F", "s/frame"):
        table.add_column(name, justify="right", no_wrap=True)
    for tracker, measured in result.measures.items():
        by_sequence = result.sequence_segmentation(tracker)
        seconds = result.seconds[tracker]
        numbers = _numbers(measured.overall, mean_measures(by_sequence.values()))
        speed = "-" if seconds is None else f"{seconds:.2f}"
        table.add_row(tracker, *numbers, speed, style="bold")
        for name, measures in measured.sequences.items():
            table.add_row(f" {name}", *_numbers(measures, by_sequence.get(name)), "")
            objects = result.segmentation[tracker].get(name, {})
            for number, found in objects.items() if len(objects) > 1 else ():
                table.add_row(f"  {number}", *_numbers(None, found), "", style="dim")
        table.add_section()
    return table


def _numbers(measures: Measures | None, found: SegmentationMeasures | None) -> list[str]:
    """Format the numbers of a row; the VOTS measures are blank where the toolkit has none."""
    shown = [""] * len(MEASURE_NAMES)
    if measures is not None:
        shown = [_number(getattr(measures, name)) for name in MEASURE_NAMES]
    values = (None,) * 3 if found is None else (found.region, found.boundary, found.mean)
    return shown + [_number(value) for value in values]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
