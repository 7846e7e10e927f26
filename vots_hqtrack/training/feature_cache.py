"""Encoder features of training clips, computed once and kept on disk while the encoder is frozen.

A clip's file holds, in bfloat16 and channels last so that a window is a short read: ``s4``
``(T, 2h, 2w, 128)``, ``s8`` ``(T, h, w, 576)`` and ``labels`` uint8 ``(T, 8h, 8w)`` at network
size. The map at 1/16 is the mean of four pixels of the second half of ``s8`` and is not stored.

Videos are cached whole, and sampled clips of everything else. Each clip depends only on the seed
and its number, so an interrupted run continues where it stopped and gives the same files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from safetensors import safe_open
from torch import Tensor, nn

from vots_hqtrack.errors import InputError
from vots_hqtrack.frame import frame_to_image, labels_to_network, plan_frame
from vots_hqtrack.io import write_tensors
from vots_hqtrack.training.adapters.videos import VideoClips
from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.training.datasets import ClipDataset, Photo, keep_visible
from vots_hqtrack.training.frame_sampler import sample_slots
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.recipe_data import DataOptions, PhaseOptions
from vots_hqtrack.training.sources import SYNTHETIC
from vots_hqtrack.types import FrameFeatures, LabelArray, Size, check_frame

NECK_CHANNELS = 256
STRIDE_S8 = 8
"""Network pixels of a pixel of ``s8``, each way."""
SAM_EDGE = 1024
"""Long side that SAM's encoder sees of a real frame."""
MIN_PIXELS = 48
"""Smallest object in the first frame of a window, in network pixels: less than a pixel at stride 8
cannot be told apart."""
WINDOW_ATTEMPTS = 6
CLIP_ATTEMPTS = 200

Progress = Callable[[str, int, int], None]
"""Called with a data set's name, the clips encoded so far, and the number of all."""


class Source(NamedTuple):
    """A folder of cached clips.

    Attributes:
        folder: The folder.
        weight: Sampling weight, relative to the other sources.
        max_step: Largest number of cached frames between two frames of a training clip.
    """

    folder: Path
    weight: float
    max_step: int


class Window(NamedTuple):
    """A rectangle in pixels of ``s8``; sides and corners are even for whole pixels of 1/16."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, stride: int = 1) -> tuple[slice, slice]:
        """Return rows and columns of a map with ``stride`` pixels for one of ``s8``."""
        rows = slice(self.top * stride, (self.top + self.height) * stride)
        return rows, slice(self.left * stride, (self.left + self.width) * stride)


def fill_cache(
    build_encoder: Callable[[], nn.Module],
    datasets: Sequence[ClipDataset],
    recipe: Recipe,
    folder: Path,
    progress: Progress,
) -> list[Source]:
    """Encode the clips that are not cached yet.

    Args:
        build_encoder: Builds the encoder on its device; called only if there is something to do.
        datasets: Opened data sets, in the order of the recipe.
        recipe: The run's recipe.
        folder: Folder of all caches; a data set's own changes its name with all that changes files.
        progress: Called after every clip.

    Returns:
        The data sets' folders, in the same order.
    """
    encoder: nn.Module | None = None
    sources = []
    for dataset, data in zip(datasets, recipe.data, strict=True):
        is_whole = isinstance(dataset, VideoClips)
        max_step = data.max_gap // recipe.cache.frame_step if is_whole else 1
        source = Source(folder / _folder_name(data, recipe), data.weight, max(1, max_step))
        source.folder.mkdir(parents=True, exist_ok=True)
        edge = max(recipe.cache.clip_size) if data.kind == SYNTHETIC else SAM_EDGE
        total = len(dataset) * (1 if is_whole else data.rounds)
        for number in range(total):
            path = source.folder / f"{number:06d}.safetensors"
            if not path.exists():
                encoder = encoder or build_encoder()
                _cache_clip(encoder, _frames(dataset, data, number, recipe), path, edge)
            progress(dataset.name, number + 1, total)
        sources.append(source)
    return sources


def _folder_name(data: DataOptions, recipe: Recipe) -> str:
    cache = recipe.cache
    facts = [data.kind, Path(data.root).name, *data.options, data.rounds, data.max_gap]
    facts += [recipe.train.seed, recipe.model.preset, *recipe.model.settings]
    facts += [cache.num_frames, *cache.clip_size, cache.frame_step]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    return f"{data.kind}-{Path(data.root).name}-{digest}"


def _frames(
    dataset: ClipDataset, data: DataOptions, number: int, recipe: Recipe
) -> Iterator[Photo]:
    """Yield the frames of one cached clip: a whole video, or a sampled clip."""
    if isinstance(dataset, VideoClips):
        video = dataset.videos[number]
        yield from (video.load(index) for index in range(0, len(video), recipe.cache.frame_step))
        return
    round_number, index = divmod(number, len(dataset))
    generator = np.random.default_rng((recipe.train.seed, round_number, index))
    clip = dataset.sample(index, recipe.cache.num_frames, data.max_gap, generator)
    yield from map(Photo, clip.frames, clip.labels)


def _cache_clip(encoder: nn.Module, frames: Iterable[Photo], path: Path, long_edge: int) -> None:
    """Encode frames, resized to a long side, as the tracker does, and write the clip's file."""
    columns: dict[str, list[Tensor]] = {"s4": [], "s8": [], "labels": []}
    device = next(encoder.parameters()).device
    for frame, labels in frames:
        geometry = plan_frame(check_frame(frame), long_edge)
        image = frame_to_image(frame, geometry, device)
        with torch.inference_mode():
            features: FrameFeatures = encoder(image)
        columns["s4"].append(features.s4[0].permute(1, 2, 0).bfloat16().cpu())
        columns["s8"].append(features.s8[0].permute(1, 2, 0).bfloat16().cpu())
        columns["labels"].append(labels_to_network(torch.from_numpy(labels), geometry))
    write_tensors(path, {name: torch.stack(parts) for name, parts in columns.items()})


