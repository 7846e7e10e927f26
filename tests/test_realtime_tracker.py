"""A tracker with a time budget: what it leaves out, and what stays as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from two_discs import draw_video

from vots_hqtrack import realtime as module
from vots_hqtrack.build import TrackerParts, build_untrained_parts, make_tracker
from vots_hqtrack.config import FrameConfig, RuntimeConfig, TrackerConfig
from vots_hqtrack.encoder.frames import NetworkEncoder
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.presets import lite_realtime, vmos
from vots_hqtrack.realtime import SCALES, RealtimeState
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import ObjectId, Size

CPU = torch.device("cpu")
FRAME = Size(*draw_video(1)[0][0].shape[:2])
SMALL = ["frame.min_short_edge=0", "memory.capacity=3", "memory.gap=1"]


class SteppingClock:
    """Goes on by a step each time it is read."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.now = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture(scope="module")
def parts() -> TrackerParts:
    return build_untrained_parts(apply_settings(vmos(), SMALL), CPU)


@pytest.fixture
def make(parts: TrackerParts, monkeypatch: pytest.MonkeyPatch) -> Callable[..., HQTracker]:
    """Makes trackers by budget; each step takes the same synthetic time."""

    def with_budget(step: float, budget: float) -> HQTracker:
        monkeypatch.setattr(module, "device_clock", lambda _: SteppingClock(step))
        settings = [*SMALL, f"runtime.frame_budget={budget}"]
        return make_tracker(apply_settings(vmos(), settings), parts, CPU)

    return with_budget


def test_with_time_enough_the_masks_are_those_without_a_budget(
    make: Callable[..., HQTracker],
) -> None:
    video = draw_video(4)
    results = []
    for budget in (0.0, 1000.0):
        tracker = make(0.001, budget)
        state = tracker.initialize(*video[0])
        results.append([tracker.track(frame, state) for frame, _ in video[1:]])
    for free, paced in zip(*results, strict=True):
        assert free.pace is None
        assert paced.pace is not None
        assert paced.pace.scale == 1
        assert paced.pace.memory_frames == 3
        assert paced.pace.is_in_budget
        assert all(np.array_equal(free.masks[i], paced.masks[i]) for i in free.masks)


def test_without_time_everything_becomes_cheaper(make: Callable[..., HQTracker]) -> None:
    video = draw_video(10)
    tracker = make(1.0, 0.1)
    state = tracker.initialize(*video[0])
    usual = make(1.0, 0.0).initialize(*video[0])
    assert max(state.geometry.network_size) < SCALES[-1] * max(usual.geometry.network_size) + 17
    results = [tracker.track(frame, state) for frame, _ in video[1:]]
    assert [result.pace.memory_frames for result in results if result.pace] == [3] * 4 + [1] * 5
    for result in results:
        assert result.pace is not None
        assert result.pace.scale == SCALES[-1]
        assert not result.pace.is_in_budget
        assert not result.pace.is_refinement_skipped  # without a refiner
        assert result.masks[1].shape == video[0][0].shape[:2]


def test_two_videos_keep_their_own_pace(make: Callable[..., HQTracker]) -> None:
    video = draw_video(3)
    tracker = make(1.0, 0.1)
    first, second = tracker.initialize(*video[0]), tracker.initialize(*video[0])
    assert isinstance(first, RealtimeState)
    assert isinstance(second, RealtimeState)
    assert first.controller is not None
    assert first.controller is not second.controller


def test_another_resolution_at_once_is_that_from_the_beginning(
    make: Callable[..., HQTracker],
) -> None:
    """A restart after one frame loses nothing, later objects included."""
    (frame, masks), (following, _) = draw_video(2)
    tracker = make(0.001, 1000.0)
    changed = tracker.initialize(frame, {1: masks[1]})
    tracker.add_objects(frame, {2: masks[2]}, changed)
    smaller = tracker.initialize(frame, {1: masks[1]})
    with torch.inference_mode():
        fresh = tracker._new_state(FRAME, 0.5)
        tracker._start_objects(frame, {ObjectId(1): masks[1]}, fresh)
    smaller = dataclasses.replace(fresh, controller=smaller.controller)
    smaller.controller.scale = changed.controller.scale = 0.5
    tracker.add_objects(frame, {2: masks[2]}, smaller)
    found, wanted = (tracker.track(following, state) for state in (changed, smaller))
    assert changed.geometry == smaller.geometry
    assert all(np.array_equal(found.masks[i], wanted.masks[i]) for i in (1, 2))
    assert found.scores == wanted.scores
    assert found.pace is not None
    assert found.pace.scale == 0.5
    assert found.pace.restart_seconds > 0


def test_a_restart_keeps_the_references_and_the_newest_frame(
    make: Callable[..., HQTracker],
) -> None:
    video = draw_video(5)
    tracker = make(0.001, 1000.0)
    state = tracker.initialize(*video[0])
    seen = np.empty_like(video[0][0])
    for frame, _ in video[1:4]:
        seen[:] = frame  # as callers do who have one buffer for all frames
        tracker.track(seen, state)
    seen[:] = 0
    assert isinstance(state, RealtimeState)
    assert state.controller is not None
    assert state.newest is not None
    assert np.array_equal(state.newest, video[3][0])
    assert [kept.frame_index for kept in state.references] == [0]
    state.controller.scale = 0.5
    result = tracker.track(video[4][0], state)
    assert result.frame_index == 4
    assert result.masks[1].shape == video[0][0].shape[:2]
    assert state.groups[0].frame_indices == (4, 3, 0)
    assert max(state.geometry.network_size) < 0.6 * max(tracker._encoder.plan(FRAME).network_size)


def test_without_a_budget_no_frame_is_kept(make: Callable[..., HQTracker]) -> None:
    video = draw_video(2)
    plain, realtime = make(0.001, 0.0), make(0.001, 1.0)
    state = plain.initialize(*video[0])
    assert not isinstance(state, RealtimeState)
    with pytest.raises(InputError, match="belongs to another tracker"):
        realtime.track(video[1][0], state)


@pytest.mark.parametrize("edge", [0, 200, 500, 1056])
def test_exception_resolutions_that_do_not_fit(edge: int) -> None:
    with pytest.raises(ConfigError, match="a multiple of 32"):
        FrameConfig(long_edge=edge)


def test_the_preset_has_the_budget_of_twenty_frames_a_second() -> None:
    assert lite_realtime().runtime.frame_budget == 1 / 20
    with pytest.raises(ConfigError, match="frame_budget"):
        RuntimeConfig(frame_budget=-1)


@pytest.mark.parametrize(("scale", "wanted"), [(1.0, 1024), (0.75, 768), (0.375, 384)])
def test_shared_encoder_plans_smaller_pictures(scale: float, wanted: int) -> None:
    network = torch.nn.Linear(1, 1)
    encoder = NetworkEncoder(network, TrackerConfig().frame, strides=(8, 16, 32))
    geometry = encoder.plan(Size(480, 854), scale)
    assert geometry.input_size.width == geometry.padded_size.width == wanted
    assert geometry.network_size.width == wanted // 2
