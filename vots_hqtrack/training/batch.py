"""Batches, and the order in which a run samples them.

An item depends on the seed, the step and its index in the batch alone. So a run goes on exactly
where it stopped, and any number of processes samples the same items.
"""

from __future__ import annotations

import itertools
import pickle
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vots_hqtrack.devices import TensorBatch
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.training.hq.recipe import HQRecipe
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.recipe_data import PhaseOptions
from vots_hqtrack.types import FrameFeatures

Drawn = TypeVar("Drawn")
"""A source's message from a worker to the training process."""


@dataclass(frozen=True, slots=True)
class ClipBatch(TensorBatch):
    """Clips of one size.

    Attributes:
        labels: ``(B, T, H', W')`` uint8 at network size; objects are numbered from 1 in the first
            frame.
        slots: ``(B, 11)`` int64: entry ``i`` is the slot of label ``i``; the background keeps 0.
        frames: ``(B, T, 3, H, W)`` uint8 RGB at the encoder's size; None where only features are
            there.
        features: Features of each frame, ``T`` times batch ``B``; None for frames to be encoded.
        num_objects: Maximum label that may occur, 1..10; None finds it in the labels, for which
            the host waits.
    """

    labels: Tensor
    slots: Tensor
    frames: Tensor | None = None
    features: tuple[FrameFeatures, ...] | None = None
    num_objects: int | None = None

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.labels)


class ClipSource(Protocol[Drawn]):
    """Source of batches."""

    def draw(self, step: int, places: Sequence[int], phase: PhaseOptions) -> Drawn:
        """Sample a part of a step's batch, or a plan of it; runs in worker processes.

        Args:
            step: Number of the step.
            places: Indices of the items in the batch.
            phase: Shapes of the clips.

        Returns:
            Something that can be pickled, with the methods ``to`` and ``pin_memory``.

        Raises:
            InputError: The data have no item with an object.
        """

    def finish(self, drawn: Drawn, device: torch.device) -> TensorBatch:
        """Make the batch of what was drawn; runs in the training process.

        Args:
            drawn: From :meth:`draw`.
            device: Device of the batch. The host does not wait for it.
        """


def part_places(
    batch_size: int, accumulate: int, part: int, *, rank: int = 0, num_processes: int = 1
) -> range:
    """Return the indices in the batch that make a micro-batch of a process.

    Example:
        >>> [list(part_places(8, 2, part, rank=1, num_processes=2)) for part in (0, 1)]
        [[4, 5], [6, 7]]
    """
    each = batch_size // (num_processes * accumulate)
    first = (rank * accumulate + part) * each
    return range(first, first + each)


class PartDataset(Dataset[Any]):
    """All micro-batches ("parts") of a run, one after the other.

    Args:
        source: Source of batches.
        recipe: Recipe of the run.
        first_step: Steps of earlier sessions; their clips are not sampled again.
        rank: Number of the process, from 0.
        num_processes: Number of processes.

    Attributes:
        progress: ``()`` float64 in shared memory, in which workers see how far the run is where the
            clock drives it.

    Raises:
        ConfigError: A phase's batch cannot be split evenly.
    """

    def __init__(
        self,
        source: ClipSource[Any],
        recipe: Recipe | HQRecipe,
        first_step: int = 0,
        *,
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        parts = num_processes * recipe.train.accumulate
        for phase in recipe.phases:
            if phase.batch_size % parts:
                raise ConfigError(
                    f"phases.batch_size must be a multiple of {parts} (processes times "
                    f"train.accumulate), got {phase.batch_size}"
                )
        self.source = source
        self.recipe = recipe
        self.first_step = first_step
        self.process = {"rank": rank, "num_processes": num_processes}
        self.progress = torch.zeros((), dtype=torch.float64).share_memory_()

    def indices(self, first_step: int) -> Iterable[int]:
        """Count the parts from a step on; without an end where the clock decides."""
        train = self.recipe.train
        first = first_step * train.accumulate
        if train.max_minutes:
            return itertools.count(first)
        return range(first, train.steps * train.accumulate)

    def __getitem__(self, index: int) -> object:
        """Sample the part with a number."""
        train = self.recipe.train
        step, part = divmod(index, train.accumulate)
        progress = float(self.progress) if train.max_minutes else step / train.steps
        phase = self.recipe.phase(progress)
        places = part_places(phase.batch_size, train.accumulate, part, **self.process)
        return self.source.draw(self.first_step + step, places, phase)


def part_stream(
    parts: PartDataset, first_step: int, workers: int, *, pin_memory: bool = False
) -> Iterator[Any]:
    """Sample the parts in order from a step on.

    Args:
        parts: All parts.
        first_step: Step of the first part.
        workers: Processes that sample ahead; 0 samples when asked.
        pin_memory: Hand them on in page-locked memory, for a GPU.

    Returns:
        Results of the source's ``draw``, part by part.
    """
    loader = DataLoader(
        _SharedParts(parts) if workers else parts,
        batch_size=None,
        sampler=parts.indices(first_step),
        num_workers=workers,
        worker_init_fn=_quiet_worker if workers else None,
        prefetch_factor=2 if workers else None,
        pin_memory=pin_memory,
        # A fork would inherit OpenCV's and PyTorch's locks without the threads that release them.
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loader)


class _SharedParts(Dataset[Any]):
    """The parts in shared memory, unpacked by each worker.

    A process that starts another one by ``spawn`` writes what is pickled into a pipe, and beyond
    64 KiB waits until the other has imported everything and reads: workers would start one after
    the other.
    """

    def __init__(self, parts: PartDataset) -> None:
        content = bytearray(pickle.dumps(parts))
        self._content = torch.frombuffer(content, dtype=torch.uint8).clone().share_memory_()
        self._progress = parts.progress
        self._parts: PartDataset | None = None

    def __getitem__(self, index: int) -> object:
        if self._parts is None:
            content = self._content.numpy().tobytes()
            self._parts = pickle.loads(content)  # noqa: S301 - made by the parent process
            self._parts.progress = self._progress
        return self._parts[index]


def _quiet_worker(_: int) -> None:
    # Terminals and launchers signal whole groups of processes, but a stop is the training process's
    # business; workers are needed for its last step and leave with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(1)
