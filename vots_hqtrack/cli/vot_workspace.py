"""``hqtrack vot workspace``: the workspace of an official challenge, ready for its submission."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vots_hqtrack.cli.console import out
from vots_hqtrack.cli.options import DeviceOption, SettingsOption, WeightsOption
from vots_hqtrack.cli.vot import make_entry, register


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
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="Preset; `hqtrack presets` lists them."),
    ] = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
) -> None:
    """Make a workspace of an official challenge with the tracker under its registered name.

    Nothing is downloaded: the toolkit does that when the tracker runs the first time.
    """
    from vots_hqtrack.vot.workspace import make_challenge_workspace

    entry = make_entry(name, preset, weights, device, settings or [])
    made = make_challenge_workspace(folder, stack, sequences)
    register(made.registry, entry, force=False)
    for line in (
        f"vot evaluate --workspace {made.folder} {name}",
        f"vot pack --workspace {made.folder} {name}",
    ):
        out.print(line, markup=False, soft_wrap=True)
