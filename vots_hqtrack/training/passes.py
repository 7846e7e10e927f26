"""A batch's way: to the device, through a frozen encoder, forwards and backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vots_hqtrack.training.batch import ClipBatch, ClipSource
from vots_hqtrack.training.engine import compute_dtype
from vots_hqtrack.training.graph import ComputePass, GraphedPasses, PassResult
from vots_hqtrack.training.losses import ClipLoss, LossWeights, clip_loss
from vots_hqtrack.training.network import ClipNetwork
from vots_hqtrack.training.recipe import RunOptions
from vots_hqtrack.training.session import StepTimer


@dataclass(frozen=True, slots=True)
class Gradients:
    """What the parts of a step gave, besides the gradients.

    Attributes:
        loss: Mean over the parts.
        batch: The last part.
        predicted: Its logits, frame by frame.
    """

    loss: ClipLoss
    batch: ClipBatch
    predicted: list[Tensor]


class Passes:
    """Runs batches, as CUDA graphs where that can be done.

    Args:
        options: Of the run.
        network: The network itself.
        model: What Accelerate made of it.
        accelerator: Accelerate's.
        timer: Told of the parts of a step.
    """

    def __init__(
        self,
        options: RunOptions,
        network: ClipNetwork,
        model: Any,  # noqa: ANN401 - Accelerate is not annotated
        accelerator: Any,  # noqa: ANN401 - Accelerate is not annotated
        timer: StepTimer,
    ) -> None:
        self._accumulate = options.accumulate
        self._network = network
        self._model = model
        self._accelerator = accelerator
        self._timer = timer
        self._dtype = compute_dtype(accelerator)
        device: torch.device = accelerator.device
        self._device = device
        # Processes talk in the middle of a backward pass, parts add up their gradients, and float16
        # looks at its gradients: none of these is one graph.
        is_alone = accelerator.num_processes == 1 and options.accumulate == 1
        can_record = device.type == "cuda" and is_alone and accelerator.scaler is None
        self._run: ComputePass = self._compute
        if can_record and options.graph == "auto":
            self._run = GraphedPasses(self._compute, network.parameters())

    @property
    def num_graphs(self) -> int:
        """CUDA graphs in use."""
        return self._run.num_graphs if isinstance(self._run, GraphedPasses) else 0

    def prepare(self, source: ClipSource[Any], drawn: object) -> ClipBatch:
        """Make a batch on the device, with the features of a frozen encoder.

        Args:
            source: Where the batch comes from.
            drawn: What the source drew.
        """
        batch = source.finish(drawn, self._device)
        self._timer.mark("compose")
        batch = self._network.encode_frozen(batch, self._dtype)
        self._timer.mark("encode")
        return batch

    def run(self, batch: ClipBatch, weights: LossWeights, *, own_labels: bool) -> PassResult:
        """Run a batch forwards and backwards; the gradients are left with the parameters.

        Args:
            batch: From :meth:`prepare`.
            weights: Of the parts of the loss.
            own_labels: VMOS's own labels go to the memory.
        """
        result = self._run(batch, weights, own_labels)
        self._timer.mark("forward_backward")
        return result

    def _compute(self, batch: ClipBatch, weights: LossWeights, own_labels: bool) -> PassResult:
        """Run a pass kernel by kernel; a ``ComputePass``."""
        predicted = self._model(
            batch, use_own_labels=own_labels, with_reference=weights.with_reference
        )
        loss = clip_loss(
            predicted,
            batch.labels,
            weights,
            align_corners=self._network.align_corners,
            has_void=batch.has_void,
        )
        self._accelerator.backward(loss.total / self._accumulate)
        values = ClipLoss(loss.total.detach(), loss.cross_entropy, loss.jaccard)
        return PassResult(values, [one.detach() for one in predicted])
