"""`track_video` gives what `track` gives, also where the next frame is encoded ahead."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from device_runs import ON_CUDA
from shipped import shipped_tracker
from two_discs import draw_video

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.result import FrameResult
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray

pytestmark = pytest.mark.weights
SMALL = ("frame.long_edge=256", "memory.gap=2", "memory.capacity=3")
VIDEO = draw_video(5)
FRAMES = [frame for frame, _ in VIDEO]
AHEAD = pytest.mark.parametrize("is_ahead", [False, True])
DIFFERENT = 1e-4
"""Fraction of pixels that may differ on a GPU, where the order of sums may change."""


@pytest.fixture(scope="module")
def tracker() -> HQTracker:
    return HQTracker.from_preset("lite", device="cpu", settings=SMALL)


@pytest.fixture(scope="module")
def unrefined() -> HQTracker:
    """For what does not depend on the masks."""
    return shipped_tracker("lite-vmos", SMALL)


@pytest.fixture(scope="module")
def wanted(tracker: HQTracker) -> list[FrameResult]:
    return list(follow(tracker, is_video=False))


def follow(tracker: HQTracker, *, is_video: bool) -> Iterator[FrameResult]:
    """Track; the second disc is added after the second tracked frame."""
    state = tracker.initialize(FRAMES[0], {1: VIDEO[0][1][1]})
    if is_video:
        results = iter(tracker.track_video(FRAMES[1:], state))
    else:
        results = (tracker.track(frame, state) for frame in FRAMES[1:])
    for index, result in enumerate(results, start=1):
        if index == 2:
            tracker.add_objects(FRAMES[2], {2: VIDEO[2][1][2]}, state)
        yield result


@AHEAD
def test_results_equal_those_of_track(
    tracker: HQTracker,
    wanted: list[FrameResult],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_ahead: bool,
) -> None:
    monkeypatch.setattr(tracker, "_encodes_ahead", is_ahead)
    found = list(follow(tracker, is_video=True))
    assert [result.frame_index for result in found] == [1, 2, 3, 4]
    assert {1, 2} == set(np.unique(found[-1].label_map)) - {0}
    for ours, other in zip(found, wanted, strict=True):
        assert np.array_equal(ours.label_map, other.label_map)
        assert dict(ours.scores) == dict(other.scores)
        assert dict(ours.sources) == dict(other.sources)


@AHEAD
@pytest.mark.parametrize("kind", ["unreadable", "other size", "no frame"])
def test_an_error_comes_after_the_results_before_it(
    unrefined: HQTracker, monkeypatch: pytest.MonkeyPatch, kind: str, *, is_ahead: bool
) -> None:
    monkeypatch.setattr(unrefined, "_encodes_ahead", is_ahead)

    def frames() -> Iterator[FrameArray]:
        yield from FRAMES[1:3]
        if kind == "unreadable":
            raise InputError("frame 3 cannot be read")
        yield FRAMES[3][:50] if kind == "other size" else None  # type: ignore[misc]

    state = unrefined.initialize(*VIDEO[0])
    results = unrefined.track_video(frames(), state)
    assert [next(results).frame_index for _ in range(2)] == [1, 2]
    with pytest.raises(InputError if kind == "unreadable" else ShapeError):
        next(results)
    assert state.frame_index == 2
    assert unrefined.track(FRAMES[3], state).frame_index == 3


@AHEAD
def test_frames_are_read_at_most_one_ahead(
    unrefined: HQTracker, monkeypatch: pytest.MonkeyPatch, *, is_ahead: bool
) -> None:
    monkeypatch.setattr(unrefined, "_encodes_ahead", is_ahead)
    read: list[int] = []

    def frames() -> Iterator[FrameArray]:
        for number in (1, 2, 3):
            read.append(number)
            yield FRAMES[number]

    results = unrefined.track_video(frames(), unrefined.initialize(*VIDEO[0]))
    next(results)
    assert read == ([1, 2] if is_ahead else [1])
    results.close()  # a run may end at any frame
    assert list(unrefined.track_video([], unrefined.initialize(*VIDEO[0]))) == []


@AHEAD
def test_the_arguments_are_checked(
    unrefined: HQTracker, monkeypatch: pytest.MonkeyPatch, *, is_ahead: bool
) -> None:
    monkeypatch.setattr(unrefined, "_encodes_ahead", is_ahead)
    with pytest.raises(InputError, match="frames must be several arrays"):
        next(unrefined.track_video(5, None))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be the one that initialize returned"):
        next(unrefined.track_video(FRAMES, None))  # type: ignore[arg-type]
    state = unrefined.initialize(*VIDEO[0])
    state.owner = unrefined.number + 1
    with pytest.raises(InputError, match="belongs to another tracker"):
        next(unrefined.track_video(FRAMES, state))


@pytest.mark.parametrize("device", [ON_CUDA])
@pytest.mark.parametrize("way", ["off", "auto"])
def test_two_videos_encoded_beside_each_other(device: str, way: str) -> None:
    """Graphs of the encoder are replayed in several streams, in turns with the usual one."""
    settings = (*SMALL, "runtime.dtype=float32", f"runtime.compile={way}")
    tracker = HQTracker.from_preset("lite", device=device, settings=settings)
    videos = draw_video(12), draw_video(12, seed=50)
    alone = []
    for video in videos:
        state = tracker.initialize(*video[0])
        alone.append([tracker.track(frame, state).label_map for frame, _ in video[1:]])
    runs = [
        tracker.track_video((frame for frame, _ in video[1:]), tracker.initialize(*video[0]))
        for video in videos
    ]
    for expected in zip(*alone, strict=True):
        for run, labels in zip(runs, expected, strict=True):
            assert np.mean(next(run).label_map != labels) <= DIFFERENT
            tracker.encode(FRAMES[0])  # in the usual stream
