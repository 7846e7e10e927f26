"""Functions of tensors that the host launches once: recorded as a CUDA graph, then replayed.

A frame of the lite preset has some 1,600 kernels, and the host needs ten times as long to launch
them as the GPU to run them. A recorded function costs one launch and the copies of what goes in and
comes out. On the CPU, functions are left as they are.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from vots_hqtrack.config import CompileBackend

MAX_GRAPHS = 48
"""Kinds of arguments that a function keeps; the one unused for longest goes first."""

_Value = TypeVar("_Value")
_logger = logging.getLogger(__name__)


class Graph(Protocol):
    """A recorded call: reads and writes the same tensors at each replay."""

    result: Any

    def replay(self) -> None:
        """Compute the result again."""


class CudaGraph:
    """A call recorded by CUDA.

    Args:
        function: Function of tensors; it must not wait for the device nor copy from the host.
        arguments: Its arguments; every replay reads their tensors.
        pool: Memory of a graph that never runs at the same time; None for memory of its own.

    Raises:
        RuntimeError: The call cannot be recorded, or memory does not suffice.
    """

    def __init__(self, function: Callable[..., Any], arguments: Any, pool: Any) -> None:  # noqa: ANN401 - CUDA's classes are not annotated
        self._graph: Any = torch.cuda.CUDAGraph()
        # Other threads may upload the next frame meanwhile.
        recording: Any = torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local")
        with recording:
            self.result = function(*arguments)

    def replay(self) -> None:
        """Compute the result again."""
        self._graph.replay()


class _Recording:
    """A graph with the tensors that it reads."""

    def __init__(
        self,
        record: Callable[[Any], Graph],
        arguments: Any,  # noqa: ANN401 - as the function's own
        tensors: Sequence[Tensor],
    ) -> None:
        self._inputs = [tensor.clone() for tensor in tensors]
        self._sources: list[Callable[[], Tensor | None]] = [weakref.ref(each) for each in tensors]
        self._graph = record(_with_tensors(arguments, iter(self._inputs)))

    def __call__(self, tensors: Sequence[Tensor]) -> Any:  # noqa: ANN401 - as the function's own
        for index, tensor in enumerate(tensors):
            if self._sources[index]() is not tensor:
                self._inputs[index].copy_(tensor, non_blocking=True)
                self._sources[index] = weakref.ref(tensor)
        self._graph.replay()
        outputs: list[Tensor] = []
        _kind_of(self._graph.result, outputs)
        return _with_tensors(self._graph.result, iter([each.clone() for each in outputs]))


class Recorded:
    """A function that is recorded once for each kind of arguments.

    The kind is the structure of the arguments (dataclasses, tuples, lists), the shapes of their
    tensors, and everything else in them. The first call of a kind computes as usual, which also
    warms up; the second one is recorded. A kind that cannot be recorded is computed as usual.

    A tensor that is the same object as in the call before is not copied again: arguments must
    not be written in place.

    Args:
        function: Function of tensors.
        record: Records a call, given its arguments; None takes CUDA's graphs.
    """

    def __init__(
        self, function: Callable[..., Any], record: Callable[[Any], Graph] | None = None
    ) -> None:
        self._function = function
        self._record = self._record_cuda if record is None else record
        self._pool: Any = None
        # A replay works on tensors that all callers share, in whatever thread they are.
        self._lock = threading.Lock()
        self._last_call: torch.cuda.Event | None = None
        self._known: OrderedDict[Hashable, _Recording | None] = OrderedDict()
        self._failed: set[Hashable] = set()

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401 - as the function's own
        """Compute the function; results are the caller's own."""
        if is_in_torch_dispatch_mode():  # it wants to see the operations
            return self._function(*arguments)
        with self._lock:
            if self._last_call is not None:  # it may have been in another stream
                self._last_call.wait()
            result = self._call(arguments)
            if self._pool is not None:
                self._last_call = torch.cuda.current_stream().record_event()
            return result

    def _call(self, arguments: Any) -> Any:  # noqa: ANN401 - as the function's own
        tensors: list[Tensor] = []
        kind = _kind_of(arguments, tensors)
        if kind not in self._known:
            self._known[kind] = None
            if len(self._known) > MAX_GRAPHS:
                self._known.popitem(last=False)
            return self._function(*arguments)
        self._known.move_to_end(kind)
        recording = self._known[kind]
        if recording is None and kind not in self._failed:
            try:
                recording = self._known[kind] = _Recording(self._record, arguments, tensors)
            except RuntimeError as error:
                self._failed.add(kind)
                _logger.warning("computing without a CUDA graph, which failed: %s", error)
        return self._function(*arguments) if recording is None else recording(tensors)

    def _record_cuda(self, arguments: Any) -> Graph:  # noqa: ANN401 - as the function's own
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        return CudaGraph(self._function, arguments, self._pool)


class SideStream(Generic[_Value]):
    """A second queue of work for a GPU, which it computes beside the work of the current stream.

    Other devices have no queues: there, work is done at once.

    Args:
        device: Compute device.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def put(self, work: Callable[[], _Value]) -> Callable[[], _Value]:
        """Queue work.

        Args:
            work: Reads no tensor that the current stream has written since the queue was made.

        Returns:
            Function that makes the current stream wait for the work, and returns its result.
        """
        if self._stream is None:
            value = work()
            return lambda: value
        stream = self._stream
        with torch.cuda.stream(stream):
            value = work()
            done = stream.record_event()

        def take() -> _Value:
            current = torch.cuda.current_stream(stream.device)
            current.wait_event(done)
            tensors: list[Tensor] = []
            _kind_of(value, tensors)
            for tensor in tensors:  # their memory is not given out again before it is read
                tensor.record_stream(current)
            return value

        return take


def launched_once(
    function: Callable[..., Any], backend: CompileBackend, device: torch.device
) -> Callable[..., Any]:
    """Return a function that costs the host less; results change by no more than rounding.

    Args:
        function: Function of tensors, such as a module in evaluation mode.
        backend: Option ``runtime.compile``.
        device: Device of the tensors.
    """
    if backend == "inductor":
        function = torch.compile(function, dynamic=False)
    is_recorded = device.type == "cuda" and backend != "off"
    return Recorded(function) if is_recorded else function


def _kind_of(value: Any, tensors: list[Tensor]) -> Hashable:  # noqa: ANN401 - any structure
    """Return what is not a tensor's content in a structure, and collect its tensors."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return tuple(value.shape), value.stride(), value.dtype, value.device
    if dataclasses.is_dataclass(value):
        parts = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif isinstance(value, (tuple, list)):
        parts = list(value)
    else:
        found: Hashable = value
        return found
    return (type(value), *(_kind_of(part, tensors) for part in parts))


def _with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:  # noqa: ANN401 - any structure
    """Return the same structure with other tensors, taken in the order of `_kind_of`."""
    if isinstance(value, Tensor):
        return next(tensors)
    if dataclasses.is_dataclass(value):
        parts = {
            field.name: _with_tensors(getattr(value, field.name), tensors)
            for field in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **parts)  # type: ignore[type-var]
    if isinstance(value, (tuple, list)):
        items = [_with_tensors(part, tensors) for part in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
