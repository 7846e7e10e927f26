"""Sampling of batches of clip windows from the feature cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.training.features import STRIDE_S8, CachedClip, Window
from vots_hqtrack.training.frame_sampler import sample_slots
from vots_hqtrack.training.recipe_data import PhaseOptions
from vots_hqtrack.types import SLOTS_PER_GROUP, FrameFeatures, Size

MIN_PIXELS = 48
"""Smallest object in the first frame of a window, in network pixels: less than a pixel at stride 8
cannot be told apart."""
WINDOW_ATTEMPTS = 6
CLIP_ATTEMPTS = 200


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of cached clips.

    Attributes:
        folder: The folder.
        weight: Sampling weight, relative to the other sources.
        max_step: Largest number of cached frames between two frames of a training clip.
    """

    folder: Path
    weight: float
    max_step: int


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
        size = self._sample_size(clips, rng, phase)
        chosen: list[tuple[FrameFeatures, Tensor]] = []
        slots = []
        for place in places:
            own = np.random.default_rng((self.seed, step, place))
            chosen.append(_sample_clip(clips, own, phase.num_frames, size, source))
            slots.append(sample_slots(own, shuffle=self.shuffle_slots))
        features = tuple(
            FrameFeatures(
                s4=torch.stack([clip.s4[i] for clip, _ in chosen]),
                s8=torch.stack([clip.s8[i] for clip, _ in chosen]),
                s16=torch.stack([clip.s16[i] for clip, _ in chosen]),
            )
            for i in range(phase.num_frames)
        )
        labels = torch.stack([labels for _, labels in chosen])
        return ClipBatch(
            labels,
            torch.cat(slots),
            features=features,
            num_objects=int(labels[:, 0].max()),
            has_void=False,
        )

    def finish(self, drawn: ClipBatch, device: torch.device) -> ClipBatch:
        """Bring a batch to the device; see ``ClipSource``."""
        return drawn.to(device)

    def _sample_size(
        self, clips: list[CachedClip], rng: np.random.Generator, phase: PhaseOptions
    ) -> Size:
        _, size = clips[int(rng.integers(len(clips)))].shape
        return Size(
            *(min(side // STRIDE_S8, own) for side, own in zip(phase.crop, size, strict=True))
        )


def renumber_visible(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Number the objects of the first frame from 1 and turn the others into background.

    Args:
        labels: uint8 ``(T, H', W')``.
    """
    counts = np.bincount(labels[0].ravel(), minlength=256)
    kept = [value for value in range(1, 256) if counts[value] >= MIN_PIXELS][:SLOTS_PER_GROUP]
    table = np.zeros(256, np.uint8)
    table[kept] = np.arange(1, len(kept) + 1)
    return table[labels]


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
    clip: CachedClip,
    rng: np.random.Generator,
    num_frames: int,
    window: Size,
    max_step: int,
) -> tuple[FrameFeatures, Tensor] | None:
    length, size = clip.shape
    if length < num_frames or size.height < window.height or size.width < window.width:
        return None
    limit = max(min(max_step, (length - 1) // max(num_frames - 1, 1)), 1)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, limit + 1, num_frames - 1))])
    frames = offsets + int(rng.integers(0, length - int(offsets[-1])))
    if rng.random() < 0.5:
        frames = frames[::-1]
    all_labels = clip.labels()[frames]
    for _ in range(WINDOW_ATTEMPTS):
        top = int(rng.integers(0, (size.height - window.height) // 2 + 1)) * 2
        left = int(rng.integers(0, (size.width - window.width) // 2 + 1)) * 2
        rows = slice(top * STRIDE_S8, (top + window.height) * STRIDE_S8)
        columns = slice(left * STRIDE_S8, (left + window.width) * STRIDE_S8)
        labels = renumber_visible(all_labels[:, rows, columns])
        if labels[0].any():
            features, _ = clip.read([int(i) for i in frames], Window(top, left, *window))
            return features, torch.from_numpy(labels)
    return None
