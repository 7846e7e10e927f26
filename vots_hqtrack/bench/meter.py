"""Time or floating point operations by stage, taken from outside the tracker's parts.

Encoder and refiner are wrapped and VMOS gets PyTorch's forward hooks, so that the tracker itself
has no line for it and nothing stays behind when the measurement ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vots_hqtrack.build import TrackerParts
from vots_hqtrack.encoder.frames import EncodedFrame, FrameEncoder
from vots_hqtrack.frame import FrameGeometry
from vots_hqtrack.refiner import Box, Refinement, Refiner
from vots_hqtrack.types import FrameArray, Size
from vots_hqtrack.vmos import VMOS

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
"""In the order of a frame's way. ``compose`` is what `HQTracker.track` does beside the others:
logits to the frame, merging, selection, memory, report."""


class StageMeter:
    """Adds a growing reading up by stage; what an inner stage takes does not count for the outer.

    Args:
        read: The reading, such as a clock in seconds.

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
        """Begin a stage; the one that runs pauses."""
        self._charge()
        self._running.append(stage)

    def leave(self) -> None:
        """End the stage that runs; the one before it goes on."""
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
        """Return the totals by stage since the last call, and begin anew."""
        totals, self._totals = self._totals, {}
        return totals

    def _charge(self) -> None:
        now = self._read()
        if self._running:
            stage = self._running[-1]
            self._totals[stage] = self._totals.get(stage, 0.0) + now - self._since
        self._since = now


class _MeteredEncoder:
    """A ``FrameEncoder`` whose work is measured."""

    def __init__(self, encoder: FrameEncoder, meter: StageMeter) -> None:
        self._encoder = encoder
        self._meter = meter

    def plan(self, frame_size: Size, scale: float = 1.0) -> FrameGeometry:
        """Lay out a frame size."""
        return self._encoder.plan(frame_size, scale)

    def encode(self, frame: FrameArray, geometry: FrameGeometry) -> EncodedFrame:
        """Encode a frame, and measure it."""
        with self._meter.stage("encode"):
            return self._encoder.encode(frame, geometry)


class _MeteredRefiner:
    """A ``Refiner`` whose work is measured."""

    def __init__(self, refiner: Refiner, meter: StageMeter) -> None:
        self._refiner = refiner
        self._meter = meter
        self.shared_encoder = refiner.shared_encoder

    def embed(self, encoded: EncodedFrame) -> Any:  # noqa: ANN401 - the refiner's own
        """Encode for the refiner, and measure it."""
        with self._meter.stage("encode for refiner"):
            return self._refiner.embed(encoded)

    def refine(self, embedding: Any, masks: Tensor) -> Refinement:  # noqa: ANN401
        """Refine masks, and measure it."""
        with self._meter.stage("refine"):
            return self._refiner.refine(embedding, masks)

    def segment_boxes(self, embedding: Any, boxes: Sequence[Box]) -> Tensor:  # noqa: ANN401
        """Segment boxes; it is not measured."""
        return self._refiner.segment_boxes(embedding, boxes)


@contextlib.contextmanager
def metered(parts: TrackerParts, meter: StageMeter) -> Iterator[TrackerParts]:
    """Measure what a tracker's parts do as long as the body runs.

    Args:
        parts: Of the tracker.
        meter: Where to add it up.

    Yields:
        The parts to build a tracker of.
    """
    staged = _stages_of(parts.vmos)
    refiner = None if parts.refiner is None else _MeteredRefiner(parts.refiner, meter)
    handles: list[RemovableHandle] = []
    try:
        for module, stage in staged:
            handles += _watch(module, stage, meter)
        yield parts._replace(encoder=_MeteredEncoder(parts.encoder, meter), refiner=refiner)
    finally:
        for handle in handles:
            handle.remove()


def _stages_of(vmos: VMOS) -> list[tuple[nn.Module, str]]:
    blocks = vmos.pyramid.blocks
    is_single_scale = blocks[-1].stride == 16
    return [
        (vmos.identity, "identify"),
        (vmos.pyramid, "propagate 1/16" if is_single_scale else "propagate 1/4"),
        (vmos.decoder, "decode masks"),
        *((block, f"propagate 1/{block.stride}") for block in blocks),
    ]


def _watch(module: nn.Module, stage: str, meter: StageMeter) -> list[RemovableHandle]:
    def before(*_: Any) -> None:  # noqa: ANN401 - the module's own arguments
        meter.enter(stage)

    def after(*_: Any) -> None:  # noqa: ANN401 - the module's own arguments and output
        meter.leave()

    return [
        module.register_forward_pre_hook(before),
        # Also after an error, so that the meter's stack stays balanced.
        module.register_forward_hook(after, always_call=True),
    ]
