"""The tracker: the only place where encoder, VMOS, memory, refiner and selector meet (paper, Figure 2).

CONTRACT FIRST (being filled in): signatures below are what every other part codes against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.types import FrameArray, FrameResult, MaskArray

if TYPE_CHECKING:
    from vots_hqtrack.memory.state import TrackState


class HQTracker:
    """Tracks any number of objects through a video, frame by frame."""

    config: TrackerConfig

    @classmethod
    def from_preset(
        cls,
        name: str = "lite",
        *,
        device: str = "auto",
        weights: Path | None = None,
        settings: Iterable[str] = (),
    ) -> HQTracker:
        """Build a tracker. Raises ConfigError, WeightsError."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: TrackerConfig, *, device: str = "auto", weights: Path | None = None) -> HQTracker:
        """Build a tracker. Raises ConfigError, WeightsError."""
        raise NotImplementedError

    def initialize(self, frame: FrameArray, masks: Mapping[int, MaskArray]) -> TrackState:
        """Start a video. Raises InputError (no object, empty mask), ShapeError."""
        raise NotImplementedError

    def track(self, frame: FrameArray, state: TrackState) -> FrameResult:
        """Find the objects in the next frame."""
        raise NotImplementedError

    def add_objects(self, frame: FrameArray, masks: Mapping[int, MaskArray], state: TrackState) -> None:
        """Add objects on the frame that `track` (or `initialize`) saw last."""
        raise NotImplementedError

    def mask_from_box(self, frame: FrameArray, box: tuple[float, float, float, float]) -> MaskArray:
        """Segment what a box `(x, y, width, height)` in pixels encloses, by the refiner."""
        raise NotImplementedError
