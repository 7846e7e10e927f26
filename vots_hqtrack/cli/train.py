"""``hqtrack train``: trains by a recipe, or shows what the network would see.

``hqtrack train CONFIG`` trains; a command of the group, such as ``pack``, is named instead of it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from vots_hqtrack.cli.console import say, show
from vots_hqtrack.cli.options import refuse_nan, refuse_set_too, refuse_unread
from vots_hqtrack.cli.signals import SIGNAL_EXIT
from vots_hqtrack.cli.train_pack import pack
from vots_hqtrack.cli.train_progress import TrainProgress
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.extras import missing_extra

if TYPE_CHECKING:
    from vots_hqtrack.training.hq.recipe import HQRecipe
    from vots_hqtrack.training.recipe import Recipe

NUM_INSPECTED = 24
NUM_OF_A_KIND, NUM_COUNTED = 16, 1000
"""Composed clips: on the sheet of each kind, and counted."""
DEFAULT_COMMAND = "CONFIG"


class TrainGroup(TyperGroup):
    """Trains unless the first word names another command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Click's class
        """Put the default command in front of anything that is not a command."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - Click's classes
        """Show the help of the default command, then the other commands."""
        command = self.commands[DEFAULT_COMMAND]
        inner = command.make_context("", [], parent=ctx, resilient_parsing=True)
        command.format_help(inner, formatter)
        super().format_help(ctx, formatter)


train_app = typer.Typer(
    name="train",
    cls=TrainGroup,
    help="Train, or work with training data.",
    no_args_is_help=True,
)
train_app.command("pack", no_args_is_help=True)(pack)

RECIPE_HELP = "TOML file, or paper-stage1, paper-stage2, lite, lite-gpu or hq-head."
FOLDER_HELP = "Folder of the run; one that is there goes on."
SET_HELP = "Change an option of the recipe, as train.steps=100; may be repeated."
WITHOUT_HELP = "Leave out the data sets of this folder below --data; may be repeated."
MINUTES_HELP = "Length of the run by the clock; rates and phases follow it. 0 counts steps."
STATE_HELP = "Begin a new session from another run's state.safetensors."
AVERAGE_HELP = "Averaged weights of that run; without, last.safetensors beside its state."


@train_app.command(DEFAULT_COMMAND, hidden=True)
def train(
    ctx: typer.Context,
    config: Annotated[str, typer.Argument(metavar="CONFIG", help=RECIPE_HELP)],
    run: Annotated[Path | None, typer.Option("--out", metavar="RUN", help=FOLDER_HELP)] = None,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Folder with the data sets' folders.")
    ] = Path(),
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.OPTION=VALUE", help=SET_HELP)
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="ROOT", help=WITHOUT_HELP)
    ] = None,
    print_only: Annotated[
        bool, typer.Option("--print", help="Only print the recipe, with all options, to copy it.")
    ] = False,
    inspect: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Only draw some clips as images, there.")
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(min=0, max=10**6, callback=refuse_nan, metavar="MINUTES", help=MINUTES_HELP),
    ] = None,
    state: Annotated[Path | None, typer.Option("--from", metavar="STATE", help=STATE_HELP)] = None,
    average: Annotated[
        Path | None, typer.Option("--from-average", metavar="FILE", help=AVERAGE_HELP)
    ] = None,
) -> None:
    """Train the segmenter, or the refiner's HQ head, on data of your own.

    Several GPUs or machines: accelerate launch -m vots_hqtrack train CONFIG ...
    """
    _check_options(ctx, settings)
    from vots_hqtrack.settings import set_options
    from vots_hqtrack.training.recipe import Recipe
    from vots_hqtrack.training.recipe_files import (
        build_recipe,
        leave_out,
        read_tables,
        recipe_to_toml,
    )

    changes = [] if max_minutes is None else [f"train.max_minutes={max_minutes}"]
    tables = set_options(read_tables(config), [*(settings or ()), *changes])
    recipe = build_recipe(leave_out(tables, without or ()))
    if print_only:
        show(recipe_to_toml(recipe).rstrip())
        return
    if inspect is not None:
        if not isinstance(recipe, Recipe):
            raise ConfigError(f"--inspect draws clips; a recipe of kind {recipe.KIND} has none")
        _inspect(recipe, data, inspect)
        return
    if run is None:
        raise ConfigError("wanted a folder for the run: --out RUN, or --inspect DIR to look only")
    if importlib.util.find_spec("accelerate") is None:
        raise missing_extra("training", "train")
    _train(recipe, data, run, state, average)


def _check_options(ctx: typer.Context, settings: list[str] | None) -> None:
    if ctx.params["print_only"]:
        refuse_unread(ctx, "--print", ("CONFIG", "--set", "--without", "--max-minutes"))
    elif ctx.params["inspect"] is not None:
        refuse_unread(ctx, "--inspect", ("CONFIG", "--data", "--set", "--without"))
    if ctx.params["max_minutes"] is not None:
        refuse_set_too(settings, "--max-minutes", "train.max_minutes")
    if ctx.params["average"] is not None and ctx.params["state"] is None:
        raise ConfigError("--from-average wants --from STATE, got none")


def _train(
    recipe: Recipe | HQRecipe, data: Path, run: Path, state: Path | None, average: Path | None
) -> None:
    from vots_hqtrack.training.trainer import Trainer

    with TrainProgress(recipe.train.steps, recipe.train.max_minutes) as progress:
        trainer = Trainer(recipe, run, data=data, callback=progress, state=state, average=average)
        is_main, before = trainer.accelerator.is_main_process, trainer.earlier
        if trainer.step and is_main:
            say(f"going on from step {trainer.step}")
        elif before.steps and is_main:
            say(
                f"going on after {before.steps} steps and {before.clips} clips in "
                f"{before.minutes:.1f} minutes"
            )
        result = trainer.run()
    trainer.accelerator.end_training()
    if result.signal_number is not None:
        if is_main:
            say(f"stopped after step {result.step}; the same command goes on")
        raise typer.Exit(SIGNAL_EXIT + result.signal_number)
    if is_main:
        best = "" if result.best is None else f"; best mean J of the dev split {result.best:.3f}"
        weights = run / ("last.safetensors" if result.best is None else "best.safetensors")
        show(f"trained {result.step} steps{best}")
        show(f"weights in {weights.absolute()}")


def _inspect(recipe: Recipe, data: Path, folder: Path) -> None:
    from vots_hqtrack.training.inspect import inspect_composer, write_contact_sheets
    from vots_hqtrack.training.vmos_task import draw_examples

    if recipe.composer.enabled:
        paths, counts = inspect_composer(
            recipe, data, folder, num_shown=NUM_OF_A_KIND, num_counted=NUM_COUNTED
        )
        for name, value in counts.rows():
            show(f"{name}: {value}")
    else:
        paths = write_contact_sheets(draw_examples(recipe, data, NUM_INSPECTED), folder)
    for path in paths:
        show(path.absolute())
