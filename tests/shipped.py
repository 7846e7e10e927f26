"""Trackers with the shipped weights or random ones, which share networks and encoded frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cache, partial

import torch

from vots_hqtrack.build import TrackerParts, build_parts, build_untrained_parts, make_tracker
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.encoder.frames import EncodedFrame, FrameEncoder
from vots_hqtrack.frame import FrameGeometry
from vots_hqtrack.presets import load_preset
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, FrameFeatures, Size

CPU = torch.device("cpu")
SMALL = ("frame.long_edge=384",)
"""Frames of 96 x 256 pixels at one and a half their size: a fifth of the work of the default."""


KNOWN_FRAMES = 24
"""Encoded frames of each network that are kept, the newest ones."""


class EncodedOnce:
    """Encodes a frame once, however many tests track it: most of a frame's time goes there."""

    def __init__(self, encoder: FrameEncoder) -> None:
        self._encoder = encoder
        self._known: dict[tuple[bytes, FrameGeometry], FrameFeatures] = {}

    def plan(self, frame_size: Size, scale: float = 1.0) -> FrameGeometry:
        return self._encoder.plan(frame_size, scale)

    def plan_crop(self, size: Size) -> FrameGeometry:
        return self._encoder.plan_crop(size)

    def encode(self, frame: FrameArray, geometry: FrameGeometry) -> EncodedFrame:
        key = frame.tobytes(), geometry
        if key not in self._known:
            self._known[key] = self._encoder.encode(frame, geometry).features
            while len(self._known) > KNOWN_FRAMES:
                del self._known[next(iter(self._known))]
        return EncodedFrame(frame, geometry, self._known[key])

    def encode_together(
        self, frames: Sequence[FrameArray], geometries: Sequence[FrameGeometry]
    ) -> list[EncodedFrame]:
        return self._encoder.encode_together(frames, geometries)


@cache
def _parts(networks: TrackerConfig, *, is_trained: bool) -> TrackerParts:
    build = partial(build_parts, weights=None) if is_trained else build_untrained_parts
    parts = build(networks, CPU)
    return parts._replace(encoder=EncodedOnce(parts.encoder))


def shipped_tracker(
    preset: str, settings: Iterable[str] = SMALL, *, is_trained: bool = True
) -> HQTracker:
    """Make a tracker; those that differ in rules alone share their networks."""
    config = apply_settings(load_preset(preset), settings)
    rules = {
        name: getattr(TrackerConfig(), name)
        for name in ("preset", "memory", "tracking", "selector", "confidence")
    }
    parts = _parts(dataclasses.replace(config, **rules), is_trained=is_trained)
    return make_tracker(config, parts, CPU)
