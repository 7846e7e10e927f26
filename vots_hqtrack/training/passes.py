"""Forward and backward pass of a batch, as a CUDA graph where that can be done.

A graph is launched by one call instead of thousands, and repeats the very kernels that were
recorded, on the same memory. So batches are copied into fixed tensors, options that change from
step to step are tensors too, and gradients are found where the recording left them. The optimiser
runs outside.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.devices import TensorBatch
from vots_hqtrack.training.batch import ClipBatch, ClipSource
from vots_hqtrack.training.engine import compute_dtype
from vots_hqtrack.training.losses import Loss, StepOptions
from vots_hqtrack.training.recipe import RunOptions
from vots_hqtrack.training.session import StepTimer
from vots_hqtrack.training.task import TrainedNetwork

WARM_UP_STEPS = 3
"""Steps of one kind that run as usual before they are recorded, in which libraries choose their
kernels and make their workspaces."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PassResult:
    """Result of a pass besides the gradients, which are left with the parameters.

    Attributes:
        loss: Loss without gradient.
        batch: The batch.
        predicted: Logits frame by frame, without gradient. The next pass may overwrite them.
    """

    loss: Loss
    batch: TensorBatch
    predicted: list[Tensor]


ComputePass = Callable[[Any, StepOptions], PassResult]
"""Runs a batch forwards and backwards."""


