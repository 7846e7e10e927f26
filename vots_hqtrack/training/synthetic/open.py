"""Opens a recipe's data sets as footage for the composer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from vots_hqtrack.encoder import find_encoder
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.training.adapters.photos import PhotoClips
from vots_hqtrack.training.adapters.videos import Video, VideoClips
from vots_hqtrack.training.datasets import ClipDataset
from vots_hqtrack.training.network import check_crop, tracker_config
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.sources import open_source
from vots_hqtrack.training.synthetic.footage import Shot, Source, load_footage
from vots_hqtrack.training.synthetic.source import ComposedClips

LONG_VIDEO = 24
"""Frames of a video from which its weight counts in full."""
MAX_NUMBER = 254
"""Largest object number that footage can hold."""


def open_composer(recipe: Recipe, data: Path, device: torch.device) -> ComposedClips:
    """Read the footage of a recipe's data sets and put it on the device.

    Args:
        recipe: Recipe with ``composer.enabled``.
        data: Folder that relative roots are looked up in.
        device: Device that renders the clips.

    Raises:
        ConfigError: A kind, an option or a crop does not suit.
        InputError: A folder does not have its layout, or a video that is held out is not there.
    """
    config = tracker_config(recipe.model)
    for phase in recipe.phases:
        check_crop(phase.crop, config)
    datasets = [open_source(one, data, recipe.cache.clip_size) for one in recipe.data]
    weights = [one.weight for one in recipe.data]
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


def list_sources(
    datasets: Sequence[ClipDataset], weights: Sequence[float], held_out: Sequence[str]
) -> Iterator[Source]:
    """List all photographs and videos of data sets.

    Args:
        datasets: Photographs or videos.
        weights: One for each data set.
        held_out: Names of videos left out, or ``name:frame`` to leave out all from a frame on.

    Raises:
        ConfigError: A data set has neither photographs nor videos, or an entry is malformed.
        InputError: No data set has a video of that name.
    """
    limits = dict(_parse_held_out(entry) for entry in held_out)
    unseen = set(limits)
    for dataset, weight in zip(datasets, weights, strict=True):
        if isinstance(dataset, PhotoClips):
            for index, name in enumerate(dataset.names):
                read = partial(_read_photo, dataset, index)
                yield Source(f"{dataset.name} {name}", read, weight)
        elif isinstance(dataset, VideoClips):
            for video in dataset.videos:
                length = min(len(video), limits.get(video.name, len(video)))
                unseen.discard(video.name)
                if length:
                    fullness = min(1.0, length / LONG_VIDEO)
                    read = partial(_read_video, video, length)
                    yield Source(f"{dataset.name} {video.name}", read, weight * fullness)
        else:
            raise ConfigError(f"the composer takes photographs and videos, got {dataset.name}")
    if unseen:
        raise InputError(f"composer.held_out names the video {min(unseen)}, found none")


def parse_kinds(entries: Sequence[str]) -> dict[str, float] | None:
    """Read ``name=weight`` entries; None where there is none.

    Example:
        >>> parse_kinds(("plain=1", "real=0.5"))
        {'plain': 1.0, 'real': 0.5}
    """
    kinds: dict[str, float] = {}
    for entry in entries:
        name, separator, weight = entry.partition("=")
        try:
            kinds[name.strip()] = float(weight)
        except ValueError:
            separator = ""
        if not separator:
            raise ConfigError(f"composer.kinds must be strings such as plain=0.3, got {entry!r}")
    return kinds or None


def _parse_held_out(entry: str) -> tuple[str, int]:
    name, separator, frame = entry.rpartition(":")
    if not separator:
        return entry, 0
    if not frame.isdecimal():
        raise ConfigError(f"composer.held_out must be a name or name:frame, got {entry!r}")
    return name, int(frame)


def _read_photo(dataset: PhotoClips, index: int) -> Shot:
    photo = dataset.load(index)
    return photo.image[None], photo.label_map[None]


def _read_video(video: Video, length: int) -> Shot:
    frames, ids = video.read_all()
    frames, ids = frames[:length], ids[:length]
    if ids.max() > MAX_NUMBER:
        numbers, positions = np.unique(ids, return_inverse=True)
        if len(numbers) > MAX_NUMBER:
            raise InputError(f"video {video.name} has more than {MAX_NUMBER} objects")
        first = 0 if numbers[0] == 0 else 1
        return frames, (positions.reshape(ids.shape) + first).astype(np.uint8)
    return frames, ids.astype(np.uint8)
