"""A run small enough for tests: cached features in which a square moves one pixel a frame."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file

from vots_hqtrack.encoder import register_encoder
from vots_hqtrack.settings import set_options
from vots_hqtrack.training.callback import Callback, LogEntry
from vots_hqtrack.training.feature_cache import NECK_CHANNELS, ClipSampler, Source
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.recipe_files import build_recipe
from vots_hqtrack.training.trainer import Trainer

# The features are cached, so that no encoder is ever built.
register_encoder(
    "toy-run", channels=(8, NECK_CHANNELS, NECK_CHANNELS), strides=(8, 16, 32), of_refiner="sam"
)(torch.nn.Identity)

SIZE_S8 = (6, 8)
NUM_CLIPS = 6
TABLES = {
    "train": {
        "steps": 6,
        "precision": "float32",
        "checkpoint_every": 3,
        "log_every": 1,
        "graph": "off",
    },
    "model": {
        "preset": "lite",
        "train_encoder": False,
        "features": "cached",
        "similarity_start": True,
        "settings": [
            "encoder.kind=toy-run",
            "vmos.width_s16=16",
            "vmos.width_s8=16",
            "vmos.width_s4=8",
            "vmos.num_blocks_s16=1",
            "vmos.window_radius=3",
        ],
    },
    "optimizer": {"learning_rate": 4e-3},
    "clip": {"memory_capacity": 3},
    "regularisation": {"encoder_drop_path": 0.0},
    "phases": [{"batch_size": 2, "num_frames": 3, "crop": [SIZE_S8[0] * 8, SIZE_S8[1] * 8]}],
    "data": [{"kind": "davis", "root": "not-read"}],
}


def write_clip(path: Path, seed: int) -> None:
    """Write a clip with features that tell the object."""
    generator = torch.Generator().manual_seed(seed)
    frames = 3
    colours = torch.randn(2, NECK_CHANNELS, generator=generator)
    inside = torch.zeros(frames, *SIZE_S8, dtype=torch.long)
    for index in range(frames):
        inside[index, 1:4, index + 1 : index + 4] = 1
    noise = torch.randn(frames, *SIZE_S8, NECK_CHANNELS, generator=generator)
    s8 = colours[inside] + 0.1 * noise
    fine = inside.repeat_interleave(2, 1).repeat_interleave(2, 2)
    s4 = torch.randn(2, 8, generator=generator)[fine]
    labels = fine.repeat_interleave(4, 1).repeat_interleave(4, 2).to(torch.uint8)
    content = {"s4": s4.bfloat16(), "s8": s8.bfloat16(), "labels": labels}
    save_file(content, path)


def write_clips(folder: Path) -> Path:
    """Write the clips of the toy task."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(NUM_CLIPS):
        write_clip(folder / f"{seed}.safetensors", seed)
    return folder


def toy_recipe(settings: Iterable[str] = ()) -> Recipe:
    """Return the recipe of the toy task with settings on top."""
    return build_recipe(set_options(TABLES, settings))


class Losses(Callback):
    """A callback that keeps the losses and calls something after chosen steps."""

    def __init__(self, **after: object) -> None:
        self.losses: list[float] = []
        self.entries: list[LogEntry] = []
        self.evaluations: list[tuple[int, float, float]] = []
        self._after = after

    def stepped(self, step: int, loss: float) -> None:
        self.losses.append(loss)
        action = self._after.get(f"step_{step}")
        if callable(action):
            action()

    def logged(self, entry: LogEntry) -> None:
        self.entries.append(entry)

    def evaluated(self, step: int, mean: float, best: float) -> None:
        self.evaluations.append((step, mean, best))


def toy_trainer(
    cache: Path,
    run: Path,
    settings: Iterable[str] = (),
    callback: Losses | None = None,
    state: Path | None = None,
) -> Trainer:
    """Build the trainer of the toy task."""
    recipe = toy_recipe(settings)
    source = ClipSampler([Source(cache, 1.0, 1)], recipe.train.seed)
    return Trainer(recipe, run, data=run.parent, callback=callback, source=source, state=state)
