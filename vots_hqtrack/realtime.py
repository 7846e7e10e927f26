"""Real-time tracking: a controller that keeps a latency budget, and a tracker that follows it.

The resolution is chosen at the first frame. While the video runs, masks are refined when enough
time has been saved for it, and the number of memory frames that are read shrinks when frames take
too long without it. Memories of different resolutions do not mix, so a change of the resolution
makes the tracker build its memory again; that happens only where the other two cannot help, and
seldom.

The controller knows nothing of networks, and the clock is given: the same times lead to the same
decisions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vots_hqtrack.devices import device_clock
from vots_hqtrack.entry import public
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.frame import labels_to_network
from vots_hqtrack.memory import TrackState, new_group
from vots_hqtrack.result import FrameResult
from vots_hqtrack.segmenter import Timer
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import (
    FrameArray,
    FramePace,
    MaskArray,
    ObjectId,
    Size,
    check_frame,
    check_masks,
    check_track_options,
)

_logger = logging.getLogger(__name__)

SCALES = (1.0, 0.75, 0.625, 0.5, 0.375)
"""Resolutions to choose from, as fractions of the preset's own."""

HEADROOM = 0.8
"""Fraction of the budget that the first frame may take: later frames read more memory."""

SMOOTHING = 0.3
"""Weight of the newest frame in the running means of seconds per frame."""

DECAY = 0.99
"""Factor per frame on the estimated seconds of a refinement, so that a refinement is tried again in
the end even if the last one was delayed."""

COOLDOWN = 4
"""Frames between two changes of the number of memory frames, so that each shows its effect."""

LOW_WATERMARK = 0.7
"""Below this fraction of the budget more memory is read again."""

SCALE_COOLDOWN = 30
"""Frames between two changes of the resolution, each of which costs the time of about three."""

MAX_DEBT = 20.0
"""Budgets that a video can owe at most, so that one long stall does not end refinement."""


def choose_scale(measure: Callable[[float], float], budget: float) -> float:
    """Choose the largest resolution at which a frame without refinement keeps the budget.

    Args:
        measure: Seconds of such a frame at a scale.
        budget: Seconds.

    Returns:
        One of ``SCALES``, the smallest if none keeps the budget. It was measured last.

    Example:
        >>> choose_scale(lambda scale: 0.2 * scale**2, budget=0.1)
        0.625
    """
    wanted = HEADROOM * budget
    scale, seconds = SCALES[0], measure(SCALES[0])
    for smaller in SCALES[1:]:
        if seconds <= wanted:
            return scale
        # Time goes with the area at least; scales that cannot be enough are not tried.
        if seconds * (smaller / scale) ** 2 > wanted and smaller != SCALES[-1]:
            continue
        scale, seconds = smaller, measure(smaller)
    return scale


