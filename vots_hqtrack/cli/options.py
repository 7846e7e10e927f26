"""Options that several commands have, and how they become a configuration."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.presets import load_preset
from vots_hqtrack.settings import apply_settings, load_toml


def refuse_nan(value: float | None) -> float | None:
    """Refuse "not a number", which every bound of an option lets pass (a callback of Typer)."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("wanted a number, got nan")
    return value


PresetOption = Annotated[
    str, typer.Option("--preset", metavar="NAME", help="Preset; `hqtrack presets` lists them.")
]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="VMOS weights instead of the preset's."),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FOLDER|ID",
        help="A published tracker instead of a preset: its folder, or OWNER/NAME[@REVISION] on the "
        "Hugging Face hub (extra hub).",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.OPTION=VALUE",
        help="Change an option of the preset; may be repeated. `hqtrack presets NAME` lists them.",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE.toml", help="Options from a TOML file, before --set."),
]
RefineOption = Annotated[
    bool, typer.Option("--refine/--no-refine", help="Refine the masks, where the preset does.")
]


class Model(NamedTuple):
    """A published tracker: its configuration, and the folder of its weights."""

    config: TrackerConfig
    folder: Path


def find_model(ctx: typer.Context, model: str, weights: Path | None) -> Model:
    """Find a published tracker, from the hub if need be; ``--preset`` and ``--weights`` are in it.

    Args:
        ctx: Context of the command, which has an option ``--preset``.
        model: Folder or id; ``@`` separates a branch, tag or commit.
        weights: Value of ``--weights``.

    Raises:
        ConfigError: Another option says otherwise, or there is no such tracker.
        WeightsError: The hub has no such tracker, or its files are missing.
    """
    source = ctx.get_parameter_source("preset")
    is_given = source is not None and source.name != "DEFAULT"
    for name, is_there in (("--preset", is_given), ("--weights", weights is not None)):
        if is_there:
            raise ConfigError(f"wanted either --model or {name}, got both")
    from vots_hqtrack.checkpoints.pretrained import find_pretrained

    name, separator, revision = model.rpartition("@")
    if not separator or os.path.exists(os.path.expanduser(model)):
        return Model(*find_pretrained(model))
    return Model(*find_pretrained(name, revision=revision))


def build_config(
    preset: str | TrackerConfig,
    *,
    config: Path | None,
    settings: Iterable[str] | None,
    refine: bool,
) -> TrackerConfig:
    """Put a configuration together: preset, file, settings, ``--no-refine``, in this order.

    Args:
        preset: Name of a preset, or the configuration of a published tracker.
        config: TOML file, or None.
        settings: ``section.option=value`` texts, or None.
        refine: False switches the refiner off.

    Returns:
        The configuration.

    Raises:
        ConfigError: A name or a value is not known, or the file cannot be read.
    """
    built = load_preset(preset) if isinstance(preset, str) else preset
    if config is not None:
        built = load_toml(built, config)
    built = apply_settings(built, settings or ())
    if not refine:
        refiner = dataclasses.replace(built.refiner, enabled=False)
        built = dataclasses.replace(built, refiner=refiner)
    return built
