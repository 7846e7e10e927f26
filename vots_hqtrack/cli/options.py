"""Options that several commands have, and how they become a configuration."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from vots_hqtrack.config import TrackerConfig
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
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.OPTION=VALUE",
        help="Change an option of the preset; may be repeated. `hqtrack presets` lists them.",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE.toml", help="Options from a TOML file, before --set."),
]
RefineOption = Annotated[
    bool, typer.Option("--refine/--no-refine", help="Refine the masks, where the preset does.")
]


def build_config(
    preset: str, *, config: Path | None, settings: Iterable[str] | None, refine: bool
) -> TrackerConfig:
    """Put a configuration together: preset, file, settings, ``--no-refine``, in this order.

    Args:
        preset: Name of a preset.
        config: TOML file, or None.
        settings: ``section.option=value`` texts, or None.
        refine: False switches the refiner off.

    Returns:
        The configuration.

    Raises:
        ConfigError: A name or a value is not known, or the file cannot be read.
    """
    built = load_preset(preset)
    if config is not None:
        built = load_toml(built, config)
    built = apply_settings(built, settings or ())
    if not refine:
        refiner = dataclasses.replace(built.refiner, enabled=False)
        built = dataclasses.replace(built, refiner=refiner)
    return built
