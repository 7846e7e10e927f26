"""Samples clips of the mixture of data sets, augmented and merged as the recipe says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.training.clip import shuffle_table
from vots_hqtrack.training.datasets import Clip, ClipDataset, keep_visible
from vots_hqtrack.training.recipe import ClipOptions
from vots_hqtrack.training.recipe_data import AugmentOptions, DataOptions, PhaseOptions
from vots_hqtrack.training.transforms import merge_clips, seeded, vary_photo, vary_video
from vots_hqtrack.types import SLOTS_PER_GROUP, Size

ATTEMPTS = 20
"""Clips sampled until one shows an object after its augmentation."""
MAX_SEED = 2**63 - 1


class FrameSampler:
    """A source of batches of frames.

    Args:
        datasets: The opened data sets.
        data: Their options, in the same order.
        clip: Options of merging and slots.
        augment: Options of augmentation.
        seed: Seed of the random generators.
        input_scale: Pixels of the encoder's input to one of the network image, each way.
    """

    def __init__(
        self,
        datasets: Sequence[ClipDataset],
        data: Sequence[DataOptions],
        clip: ClipOptions,
        augment: AugmentOptions,
        *,
        seed: int,
        input_scale: int = 1,
    ) -> None:
        self.datasets = tuple(datasets)
        self.data = tuple(data)
        self.clip = clip
        self.augment = augment
        self.seed = seed
        self.input_scale = input_scale
        weights = np.array([options.weight for options in data], dtype=np.float64)
        self._probabilities = weights / weights.sum()

    def draw(self, step: int, places: Sequence[int], phase: PhaseOptions) -> ClipBatch:
        """Sample a part of a step's batch; see ``ClipSource``."""
        clips, slots = [], []
        for index in places:
            generator = np.random.default_rng((self.seed, step, index))
            clips.append(self.sample_clip(generator, phase))
            slots.append(sample_slots(generator, shuffle=self.clip.shuffle_slots))
        frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
        labels = torch.from_numpy(np.stack([clip.labels for clip in clips]))
        offset = self.input_scale // 2
        # The pixel with its centre nearest to that of the network image's pixel.
        small = labels[:, :, offset :: self.input_scale, offset :: self.input_scale]
        return ClipBatch(
            labels=small.contiguous(),
            slots=torch.cat(slots),
            frames=frames.permute(0, 1, 4, 2, 3).contiguous(),
            num_objects=int(small[:, 0].max()),
        )

    def finish(self, drawn: ClipBatch, device: torch.device) -> ClipBatch:
        """Bring a batch to the device; see ``ClipSource``."""
        return drawn.to(device)

    def sample_clip(self, generator: np.random.Generator, phase: PhaseOptions) -> Clip:
        """Sample a clip at the encoder's size.

        Args:
            generator: Random generator.
            phase: Number of frames and network size.

        Raises:
            InputError: No object was left in any attempt.
        """
        size = Size(*(side * self.input_scale for side in phase.crop))
        clip = None
        for _ in range(ATTEMPTS):
            clip = self._sample_augmented(generator, phase.num_frames, size)
            if generator.random() < self.clip.merge_probability:
                top = self._sample_augmented(generator, phase.num_frames, size)
                clip = merge_clips(clip, top, self._min_pixels, generator)
            if clip.num_objects:
                return clip
        names = ", ".join(dataset.name for dataset in self.datasets)
        raise InputError(
            f"no object of {self._min_pixels} pixels was left in any of {ATTEMPTS} clips of "
            f"{size} sampled from {names}"
        )

    def choose(self, generator: np.random.Generator) -> tuple[ClipDataset, DataOptions]:
        """Sample a data set by weight."""
        number = int(generator.choice(len(self.datasets), p=self._probabilities))
        return self.datasets[number], self.data[number]

    @property
    def _min_pixels(self) -> int:
        return self.clip.min_pixels * self.input_scale**2

    def _sample_augmented(
        self, generator: np.random.Generator, num_frames: int, size: Size
    ) -> Clip:
        dataset, options = self.choose(generator)
        index = int(generator.integers(len(dataset)))
        clip = dataset.sample(index, num_frames, options.max_gap, generator)
        with seeded(int(generator.integers(MAX_SEED))):
            if options.augment == "photo":
                varied = vary_photo(clip, self.augment, size)
            else:
                varied = vary_video(clip, self.augment, size, self._min_pixels)
        labels = keep_visible(varied.labels, self._min_pixels, generator)
        return Clip(varied.frames, labels, varied.origin)


def sample_slots(generator: np.random.Generator, *, shuffle: bool) -> Tensor:
    """Sample the slot of each object of a clip: ``(1, 11)`` int64."""
    if not shuffle:
        return torch.arange(SLOTS_PER_GROUP + 1)[None]
    seed = int(generator.integers(MAX_SEED))
    return shuffle_table(1, torch.Generator().manual_seed(seed))
