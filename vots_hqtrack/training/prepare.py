"""Filling of the feature cache: whole videos, and clips of everything else.

Each clip depends only on the seed and its number, so an interrupted run continues where it stopped
and gives the same files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from vots_hqtrack.training.adapters.videos import VideoClips
from vots_hqtrack.training.datasets import ClipDataset, Photo
from vots_hqtrack.training.features import cache_clip
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.recipe_data import DataOptions
from vots_hqtrack.training.sampler import Source
from vots_hqtrack.training.sources import SYNTHETIC

SAM_EDGE = 1024
"""Long side that SAM's encoder sees of a real frame."""

Progress = Callable[[str, int, int], None]
"""Called with a data set's name, the clips encoded so far, and the number of all."""


@dataclass(frozen=True, slots=True)
class CachePlan:
    """A data set to be cached, its table in the recipe, and the folder of its cached clips.

    The folder's name changes with everything that changes the files.
    """

    dataset: ClipDataset
    data: DataOptions
    folder: Path


def plan_cache(datasets: list[ClipDataset], recipe: Recipe, folder: Path) -> list[CachePlan]:
    """Choose the cache folders of data sets.

    Args:
        datasets: Opened data sets, in the order of the recipe.
        recipe: The run's recipe.
        folder: Folder of all caches.
    """
    return [
        CachePlan(dataset, data, folder / _folder_name(data, recipe))
        for dataset, data in zip(datasets, recipe.data, strict=True)
    ]


def fill_cache(
    encoder: Callable[[], nn.Module],
    plans: list[CachePlan],
    recipe: Recipe,
    progress: Progress | None = None,
) -> None:
    """Encode the clips that are not cached yet.

    Args:
        encoder: Builds the encoder on its device; called only if there is something to do.
        plans: From :func:`plan_cache`.
        recipe: The run's recipe.
        progress: Called after every clip.
    """
    built: nn.Module | None = None
    for plan in plans:
        plan.folder.mkdir(parents=True, exist_ok=True)
        numbers = range(len(plan.dataset) * _rounds(plan))
        for done, number in enumerate(numbers, start=1):
            path = plan.folder / f"{number:06d}.safetensors"
            if not path.exists():
                built = built or encoder()
                edge = max(recipe.cache.clip_size) if plan.data.kind == SYNTHETIC else SAM_EDGE
                cache_clip(built, _frames(plan, number, recipe), path, long_edge=edge)
            if progress is not None:
                progress(plan.dataset.name, done, len(numbers))


def cached_sources(plans: list[CachePlan], recipe: Recipe) -> list[Source]:
    """Return the filled folders as sources of training windows."""
    step = recipe.cache.frame_step
    return [
        Source(
            plan.folder,
            plan.data.weight,
            max(1, plan.data.max_gap // step) if isinstance(plan.dataset, VideoClips) else 1,
        )
        for plan in plans
    ]


def _rounds(plan: CachePlan) -> int:
    return 1 if isinstance(plan.dataset, VideoClips) else plan.data.rounds


def _frames(plan: CachePlan, number: int, recipe: Recipe) -> Iterator[Photo]:
    """Yield the frames of one cached clip: a whole video, or a sampled clip."""
    if isinstance(plan.dataset, VideoClips):
        video = plan.dataset.videos[number]
        for position in range(0, len(video), recipe.cache.frame_step):
            yield video.load(position)
        return
    round_number, index = divmod(number, len(plan.dataset))
    generator = np.random.default_rng((recipe.train.seed, round_number, index))
    clip = plan.dataset.sample(index, recipe.cache.num_frames, plan.data.max_gap, generator)
    for frame, labels in zip(clip.frames, clip.labels, strict=True):
        yield Photo(frame, labels)


def _folder_name(data: DataOptions, recipe: Recipe) -> str:
    cache = recipe.cache
    facts = [data.kind, Path(data.root).name, *data.options, data.rounds, data.max_gap]
    facts += [recipe.train.seed, recipe.model.preset, *recipe.model.settings]
    facts += [cache.num_frames, *cache.clip_size, cache.frame_step]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    return f"{data.kind}-{Path(data.root).name}-{digest}"
