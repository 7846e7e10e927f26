"""Time, floating point operations or bytes by stage, measured from outside the tracker's parts.

Encoder and refiner are wrapped and VMOS gets PyTorch's forward hooks, so the tracker itself has no
line for it, and nothing remains when the measurement ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vots_hqtrack.build import TrackerParts

STAGES = (
    "read file",
    "encode",
    "propagate 1/16",
    "propagate 1/8",
    "propagate 1/4",
    "decode masks",
    "encode for refiner",
    "refine",
    "identify",
    "compose",
    "write file",
    "write regions",
)
"""In the order of a frame's way. ``compose`` is the rest of `HQTracker.track`: logits to the frame,
merging, selection, memory, report."""


class StageMeter:
    """Adds up a growing counter by stage; an inner stage does not count for the outer one.

    Args:
        read: Returns the counter, such as a clock in seconds.

    Example:
        >>> ticks = iter([0.0, 1.0, 3.0, 6.0])
        >>> meter = StageMeter(lambda: next(ticks))
        >>> with meter.stage("outer"):
        ...     with meter.stage("inner"):
        ...         pass
        >>> meter.take()
        {'outer': 4.0, 'inner': 2.0}
    """

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read
        self._totals: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    def enter(self, stage: str) -> None:
        """Begin a stage; the running one pauses."""
        self._charge()
        self._running.append(stage)

    def leave(self) -> None:
        """End the running stage; the outer one continues."""
        self._charge()
        self._running.pop()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the body as a stage."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def take(self) -> dict[str, float]:
        """Return the totals by stage since the last call, and reset them."""
        totals, self._totals = self._totals, {}
        return totals

    def _charge(self) -> None:
        now = self._read()
        if self._running:
            stage = self._running[-1]
            self._totals[stage] = self._totals.get(stage, 0.0) + now - self._since
        self._since = now


class OperatorCounter(TorchDispatchMode):
    """Counts the operators that PyTorch launches while it is entered, and the bytes they move.

    Attributes:
        count: Operators, views included.
        num_bytes: Bytes of all tensors that operators read and write; views move none.
    """

    count = 0
    num_bytes = 0

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload[..., Any],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Count an operator and run it."""
        output = func(*args, **(kwargs or {}))
        self.count += 1
        if not func.is_view:
            tensors = (
                x for x in tree_leaves((args, kwargs, output)) if isinstance(x, torch.Tensor)
            )
            self.num_bytes += sum(x.numel() * x.element_size() for x in tensors)
        return output


class _Metered:
    """Wrapper of a tracker part; the named methods are measured as stages."""

    def __init__(self, part: object, meter: StageMeter, stages: dict[str, str]) -> None:
        self._part = part
        self._meter = meter
        self._stages = stages

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the part's own attribute
        found = getattr(self._part, name)
        stage = self._stages.get(name)
        return found if stage is None else self._meter.stage(stage)(found)


@contextlib.contextmanager
def metered(parts: TrackerParts, meter: StageMeter) -> Iterator[TrackerParts]:
    """Measure a tracker's parts for the duration of the body.

    Args:
        parts: The parts to measure.
        meter: Receives the measurements.

    Yields:
        The parts to build a tracker from.
    """
    encoder: Any = _Metered(parts.encoder, meter, {"encode": "encode"})
    refiner: Any = parts.refiner
    if refiner is not None:
        refiner = _Metered(refiner, meter, {"embed": "encode for refiner", "refine": "refine"})
    vmos = parts.vmos
    blocks = vmos.pyramid.blocks
    staged: list[tuple[nn.Module, str]] = [
        (vmos.identity, "identify"),
        (vmos.pyramid, "propagate 1/16" if blocks[-1].stride == 16 else "propagate 1/4"),
        (vmos.decoder, "decode masks"),
        *((block, f"propagate 1/{block.stride}") for block in blocks),
    ]
    with contextlib.ExitStack() as hooks:
        for module, stage in staged:
            hooks.enter_context(
                module.register_forward_pre_hook(lambda *_, stage=stage: meter.enter(stage))
            )
            # Also after an error, so that the meter stays balanced.
            hooks.enter_context(
                module.register_forward_hook(lambda *_: meter.leave(), always_call=True)
            )
        yield parts._replace(encoder=encoder, refiner=refiner)
