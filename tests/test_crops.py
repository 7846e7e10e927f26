"""Small objects are tracked in crops at a higher scale; all else stays as it is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from shipped import SMALL, shipped_tracker
from two_discs import texture

from vots_hqtrack.build import build_untrained_parts, make_tracker
from vots_hqtrack.crops import Crop, CroppingTracker
from vots_hqtrack.errors import ConfigError, InputError
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
    num_frames: int,
    *,
    radii: Mapping[int, float] | None = None,
    hidden: tuple[int, ...] = (),
    jump: int = 0,
) -> Video:
    """Draw a ball of a few pixels and a large disc on a textured wall; both move.

    Args:
        num_frames: Length of the video.
        radii: Radius of the ball by frame; 3 in others.
        hidden: Frames without the ball.
        jump: Columns between the places where the ball vanishes and comes back.
    """
    scale = 4  # drawn larger and reduced, so that the ball has soft edges as in a camera image
    rows, columns = np.mgrid[: HEIGHT * scale, : WIDTH * scale] / scale
    wall = cv2.resize(texture(0, HEIGHT, WIDTH, (90, 110, 90)), None, fx=scale, fy=scale)
    cloth = cv2.resize(texture(2, HEIGHT, WIDTH, (60, 90, 220)), None, fx=scale, fy=scale)
    video = []
    for index in range(num_frames):
        radius = (radii or {}).get(index, 3.0)
        frame, masks = wall.astype(np.float32), {}
        disc = (rows - 90) ** 2 + (columns - 90 - 3 * index) ** 2 < 24**2
        column = 200 - 2 * index + (jump if index > max(hidden, default=index) else 0)
        ball = (rows - 40 - index) ** 2 + (columns - column) ** 2 < radius**2
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
def test_mask_that_is_too_large_in_one_frame_ends_no_crop() -> None:
    video = draw(6, radii={2: 10.0})
    tracker = shipped_tracker("lite-vmos")
    state = start(tracker, video)
    results = [tracker.track(frame, state) for frame, _ in video[1:]]
    assert [crop.side for crop in state.crops] == [24]
    assert overlap(results[-1].masks[ObjectId(TINY)], video[-1][1][TINY]) > 0.7


@pytest.mark.weights
def test_crop_finds_a_lost_object_where_the_whole_frame_does_and_not_in_another_object() -> None:
    video = draw(11, radii=dict.fromkeys(range(11), 8.0), hidden=(3, 4, 5, 6), jump=-150)
    tracker = shipped_tracker("lite-vmos")
    state = start(tracker, video)
    results = [tracker.track(frame, state) for frame, _ in video[1:]]
    found = [result.masks[ObjectId(TINY)] for result in results]
    scores = [result.scores[ObjectId(TINY)] for result in results]
    # The disc comes into the larger part of the frame where the ball is looked for meanwhile.
    assert not any(mask.any() for mask in found[2:6])
    assert scores[2:6] == [0, 0, 0, 0]
    assert all(overlap(found[index - 1], video[index][1][TINY]) > 0.7 for index in (9, 10))


@pytest.mark.weights
def test_larger_crop_then_the_whole_frame_go_on_with_an_object_that_grows() -> None:
    video = draw(8, radii=dict(enumerate((3, 3, 5, 7, 9, 14, 19, 24))))
    tracker = shipped_tracker("lite-vmos", [*SMALL, "tracking.search_reach=1"])
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
        state.crops = [replace(crop, stretch=stretch)]
        crop = state.crops[0]
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
    crop = crop.after(mask[5:15, 95:115], top=65, left=95)
    assert (crop.row, crop.column) == (72, 105)
    assert crop.part(Size(HEIGHT, WIDTH)) == (slice(52, 92), slice(85, 125))
    assert np.array_equal(crop.cut(frame), frame[52:92, 85:125])
    crop = crop.after(np.zeros((40, 40), bool))
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


@pytest.mark.parametrize(
    ("height", "columns"),
    [(HEIGHT, slice(20, 300)), (20, slice(20, 35))],
    ids=["not enlarged", "frame too narrow"],
)
def test_long_thin_object_has_no_crop_that_would_not_help(
    caplog: pytest.LogCaptureFixture, height: int, columns: slice
) -> None:
    frame = np.ascontiguousarray(draw(1)[0][0][:height])
    mask = np.zeros((height, WIDTH), bool)
    mask[10, columns] = True
    with caplog.at_level(logging.WARNING):
        assert not untrained().initialize(frame, {1: mask}).crops
    assert "object 1 is tiny" in caplog.text


@pytest.mark.parametrize("step", ["_segment", "_leave"])
def test_exception_in_a_crop_leaves_all_states_as_they_were(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    video = draw(2)
    tracker = untrained("tracking.max_crops=1")
    states = [start(tracker, video), start(tracker, video)]
    untouched = start(tracker, video)
    steps_left = 1  # of the first video, so that the second one fails

    def fail(*arguments: object) -> list[object]:
        nonlocal steps_left
        steps_left -= 1
        if steps_left < 0:
            raise MemoryError
        return []

    cut = Crop.cut
    with monkeypatch.context() as patch:
        if step == "_leave":
            patch.setattr(Crop, "is_outgrown", True)
            patch.setattr(CroppingTracker, "_leave", fail)
        else:
            patch.setattr(Crop, "cut", lambda crop, frame: (fail(), cut(crop, frame))[1])
        with pytest.raises(Exception, match="memory"):
            tracker.track_together([video[1][0]] * 2, states)
        with pytest.raises(Exception, match="memory"):
            tracker.track(video[1][0], states[0])
    for state in states:
        assert state.frame_index == state.crops[0].state.frame_index == 0
        assert save_state(state).digest == save_state(untouched).digest


def test_predicted_mask_opens_no_crop() -> None:
    frame, masks = draw(1)[0]
    tracker = untrained("tracking.max_crops=1")
    encoded, label_map = tracker.encode(frame), masks[TINY].astype(np.uint8)
    state = tracker.begin(Size(HEIGHT, WIDTH), [TINY], num_references=12)
    tracker.write_given(encoded, label_map, state, frame_index=0, is_reference=False)
    assert not state.crops
    tracker.write_given(encoded, label_map, state, frame_index=0)
    (crop,) = state.crops
    assert crop.state.groups[0].capacity == state.groups[0].capacity  # room for as many references


def test_saved_state_with_more_crops_than_allowed_is_refused() -> None:
    frame, masks = dots(3)
    saved = save_state(untrained("tracking.max_crops=2").initialize(frame, masks))
    assert len(untrained("tracking.max_crops=3").restore(saved).crops) == 2
    for limit in (0, 1):
        with pytest.raises(InputError, match=rf"crops around 2 .* tracking\.max_crops={limit}"):
            untrained(f"tracking.max_crops={limit}").restore(saved)


def test_crop_reads_as_much_memory_as_the_caller_wants_and_has_no_motion_gate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Crop, "is_outgrown", False)  # whatever the random network sees
    video = draw(4)
    tracker = untrained("tracking.max_crops=1", "tracking.search_reach=1")
    state = start(tracker, video)
    assert state.last_seen is not None
    assert state.crops[0].state.last_seen is None
    for frame, _ in video[1:3]:
        state.crops = [replace(state.crops[0], stretch=1)]  # so that it writes its memory
        tracker.track(frame, state)
    state.crops = [replace(state.crops[0], stretch=1)]
    saved = save_state(state)
    every, few = (
        tracker.track(video[3][0], tracker.restore(saved), memory_frames=number)
        for number in (None, 1)
    )
    assert every.confidence_features[ObjectId(TINY)] != few.confidence_features[ObjectId(TINY)]


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
