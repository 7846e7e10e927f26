"""`track_together` gives what `track` gives each video alone, whatever shares its batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from device_runs import ON_CPU, ON_CUDA
from shipped import shipped_tracker
from two_discs import draw_video

from vots_hqtrack.errors import ConfigError, HQTrackError, InputError, ShapeError
from vots_hqtrack.memory import TrackState
from vots_hqtrack.result import FrameResult
from vots_hqtrack.together import in_batches
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray

pytestmark = pytest.mark.weights
SMALL = ("frame.long_edge=256", "memory.gap=1", "memory.capacity=3", "runtime.dtype=float32")
LONG, SHORT, OTHER = draw_video(4), draw_video(3, seed=9), draw_video(4, seed=50)
DIFFERENT = 1e-3
"""Fraction of pixels where two classes are as probable up to rounding, at most."""


class Video:
    """A video of two discs; the second one may be added later.

    Args:
        drawn: Frames and masks.
        begins: Step in which it begins.
        adds_at: Frame on which the second disc is added; 0 gives both on the first frame.
        shape: Height and width of the part that is tracked.
    """

    def __init__(
        self,
        drawn: Sequence[tuple[FrameArray, dict[int, np.ndarray]]],
        *,
        begins: int = 0,
        adds_at: int = 0,
        shape: tuple[int, int] = (96, 256),
    ) -> None:
        height, width = shape
        self.frames = [np.ascontiguousarray(frame[:height, :width]) for frame, _ in drawn]
        self.masks = [{i: m[:height, :width] for i, m in masks.items()} for _, masks in drawn]
        self.begins, self.adds_at = begins, adds_at

    def start(self, tracker: HQTracker) -> TrackState:
        masks = self.masks[0]
        return tracker.initialize(self.frames[0], {1: masks[1]} if self.adds_at else masks)

    def after(self, index: int, tracker: HQTracker, state: TrackState) -> None:
        if index == self.adds_at > 0:
            tracker.add_objects(self.frames[index], {2: self.masks[index][2]}, state)


VIDEOS = (
    Video(LONG),
    Video(SHORT),  # ends early
    Video(OTHER, adds_at=2),
    Video(OTHER, shape=(94, 252)),  # its network image has the size of the others
    Video(LONG, begins=2),  # has fewer memory entries for some frames
    Video(SHORT, shape=(64, 256)),  # fits none of the others
)


def track_alone(tracker: HQTracker, video: Video) -> list[FrameResult]:
    state, results = video.start(tracker), []
    for index, frame in enumerate(video.frames[1:], start=1):
        results.append(tracker.track(frame, state))
        video.after(index, tracker, state)
    return results


def track_beside_each_other(tracker: HQTracker, videos: Sequence[Video]) -> list[list[FrameResult]]:
    states: dict[int, TrackState] = {}
    results: list[list[FrameResult]] = [[] for _ in videos]
    for step in range(max(video.begins + len(video.frames) for video in videos)):
        running: list[tuple[int, int]] = []
        for number, video in enumerate(videos):
            index = step - video.begins
            if index == 0:
                states[number] = video.start(tracker)
            elif 0 < index < len(video.frames):
                running.append((number, index))
        frames = [videos[number].frames[index] for number, index in running]
        found = tracker.track_together(frames, [states[number] for number, _ in running])
        for (number, index), result in zip(running, found, strict=True):
            results[number].append(result)
            videos[number].after(index, tracker, states[number])
    return results


def check_equal(together: Sequence[FrameResult], alone: Sequence[FrameResult]) -> None:
    assert [result.frame_index for result in together] == [r.frame_index for r in alone]
    for ours, other in zip(together, alone, strict=True):
        assert np.mean(ours.label_map != other.label_map) <= DIFFERENT
        assert dict(ours.sources) == dict(other.sources)
        for number, score in other.scores.items():
            assert ours.scores[number] == pytest.approx(score, abs=0.01)


@pytest.mark.parametrize("device", [ON_CPU, ON_CUDA])
def test_videos_beside_each_other_equal_each_alone(device: str) -> None:
    """With refinement: of other lengths, begun later, with an object added, of other sizes."""
    tracker = HQTracker.from_preset("lite", device=device, settings=SMALL)
    together = track_beside_each_other(tracker, VIDEOS)
    for video, results in zip(VIDEOS, together, strict=True):
        check_equal(results, track_alone(tracker, video))
    assert {1, 2} == set(np.unique(together[2][-1].label_map)) - {0}


@pytest.mark.parametrize(
    "settings", [(), ("tracking.mode=separate",), ("tracking.search_reach=1",)]
)
def test_batches_of_several_groups_and_with_search_windows(settings: tuple[str, ...]) -> None:
    tracker = shipped_tracker("lite-vmos", [*SMALL, *settings])
    videos = [Video(SHORT), Video(OTHER[:3])]
    for video, results in zip(videos, track_beside_each_other(tracker, videos), strict=True):
        check_equal(results, track_alone(tracker, video))


@pytest.fixture(scope="module")
def tracker() -> HQTracker:
    return shipped_tracker("lite-vmos", SMALL)


def test_memory_of_a_video_does_not_hold_that_of_others(tracker: HQTracker) -> None:
    """An entry that is kept of one video must not keep a batch of all of them."""
    states = [VIDEOS[0].start(tracker), VIDEOS[1].start(tracker)]
    tracker.track_together([LONG[1][0], SHORT[1][0]], states)
    for state in states:
        for layer in state.groups[0].read().short_term.layers:
            for tensor in (layer.key, layer.value):
                assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


@pytest.mark.parametrize("kind", ["size", "no array", "count", "twice", "no object", "foreign"])
def test_an_error_of_one_video_changes_none(tracker: HQTracker, kind: str) -> None:
    good, bad = VIDEOS[0].start(tracker), VIDEOS[1].start(tracker)
    frames: list[FrameArray] = [LONG[1][0], SHORT[1][0]]
    states = [good, bad]
    wanted: type[HQTrackError] = InputError
    if kind == "size":
        frames[1], wanted = SHORT[1][0][:50], ShapeError
    elif kind == "no array":
        frames[1], wanted = None, ShapeError  # type: ignore[call-overload]
    elif kind == "count":
        frames.pop()
    elif kind == "twice":
        states = [good, good]
    elif kind == "no object":
        bad.groups = []
    else:
        bad.owner = tracker.number + 1
    with pytest.raises(wanted):
        tracker.track_together(frames, states)
    assert (good.frame_index, bad.frame_index) == (0, 0)
    assert tracker.track(LONG[1][0], good).frame_index == 1
    assert tracker.track_together([], []) == []


def test_a_latency_budget_has_no_batches() -> None:
    settings = [*SMALL, "runtime.frame_budget=10"]
    tracker = shipped_tracker("lite-vmos", settings)
    with pytest.raises(ConfigError, match="one video at a time"):
        tracker.track_together([], [])


def test_values_batches_keep_the_order_and_the_keys_apart() -> None:
    batches: list[list[int]] = []

    def compute(batch: list[int]) -> list[str]:
        batches.append(batch)
        return [f"{number}" for number in batch]

    numbers = [5, 2, 7, 4, 9]
    found = in_batches(numbers, [number % 2 for number in numbers], compute)
    assert found == ["5", "2", "7", "4", "9"]
    assert batches == [[5, 7, 9], [2, 4]]
    assert in_batches([], [], compute) == []
