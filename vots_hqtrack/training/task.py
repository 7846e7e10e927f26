"""Interface between the trainer and its tasks: VMOS on clips, the HQ head on images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.training.batch import ClipSource
from vots_hqtrack.training.dev import DevSplit
from vots_hqtrack.training.losses import Loss, StepOptions


class TrainedNetwork(nn.Module):
    """A network as the trainer sees it: gives the logits of a batch at some ``StepOptions``."""

    def learning_modules(self) -> nn.ModuleDict:
        """Return the modules that learn; all else is frozen."""
        raise NotImplementedError

    def encode_frozen(self, batch: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401 - a batch
        """Return the batch with all that frozen parts compute of it, in ``dtype``."""
        return batch

    def loss(self, predicted: Sequence[Tensor], batch: Any, options: StepOptions) -> Loss:  # noqa: ANN401
        """Return the loss of the logits of a batch."""
        raise NotImplementedError

    def export_tensors(self, learnt: nn.ModuleDict) -> dict[str, Tensor]:
        """Return the content of a weights file.

        Args:
            learnt: Values of :meth:`learning_modules`, such as their moving average.
        """
        raise NotImplementedError

    def load_export(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Load the content of a weights file.

        Raises:
            WeightsError: The tensors do not fit.
        """
        raise NotImplementedError


class Task(ABC):
    """Parts of a run that differ between tasks.

    Attributes:
        dev: Sequences that the averaged weights track now and then, or None.
    """

    dev: DevSplit | None = None

    @abstractmethod
    def build_network(self, dtype: torch.dtype) -> TrainedNetwork:
        """Build the network with the weights that it starts from.

        Args:
            dtype: Dtype of a frozen encoder.
        """

    @abstractmethod
    def open_source(
        self,
        cache: Any,  # noqa: ANN401
        accelerator: Any,  # noqa: ANN401 - Accelerate is not annotated
        report: Callable[[str, int, int], None],
    ) -> ClipSource[Any]:
        """Open the data."""

    def step_options(self, progress: float) -> StepOptions:
        """Return the options of a step at a progress from 0 to 1."""
        return StepOptions()

    def dev_tracker(self, network: TrainedNetwork, learnt: nn.ModuleDict) -> HQTracker:
        """Return the tracker that tracks the dev split."""
        raise NotImplementedError

    def facts(self) -> dict[str, str]:
        """Return entries for the header of a weights file."""
        return {}
