"""Folder of a run: its recipe, checkpoints, weights and scalars.

::

    RUN/config.toml            the recipe with every option
    RUN/checkpoints/*.pt       exact state; the newest few
    RUN/last.safetensors       averaged weights, as of the last minute or checkpoint
    RUN/state.safetensors      compact state of that moment, for --from
    RUN/minute-03.fp16.safetensors  copies of the averaged weights, with train.keep_exports
    RUN/log.jsonl              losses, speed, and where the time goes
    RUN/best.safetensors       averaged weights that did best on the dev split
    RUN/tensorboard/           scalars and images

Every file gets its name when it is complete.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vots_hqtrack.errors import ConfigError, WeightsError
from vots_hqtrack.io import atomic_path
from vots_hqtrack.settings import flat_options
from vots_hqtrack.training.hq.recipe import HQRecipe
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.recipe_files import build_recipe, read_tables, recipe_to_toml

CONTENT = {"step", "network", "average", "optimizer", "scaler", "best"}
FREE_OPTIONS = {
    "train.threads",
    "train.workers",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.log_every",
    "train.image_every",
    "train.export_every_seconds",
    "train.keep_exports",
    "train.graph",
    "train.compile_encoder",
    "cache.folder",
}
"""Options that a resumed run may change: they leave its numbers alone."""
FREE_ENDINGS = (".root",)


class RunFolder:
    """The folder of one run.

    Args:
        path: It need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"
        self.state = path / "state.safetensors"

    def open(self, recipe: Recipe | HQRecipe) -> None:
        """Make the folder and keep the recipe, which must be that of the checkpoints there.

        Raises:
            ConfigError: The folder holds a run with another recipe.
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        kept_path = self.path / "config.toml"
        if kept_path.exists() and self.newest() is not None:
            _require_same(build_recipe(read_tables(str(kept_path))), recipe, self.path)
        with atomic_path(kept_path) as temporary:
            temporary.write_text(recipe_to_toml(recipe), encoding="utf-8")

    def newest(self) -> Path | None:
        """Return the newest checkpoint, or None."""
        paths = sorted(self.checkpoints.glob("step-*.pt"))
        return paths[-1] if paths else None

    def save(self, content: Mapping[str, Any], keep: int) -> Path:
        """Write a checkpoint and drop the oldest ones.

        Args:
            content: Its ``step`` names the file.
            keep: Number of checkpoints that stay.
        """
        path = self.checkpoints / f"step-{content['step']:08d}.pt"
        with atomic_path(path, durable=True) as temporary:
            torch.save(dict(content), temporary)
        for old in sorted(self.checkpoints.glob("step-*.pt"))[:-keep]:
            old.unlink()
        return path

    def log(self, entry: Mapping[str, object]) -> None:
        """Add a line to ``log.jsonl``."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :meth:`RunFolder.save` wrote.

    Raises:
        WeightsError: The file is damaged or not a training checkpoint.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"cannot read the checkpoint {path}: {error}") from error
    missing = CONTENT - set(content)
    if missing:
        raise WeightsError(f"{path} is not a training checkpoint: it lacks {sorted(missing)}")
    return content


def _require_same(kept: Recipe | HQRecipe, wanted: Recipe | HQRecipe, folder: Path) -> None:
    before, now = flat_options(kept), flat_options(wanted)
    for name in sorted(before.keys() | now.keys()):
        if name in FREE_OPTIONS or name.endswith(FREE_ENDINGS) or name.startswith("dev."):
            continue
        if before.get(name) != now.get(name):
            raise ConfigError(
                f"{folder} holds a run with {name} = {before.get(name)!r}, wanted "
                f"{now.get(name)!r}; give another --out, or the options of that run"
            )
