"""``hqtrack train``: trains by a recipe, or shows what the network would see.

``hqtrack train CONFIG`` trains; a command of the group, such as ``pack``, is named instead of it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from vots_hqtrack.cli.console import err, out
from vots_hqtrack.cli.train_pack import pack
from vots_hqtrack.cli.train_progress import TrainProgress
from vots_hqtrack.errors import ConfigError

PACKAGES = ("accelerate",)
"""What training cannot do without of the extra ``train``."""
NUM_INSPECTED = 24
NUM_OF_A_KIND, NUM_COUNTED = 16, 1000
"""Of composed clips: those on the sheet of each kind, and those that are counted."""
SIGNAL_EXIT = 128
"""Shells add the signal's number to it."""


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


ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG", help="TOML file, or paper-stage1, paper-stage2, lite or hq-head."
    ),
]
RunOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="RUN", help="Folder of the run; one that is there goes on."),
]
DataOption = Annotated[
    Path, typer.Option("--data", metavar="DIR", help="Folder with the data sets' folders.")
]
RecipeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.OPTION=VALUE",
        help="Change an option of the recipe, as train.steps=100; may be repeated.",
    ),
]
InspectOption = Annotated[
    Path | None,
    typer.Option("--inspect", metavar="DIR", help="Only draw some clips as pictures, there."),
]
MinutesOption = Annotated[
    float | None,
    typer.Option(
        "--max-minutes",
        metavar="MINUTES",
        help="Length of the run by the clock; rates and phases follow it. 0 counts steps.",
    ),
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="STATE",
        help="Begin a new session from another run's state.safetensors.",
    ),
]
AverageOption = Annotated[
    Path | None,
    typer.Option(
        "--from-average",
        metavar="FILE",
        help="Averaged weights of that run; without, last.safetensors beside its state.",
    ),
]


@train_app.command(DEFAULT_COMMAND, hidden=True)
def train(
    config: ConfigArgument,
    run: RunOption = None,
    data: DataOption = Path(),
    settings: RecipeOption = None,
    inspect: InspectOption = None,
    minutes: MinutesOption = None,
    state: StateOption = None,
    average: AverageOption = None,
) -> None:
    """Train the segmenter, or the refiner's HQ head, on data of your own.

    Several GPUs or machines: accelerate launch -m vots_hqtrack train CONFIG ...
    """
    from vots_hqtrack.training.hq.recipe import HQ_KIND
    from vots_hqtrack.training.recipe_files import KIND, apply_to_tables, kind_of, read_tables

    changes = [] if minutes is None else [f"train.max_minutes={minutes}"]
    tables = apply_to_tables(read_tables(config), [*(settings or ()), *changes])
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
    if average is not None and state is None:
        raise ConfigError("--from-average wants --from STATE, got none")
    _require_packages()
    _train_vmos(tables, data, run, state, average)


def _require_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"training needs {' and '.join(missing)}, found none; "
            "install with: pip install 'vots-hqtrack[train]'"
        )


def _train_vmos(
    tables: dict[str, object], data: Path, run: Path, state: Path | None, average: Path | None
) -> None:
    from vots_hqtrack.training.recipe_files import build_recipe
    from vots_hqtrack.training.trainer import Trainer

    recipe = build_recipe(tables)
    with TrainProgress(recipe.train.steps, recipe.train.max_minutes) as progress:
        trainer = Trainer(recipe, run, data=data, reporter=progress, state=state, average=average)
        if trainer.step and trainer.accelerator.is_main_process:
            err.print(f"going on from step {trainer.step}", markup=False)
        elif trainer.earlier.steps and trainer.accelerator.is_main_process:
            before = trainer.earlier
            err.print(
                f"going on after {before.steps} steps and {before.clips} clips in "
                f"{before.minutes:.1f} minutes",
                markup=False,
            )
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
    from vots_hqtrack.training.inspect import inspect_composer, write_contact_sheets
    from vots_hqtrack.training.mixture import draw_examples
    from vots_hqtrack.training.recipe_files import build_recipe

    recipe = build_recipe(tables)
    if recipe.composer.enabled:
        paths, counts = inspect_composer(
            recipe, data, folder, num_shown=NUM_OF_A_KIND, num_counted=NUM_COUNTED
        )
        for name, value in counts.rows():
            out.print(f"{name}: {value}", soft_wrap=True)
    else:
        paths = write_contact_sheets(draw_examples(recipe, data, NUM_INSPECTED), folder)
    for path in paths:
        out.print(str(path.absolute()), soft_wrap=True)
