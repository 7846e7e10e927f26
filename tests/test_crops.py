"""Small objects are tracked in crops at a higher scale; all else stays as it is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from shipped import SMALL, shipped_tracker
from two_discs import texture

from vots_hqtrack.build import build_untrained_parts, make_tracker
from vots_hqtrack.crops import Crop, CroppingTracker
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.frame import find_small
from vots_hqtrack.memory import TrackState
from vots_hqtrack.presets import load_preset
from vots_hqtrack.saved_state import read_state, save_state
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId, Size

HEIGHT, WIDTH = 144, 320
TINY, LARGE = 1, 2
Video = list[tuple[FrameArray, dict[int, MaskArray]]]


def draw(
    num_frames: int, *, radii: Mapping[int, float] | None = None, hidden: tuple[int, ...] = ()
) -> Video:
    """Draw a ball of a few pixels and a large disc on a textured wall; both move."""
    scale = 4  # drawn larger and reduced, so that the ball has soft edges as in a camera image
    rows, columns = np.mgrid[: HEIGHT * scale, : WIDTH * scale] / scale
    wall = cv2.resize(texture(0, HEIGHT, WIDTH, (90, 110, 90)), None, fx=scale, fy=scale)
    cloth = cv2.resize(texture(2, HEIGHT, WIDTH, (60, 90, 220)), None, fx=scale, fy=scale)
    video = []
    for index in range(num_frames):
        radius = (radii or {}).get(index, 3.0)
        frame, masks = wall.astype(np.float32), {}
        disc = (rows - 90) ** 2 + (columns - 90 - 3 * index) ** 2 < 24**2
        ball = (rows - 40 - index) ** 2 + (columns - 200 + 2 * index) ** 2 < radius**2
        frame[disc] = cloth[disc]
        if index not in hidden:
            frame[ball] = (235, 60, 40)
        for number, mask in ((TINY, ball & (index not in hidden)), (LARGE, disc)):
            small = cv2.resize(
                mask.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA
            )
            masks[number] = small > 0.5
        reduced = cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        video.append((reduced.round().astype(np.uint8), masks))
    return video


def start(tracker: HQTracker, video: Video) -> TrackState:
    return tracker.initialize(*video[0])


def overlap(found: MaskArray, truth: MaskArray) -> float:
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


def untrained(*changes: str) -> HQTracker:
    config = apply_settings(
        load_preset("lite-vmos"),
        ["frame.long_edge=256", "memory.gap=1", "tracking.absence_score=0", *changes],
    )
    torch.manual_seed(0)
    device = torch.device("cpu")
    return make_tracker(config, build_untrained_parts(config, device), device)


@pytest.mark.weights
def test_crop_finds_an_object_that_the_whole_frame_loses() -> None:
    video = draw(7)
    found = {}
    for limit in (0, 10):
        tracker = shipped_tracker("lite-vmos", [*SMALL, f"tracking.max_crops={limit}"])
        state = start(tracker, video)
        found[limit] = [tracker.track(frame, state) for frame, _ in video[1:]]
    truths = [masks for _, masks in video[1:]]

    def mean(limit: int, number: int) -> float:
        pairs = zip(found[limit], truths, strict=True)
        return float(np.mean([overlap(r.masks[ObjectId(number)], t[number]) for r, t in pairs]))

    assert mean(10, TINY) > 0.7
    assert mean(10, TINY) > mean(0, TINY) + 0.3
    for whole, cropped in zip(found[0], found[10], strict=True):
        assert np.array_equal(whole.masks[ObjectId(LARGE)], cropped.masks[ObjectId(LARGE)])
        assert whole.scores[ObjectId(LARGE)] == cropped.scores[ObjectId(LARGE)]


@pytest.mark.weights
def test_crop_finds_a_hidden_object_again_farther_away() -> None:
    video = draw(9, hidden=(2, 3, 4, 5))
    tracker = shipped_tracker("lite-vmos")
    state = start(tracker, video)
    results = [tracker.track(frame, state) for frame, _ in video[1:]]
    assert not results[2].masks[ObjectId(TINY)].any()
    assert results[2].scores[ObjectId(TINY)] == 0
    assert overlap(results[-1].masks[ObjectId(TINY)], video[-1][1][TINY]) > 0.5
    assert state.crops[0].stretch == 1


@pytest.mark.weights
def test_larger_crop_then_the_whole_frame_go_on_with_an_object_that_grows() -> None:
    video = draw(8, radii={index: 3.0 + 2.5 * max(index - 1, 0) for index in range(8)})
    tracker = shipped_tracker("lite-vmos")
    state = start(tracker, video)
    sides = []
    for frame, masks in video[1:]:
        found = tracker.track(frame, state).masks[ObjectId(TINY)]
        sides.append([crop.state.geometry.frame_size.height for crop in state.crops])
        assert overlap(found, masks[TINY]) > 0.6
    assert sides[0] == [24]
    assert any(side and side[0] > 40 for side in sides)  # a larger crop came first
    assert sides[-1] == []


def dots(count: int) -> tuple[FrameArray, dict[int, MaskArray]]:
    """Squares of 2, 3, 4, ... pixels in a row, the last one at the corner of the frame."""
    frame, masks = texture(0, HEIGHT, WIDTH, (90, 110, 90)), {}
    for number in range(1, count + 1):
        mask = np.zeros((HEIGHT, WIDTH), bool)
        side, left = number + 1, WIDTH - 1 - (count - number) * 40
        mask[:side, left - side + 1 : left + 1] = True
        frame[mask] = (235, 60, 40)
        masks[number] = mask
    return frame, masks


def test_smallest_objects_get_the_crops_and_the_others_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frame, masks = dots(4)
    tracker = untrained("tracking.max_crops=2")
    with caplog.at_level(logging.WARNING):
        state = tracker.initialize(frame, {number: masks[number] for number in (4, 3, 2)})
        assert [crop.object_id for crop in state.crops] == [2, 3]
        assert "object 4 is tiny" in caplog.text
        assert "object 2" not in caplog.text
        caplog.clear()
        tracker.add_objects(frame, {1: masks[1]}, state)
    assert [crop.object_id for crop in state.crops] == [2, 3]
    assert "object 1 is tiny" in caplog.text


@pytest.mark.parametrize("mode", ["joint", "separate"])
@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (18, WIDTH), (HEIGHT, 20)])
def test_crops_stay_inside_the_frame(mode: str, size: tuple[int, int]) -> None:
    frame, masks = dots(3)
    frame, masks = (
        frame[: size[0], -size[1] :],
        {i: m[: size[0], -size[1] :] for i, m in masks.items()},
    )
    tracker = untrained(f"tracking.mode={mode}", "tracking.max_crops=3")
    state = tracker.initialize(np.ascontiguousarray(frame), {3: np.ascontiguousarray(masks[3])})
    (crop,) = state.crops
    for stretch in (1, 2, 4):
        crop.stretch = stretch
        result = tracker.track(np.ascontiguousarray(frame), state)
        rows, columns = crop.part(Size(*size))
        assert 0 <= rows.start < rows.stop <= size[0]
        assert 0 <= columns.start < columns.stop <= size[1]
        assert rows.stop - rows.start == columns.stop - columns.start
        assert result.label_map.shape == size


def test_place_of_a_crop_by_hand() -> None:
    tracker = untrained("tracking.max_crops=1")
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:14, 100:110] = True  # ten pixels wide, so the crop has 40
    frame = texture(0, HEIGHT, WIDTH, (90, 110, 90))
    (crop,) = tracker.initialize(frame, {5: mask}).crops
    assert (crop.row, crop.column, crop.length) == (12, 105, 10)
    assert crop.part(Size(HEIGHT, WIDTH)) == (slice(0, 40), slice(85, 125))
    crop.follow(mask[5:15, 95:115], top=65, left=95)
    assert (crop.row, crop.column) == (72, 105)
    assert crop.part(Size(HEIGHT, WIDTH)) == (slice(52, 92), slice(85, 125))
    assert np.array_equal(crop.cut(frame), frame[52:92, 85:125])
    crop.stretch = 2
    assert crop.part(Size(HEIGHT, WIDTH)) == (slice(32, 112), slice(65, 145))
    assert crop.cut(frame).shape == (40, 40, 3)


@pytest.mark.weights
def test_all_ways_of_tracking_give_the_same_masks(tmp_path: Path) -> None:
    video = draw(5)
    tracker = shipped_tracker("lite-vmos")
    whole_run = start(tracker, video)
    expected = [tracker.track(frame, whole_run) for frame, _ in video[1:]]
    assert whole_run.crops

    given = tracker.begin(whole_run.geometry.frame_size, (TINY, LARGE))
    label_map = start(tracker, video).label_map
    encoded = tracker.encode(video[0][0])
    tracker.write_given(encoded, label_map, given, frame_index=0)
    coming = tracker.track_video((frame for frame, _ in video[1:]), given)
    for result, wanted in zip(coming, expected, strict=True):
        assert np.array_equal(result.label_map, wanted.label_map)

    states = [start(tracker, video), start(tracker, video)]
    for index, (frame, _) in enumerate(video[1:]):
        for result in tracker.track_together([frame, frame], states):
            assert np.array_equal(result.label_map, expected[index].label_map)
            assert dict(result.scores) == pytest.approx(dict(expected[index].scores), abs=1e-5)

    cut = start(tracker, video)
    for frame, _ in video[1:3]:
        tracker.track(frame, cut)
    save_state(cut).write(tmp_path / "state.safetensors")
    restored = tracker.restore(read_state(tmp_path / "state.safetensors"))
    assert restored.nbytes == cut.nbytes > whole_run.groups[0].nbytes
    for (frame, _), wanted in zip(video[3:], expected[2:], strict=True):
        assert np.array_equal(tracker.track(frame, restored).label_map, wanted.label_map)
    place, same = (
        crop.part(Size(HEIGHT, WIDTH)) for crop in (restored.crops[0], whole_run.crops[0])
    )
    assert place == same


def test_given_mask_moves_the_crop() -> None:
    video = draw(3)
    tracker = untrained("tracking.max_crops=1")
    state = start(tracker, video)
    tracker.track(video[1][0], state)
    moved = np.roll(video[2][1][TINY], (50, -60), axis=(0, 1))
    label_map = np.where(moved, np.uint8(TINY), np.uint8(0))
    tracker.write_given(tracker.encode(video[2][0]), label_map, state, frame_index=2)
    rows, columns = state.crops[0].part(Size(HEIGHT, WIDTH))
    assert moved[rows, columns].sum() == moved.sum()
    assert state.crops[0].state.frame_index == 2


def test_given_mask_that_is_large_ends_the_crop() -> None:
    video = draw(2)
    tracker = untrained("tracking.max_crops=1")
    state = start(tracker, video)
    label_map = np.where(video[1][1][LARGE], np.uint8(TINY), np.uint8(0))
    tracker.write_given(tracker.encode(video[1][0]), label_map, state, frame_index=1)
    assert not state.crops


def test_long_thin_object_has_no_crop_that_would_not_enlarge_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frame, mask = draw(1)[0][0], np.zeros((HEIGHT, WIDTH), bool)
    mask[70, 20:300] = True
    with caplog.at_level(logging.WARNING):
        assert not untrained().initialize(frame, {1: mask}).crops
    assert "object 1 is tiny" in caplog.text


def test_exception_in_a_crop_leaves_the_state_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    video = draw(2)
    tracker = untrained("tracking.max_crops=1")
    state = start(tracker, video)
    with monkeypatch.context() as patch:

        def fail(self: Crop, frame: FrameArray) -> FrameArray:
            raise MemoryError

        patch.setattr(Crop, "cut", fail)
        with pytest.raises(Exception, match="memory"):
            tracker.track(video[1][0], state)
    assert state.frame_index == state.crops[0].state.frame_index == 0
    expected = tracker.track(video[1][0], start(tracker, video))
    assert np.array_equal(tracker.track(video[1][0], state).label_map, expected.label_map)


def test_presets_of_the_paper_have_no_crops() -> None:
    assert load_preset("hqtrack-released").tracking.max_crops == 0
    assert load_preset("hqtrack").tracking.max_crops == 0
    assert isinstance(untrained(), CroppingTracker)
    assert type(untrained("tracking.max_crops=0")) is HQTracker


def test_exception_number_of_crops() -> None:
    with pytest.raises(ConfigError, match=r"tracking\.max_crops"):
        apply_settings(load_preset("lite"), ["tracking.max_crops=-1"])


def test_small_objects_by_hand() -> None:
    frame, masks = dots(4)
    state = untrained("tracking.max_crops=0").initialize(frame, {4: masks[4]})
    label_map = np.zeros((HEIGHT, WIDTH), np.uint16)
    label_map[:41, :40], label_map[60:63, 60:63] = 7, 9
    # 0.4 network pixels for each of the frame along a side: 1,640 pixels are 262, and 256 a token.
    assert find_small(label_map, state.geometry) == {9: 9}
