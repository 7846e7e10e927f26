"""Time or floating point operations by stage, taken from outside the tracker's parts.

The encoder is wrapped and the other parts get PyTorch's forward hooks, so that the tracker itself
has no line for it and nothing stays behind when the measurement ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from vots_hqtrack.build import TrackerParts
from vots_hqtrack.encoder.frames import EncodedFrame, FrameEncoder
from vots_hqtrack.frame import FrameGeometry
from vots_hqtrack.types import FrameArray, ImageEmbedding, Size
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
            encoded = self._encoder.encode(frame, geometry)

        def embed() -> ImageEmbedding:
            with self._meter.stage("encode for refiner"):
                return encoded.embed()

        return EncodedFrame(encoded.features, embed)


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
    if parts.refiner is not None:
        staged.append((parts.refiner, "refine"))
    handles: list[RemovableHandle] = []
    try:
        for module, stage in staged:
            handles += _watch(module, stage, meter)
        yield parts._replace(encoder=_MeteredEncoder(parts.encoder, meter))
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
