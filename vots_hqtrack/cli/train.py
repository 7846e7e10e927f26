"""``hqtrack train``: trains by a recipe, or shows what the network would see."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vots_hqtrack.cli.console import err, out
from vots_hqtrack.cli.train_progress import TrainProgress
from vots_hqtrack.errors import ConfigError

PACKAGES = ("accelerate", "tensorboard")
"""What the extra ``train`` brings."""
NUM_INSPECTED = 24
SIGNAL_EXIT = 128
"""Shells add the signal's number to it."""


def train(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG", help="TOML file, or paper-stage1, paper-stage2, lite or hq-head."
        ),
    ],
    run: Annotated[
        Path | None,
        typer.Option("--out", metavar="RUN", help="Folder of the run; one that is there goes on."),
    ] = None,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Folder with the data sets' folders.")
    ] = Path(),
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.OPTION=VALUE",
            help="Change an option of the recipe, as train.steps=100; may be repeated.",
        ),
    ] = None,
    inspect: Annotated[
        Path | None,
        typer.Option("--inspect", metavar="DIR", help="Only draw some clips as pictures, there."),
    ] = None,
) -> None:
    """Train the segmenter, or the refiner's HQ head, on data of your own.

    Several GPUs or machines: accelerate launch -m vots_hqtrack train CONFIG ...
    """
    from vots_hqtrack.training.hq.recipe import HQ_KIND
    from vots_hqtrack.training.recipe_files import KIND, apply_to_tables, kind_of, read_tables

    tables = apply_to_tables(read_tables(config), settings or ())
    kind = kind_of(tables)
    if kind not in (KIND, HQ_KIND):
        raise ConfigError(f"unknown kind of recipe {kind!r}; wanted {KIND} or {HQ_KIND}")
    if inspect is not None and kind == KIND:
        _inspect(tables, data, inspect)
        return
    if run is None:
        raise ConfigError("wanted a folder for the run: --out RUN, or --inspect DIR to look only")
    if kind == HQ_KIND:
        if inspect is not None:
            raise ConfigError(f"--inspect draws clips; a recipe of kind {HQ_KIND} has none")
        _train_hq_head(tables, data, run)
        return
    _require_packages()
    _train_vmos(tables, data, run)


def _require_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"training needs {' and '.join(missing)}, found none; "
            "install with: pip install 'vots-hqtrack[train]'"
        )


def _train_vmos(tables: dict[str, object], data: Path, run: Path) -> None:
    from vots_hqtrack.training.recipe_files import build_recipe
    from vots_hqtrack.training.trainer import Trainer

    recipe = build_recipe(tables)
    with TrainProgress(recipe.train.steps) as progress:
        trainer = Trainer(recipe, run, data=data, reporter=progress)
        if trainer.step and trainer.accelerator.is_main_process:
            err.print(f"going on from step {trainer.step}", markup=False)
        result = trainer.run()
    trainer.accelerator.end_training()
    if trainer.accelerator.is_main_process:
        best = "" if result.best is None else f"; best mean J of the dev split {result.best:.3f}"
        name = "last" if result.best is None else "best"
        weights = (run / f"{name}.safetensors").absolute()
        if result.signal_number is None:
            out.print(f"trained {result.step} steps{best}\nweights in {weights}", soft_wrap=True)
        else:
            err.print(f"stopped after step {result.step}; the same command goes on", markup=False)
    if result.signal_number is not None:
        raise typer.Exit(SIGNAL_EXIT + result.signal_number)


def _train_hq_head(tables: dict[str, object], data: Path, run: Path) -> None:
    from vots_hqtrack.training.hq.head import train_hq_head
    from vots_hqtrack.training.hq.recipe import build_hq_recipe

    config = build_hq_recipe(tables)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
    ) as bar:
        encoding = bar.add_task("encoded", total=None)
        training = bar.add_task("train", total=config.train.steps)
        weights = train_hq_head(
            config,
            run,
            lambda step, loss: bar.update(training, completed=step, description=f"loss {loss:.3f}"),
            data=data,
            progress=lambda _: bar.advance(encoding),
        )
    out.print(
        f"trained {config.train.steps} steps\nweights in {weights.absolute()}", soft_wrap=True
    )


def _inspect(tables: dict[str, object], data: Path, folder: Path) -> None:
    from vots_hqtrack.training.inspect import write_contact_sheets
    from vots_hqtrack.training.mixture import draw_examples
    from vots_hqtrack.training.recipe_files import build_recipe

    clips = draw_examples(build_recipe(tables), data, NUM_INSPECTED)
    for path in write_contact_sheets(clips, folder):
        out.print(str(path.absolute()), soft_wrap=True)
