"""``hqtrack train``: fills the feature cache, trains VMOS on it, and exports the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vots_hqtrack.cli.console import err, out

train_app = typer.Typer(
    name="train", help="Train VMOS on your own data, with the encoder frozen.", no_args_is_help=True
)

DataOption = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", help="Folder with static-instances and davis2016-train."),
]
CacheOption = Annotated[
    Path, typer.Option("--cache", metavar="DIR", help="Folder for the encoder's features.")
]
CheckpointOption = Annotated[
    Path, typer.Option("--checkpoint", metavar="FILE", help="Where the run is kept and resumed.")
]


@train_app.command()
def prepare(
    data: DataOption,
    cache: CacheOption,
    seed: Annotated[int, typer.Option("--seed", help="Of all chance.")] = 1,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Synthetic clips made of each photograph.")
    ] = 1,
    composites: Annotated[
        int, typer.Option("--composites", min=0, help="Real clips pasted over one another.")
    ] = 120,
) -> None:
    """Encode videos and synthetic clips once; a second call goes on where the first stopped."""
    from vots_hqtrack.training import prepare as stage

    config = stage.PrepareConfig(seed=seed, synthetic_rounds=rounds, num_composites=composites)
    encoder = stage.load_encoder()
    with Progress(
        TextColumn("{task.description}"), TextColumn("{task.completed} clips"), console=err
    ) as bar:
        for title, work, root in (
            ("videos", stage.prepare_videos, data / "davis2016-train"),
            ("composites", stage.prepare_composites, data / "davis2016-train"),
            ("synthetic", stage.prepare_synthetic, data / "static-instances"),
        ):
            task = bar.add_task(title, total=None)
            work(encoder, root, cache / title, config, lambda _, task=task: bar.advance(task))  # type: ignore[misc]
    out.print(f"features in {cache.absolute()}")


@train_app.command()
def run(
    cache: CacheOption,
    checkpoint: CheckpointOption,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps in all.")] = 2600,
    seed: Annotated[int, typer.Option("--seed", help="Of all chance.")] = 1,
    threads: Annotated[
        int, typer.Option("--threads", min=0, help="CPU threads; 0 leaves PyTorch's choice.")
    ] = 0,
) -> None:
    """Train, or go on from the checkpoint."""
    import torch

    from vots_hqtrack.training.trainer import Trainer, default_config

    if threads:
        torch.set_num_threads(threads)
    trainer = Trainer(default_config(cache, steps=steps, seed=seed))
    with Progress(
        TextColumn("loss {task.fields[loss]:.3f}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
    ) as bar:
        task = bar.add_task("train", total=steps, loss=float("nan"))

        def report(step: int, loss: float) -> None:
            bar.update(task, completed=step, loss=loss)

        trainer.run(checkpoint, report=report)
    out.print(f"trained {trainer.step} steps; checkpoint in {checkpoint.absolute()}")


@train_app.command()
def export(
    checkpoint: CheckpointOption,
    weights: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Weights file (safetensors, float16).")
    ],
) -> None:
    """Write the averaged network of a run as a weights file for ``--weights``."""
    from vots_hqtrack.checkpoints.manifest import sha256_of
    from vots_hqtrack.training.trainer import export_average

    step = export_average(checkpoint, weights)
    out.print(f"{weights.absolute()}: step {step}, sha256 {sha256_of(weights)}")
