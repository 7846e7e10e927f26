"""VMOS as a task of the trainer: network and regularisation, data, schedule, dev split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vots_hqtrack.devices import pick_dtype
from vots_hqtrack.encoder import find_encoder
from vots_hqtrack.synthetic.footage import load_footage
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.training.batch import ClipSource
from vots_hqtrack.training.composer import ComposedClips, list_sources, parse_kinds
from vots_hqtrack.training.datasets import Clip, ClipDataset
from vots_hqtrack.training.dev import DevSplit, dev_tracker
from vots_hqtrack.training.feature_cache import ClipSampler, fill_cache
from vots_hqtrack.training.frame_sampler import FrameSampler
from vots_hqtrack.training.losses import StepOptions
from vots_hqtrack.training.network import (
    ClipNetwork,
    build_network,
    build_shared_encoder,
    check_crop,
    frame_encoder,
    tracker_config,
)
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.regularise import regularise_encoder, regularise_vmos
from vots_hqtrack.training.schedule import step_options
from vots_hqtrack.training.sources import open_source
from vots_hqtrack.training.task import Task, TrainedNetwork


class VMOSTask(Task):
    """Training of VMOS, and of its encoder, on clips.

    Args:
        recipe: Recipe of the run.
        data: Folder that relative data roots are looked up in.
    """

    def __init__(self, recipe: Recipe, data: Path) -> None:
        self._recipe = recipe
        self._data = data
        self.dev = DevSplit(recipe.dev, data) if recipe.dev.root else None

    def build_network(self, dtype: torch.dtype) -> ClipNetwork:
        """Build encoder and VMOS, with drop path and dropout."""
        recipe = self._recipe
        network = build_network(
            recipe.model,
            recipe.clip,
            encoder_dtype=dtype,
            compile_encoder=recipe.train.compile_encoder,
        )
        regularise_vmos(network.vmos, recipe.regularisation)
        if network.encoder is not None and network.train_encoder:
            regularise_encoder(network.encoder, recipe.regularisation)
        return network

    def open_source(
        self,
        cache: Path,
        accelerator: Any,  # noqa: ANN401 - Accelerate is not annotated
        report: Callable[[str, int, int], None],
    ) -> ClipSource[Any]:
        """Open the data; features that are to be cached and are not, are encoded now.

        Args:
            cache: Folder of features, unless the recipe names one.
            accelerator: Lets one process fill the cache while the others wait.
            report: Called with each cached clip.

        Raises:
            ConfigError: A kind, an option or a crop does not suit.
            InputError: A folder has another layout.
        """
        recipe = self._recipe
        if recipe.composer.enabled:
            return open_composer(recipe, self._data, accelerator.device)
        drawer = open_drawer(recipe, self._data)
        if recipe.model.features == "computed":
            return drawer
        cache = Path(recipe.cache.folder).expanduser() if recipe.cache.folder else cache

        def build_encoder() -> nn.Module:
            config, device = tracker_config(recipe.model), accelerator.device
            return build_shared_encoder(config, device, pick_dtype(config.runtime.dtype, device))

        with accelerator.main_process_first():
            sources = fill_cache(build_encoder, drawer.datasets, recipe, cache, report)
        seed, shuffle = recipe.train.seed, recipe.clip.shuffle_slots
        return ClipSampler(sources, seed, shuffle_slots=shuffle)

    def step_options(self, progress: float) -> StepOptions:
        """Return the options of a step at a progress from 0 to 1."""
        return step_options(self._recipe.loss, self._recipe.clip, progress)

    def dev_tracker(self, network: TrainedNetwork, learnt: nn.ModuleDict) -> HQTracker:
        """Return a tracker with the learnt weights, without refiner."""
        config = tracker_config(self._recipe.model)
        device = next(learnt.parameters()).device
        frozen: Any = network
        encoder = learnt["encoder"] if "encoder" in learnt else frozen.encoder
        vmos: Any = learnt["vmos"]
        return dev_tracker(config, frame_encoder(encoder, config, device), vmos, device)

    def facts(self) -> dict[str, str]:
        """Return preset and settings."""
        model = self._recipe.model
        return {"preset": model.preset, "settings": " ".join(model.settings)}


def open_drawer(recipe: Recipe, data: Path) -> FrameSampler:
    """Open the recipe's data sets as a source of frames.

    Args:
        recipe: Recipe of the run.
        data: Folder that relative roots are looked up in.

    Raises:
        ConfigError: A kind, an option or a crop does not suit.
        InputError: A folder has another layout.
    """
    return FrameSampler(
        _open_datasets(recipe, data),
        recipe.data,
        recipe.clip,
        recipe.augment,
        seed=recipe.train.seed,
        input_scale=_input_scale(recipe),
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
    datasets = _open_datasets(recipe, data)
    weights = [options.weight for options in recipe.data]
    sources = list(list_sources(datasets, weights, recipe.composer.held_out))
    footage, pixels = load_footage(
        sources, device, max_side=recipe.composer.max_side, threads=recipe.composer.threads
    )
    return ComposedClips(
        footage,
        pixels,
        seed=recipe.train.seed,
        stride=_input_scale(recipe),
        weights=parse_kinds(recipe.composer.kinds),
        shuffle_slots=recipe.clip.shuffle_slots,
    )


def _open_datasets(recipe: Recipe, data: Path) -> list[ClipDataset]:
    for phase in recipe.phases:
        check_crop(phase.crop, tracker_config(recipe.model))
    return [open_source(table, data, recipe.cache.clip_size) for table in recipe.data]


def _input_scale(recipe: Recipe) -> int:
    return find_encoder(tracker_config(recipe.model).encoder.kind).input_scale


def draw_examples(recipe: Recipe, data: Path, count: int) -> Iterator[Clip]:
    """Sample clips as a run would, for inspection.

    With cached features, these are the clips that are encoded, before windows are cut.

    Args:
        recipe: Recipe of the run.
        data: Folder that relative roots are looked up in.
        count: Number of clips.
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
