"""Data sets that make their clips of others', and the mixture that a recipe names.

``synthetic`` composes clips of still images, ``composites`` of pieces of two videos; ``crossings``
lets the objects of several videos cross in one; other kinds are layouts that ``adapters`` reads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.synthetic.composites import GRIDS, NUM_OBJECTS, make_crossing, make_mosaic
from vots_hqtrack.synthetic.footage import LabelledFrames, Source
from vots_hqtrack.synthetic.video_clips import ObjectVideo, sample_clip
from vots_hqtrack.training.adapters import KINDS, open_dataset
from vots_hqtrack.training.adapters.photos import PhotoClips, StaticInstances
from vots_hqtrack.training.adapters.videos import SingleObject, VideoClips
from vots_hqtrack.training.composer import MIN_CLIP_PIXELS, compose_clip, list_sources
from vots_hqtrack.training.datasets import Clip, ClipDataset, keep_visible
from vots_hqtrack.training.recipe_data import DataOptions
from vots_hqtrack.types import Size

SYNTHETIC, COMPOSITES, CROSSINGS = "synthetic", "composites", "crossings"
COMPOSITE_KIND = "meetings"
"""Kind of composed clips of ``composites``."""
NUM_OTHERS = 3
"""Other images that a synthetic clip may take objects from."""
PARTNER_ATTEMPTS = 20
MOSAIC_PROBABILITY, TWIN_PROBABILITY = 0.25, 0.3
MAX_STRETCH = 3


class SyntheticClips:
    """Composed clips of still images.

    Args:
        photos: Images with instances.
        size: Height and width of the clips.
    """

    def __init__(self, photos: PhotoClips, size: tuple[int, int]) -> None:
        self.name = f"{photos.name} in motion"
        self._sources = list(list_sources([photos], [1.0], ()))
        self._size = size

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._sources)

    def sample(
        self, index: int, num_frames: int, max_gap: int, generator: np.random.Generator
    ) -> Clip:
        """Compose a clip of an image and some others; see `ClipDataset`."""
        others = generator.integers(0, len(self), NUM_OTHERS)
        sources = [self._sources[number] for number in (index, *others)]
        return compose_clip(sources, generator, num_frames=num_frames, size=self._size)


class CompositeClips:
    """Composed clips of pieces of two videos.

    Args:
        videos: Videos with objects.
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
        """Compose a clip of a piece of this video and a piece of another.

        Raises:
            InputError: No object is left, or a file is damaged.
        """
        clips = [
            self._videos.sample(number, num_frames, max_gap, generator)
            for number in (index, int(generator.integers(len(self))))
        ]
        sources = [Source(clip.origin, partial(_labelled, clip), 1.0) for clip in clips]
        size = Size(*clips[0].labels.shape[1:])
        return compose_clip(
            sources, generator, num_frames=num_frames, size=size, kind=COMPOSITE_KIND
        )


def _labelled(clip: Clip) -> LabelledFrames:
    return clip.frames, clip.labels


class CrossingClips:
    """Two to five objects of as many videos in one clip: they cross, or stand side by side.

    Now and then the second is cut out of the first one's own video: a twin that looks like it.

    Args:
        videos: Videos of one object each, at least as many as a clip has objects.
        name: Name of the data set in captions and logs.

    Raises:
        InputError: There are too few videos.
    """

    def __init__(self, videos: Sequence[ObjectVideo], name: str) -> None:
        self.name = f"{name} crossing"
        self._videos = tuple(videos)
        needed = max(rows * columns for rows, columns in GRIDS.values())
        if len(videos) < needed:
            raise InputError(
                f"{self.name}: wanted at least {needed} videos of one object each, got "
                f"{len(videos)}; without them, take the [[data]] table of kind {CROSSINGS!r} out "
                "of the recipe (hqtrack train CONFIG --print)"
            )

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self._videos)

    def sample(
        self, index: int, num_frames: int, max_gap: int, generator: np.random.Generator
    ) -> Clip:
        """Make a clip on top of a video; see `vots_hqtrack.training.datasets.ClipDataset`.

        Raises:
            InputError: A video is too short, or in no attempt did all objects begin in sight.
        """
        for _ in range(PARTNER_ATTEMPTS):
            clip = self._draw(index, num_frames, max_gap, generator)
            if clip.num_objects:
                return clip
        raise InputError(
            f"{self.name}: no clip with an object came of video {index} in {PARTNER_ATTEMPTS} "
            "attempts"
        )

    def _draw(
        self, index: int, num_frames: int, max_gap: int, generator: np.random.Generator
    ) -> Clip:
        is_mosaic = generator.random() < MOSAIC_PROBABILITY
        num_objects = int(generator.choice(NUM_OBJECTS))
        rows, columns = GRIDS[num_objects] if is_mosaic else (1, num_objects)
        others = [int(n) for n in generator.permutation(len(self._videos)) if n != index]
        cast = [index, *others[: rows * columns - 1]]
        if generator.random() < TWIN_PROBABILITY:
            cast[1] = index
        videos = [self._videos[number] for number in cast]
        shortest = min(len(video) for video in videos)
        # Frames of the clip are some of a longer one, so that it also shows small steps.
        most = max(min(MAX_STRETCH, shortest // num_frames), 1)
        length = num_frames * int(generator.integers(1, most + 1))
        gap = max(min(max_gap, (shortest - 1) // length), 1)
        step = int(generator.integers(1, gap + 1))
        clips = [sample_clip(video.thin(step), length, generator) for video in videos]
        size = Size(*videos[0].frame(0).shape[:2])
        if is_mosaic:
            tracked = sorted(int(n) for n in generator.permutation(len(cast))[:num_objects])
            composite = make_mosaic(clips, tracked, size)
        else:
            composite = make_crossing(clips, size, generator)
        first = int(generator.integers(length - num_frames + 1))
        places = range(first, first + num_frames)
        frames = np.stack([composite.frames[place] for place in places])
        labels = np.zeros(frames.shape[:3], np.uint8)
        for number, track in enumerate(composite.masks, start=1):
            for label_map, place in zip(labels, places, strict=True):
                label_map[track[place]] = number
        origin = f"{self.name}: {' '.join(clip.video.name for clip in clips)}, every {step}"
        return Clip(frames, keep_visible(labels, MIN_CLIP_PIXELS), origin)


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
    options = adapter_options(data.options)
    if data.kind == SYNTHETIC:
        return SyntheticClips(StaticInstances(root, **options), clip_size)
    if data.kind == COMPOSITES:
        return CompositeClips(_as_videos(open_dataset("davis", root, **options)))
    if data.kind == CROSSINGS:
        found = _as_videos(open_dataset("davis", root, **options))
        return CrossingClips([SingleObject(video) for video in found.videos], found.name)
    if data.kind not in KINDS:
        known = ", ".join([*KINDS, SYNTHETIC, COMPOSITES, CROSSINGS])
        raise ConfigError(f"data.kind must be one of {known}, got {data.kind!r}")
    return open_dataset(data.kind, root, **options)


def adapter_options(options: Sequence[str]) -> dict[str, object]:
    """Read ``name=value`` options; a value is JSON, or a text where it is none.

    Example:
        >>> adapter_options(("year=2016", "split=train"))
        {'year': 2016, 'split': 'train'}
    """
    found: dict[str, object] = {}
    for option in options:
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
