"""Opens what a recipe trains on: frames drawn from data sets, or features cached on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from vots_hqtrack.devices import pick_dtype
from vots_hqtrack.encoder import find_encoder
from vots_hqtrack.synthetic.footage import load_footage
from vots_hqtrack.training.batch import ClipSource
from vots_hqtrack.training.composer import ComposedClips, list_sources, parse_kinds
from vots_hqtrack.training.datasets import Clip
from vots_hqtrack.training.frame_sampler import FrameSampler
from vots_hqtrack.training.network import build_shared_encoder, check_crop, tracker_config
from vots_hqtrack.training.prepare import cached_sources, fill_cache, plan_cache
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.run_folder import RunFolder
from vots_hqtrack.training.sampler import ClipSampler
from vots_hqtrack.training.sources import open_source


class CacheReporter(Protocol):
    """Who is told how the cache fills."""

    def cached(self, name: str, done: int, total: int) -> None:
        """A clip of a data set has its features on disk."""


def open_drawer(recipe: Recipe, data: Path) -> FrameSampler:
    """Open the recipe's data sets as a source of frames.

    Args:
        recipe: Of the run.
        data: Folder that relative roots are looked up in.

    Raises:
        ConfigError: A kind, an option or a crop does not suit.
        InputError: A folder does not have its layout.
    """
    config = tracker_config(recipe.model)
    for phase in recipe.phases:
        check_crop(phase.crop, config)
    datasets = [open_source(one, data, recipe.cache.clip_size) for one in recipe.data]
    return FrameSampler(
        datasets,
        recipe.data,
        recipe.clip,
        recipe.augment,
        seed=recipe.train.seed,
        input_scale=find_encoder(config.encoder.kind).input_scale,
    )


def open_composer(recipe: Recipe, data: Path, device: torch.device) -> ComposedClips:
    """Read the footage of the recipe's data sets and put it on the device.

    Args:
        recipe: Recipe with ``composer.enabled``.
        data: Folder of relative roots.
        device: Device that renders the clips.

    Raises:
        ConfigError: A kind, an option or a crop does not suit.
        InputError: A folder does not have its layout, or a held-out video is missing.
    """
    config = tracker_config(recipe.model)
    for phase in recipe.phases:
        check_crop(phase.crop, config)
    datasets = [open_source(options, data, recipe.cache.clip_size) for options in recipe.data]
    weights = [options.weight for options in recipe.data]
    sources = list(list_sources(datasets, weights, recipe.composer.held_out))
    footage, pixels = load_footage(
        sources, device, max_side=recipe.composer.max_side, threads=recipe.composer.threads
    )
    return ComposedClips(
        footage,
        pixels,
        seed=recipe.train.seed,
        stride=find_encoder(config.encoder.kind).input_scale,
        weights=parse_kinds(recipe.composer.kinds),
        shuffle_slots=recipe.clip.shuffle_slots,
    )


def draw_examples(recipe: Recipe, data: Path, count: int) -> Iterator[Clip]:
    """Draw clips as a run would, for people to look at.

    With cached features, whose windows are cut later, these are the clips that are encoded.

    Args:
        recipe: Of the run.
        data: Folder that relative roots are looked up in.
        count: How many.
    """
    drawer = open_drawer(recipe, data)
    for step in range(count):
        generator = np.random.default_rng((recipe.train.seed, step))
        if recipe.model.features == "computed":
            yield drawer.sample_clip(generator, recipe.phase(0))
            continue
        dataset, options = drawer.choose(generator)
        index = int(generator.integers(len(dataset)))
        yield dataset.sample(index, recipe.cache.num_frames, options.max_gap, generator)


def open_mixture(
    recipe: Recipe,
    data: Path,
    folder: RunFolder,
    accelerator: Any,  # noqa: ANN401 - Accelerate is not annotated
    reporter: CacheReporter,
) -> ClipSource[Any]:
    """Open the recipe's data; features that are to be cached and are not, are encoded now.

    Args:
        recipe: Of the run.
        data: Folder that relative roots are looked up in.
        folder: Of the run.
        accelerator: Lets one process fill the cache while the others wait.
        reporter: Told of every cached clip.

    Raises:
        ConfigError: A kind, an option or a crop does not suit.
        InputError: A folder does not have its layout.
    """
    if recipe.composer.enabled:
        return open_composer(recipe, data, accelerator.device)
    drawer = open_drawer(recipe, data)
    if recipe.model.features == "computed":
        return drawer
    cache = Path(recipe.cache.folder).expanduser() if recipe.cache.folder else folder.path / "cache"
    plans = plan_cache(list(drawer.datasets), recipe, cache)

    def build_encoder() -> nn.Module:
        config, device = tracker_config(recipe.model), accelerator.device
        return build_shared_encoder(config, device, pick_dtype(config.runtime.dtype, device))

    with accelerator.main_process_first():
        fill_cache(build_encoder, plans, recipe, reporter.cached)
    return ClipSampler(
        cached_sources(plans, recipe), recipe.train.seed, shuffle_slots=recipe.clip.shuffle_slots
    )
