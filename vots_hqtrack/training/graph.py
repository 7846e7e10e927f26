"""Forward and backward pass as CUDA graphs: launched by one call instead of thousands.

A graph repeats the very kernels that were recorded, on the same memory. So batches are copied into
fixed tensors, whatever changes from step to step lies in tensors too, and gradients are found where
the recording left them. The optimiser runs outside.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.training.losses import ClipLoss, LossWeights
from vots_hqtrack.types import FrameFeatures

WARM_UP_STEPS = 3
"""Steps of one kind that run as usual before they are recorded, in which libraries choose their
kernels and make their workspaces."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PassResult:
    """One batch, forwards and backwards; the gradients are left with the parameters.

    Attributes:
        loss: Without gradient.
        predicted: Logits frame by frame, without gradient. The next pass may overwrite them.
    """

    loss: ClipLoss
    predicted: list[Tensor]


ComputePass = Callable[[ClipBatch, LossWeights, bool], PassResult]
"""Runs a batch forwards and backwards; the last argument says whether VMOS's own labels go to the
memory."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What must be equal for two passes to be one graph."""

    shapes: tuple[tuple[int, ...], ...]
    num_objects: int
    has_void: bool
    own_labels: bool
    with_reference: bool


class GraphedPasses:
    """Runs passes, from the fourth of a kind on as a CUDA graph.

    Args:
        compute: The pass. For batches with features and a number of objects it must ask the device
            nothing.
        parameters: Those that get gradients.
    """

    def __init__(self, compute: ComputePass, parameters: Iterable[nn.Parameter]) -> None:
        self._compute = compute
        self._parameters = [one for one in parameters if one.requires_grad]
        self._stream: Any = torch.cuda.Stream()
        self._graphs: dict[_Kind, _CapturedPass] = {}
        self._seen: dict[_Kind, int] = {}
        self._is_off = False

    @property
    def num_graphs(self) -> int:
        """Kinds of passes that are recorded now."""
        return len(self._graphs)

    def __call__(self, batch: ClipBatch, weights: LossWeights, own_labels: bool) -> PassResult:
        """Run a pass; see ``ComputePass``."""
        kind = _kind_of(batch, weights, own_labels=own_labels)
        if self._is_off or kind is None:
            return self._compute(batch, weights, own_labels)
        if kind not in self._graphs:
            self._forget_other_shapes(kind)
            # Where one kind is recorded, the same kernels have run for the others; and the memory
            # of a pass that is not recorded may not be left beside that of one that is.
            if not self._graphs and self._seen.setdefault(kind, 0) < WARM_UP_STEPS:
                self._seen[kind] += 1
                return self._warm_up(batch, weights, own_labels=own_labels)
            self._seen.setdefault(kind, 0)
            if not self._record(kind, batch, weights):
                return self._compute(batch, weights, own_labels)
        return self._graphs[kind].replay(batch, weights)

    def _warm_up(self, batch: ClipBatch, weights: LossWeights, *, own_labels: bool) -> PassResult:
        """Run a pass as usual, on the stream that is recorded later."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = self._compute(batch, weights, own_labels)
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def _forget_other_shapes(self, kind: _Kind) -> None:
        # Graphs keep the memory of all their maps, and two may not fit. Where the clock drives a
        # run, some batches of the phase before may still come; each costs another recording.
        if any(known.shapes != kind.shapes for known in self._seen):
            self._graphs.clear()
            self._seen.clear()

    def _record(self, kind: _Kind, batch: ClipBatch, weights: LossWeights) -> bool:
        """Record a kind of pass; False if that cannot be done, now and ever."""
        pool = next((graph.pool for graph in self._graphs.values()), None)
        stream = torch.cuda.current_stream()
        try:
            self._graphs[kind] = _CapturedPass(
                self._compute,
                self._parameters,
                batch,
                weights,
                own_labels=kind.own_labels,
                stream=self._stream,
                pool=pool,
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            _log.warning("training goes on without CUDA graphs: %s", reason)
            torch.cuda.set_stream(stream)  # a recording that fails may leave another one
            self._is_off = True
            self._graphs.clear()
            for parameter in self._parameters:
                parameter.grad = None
            return False
        _log.info("recorded forward and backward pass as a CUDA graph: %s", kind)
        return True


class _CapturedPass:
    """One recorded pass, and the tensors that it reads and writes.

    Args:
        compute: The pass.
        parameters: Those that get gradients.
        batch: An example.
        weights: An example; fraction and weight of the reference frame may change later.
        own_labels: VMOS's own labels go to the memory.
        stream: To record on; passes of the kind have run there.
        pool: Memory of another graph that never runs at the same time, or None.

    Raises:
        RuntimeError: The pass cannot be recorded, or memory does not suffice.
    """

    def __init__(
        self,
        compute: ComputePass,
        parameters: list[nn.Parameter],
        batch: ClipBatch,
        weights: LossWeights,
        *,
        own_labels: bool,
        stream: Any,  # noqa: ANN401 - CUDA's classes are not annotated
        pool: Any,  # noqa: ANN401 - CUDA's classes are not annotated
    ) -> None:
        self._parameters = parameters
        self._batch = _fixed_copy(batch)
        device = batch.labels.device
        self._fraction = torch.ones((), device=device)
        self._auxiliary = torch.ones((), device=device)
        fixed = dataclasses.replace(weights, fraction=self._fraction, auxiliary=self._auxiliary)
        # Gradients that are not there yet are made inside the graph's memory, not added to.
        for parameter in parameters:
            parameter.grad = None
        self._graph: Any = torch.cuda.CUDAGraph()
        # Other threads may go on to page-lock batches meanwhile.
        recording: Any = torch.cuda.graph(
            self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"
        )
        with recording:
            self._result = compute(self._batch, fixed, own_labels)
        self._gradients = [parameter.grad for parameter in parameters]

    @property
    def pool(self) -> Any:  # noqa: ANN401 - CUDA's classes are not annotated
        """Its memory, for graphs that never run at the same time."""
        return self._graph.pool()

    def replay(self, batch: ClipBatch, weights: LossWeights) -> PassResult:
        """Run the pass on another batch of the same shapes."""
        for fixed, given in zip(_tensors(self._batch), _tensors(batch), strict=True):
            fixed.copy_(given, non_blocking=True)
        self._fraction.fill_(weights.fraction)
        self._auxiliary.fill_(weights.auxiliary)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._result


def _kind_of(batch: ClipBatch, weights: LossWeights, *, own_labels: bool) -> _Kind | None:
    """Say of what kind a pass is; None if it asks the device or encodes frames."""
    if batch.features is None or batch.num_objects is None:
        return None
    shapes = tuple(tuple(tensor.shape) for tensor in _tensors(batch))
    return _Kind(shapes, batch.num_objects, batch.has_void, own_labels, weights.with_reference)


def _tensors(batch: ClipBatch) -> list[Tensor]:
    """List what a pass reads of a batch with features."""
    features = batch.features or ()
    maps = [tensor for one in features for tensor in (one.s4, one.s8, one.s16)]
    return [batch.labels, batch.slots, *maps]


def _fixed_copy(batch: ClipBatch) -> ClipBatch:
    """Copy what a pass reads; frames are left out, which have been encoded."""
    features = tuple(
        FrameFeatures(one.s4.clone(), one.s8.clone(), one.s16.clone())
        for one in batch.features or ()
    )
    return dataclasses.replace(
        batch,
        labels=batch.labels.clone(),
        slots=batch.slots.clone(),
        frames=None,
        features=features,
    )
