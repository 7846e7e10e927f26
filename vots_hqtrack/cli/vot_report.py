"""``hqtrack vot report`` and ``hqtrack vot ablate``: compare trackers that were evaluated."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table as RichTable

from vots_hqtrack.cli.console import out, say, show
from vots_hqtrack.cli.options import DeviceOption, SettingsOption, WeightsOption
from vots_hqtrack.cli.steps import show_steps, show_tool_errors
from vots_hqtrack.cli.vot import (
    SEQUENCES,
    WORKSPACE,
    SequencesOption,
    WorkspaceOption,
    make_entry,
    register,
    vot_app,
)
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.extras import install_command

if TYPE_CHECKING:
    from vots_hqtrack.vot.registry import TrackerEntry
    from vots_hqtrack.vot.report.tables import Table
    from vots_hqtrack.vot.run import StepCallback
    from vots_hqtrack.vot.workspace import Workspace

_EXTRA = ("jinja2", "matplotlib", "scipy")
_TERMINAL_COLUMNS = ("Quality", "Accuracy", "Robustness", "J&F", "s/frame", "Masks changed")

OutOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder of the report, with report.html.")
]


@vot_app.command()
def report(
    trackers: Annotated[
        list[str], typer.Argument(metavar="TRACKER ...", help="Names of evaluated trackers.")
    ],
    folder: OutOption,
    sequences: SequencesOption = SEQUENCES,
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Write a page, tables and plots of evaluated trackers: the toolkit's measures, J and F.

    Every table is also there as CSV, Markdown and LaTeX, every plot as PNG, PDF and SVG. Where the
    sequences have no truth, the report has speed, areas, absences and the trackers' agreement.
    """
    _check_extra()
    from vots_hqtrack.vot.report.collect import collect
    from vots_hqtrack.vot.report.contents import make_tables
    from vots_hqtrack.vot.report.write import check_report_folder, write_report
    from vots_hqtrack.vot.workspace import Workspace

    check_report_folder(folder)
    space = Workspace(workspace.absolute(), sequences.absolute(), workspace / "trackers.ini")
    with show_steps() as on_step, show_tool_errors():
        data = collect(space, trackers, on_step)
        path = write_report(data, folder, on_step=on_step)
    if data.measured:
        _print_table(make_tables(data)[0])
    show(f"report:     {path.absolute()}")


@vot_app.command()
def ablate(
    folder: OutOption,
    variants: Annotated[
        list[str],
        typer.Option(
            "--variant",
            metavar="'SECTION.OPTION=VALUE ...'",
            help="Settings of one variant, blanks between; preset=NAME takes another preset.",
        ),
    ],
    preset: Annotated[
        str, typer.Option("--preset", metavar="NAME", help="Preset that is varied.")
    ] = "lite",
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the preset's own results.")
    ] = "Ablation",
    sequences: SequencesOption = SEQUENCES,
    workspace: WorkspaceOption = WORKSPACE,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace results that are there already.")
    ] = False,
) -> None:
    """Evaluate variants of a preset, compare them, and say which changed no mask.

    Results that are there already are not made again, so a run that was stopped goes on when the
    same command is given once more.
    """
    _check_extra()
    from vots_hqtrack.vot.report.ablation import ablation_table, make_variants, unchanged
    from vots_hqtrack.vot.report.collect import collect
    from vots_hqtrack.vot.report.write import check_report_folder, write_report
    from vots_hqtrack.vot.run import check_sequences
    from vots_hqtrack.vot.toolkit import find_toolkit
    from vots_hqtrack.vot.workspace import Workspace, check_toolkit_path

    find_toolkit()
    check_report_folder(folder)
    check_sequences(sequences)
    check_toolkit_path(workspace.absolute())
    made = make_variants(name, preset, settings or [], variants)
    if weights is not None and any(each.preset != preset for each in made):
        raise ConfigError("--weights are those of one network: they go with no variant preset=NAME")
    entries = [
        make_entry(each.identifier, each.preset, weights, device, list(each.settings))
        for each in made
    ]
    registry = (workspace / "trackers.ini").absolute()
    space = Workspace(workspace.absolute(), sequences.absolute(), registry)
    with show_steps() as on_step, show_tool_errors():
        _evaluate(space, entries, on_step, force=force)
        data = collect(space, [entry.identifier for entry in entries], on_step)
        table = ablation_table(data, made)
        path = write_report(data, folder, more_tables=[table], on_step=on_step)
    _print_table(table)
    for title in unchanged(table):
        show(f"changed no mask: {title}")
    show(f"report:     {path.absolute()}")


def _evaluate(
    space: Workspace, entries: Sequence[TrackerEntry], on_step: StepCallback, *, force: bool
) -> None:
    """Register trackers, and run each on the sequences that it has no whole results for."""
    from vots_hqtrack.vot.run import evaluate
    from vots_hqtrack.vot.workspace import make_workspace

    for entry in entries:
        with space.claim(entry.identifier):
            made = make_workspace(space.folder, space.sequences, space.registry, on_wait=say)
            register(space.registry, entry, force=force)
            evaluate(made, entry.identifier, force=force, on_step=on_step, on_word=say)


def _print_table(table: Table) -> None:
    """Print the first column and the main measures."""
    titles = [column.title for column in table.columns]
    wanted = [0, *(titles.index(title) for title in _TERMINAL_COLUMNS if title in titles)]
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for index in wanted:
        shown.add_column(titles[index], justify="right" if index else "left", overflow="fold")
    for row in table.shown():
        shown.add_row(*(row[index][0] for index in wanted))
    out.print(shown, markup=False)


def _check_extra() -> None:
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        wanted = install_command("toolkit,report")
        raise ConfigError(f"a report needs {', '.join(missing)}: {wanted}")
