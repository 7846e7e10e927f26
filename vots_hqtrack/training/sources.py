"""Data sets that make their clips of others', and the mixture that a recipe names.

``synthetic`` makes moving scenes of photographs, ``composites`` pastes videos over one another; all
other kinds are layouts that ``adapters`` reads.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.training.adapters import KINDS, open_dataset
from vots_hqtrack.training.adapters.photos import PhotoClips, StaticInstances
from vots_hqtrack.training.adapters.videos import VideoClips
from vots_hqtrack.training.datasets import Clip, ClipDataset
from vots_hqtrack.training.recipe_data import DataOptions
from vots_hqtrack.training.synthesis.clips import paste_clip, synthesize_clip

SYNTHETIC, COMPOSITES = "synthetic", "composites"
NUM_OTHERS = 3
"""Photographs that a synthetic clip may take objects from, besides its own."""
PARTNER_ATTEMPTS = 20


class SyntheticClips:
    """Scenes under a moving camera, made of photographs with objects of others in them.

    Args:
        photos: Where pictures and objects come from.
        size: Height and width of the clips.
    """

    def __init__(self, photos: PhotoClips, size: tuple[int, int]) -> None:
        self.name = f"{photos.name} in motion"
        self._photos = photos
        self._size = size

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self._photos)

    def sample(
        self, index: int, num_frames: int, max_gap: int, generator: np.random.Generator
    ) -> Clip:
        """Make a clip of a photograph; see `vots_hqtrack.training.datasets.ClipDataset`."""
        others = generator.integers(0, len(self._photos), NUM_OTHERS)
        clip = synthesize_clip(
            self._photos.load(index),
            [self._photos.load(int(other)) for other in others],
            generator,
            num_frames=num_frames,
            size=self._size,
        )
        return replace(clip, origin=f"{self.name}: {self._photos.names[index]}")


class CompositeClips:
    """Videos with the objects of other videos pasted over them.

    Args:
        videos: Where clips come from.
    """

    def __init__(self, videos: VideoClips) -> None:
        self.name = f"{videos.name} over one another"
        self._videos = videos

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self._videos)

    def sample(
        self, index: int, num_frames: int, max_gap: int, generator: np.random.Generator
    ) -> Clip:
        """Paste a clip of another video of the same size over one of this video.

        Raises:
            InputError: No video of that size was found, or no object is left.
        """
        for _ in range(PARTNER_ATTEMPTS):
            base = self._videos.sample(index, num_frames, max_gap, generator)
            other = int(generator.integers(len(self._videos)))
            top = self._videos.sample(other, num_frames, max_gap, generator)
            if other != index and base.frames.shape == top.frames.shape:
                clip = paste_clip(base, top, generator)
                if clip.num_objects:
                    return clip
        raise InputError(
            f"{self.name}: no clip with an object came of video {index} and another of its size "
            f"in {PARTNER_ATTEMPTS} attempts"
        )


def open_source(data: DataOptions, base: Path, clip_size: tuple[int, int]) -> ClipDataset:
    """Open one data set of a recipe.

    Args:
        data: Its table.
        base: Folder that a relative root is looked up in.
        clip_size: Height and width of synthetic clips.

    Raises:
        ConfigError: The kind or an option is unknown.
        InputError: The folder does not have that layout.
    """
    root = base / Path(data.root).expanduser()
    options = adapter_options(data)
    if data.kind == SYNTHETIC:
        return SyntheticClips(StaticInstances(root, **options), clip_size)
    if data.kind == COMPOSITES:
        return CompositeClips(_as_videos(open_dataset("davis", root, **options)))
    if data.kind not in KINDS:
        known = ", ".join([*KINDS, SYNTHETIC, COMPOSITES])
        raise ConfigError(f"data.kind must be one of {known}, got {data.kind!r}")
    return open_dataset(data.kind, root, **options)


def adapter_options(data: DataOptions) -> dict[str, object]:
    """Read ``name=value`` options; a value is JSON, or a text where it is none.

    Example:
        >>> data = DataOptions(kind="davis", root="d", options=("year=2016", "split=train"))
        >>> adapter_options(data)
        {'year': 2016, 'split': 'train'}
    """
    found: dict[str, object] = {}
    for option in data.options:
        name, separator, text = option.partition("=")
        if not separator:
            raise ConfigError(f"data.options must be texts such as split=train, got {option!r}")
        try:
            found[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            found[name.strip()] = text.strip()
    return found


def _as_videos(dataset: ClipDataset) -> VideoClips:
    if not isinstance(dataset, VideoClips):
        raise ConfigError(f"composites need videos, got {dataset.name}")
    return dataset
