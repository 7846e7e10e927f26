"""``hqtrack demo``: scenes of free images, tracked and measured by the official toolkit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vots_hqtrack.cli.console import out
from vots_hqtrack.cli.options import DeviceOption, PresetOption, SettingsOption, WeightsOption
from vots_hqtrack.cli.steps import measures_table, show_paths, show_steps, show_tool_errors


def demo(
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for everything the demo makes.")
    ] = Path("hqtrack-demo"),
    preset: PresetOption = "lite",
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, max=10**9, help="Seed of small differences of the scenes."),
    ] = 0,
) -> None:
    """Render three short videos, track them, and measure the result.

    The videos show objects that cross, turn, grow, leave and come back, beside an
    untracked twin. The VOT toolkit (extra `toolkit`) runs the tracker and, for comparison,
    one that repeats the first masks. The images come with the extra `demo`.
    """
    from vots_hqtrack.checkpoints.manifest import resolve
    from vots_hqtrack.cli.options import build_config
    from vots_hqtrack.demo.images import image_folder
    from vots_hqtrack.demo.run import run_demo
    from vots_hqtrack.vot.registry import hqtrack_entry
    from vots_hqtrack.vot.toolkit import find_toolkit

    # Errors of the configuration are raised before minutes of work.
    config = build_config(preset, config=None, settings=settings, refine=True)
    resolve(config.weights, weights)
    image_folder()
    find_toolkit()
    entry = hqtrack_entry(preset=preset, device=device, weights=weights, settings=settings or ())
    with show_steps() as on_step, show_tool_errors():
        result = run_demo(folder, entry, seed=seed, on_step=on_step)
    out.print(measures_table(result.evaluation))
    show_paths(
        video=result.overlay_path,
        preview=result.preview_path,
        report=result.evaluation.report_path,
        submission=result.evaluation.archive_path,
        workspace=result.evaluation.workspace.folder,
    )