class LatencyController:
    """Decides frame by frame which steps to leave out, by the latency of the frames before.

    Args:
        budget: Seconds per frame.
        scale: First resolution as a fraction of the preset's own. The attribute of that name is the
            resolution of the next frame.
        capacity: Long-term frames of a full memory.
        can_refine: Whether there is a refinement to leave out.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        budget: float,
        *,
        scale: float,
        capacity: int,
        can_refine: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.budget = budget
        self.scale = scale
        self.memory_frames = capacity
        self.is_refining = False
        self._capacity = capacity
        self._can_refine = can_refine
        self._clock = clock
        self._began = 0.0
        self._spent_refining = 0.0
        self._spent_restarting = 0.0
        self._saved = 0.0
        self._plain = 0.0
        self._refinement = 0.0
        self._mean = 0.0
        self._num_frames = 0
        self._since_change = 0
        self._since_scale = 0
        self._is_new = True
        self._has_warned = False

    def begin(self) -> None:
        """Begin a frame: decide which steps it leaves out."""
        self._began = self._clock()
        self._spent_refining = self._spent_restarting = 0.0
        self.is_refining = self._can_refine and self._can_afford_refinement()

    @contextlib.contextmanager
    def refinement(self) -> Iterator[None]:
        """Measure the body as a part of the frame's refinement."""
        began = self._clock()
        yield
        self._spent_refining += self._clock() - began

    @contextlib.contextmanager
    def restart(self) -> Iterator[None]:
        """Measure the body as building the memory at another resolution."""
        began = self._clock()
        yield
        self._spent_restarting = self._clock() - began

    def end(self) -> FramePace:
        """End the frame, and update the estimates."""
        seconds = self._clock() - self._began
        self._learn(seconds)
        pace = FramePace(
            scale=self.scale,
            memory_frames=self.memory_frames,
            is_refinement_skipped=self._can_refine and not self.is_refining,
            mean_seconds=self._mean,
            is_in_budget=self._mean <= self.budget,
            restart_seconds=self._spent_restarting,
        )
        self._adapt()
        return pace

    def _can_afford_refinement(self) -> bool:
        if not self._num_frames:
            return False
        # The first refinement measures its cost; it waits until plain frames keep the budget.
        return self._saved + self.budget - self._plain >= self._refinement and (
            self._plain < self.budget
        )

    def _learn(self, seconds: float) -> None:
        self._num_frames += 1
        weight = 1.0 if self._is_new else SMOOTHING
        self._plain += weight * (
            seconds - self._spent_refining - self._spent_restarting - self._plain
        )
        self._is_new = False
        if self.is_refining:
            self._learn_refinement(self._spent_refining)
        else:
            self._refinement *= DECAY
        # A mean over the whole video at first, over the newest frames later.
        self._mean += max(1 / self._num_frames, 1 / MAX_DEBT) * (seconds - self._mean)
        # Nothing is saved beyond one refinement: there is nothing else to spend it on.
        limit = self._refinement + self.budget
        owed = -MAX_DEBT * self.budget
        self._saved = min(max(self._saved + self.budget - seconds, owed), limit)

    def _learn_refinement(self, seconds: float) -> None:
        if not self._refinement:
            self._refinement = seconds
            return
        # Clip outliers, so that one delayed frame does not dominate the estimate.
        seconds = min(seconds, 2 * self._refinement)
        self._refinement += SMOOTHING * (seconds - self._refinement)

    def _adapt(self) -> None:
        self._since_change += 1
        self._since_scale += 1
        if self._since_change < COOLDOWN:
            return
        if self._plain > self.budget and self.memory_frames > 1:
            self._change_memory(self.memory_frames // 2)
        elif self._plain > self.budget:
            self._lower_scale()
        elif self._plain < LOW_WATERMARK * self.budget and self.memory_frames < self._capacity:
            self._change_memory(min(2 * self.memory_frames, self._capacity))
        else:
            self._raise_scale()

    def _lower_scale(self) -> None:
        smaller = [scale for scale in SCALES if scale < self.scale]
        if not smaller:
            self._warn()
        elif self._since_scale >= SCALE_COOLDOWN:
            wanted = HEADROOM * self.budget
            fitting = [s for s in smaller if self._plain * (s / self.scale) ** 2 <= wanted]
            self._change_scale(fitting[0] if fitting else smaller[-1])

    def _raise_scale(self) -> None:
        larger = [scale for scale in SCALES if scale > self.scale]
        is_skipping = self._can_refine and not self.is_refining
        if not larger or is_skipping or self._since_scale < SCALE_COOLDOWN:
            return
        # Time goes with the square of the area at most: every token may attend to every other. The
        # refiner's decoder always runs at one resolution.
        seconds = self._plain * (larger[-1] / self.scale) ** 4 + self._refinement
        if seconds <= HEADROOM * self.budget:
            self._change_scale(larger[-1])

    def _change_scale(self, scale: float) -> None:
        self.scale = scale
        self._since_scale = 0
        # The new memory is small; all of it may be read until frames take too long again.
        self._change_memory(self._capacity)

    def _change_memory(self, frames: int) -> None:
        self.memory_frames = max(frames, 1)
        self._since_change = 0
        self._is_new = True

    def _warn(self) -> None:
        if not self._has_warned:
            _logger.warning(
                "a frame takes %.3f s at the cheapest setting, and the budget is %.3f s",
                self._plain,
                self.budget,
            )
        self._has_warned = True


@dataclass(frozen=True, slots=True)
class ReferenceFrame:
    """Frame from which the memory can be built again at another resolution.

    Attributes:
        frame_index: Index of the frame in the video.
        frame: uint8 ``(H, W, 3)`` RGB, a copy.
        slot_map: ``(H, W)`` on the device, its masks.
        groups: Groups of which it is a reference frame.
    """

    frame_index: int
    frame: FrameArray
    slot_map: Tensor
    groups: range


@dataclass(slots=True)
class RealtimeState(TrackState):
    """One video with a latency budget.

    Attributes:
        controller: Keeps the budget; None while the first resolution is chosen.
        references: Reference frames.
        newest: Copy of the last frame.
    """

    controller: LatencyController | None = None
    references: list[ReferenceFrame] = field(default_factory=list)
    newest: FrameArray | None = None


class RealtimeTracker(HQTracker):
    """A tracker that keeps ``runtime.frame_budget`` seconds per frame on average."""

    @public
    def initialize(self, frame: FrameArray, masks: Mapping[int, MaskArray]) -> RealtimeState:
        """Start a video at the highest resolution that keeps the budget; see the base class."""
        size = check_frame(frame)
        given = self._complete(check_masks(masks, size), size)
        clock = device_clock(self.device)
        started: dict[float, RealtimeState] = {}

        def measure(scale: float) -> float:
            state = started[scale] = self._new_state(size, scale)
            self._start_objects(frame, given, state)
            began = clock()
            encoded = self._encoder.encode(frame, state.geometry)
            inputs = self._read(encoded, state, None, use_refiner=False)
            for group in self._segmenter.predict([inputs])[0]:
                group.frame_logits(slice(0, size.height))
            return clock() - began

        budget = self.config.runtime.frame_budget
        with torch.inference_mode():
            state = started[scale := choose_scale(measure, budget)]
        state.controller = LatencyController(
            budget,
            scale=scale,
            capacity=self.config.memory.capacity,
            can_refine=self._refiner is not None and self.config.refiner.enabled,
            clock=clock,
        )
        state.owner = self.number
        return state

    @public
    def track(
        self,
        frame: FrameArray,
        state: TrackState,
        *,
        memory_frames: int | None = None,
        use_refiner: bool = True,
    ) -> FrameResult:
        """Find the objects in the next frame within the budget; see the base class."""
        check_frame(frame, expected=state.geometry.frame_size)
        check_track_options(memory_frames, use_refiner)
        state = _realtime(state)
        controller = state.controller
        if controller is None:
            raise InputError("this video was not started by initialize")
        controller.begin()
        with torch.inference_mode():
            self._follow_scale(state, controller)
        if memory_frames is None or memory_frames > controller.memory_frames:
            memory_frames = controller.memory_frames
        refines = use_refiner and controller.is_refining
        result = super().track(frame, state, memory_frames=memory_frames, use_refiner=refines)
        state.newest = frame.copy()
        return dataclasses.replace(result, pace=controller.end())

    def track_together(
        self, frames: Sequence[FrameArray], states: Sequence[TrackState]
    ) -> list[FrameResult]:
        """Refuse: the time of a batch is no video's own."""
        raise ConfigError("a latency budget is kept for one video at a time: call track for each")

    def _new_state(self, frame_size: Size, scale: float = 1.0) -> RealtimeState:
        state = super()._new_state(frame_size, scale)
        return RealtimeState(*(getattr(state, part.name) for part in dataclasses.fields(state)))

    def _start_objects(
        self, frame: FrameArray, given: Mapping[ObjectId, MaskArray], state: TrackState
    ) -> range:
        groups = super()._start_objects(frame, given, state)
        references = _realtime(state).references
        references.append(ReferenceFrame(state.frame_index, frame.copy(), state.slot_map, groups))
        return groups

    def _timer(self, state: TrackState) -> Timer:
        controller = _realtime(state).controller
        return super()._timer(state) if controller is None else controller.refinement

    def _follow_scale(self, state: RealtimeState, controller: LatencyController) -> None:
        """Build the memory again if the controller asks for another resolution.

        The reference frames and the newest frame are left of it.
        """
        geometry = self._encoder.plan(state.geometry.frame_size, controller.scale)
        if geometry == state.geometry:
            return
        groups = [new_group(self.config.memory) for _ in state.groups]
        fresh = dataclasses.replace(state, geometry=geometry, groups=groups)
        with controller.restart():
            for kept in state.references:
                features = self._encoder.encode(kept.frame, geometry).features
                self._write_reference(kept.frame_index, features, kept.slot_map, kept.groups, fresh)
            if state.newest is not None:
                features = self._encoder.encode(state.newest, geometry).features
                labels = labels_to_network(state.slot_map, geometry)
                for number, group in enumerate(groups):
                    output = self._vmos.propagate(features, group.read())
                    slots = state.slots.in_group(labels, number)
                    identity = self._segmenter.encode_masks(slots, geometry)
                    proposals = output.proposals
                    group.write(self._vmos.write_memory(state.frame_index, proposals, identity))
        state.geometry, state.groups, state.features = geometry, groups, None


def _realtime(state: TrackState) -> RealtimeState:
    if not isinstance(state, RealtimeState):
        raise InputError("this video was started by a tracker without a latency budget")
    return state
