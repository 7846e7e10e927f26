"""``hqtrack ui``: the web page to give, track and correct objects."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from vots_hqtrack.cli.console import err, show
from vots_hqtrack.cli.options import (
    ConfigOption,
    DeviceOption,
    PresetOption,
    SettingsOption,
    WeightsOption,
    build_config,
)
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.extras import missing_extra


def ui(
    video: Annotated[
        Path | None,
        typer.Argument(
            metavar="[VIDEO]",
            help="A folder of frames or a video file; the page asks for one without it.",
        ),
    ] = None,
    project: Annotated[
        Path | None,
        typer.Option(
            "--project",
            metavar="DIR",
            help="Folder for the results, or one to go on with; by default VIDEO's name and "
            "'.hqtrack' in the current folder.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on; beyond this machine it needs a token."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8400,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in your browser.")
    ] = True,
    preset: PresetOption = "lite",
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    config: ConfigOption = None,
    settings: SettingsOption = None,
) -> None:
    """Open a web page to give objects by click, box or brush, to track and to correct them.

    Results are on disk after each frame, in the project folder; open it again to go on.
    """
    if importlib.util.find_spec("nicegui") is None:
        raise missing_extra("hqtrack ui", "ui")
    if project is not None and video is None:
        raise ConfigError("--project needs a VIDEO")
    built = build_config(preset, config=config, settings=settings, refine=True)
    with err.status("loading the model"):
        from vots_hqtrack.session import InteractivePredictor
        from vots_hqtrack.tracker import HQTracker
        from vots_hqtrack.ui.server import serve
        from vots_hqtrack.ui.workspace import Workspace

        tracker = HQTracker.from_config(built, device=device, weights=weights)
        workspace = Workspace(InteractivePredictor(tracker), Path.cwd())
    if video is not None:
        workspace.open(video, project)
    serve(
        workspace,
        host=host,
        port=port,
        open_browser=browser,
        report=show,
    )
