"""Our own presets as models to measure: a frame in, labels out, nothing waited for in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch

from vots_hqtrack.bench.run import Case, build_any, fill_memory, ping_pong
from vots_hqtrack.build import TrackerParts, make_tracker
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.memory import TrackState
from vots_hqtrack.synthetic.discs import SyntheticVideo
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, LabelArray, MaskArray, Size

_VIDEO_LENGTH = 12


@dataclass(frozen=True, slots=True)
class BenchClip:
    """Frames that are played back and forth without end, and the objects of the first one.

    Attributes:
        frames: Endless; each uint8 ``(H, W, 3)`` RGB.
        masks: Bool ``(H, W)`` by object id, of the first frame.
        size: Of the frames.
    """

    frames: Iterator[FrameArray]
    masks: dict[int, MaskArray]
    size: Size


def make_clip(size: Size, num_objects: int) -> BenchClip:
    """Draw a made-up clip; always the same for the same arguments."""
    video = SyntheticVideo(size, num_objects)
    frames = [video.frame(index) for index in range(_VIDEO_LENGTH)]
    return BenchClip(ping_pong(frames), video.masks(0), size)


class BenchModel(Protocol):
    """A tracker that is measured.

    Attributes:
        facts: What the numbers depend on, ready for JSON; complete after :meth:`start`.
    """

    facts: dict[str, object]

    def start(self, clip: BenchClip) -> None:
        """Begin a clip and track until the memory is full. May be called again."""

    def step(self, frame: FrameArray) -> LabelArray:
        """Track one frame.

        Args:
            frame: uint8 ``(H, W, 3)`` RGB, on the host.

        Returns:
            ``(H, W)`` uint8 object ids, on the host.
        """


@dataclass(slots=True)
class OwnModel:
    """A preset of this package. Weights that are not in the package are random.

    Attributes:
        config: How to track; the memory is filled to its capacity before anything is measured.
        device: Where to compute.
        facts: See ``BenchModel``.
    """

    config: TrackerConfig
    device: torch.device
    facts: dict[str, object] = field(default_factory=dict)
    _parts: TrackerParts | None = None
    _tracker: HQTracker | None = None
    _state: TrackState | None = None

    def start(self, clip: BenchClip) -> None:
        """Begin a clip and track until the memory is full. May be called again."""
        if self._parts is None:
            self._parts, weights = build_any(self.config, self.device)
            self.facts["weights"] = "shipped" if weights == "preset" else "random"
        case = Case(self.config, str(self.device))
        self._state = fill_memory(case, self._parts, self.device, clip.frames, clip.masks)
        self._tracker = make_tracker(self.config, self._parts, self.device)
        self.facts["dtype"] = str(self._tracker.dtype).removeprefix("torch.")
        self.facts["memory_frames"] = self.config.memory.capacity
        self.facts["memory_bytes"] = self._state.nbytes

    def step(self, frame: FrameArray) -> LabelArray:
        """Track one frame; see ``BenchModel``."""
        if self._tracker is None or self._state is None:
            raise RuntimeError("start comes before step")
        return self._tracker.track(frame, self._state).label_map
