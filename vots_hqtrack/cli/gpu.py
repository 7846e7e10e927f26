"""``hqtrack gpu``: tests, measures and trains on this machine, within a time limit."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vots_hqtrack.cli.console import say, show
from vots_hqtrack.cli.options import refuse_nan, refuse_needless
from vots_hqtrack.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

gpu_app = typer.Typer(
    name="gpu",
    help="Prove, measure and train on a GPU, from a checkout, offline.",
    no_args_is_help=True,
)

OutOption = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", help="Results; a run that was cut short goes on there."),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="DEVICE", help="cuda, cuda:1, cpu.")]
QuickOption = Annotated[bool, typer.Option("--quick", help="Toy sizes, to try the kit itself.")]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME", help="Measure only this one; may be repeated."),
]
LimitsOption = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="STEP=SECONDS", help="Time limit; may be repeated."),
]
WheelsOption = Annotated[
    Path | None,
    typer.Option("--wheels", metavar="DIR", help="Folder with wheels of missing packages."),
]

MinutesOption = Annotated[
    float,
    typer.Option(
        "--minutes",
        min=0.1,
        max=10**6,
        callback=refuse_nan,
        help="For all steps together; training takes the rest.",
    ),
]

_OF_STEPS = {"proof": ("--test-args",), "speed": ("--model",), "train": ("--data", "--train-args")}
"""Options that one step alone reads."""


@gpu_app.command()
def run(
    ctx: typer.Context,
    out_folder: OutOption = Path("gpu-out"),
    steps: Annotated[
        str, typer.Option("--steps", metavar="NAMES", help="Out of proof,speed,train.")
    ] = "proof,speed,train",
    device: DeviceOption = "cuda",
    quick: QuickOption = False,
    minutes: MinutesOption = 10.0,
    limit: LimitsOption = None,
    wheels: WheelsOption = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Training data; nothing is trained without."),
    ] = None,
    train_args: Annotated[
        str, typer.Option("--train-args", metavar="ARGS", help="More arguments of hqtrack train.")
    ] = "",
    test_args: Annotated[
        str, typer.Option("--test-args", metavar="ARGS", help="Arguments of pytest: other tests.")
    ] = "",
    model: ModelsOption = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Run again what failed in an earlier call.")
    ] = False,
) -> None:
    """Run the steps, each in processes of its own with a time limit; write report.md as it goes."""
    from vots_hqtrack.bench.gpu.kit import KitOptions, run_kit

    chosen = tuple(name.strip() for name in steps.split(",") if name.strip())
    for step, names in _OF_STEPS.items():
        if step not in chosen:
            refuse_needless(ctx, names, f"without the step {step}")
    if data is None:
        refuse_needless(ctx, ("--train-args",), "without --data")
    options = KitOptions(
        out=out_folder,
        steps=chosen,
        device=device,
        is_quick=quick,
        seconds=60 * minutes,
        limits=dict(map(_parse_limit, limit or ())),
        wheels=wheels,
        data=data,
        train_args=shlex.split(train_args),
        test_args=shlex.split(test_args),
        models=tuple(model or ()),
        retries=retry,
    )
    succeeded = run_kit(options, say)
    show((out_folder / "report.md").absolute())
    if not succeeded:
        raise typer.Exit(1)


@gpu_app.command()
def speed(
    out_folder: OutOption = Path("gpu-out"),
    device: DeviceOption = "cuda",
    quick: QuickOption = False,
    model: ModelsOption = None,
) -> None:
    """Run the step speed in this process, without a time limit."""
    from vots_hqtrack.bench.gpu.results import ResultFile
    from vots_hqtrack.bench.gpu.speed import run_speed

    def report(name: str, status: str, values: Mapping[str, object]) -> None:
        ms = values.get("ms")
        said = values.get("error") or (f"{ms:.1f} ms" if isinstance(ms, float) else "")
        say(f"{name}: {status} {said}")

    out_folder.mkdir(parents=True, exist_ok=True)
    results = ResultFile(out_folder / "results.jsonl")
    run_speed(results, device, is_quick=quick, models=tuple(model or ()), callback=report)


def _parse_limit(text: str) -> tuple[str, float]:
    step, _, seconds = text.partition("=")
    try:
        return step, float(seconds)
    except ValueError as error:
        raise ConfigError(f"--limit reads STEP=SECONDS such as speed=90, got {text!r}") from error