class Passes:
    """Runs batches, as CUDA graphs where that can be done.

    Args:
        options: Options of the run.
        network: The network itself.
        model: The network as Accelerate wrapped it.
        accelerator: Accelerate's.
        timer: Measures the parts of a step.
    """

    def __init__(
        self,
        options: RunOptions,
        network: TrainedNetwork,
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
        self._device: torch.device = accelerator.device
        # Processes talk in the middle of a backward pass, micro-batches add up their gradients, and
        # float16 looks at its gradients: none of these is one graph.
        is_alone = accelerator.num_processes == 1 and options.accumulate == 1
        can_record = self._device.type == "cuda" and is_alone and accelerator.scaler is None
        self._run: ComputePass = self._compute
        if can_record and options.graph == "auto":
            self._run = GraphedPasses(self._compute, network.parameters())

    @property
    def num_graphs(self) -> int:
        """CUDA graphs in use."""
        return self._run.num_graphs if isinstance(self._run, GraphedPasses) else 0

    def prepare(self, source: ClipSource[Any], drawn: object) -> Any:  # noqa: ANN401 - a batch
        """Make a batch on the device, with the features of a frozen encoder.

        Args:
            source: Source of the batch.
            drawn: Result of the source's ``draw``.
        """
        batch = source.finish(drawn, self._device)
        self._timer.mark("compose")
        batch = self._network.encode_frozen(batch, self._dtype)
        self._timer.mark("encode")
        return batch

    def run(self, batch: TensorBatch, options: StepOptions) -> PassResult:
        """Run a batch from :meth:`prepare`; the gradients are left with the parameters."""
        result = self._run(batch, options)
        self._timer.mark("forward_backward")
        return dataclasses.replace(result, batch=batch)

    def _compute(self, batch: TensorBatch, options: StepOptions) -> PassResult:
        """Run a pass kernel by kernel."""
        predicted = self._model(batch, options)
        loss = self._network.loss(predicted, batch, options)
        self._accelerator.backward(loss.total / self._accumulate)
        values = Loss(loss.total.detach(), loss.cross_entropy, loss.jaccard)
        return PassResult(values, batch, [logits.detach() for logits in predicted])


_Kind = tuple[tuple[torch.Size, ...], int, bool, bool]
"""All that must be equal for two passes to be one graph: shapes, number of objects, whether
predicted masks go to the memory, and whether the reference frame counts."""


class GraphedPasses:
    """Runs passes, from the fourth of a kind on as a CUDA graph.

    Args:
        compute: The pass. For batches with features and a number of objects it must ask the device
            nothing.
        parameters: Those that get gradients.
    """

    def __init__(self, compute: ComputePass, parameters: Iterable[nn.Parameter]) -> None:
        self._compute = compute
        self._parameters = [each for each in parameters if each.requires_grad]
        self._stream: Any = torch.cuda.Stream()
        self._graphs: dict[_Kind, _CapturedPass] = {}
        self._seen: dict[_Kind, int] = {}
        self._is_off = False

    @property
    def num_graphs(self) -> int:
        """Kinds of passes that are recorded now."""
        return len(self._graphs)

    def __call__(self, batch: TensorBatch, options: StepOptions) -> PassResult:
        """Run a pass; see ``ComputePass``."""
        kind = _kind_of(batch, options)
        if self._is_off or kind is None or not isinstance(batch, ClipBatch):
            return self._compute(batch, options)
        if kind not in self._graphs:
            self._drop_other_shapes(kind)
            # Where one kind is recorded, the same kernels have run for the others; and the memory
            # of a pass that is not recorded may not be left beside that of one that is.
            if not self._graphs and self._seen.setdefault(kind, 0) < WARM_UP_STEPS:
                self._seen[kind] += 1
                return self._warm_up(batch, options)
            self._seen.setdefault(kind, 0)
            if not self._record(kind, batch, options):
                return self._compute(batch, options)
        return self._graphs[kind].replay(batch, options)

    def _warm_up(self, batch: ClipBatch, options: StepOptions) -> PassResult:
        """Run a pass as usual, on the stream that is recorded later."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = self._compute(batch, options)
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def _drop_other_shapes(self, kind: _Kind) -> None:
        # Graphs keep the memory of all their maps, and two may not fit. Where the clock drives a
        # run, some batches of the phase before may still come; each costs another recording.
        if any(known[0] != kind[0] for known in self._seen):
            self._graphs.clear()
            self._seen.clear()

    def _record(self, kind: _Kind, batch: ClipBatch, options: StepOptions) -> bool:
        """Record a kind of pass; False if that cannot be done, now and ever."""
        pool = next((graph.pool for graph in self._graphs.values()), None)
        stream = torch.cuda.current_stream()
        try:
            self._graphs[kind] = _CapturedPass(
                self._compute, self._parameters, batch, options, stream=self._stream, pool=pool
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
        options: An example; fraction and weight of the reference frame may change later.
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
        options: StepOptions,
        *,
        stream: Any,  # noqa: ANN401 - CUDA's classes are not annotated
        pool: Any,  # noqa: ANN401 - CUDA's classes are not annotated
    ) -> None:
        self._parameters = parameters
        # A copy of what a pass reads; frames are left out, which have been encoded.
        self._batch = dataclasses.replace(batch, frames=None).map(torch.clone)
        device = batch.labels.device
        self._fraction = torch.ones((), device=device)
        self._auxiliary = torch.ones((), device=device)
        fixed = dataclasses.replace(options, fraction=self._fraction, auxiliary=self._auxiliary)
        # Gradients that are not there yet are made inside the graph's memory, not added to.
        for parameter in parameters:
            parameter.grad = None
        self._graph: Any = torch.cuda.CUDAGraph()
        # Other threads may go on to page-lock batches meanwhile.
        recording: Any = torch.cuda.graph(
            self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"
        )
        with recording:
            self._result = compute(self._batch, fixed)
        self._gradients = [parameter.grad for parameter in parameters]

    @property
    def pool(self) -> Any:  # noqa: ANN401 - CUDA's classes are not annotated
        """Its memory, for graphs that never run at the same time."""
        return self._graph.pool()

    def replay(self, batch: ClipBatch, options: StepOptions) -> PassResult:
        """Run the pass on another batch of the same shapes."""
        for fixed, given in zip(_tensors(self._batch), _tensors(batch), strict=True):
            fixed.copy_(given, non_blocking=True)
        self._fraction.fill_(options.fraction)
        self._auxiliary.fill_(options.auxiliary)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._result


def _kind_of(batch: TensorBatch, options: StepOptions) -> _Kind | None:
    """Return the kind of a pass; None if it asks the device or encodes frames."""
    if not isinstance(batch, ClipBatch) or batch.features is None or batch.num_objects is None:
        return None
    shapes = tuple(tensor.shape for tensor in _tensors(batch))
    return shapes, batch.num_objects, options.predicted_masks, options.with_reference


def _tensors(batch: ClipBatch) -> list[Tensor]:
    """List the tensors that a pass reads of a batch with features."""
    maps = [tensor for each in batch.features or () for tensor in (each.s4, each.s8, each.s16)]
    return [batch.labels, batch.slots, *maps]