@dataclass(frozen=True, slots=True)
class CachedClip:
    """A clip's file, read window by window."""

    path: Path

    @property
    def shape(self) -> tuple[int, Size]:
        """Number of frames, and size in pixels of ``s8``."""
        with safe_open(self.path, framework="pt") as file:
            frames, height, width, _ = file.get_slice("s8").get_shape()
        return frames, Size(height, width)

    def labels(self) -> LabelArray:
        """Read all label maps: uint8 ``(T, 8h, 8w)``."""
        with safe_open(self.path, framework="pt") as file:
            array: LabelArray = file.get_tensor("labels").numpy()
        return array

    def read(self, frames: Sequence[int], window: Window) -> FrameFeatures:
        """Read bfloat16 features of frames inside a window, the frames along the batch axis."""
        with safe_open(self.path, framework="pt") as file:
            s4, s8 = (
                torch.cat([stored[i : i + 1, rows, columns] for i in frames]).permute(0, 3, 1, 2)
                for stored, (rows, columns) in (
                    (file.get_slice("s4"), window.cut(2)),
                    (file.get_slice("s8"), window.cut()),
                )
            )
        return FrameFeatures(s4=s4, s8=s8, s16=F.avg_pool2d(s8[:, -NECK_CHANNELS:], 2))


class ClipSampler:
    """A source of batches of features.

    Args:
        sources: Folders of clips.
        seed: Seed of all sampling.
        shuffle_slots: Objects take random slots.

    Raises:
        InputError: A source has no clip.
    """

    def __init__(self, sources: Sequence[Source], seed: int, *, shuffle_slots: bool = True) -> None:
        self.sources = list(sources)
        self.seed = seed
        self.shuffle_slots = shuffle_slots
        self.clips: list[list[CachedClip]] = []
        for source in self.sources:
            paths = sorted(source.folder.glob("*.safetensors"))
            if not paths:
                raise InputError(f"wanted cached clips in {source.folder}, found none")
            self.clips.append([CachedClip(path) for path in paths])

    def draw(self, step: int, places: Sequence[int], phase: PhaseOptions) -> ClipBatch:
        """Sample a part of a step's batch; see ``ClipSource``.

        All clips of a step come from one source and have one size: that of the phase, or less where
        the first clip is smaller.
        """
        rng = np.random.default_rng((self.seed, step))
        weights = np.array([source.weight for source in self.sources])
        number = int(rng.choice(len(self.sources), p=weights / weights.sum()))
        source, clips = self.sources[number], self.clips[number]
        _, largest = clips[int(rng.integers(len(clips)))].shape
        size = Size(*(min(s // STRIDE_S8, own) for s, own in zip(phase.crop, largest, strict=True)))
        chosen: list[tuple[FrameFeatures, Tensor]] = []
        slots = []
        for place in places:
            own = np.random.default_rng((self.seed, step, place))
            chosen.append(_sample_clip(clips, own, phase.num_frames, size, source))
            slots.append(sample_slots(own, shuffle=self.shuffle_slots))
        features = tuple(
            FrameFeatures(
                *(
                    torch.stack([getattr(clip, name)[i] for clip, _ in chosen])
                    for name in ("s4", "s8", "s16")
                )
            )
            for i in range(phase.num_frames)
        )
        labels = torch.stack([labels for _, labels in chosen])
        return ClipBatch(
            labels,
            torch.cat(slots),
            features=features,
            num_objects=int(labels[:, 0].max()),
        )

    def finish(self, drawn: ClipBatch, device: torch.device) -> ClipBatch:
        """Bring a batch to the device; see ``ClipSource``."""
        return drawn.to(device)


def _sample_clip(
    clips: list[CachedClip],
    rng: np.random.Generator,
    num_frames: int,
    size: Size,
    source: Source,
) -> tuple[FrameFeatures, Tensor]:
    """Sample clips until one is large and long enough and shows an object."""
    for _ in range(CLIP_ATTEMPTS):
        clip = clips[int(rng.integers(len(clips)))]
        drawn = _sample_window(clip, rng, num_frames, size, source.max_step)
        if drawn is not None:
            return drawn
    raise InputError(
        f"none of {CLIP_ATTEMPTS} clips drawn from {source.folder} has {num_frames} frames and "
        f"shows an object of {MIN_PIXELS} pixels in a window of {size} at stride {STRIDE_S8}"
    )


def _sample_window(
    clip: CachedClip, rng: np.random.Generator, num_frames: int, wanted: Size, max_step: int
) -> tuple[FrameFeatures, Tensor] | None:
    length, size = clip.shape
    if length < num_frames or size.height < wanted.height or size.width < wanted.width:
        return None
    limit = max(min(max_step, (length - 1) // max(num_frames - 1, 1)), 1)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, limit + 1, num_frames - 1))])
    frames = offsets + int(rng.integers(0, length - int(offsets[-1])))
    if rng.random() < 0.5:
        frames = frames[::-1]
    all_labels = clip.labels()[frames]
    for _ in range(WINDOW_ATTEMPTS):
        top = int(rng.integers(0, (size.height - wanted.height) // 2 + 1)) * 2
        left = int(rng.integers(0, (size.width - wanted.width) // 2 + 1)) * 2
        window = Window(top, left, *wanted)
        labels = keep_visible(all_labels[(slice(None), *window.cut(STRIDE_S8))], MIN_PIXELS)
        if labels[0].any():
            return clip.read([int(i) for i in frames], window), torch.from_numpy(labels)
    return None
