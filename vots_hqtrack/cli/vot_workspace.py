"""``hqtrack vot workspace`` and ``realtime``: official challenges, up to the submission."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vots_hqtrack.cli.console import say, show
from vots_hqtrack.cli.options import DeviceOption, SettingsOption, WeightsOption
from vots_hqtrack.cli.steps import show_tool_errors
from vots_hqtrack.cli.vot import (
    WORKSPACE,
    PresetOption,
    WorkspaceOption,
    check_registered,
    make_entry,
    register,
    vot_app,
)


@vot_app.command()
def workspace(
    stack: Annotated[
        str, typer.Argument(metavar="STACK", help="Official stack, such as vots2026/main.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the workspace.")],
    name: Annotated[
        str, typer.Option("--short-name", metavar="NAME", help="Name registered at the challenge.")
    ] = "HQTrack",
    sequences: Annotated[
        Path | None,
        typer.Option("--sequences", metavar="DIR", help="Sequences that are here already."),
    ] = None,
    preset: PresetOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
) -> None:
    """Make a workspace of an official challenge with the tracker under its registered name.

    Nothing is downloaded: the toolkit does that when the tracker runs the first time.
    """
    from vots_hqtrack.vot.workspace import REALTIME_STACK, make_challenge_workspace

    entry = make_entry(name, preset, weights, device, settings or [])
    made = make_challenge_workspace(folder, stack, sequences)
    register(made.registry, entry, force=False)
    if stack == REALTIME_STACK:
        verb = f"hqtrack vot realtime {name} --workspace {made.folder}"
        verb += "" if sequences is None else f" --sequences {made.sequences}"
    else:
        verb = f"vot evaluate --workspace {made.folder} {name}"
    show(f"{verb}\nvot pack --workspace {made.folder} {name}")


@vot_app.command()
def realtime(
    tracker: Annotated[
        str, typer.Argument(metavar="TRACKER", help="Name of a tracker of the workspace.")
    ],
    folder: WorkspaceOption = WORKSPACE,
    sequences: Annotated[
        Path | None,
        typer.Option("--sequences", metavar="DIR", help="Sequences, if not in the workspace."),
    ] = None,
) -> None:
    """Run the experiments of the stack vots2025/realtime, where frames do not wait for the tracker.

    Nothing else should run on the machine meanwhile: it is the clock that is measured.
    """
    from vots_hqtrack.vot.realtime_run import evaluate_realtime
    from vots_hqtrack.vot.workspace import REALTIME_STACK, make_challenge_workspace

    check_registered(folder / "trackers.ini", [tracker])  # or a slip would download a data set
    made = make_challenge_workspace(folder, REALTIME_STACK, sequences)
    with show_tool_errors():
        found = evaluate_realtime(made, tracker, on_word=say)
    for sequence in found:
        show(
            f"{sequence.name:24}{sequence.num_tracked:6} of {sequence.num_frames} frames tracked "
            f"at {sequence.fps:g} frames a second"
        )
