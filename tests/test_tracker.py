"""The tracker on small synthetic videos with the shipped weights: what it promises, end to end."""

from __future__ import annotations

import numpy as np
import pytest
from shipped import SMALL, shipped_tracker
from two_discs import SIZE, draw_video, texture

from vots_hqtrack.errors import ConfigError, InputError, ShapeError, WeightsError
from vots_hqtrack.presets import lite
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId

pytestmark = pytest.mark.filterwarnings("error")


def jaccard(left: MaskArray, right: MaskArray) -> float:
    return float((left & right).sum() / max((left | right).sum(), 1))


@pytest.fixture(scope="module")
def tracker() -> HQTracker:
    return shipped_tracker("lite")


def follow(
    tracker: HQTracker, video: list[tuple[FrameArray, dict[int, MaskArray]]]
) -> list[dict[ObjectId, MaskArray]]:
    state = tracker.initialize(video[0][0], video[0][1])
    return [dict(tracker.track(frame, state).masks) for frame, _ in video[1:]]


@pytest.mark.weights
class TestTracking:
    def test_follows_moving_objects(self, tracker: HQTracker) -> None:
        video = draw_video(6)
        state = tracker.initialize(video[0][0], video[0][1])
        for index, (frame, masks) in enumerate(video[1:], start=1):
            result = tracker.track(frame, state)
            assert result.frame_index == index
            assert not (result.masks[ObjectId(1)] & result.masks[ObjectId(2)]).any()
            for number, mask in masks.items():
                assert jaccard(result.masks[ObjectId(number)], mask) > 0.7
                assert 0.5 < result.scores[ObjectId(number)] <= 1
                assert result.sources[ObjectId(number)] in ("initial", "refined")

    def test_two_videos_interleaved_give_what_each_gives_alone(self, tracker: HQTracker) -> None:
        left, right = draw_video(4, seed=0), draw_video(4, seed=50)
        alone = follow(tracker, left), follow(tracker, right)
        states = [tracker.initialize(video[0][0], video[0][1]) for video in (left, right)]
        for index in range(3):
            for video, state, expected in zip((left, right), states, alone, strict=True):
                masks = tracker.track(video[index + 1][0], state).masks
                assert all(np.array_equal(masks[i], expected[index][i]) for i in masks)

    def test_order_and_names_of_objects_do_not_matter(self, tracker: HQTracker) -> None:
        video = draw_video(3)
        first = tracker.initialize(video[0][0], video[0][1])
        renamed = {40: video[0][1][2], 7: video[0][1][1]}
        second = tracker.initialize(video[0][0], renamed)
        for frame, _ in video[1:]:
            expected, found = tracker.track(frame, first), tracker.track(frame, second)
            assert np.array_equal(expected.masks[ObjectId(1)], found.masks[ObjectId(7)])
            assert np.array_equal(expected.masks[ObjectId(2)], found.masks[ObjectId(40)])

    def test_absent_object_is_kept_and_comes_back(self, tracker: HQTracker) -> None:
        hidden = (2, 3)
        video = draw_video(6, hidden=hidden)
        state = tracker.initialize(video[0][0], video[0][1])
        for index, (frame, _) in enumerate(video[1:], start=1):
            result = tracker.track(frame, state)
            assert set(result.masks) == {1, 2}
            if index in hidden:
                assert result.masks[ObjectId(2)].sum() < 60
            if not result.masks[ObjectId(2)].any():
                assert result.sources[ObjectId(2)] == "absent"
                assert result.scores[ObjectId(2)] == 0
        assert jaccard(result.masks[ObjectId(2)], video[-1][1][2]) > 0.6

    def test_object_added_later_is_followed_beside_the_first(self, tracker: HQTracker) -> None:
        video = draw_video(5)
        state = tracker.initialize(video[0][0], {1: video[0][1][1]})
        tracker.track(video[1][0], state)
        tracker.add_objects(video[1][0], {2: video[1][1][2]}, state)
        with pytest.raises(InputError, match=r"tracked already: \[2\]"):
            tracker.add_objects(video[1][0], {2: video[1][1][2]}, state)
        for frame, masks in video[2:]:
            result = tracker.track(frame, state)
            for number, mask in masks.items():
                assert jaccard(result.masks[ObjectId(number)], mask) > 0.6
        assert state.groups[0].frame_indices == (0, 1)

    def test_eleven_objects_fill_two_groups(self, tracker: HQTracker) -> None:
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
        frame = texture(3, *SIZE, (90, 110, 90))
        masks = {}
        for number in range(11):
            x, y = 20 + 42 * (number % 6), 26 + 44 * (number // 6)
            masks[number + 1] = (abs(rows - y) < 12) & (abs(columns - x) < 12)
            colour = tuple(np.random.default_rng(number).integers(20, 235, 3).tolist())
            frame[masks[number + 1]] = texture(number, *SIZE, colour)[masks[number + 1]]
        state = tracker.initialize(frame, masks)
        assert len(state.groups) == 2
        result = tracker.track(frame, state)
        assert list(result.masks) == list(range(1, 12))
        overlaps = [jaccard(result.masks[ObjectId(i)], mask) for i, mask in masks.items()]
        assert np.mean(overlaps) > 0.7

    def test_memory_stops_growing(self, tracker: HQTracker) -> None:
        config = tracker.config.memory
        assert (config.capacity, config.gap) == (6, 10)
        frame, masks = draw_video(1)[0]
        short = shipped_tracker("lite", [*SMALL, "memory.capacity=3", "memory.gap=1"])
        state = short.initialize(frame, masks)
        sizes = []
        for _ in range(7):
            short.track(frame, state)
            sizes.append(state.nbytes)
        assert len(set(sizes[2:])) == 1
        assert len(state.groups[0].frame_indices) == 3

    def test_box_becomes_a_mask(self, tracker: HQTracker) -> None:
        frame, masks = draw_video(1)[0]
        found = tracker.mask_from_box(frame, (60 - 17, 40 - 17, 34, 34))
        assert found.dtype == np.bool_
        assert jaccard(found, masks[1]) > 0.8
        with pytest.raises(InputError, match="box"):
            tracker.mask_from_box(frame, (900, 40, 20, 20))

    def test_size_change_is_named_and_loses_nothing(self, tracker: HQTracker) -> None:
        video = draw_video(3)
        state = tracker.initialize(video[0][0], video[0][1])
        with pytest.raises(ShapeError, match=r"256x96, got 200x90"):
            tracker.track(np.ascontiguousarray(video[1][0][:90, :200]), state)
        assert state.frame_index == 0
        after = tracker.track(video[1][0], state)
        expected = follow(tracker, video)[0]
        assert np.array_equal(after.masks[ObjectId(1)], expected[ObjectId(1)])

    @pytest.mark.parametrize(
        ("frame", "masks", "error"),
        [
            (np.zeros((9, 9), np.uint8), None, "must be a uint8 array"),
            (np.zeros((9, 9, 3)), None, "must be uint8, got float64"),
            (None, {}, "no object to track"),
            (None, {1: np.zeros(SIZE, bool)}, "object 1 is empty"),
            (None, {1: np.ones((9, 9), bool)}, "256x96, got 9x9"),
            (None, {1: np.ones(SIZE, np.uint8)}, "must be a bool array, got uint8"),
            (None, {0: np.ones(SIZE, bool)}, "must be whole numbers 1..1000, got 0"),
            (None, {i: np.ones(SIZE, bool) for i in range(1, 1002)}, "at most 1000 objects"),
        ],
    )
    def test_bad_input_is_named(
        self, tracker: HQTracker, frame: np.ndarray, masks: dict[int, MaskArray], error: str
    ) -> None:
        good = draw_video(1)[0]
        with pytest.raises(InputError, match=error):
            tracker.initialize(
                good[0] if frame is None else frame, good[1] if masks is None else masks
            )


def test_unknown_names_and_missing_weights_are_errors(tmp_path) -> None:
    with pytest.raises(ConfigError, match="unknown preset 'heavy'"):
        HQTracker.from_preset("heavy")
    with pytest.raises(ConfigError, match="cannot compute on the device 'abacus'"):
        HQTracker.from_config(lite(), device="abacus")
    with pytest.raises(WeightsError, match="nothing"):
        HQTracker.from_preset("lite", device="cpu", weights=tmp_path / "none.safetensors")
