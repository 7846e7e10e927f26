"""Draws batches of clip windows from the feature cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.features import CELL, CachedClip, Window
from vots_hqtrack.types import SLOTS_PER_GROUP, FrameFeatures

MIN_PIXELS = 48
"""Smallest object in the first frame of a window, in network pixels: less than one cell of 1/8
cannot be told."""
WINDOW_ATTEMPTS = 6


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of cached clips.

    Attributes:
        folder: Where the clips lie.
        weight: How often the source is drawn, relative to the others.
        max_step: Largest number of cached frames between two frames of a training clip.
    """

    folder: Path
    weight: float
    max_step: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips of one size.

    Attributes:
        features: Of each frame, ``T`` times batch ``B``.
        labels: ``(B, T, H', W')`` uint8 at network size; objects are numbered from 1 in the first
            frame.
    """

    features: list[FrameFeatures]
    labels: Tensor


class ClipSampler:
    """Draws batches; what it draws depends on the seed, the step and the files present.

    Args:
        sources: Where clips come from.
        seed: Of all chance.

    Raises:
        InputError: A source has no clip.
    """

    def __init__(self, sources: Sequence[Source], seed: int) -> None:
        self.sources = list(sources)
        self.seed = seed
        self.clips: list[list[CachedClip]] = []
        for source in self.sources:
            paths = sorted(source.folder.glob("*.safetensors"))
            if not paths:
                raise InputError(f"wanted cached clips in {source.folder}, found none")
            self.clips.append([CachedClip(path) for path in paths])

    def draw(self, step: int, batch_size: int, num_frames: int, window: tuple[int, int]) -> Batch:
        """Draw one batch.

        Args:
            step: Number of the training step.
            batch_size: ``B``.
            num_frames: ``T``.
            window: Largest height and width in cells of 1/8; a smaller clip gives all it has.
        """
        rng = np.random.default_rng((self.seed, step))
        weights = np.array([source.weight for source in self.sources])
        number = int(rng.choice(len(self.sources), p=weights / weights.sum()))
        source, clips = self.sources[number], self.clips[number]
        chosen: list[tuple[FrameFeatures, Tensor]] = []
        while len(chosen) < batch_size:
            clip = clips[int(rng.integers(len(clips)))]
            drawn = _draw_clip(clip, rng, num_frames, window, source.max_step)
            if drawn is None or (chosen and drawn[1].shape != chosen[0][1].shape):
                continue
            chosen.append(drawn)
        features = [
            FrameFeatures(
                s4=torch.stack([one.s4[i] for one, _ in chosen]),
                s8=torch.stack([one.s8[i] for one, _ in chosen]),
                s16=torch.stack([one.s16[i] for one, _ in chosen]),
            )
            for i in range(num_frames)
        ]
        return Batch(features, torch.stack([labels for _, labels in chosen]))


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


def _draw_clip(
    clip: CachedClip,
    rng: np.random.Generator,
    num_frames: int,
    largest: tuple[int, int],
    max_step: int,
) -> tuple[FrameFeatures, Tensor] | None:
    length, size = clip.shape
    if length < num_frames:
        return None
    limit = max(min(max_step, (length - 1) // max(num_frames - 1, 1)), 1)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, limit + 1, num_frames - 1))])
    frames = offsets + int(rng.integers(0, length - int(offsets[-1])))
    if rng.random() < 0.5:
        frames = frames[::-1]
    height, width = min(largest[0], size.height), min(largest[1], size.width)
    all_labels = clip.labels()[frames]
    for _ in range(WINDOW_ATTEMPTS):
        top = int(rng.integers(0, (size.height - height) // 2 + 1)) * 2
        left = int(rng.integers(0, (size.width - width) // 2 + 1)) * 2
        rows = slice(top * CELL, (top + height) * CELL)
        columns = slice(left * CELL, (left + width) * CELL)
        labels = renumber_visible(all_labels[:, rows, columns])
        if labels[0].any():
            window = Window(top, left, height, width)
            features, _ = clip.read([int(i) for i in frames], window)
            return features, torch.from_numpy(labels)
    return None
