"""Options that several commands have, and how they become a configuration."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Iterable
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


def given_options(ctx: typer.Context) -> list[str]:
    """Return the options and arguments that the command line has, by the names that users know."""
    found = []
    for option in ctx.command.params:
        source = ctx.get_parameter_source(option.name or "")
        if source is not None and source.name == "COMMANDLINE":
            name = option.opts[0]
            found.append(
                name
                if name.startswith("-")
                else str(getattr(option, "metavar", None) or name.upper())
            )
    return found


def refuse_unread(ctx: typer.Context, kind: str, read: Collection[str]) -> None:
    """Refuse options that a command does not read beside another one.

    Args:
        ctx: Context of the command.
        kind: Option by which it does something else.
        read: Options and arguments that it reads then.

    Raises:
        ConfigError: There are others.
    """
    if unread := [name for name in given_options(ctx) if name not in (kind, *read)]:
        reads = f"it reads {', '.join(read)}" if read else "it goes alone"
        raise ConfigError(f"{kind} does not read {', '.join(unread)}; {reads}")


def refuse_needless(ctx: typer.Context, names: Collection[str], why: str) -> None:
    """Refuse options that would change nothing.

    Args:
        ctx: Context of the command.
        names: The options.
        why: Reason, after "... changes nothing".

    Raises:
        ConfigError: One of them is given.
    """
    if needless := [name for name in given_options(ctx) if name in names]:
        verb = "changes" if len(needless) == 1 else "change"
        raise ConfigError(f"{', '.join(needless)} {verb} nothing {why}")


def refuse_set_too(settings: Iterable[str] | None, option: str, changed: str) -> None:
    """Refuse ``--set`` of what another option that is given decides.

    Args:
        settings: ``section.option=value`` texts, or None.
        option: The other option, or the command.
        changed: Name of what it decides, ``section.option``.

    Raises:
        ConfigError: It is among the settings.
    """
    if any(text.partition("=")[0].strip() == changed for text in settings or ()):
        raise ConfigError(f"{option} decides {changed}: leave --set {changed} out")


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
    is_given = "--preset" in given_options(ctx)
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
        refuse_set_too(settings, "--no-refine", "refiner.enabled")
        refiner = dataclasses.replace(built.refiner, enabled=False)
        built = dataclasses.replace(built, refiner=refiner)
    return built
