"""Batches of clips, and the order in which a run draws them.

A clip depends on the seed, the step and its place in the batch alone. So a run goes on exactly
where it stopped, and any number of processes draws the same clips.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.recipe_data import PhaseOptions
from vots_hqtrack.types import FrameFeatures


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """Clips of one size.

    Attributes:
        labels: ``(B, T, H', W')`` uint8 at network size; objects are numbered from 1 in the first
            frame.
        slots: ``(B, 11)`` int64: entry ``i`` is the slot of label ``i``; the background keeps 0.
        frames: ``(B, T, 3, H, W)`` uint8 RGB at the encoder's size; None where features are there.
        features: Of each frame, ``T`` times batch ``B``; None where frames are there.
    """

    labels: Tensor
    slots: Tensor
    frames: Tensor | None = None
    features: tuple[FrameFeatures, ...] | None = None

    def to(self, device: torch.device) -> ClipBatch:
        """Return the batch on a device."""
        features = self.features
        if features is not None:
            features = tuple(
                FrameFeatures(one.s4.to(device), one.s8.to(device), one.s16.to(device))
                for one in features
            )
        frames = None if self.frames is None else self.frames.to(device)
        return ClipBatch(self.labels.to(device), self.slots.to(device), frames, features)


class ClipSource(Protocol):
    """Where batches come from."""

    def draw(self, step: int, places: Sequence[int], phase: PhaseOptions) -> ClipBatch:
        """Draw a part of a step's batch.

        Args:
            step: Number of the step.
            places: Which clips of the batch.
            phase: Shapes.

        Raises:
            InputError: The data give no clip with an object.
        """


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of each batch a process computes.

    Attributes:
        rank: Number of the process, from 0.
        num_processes: How many there are.
    """

    rank: int = 0
    num_processes: int = 1

    def places(self, batch_size: int, accumulate: int, part: int) -> range:
        """Return the clips of one accumulated part.

        Example:
            >>> [list(Share(1, 2).places(8, 2, part)) for part in (0, 1)]
            [[4, 5], [6, 7]]
        """
        each = batch_size // (self.num_processes * accumulate)
        first = (self.rank * accumulate + part) * each
        return range(first, first + each)


class PartDataset(Dataset[ClipBatch]):
    """All accumulated parts of a run, one after the other.

    Args:
        source: Where clips come from.
        recipe: Of the run.
        share: Of this process.

    Raises:
        ConfigError: A phase's batch cannot be shared out evenly.
    """

    def __init__(self, source: ClipSource, recipe: Recipe, share: Share) -> None:
        parts = share.num_processes * recipe.train.accumulate
        for phase in recipe.phases:
            if phase.batch_size % parts:
                raise ConfigError(
                    f"phases.batch_size must be a multiple of {parts} (processes times "
                    f"train.accumulate), got {phase.batch_size}"
                )
        self.source = source
        self.recipe = recipe
        self.share = share

    def __len__(self) -> int:
        """Count the parts of the whole run."""
        return self.recipe.train.steps * self.recipe.train.accumulate

    def __getitem__(self, index: int) -> ClipBatch:
        """Draw the part with a number."""
        accumulate = self.recipe.train.accumulate
        step, part = divmod(index, accumulate)
        phase = self.recipe.phase(step)
        places = self.share.places(phase.batch_size, accumulate, part)
        return self.source.draw(step, places, phase)


def part_stream(parts: PartDataset, first_step: int, workers: int) -> Iterator[ClipBatch]:
    """Draw the parts in order from a step on.

    Args:
        parts: All parts.
        first_step: Where to begin.
        workers: Processes that draw ahead; 0 draws when asked.
    """
    first = first_step * parts.recipe.train.accumulate
    loader = DataLoader(
        parts,
        batch_size=None,
        sampler=range(first, len(parts)),
        num_workers=workers,
        worker_init_fn=_quiet_worker if workers else None,
        prefetch_factor=2 if workers else None,
        # A fork would inherit OpenCV's and PyTorch's locks without the threads that release them.
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loader)


def _quiet_worker(_: int) -> None:
    # Terminals and launchers signal whole groups of processes, but a stop is the training process's
    # business; workers are needed for its last step and leave with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(1)
