"""Joint and separate tracking, slots by id, and what the memory is given (paper Table 1)."""

from __future__ import annotations

import numpy as np
import pytest
from shipped import SMALL, shipped_tracker
from two_discs import draw_video

from vots_hqtrack.errors import InputError, MemoryLimitError
from vots_hqtrack.presets import load_preset
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import ObjectId, Slot

ONE, TWO, THREE = ObjectId(1), ObjectId(2), ObjectId(3)


def tracker_with(**options: str) -> HQTracker:
    changes = [f"tracking.{name}={value}" for name, value in options.items()]
    return shipped_tracker("lite-vmos", [*SMALL, "tracking.absence_score=0", *changes])


@pytest.mark.weights
class TestSeparate:
    def test_each_object_is_tracked_as_if_it_were_alone(self) -> None:
        tracker = tracker_with(mode="separate")
        video = draw_video(3)
        together = tracker.initialize(*video[0])
        alone = {i: tracker.initialize(video[0][0], {i: video[0][1][i]}) for i in (1, 2)}
        assert len(together.groups) == 2
        for frame, _ in video[1:]:
            found = tracker.track(frame, together)
            for i, state in alone.items():
                expected = tracker.track(frame, state).masks[ObjectId(i)]
                # The objects are far from each other: neither is surer of the other's pixels.
                assert np.array_equal(found.masks[ObjectId(i)], expected)
                assert expected.any()

    def test_an_object_added_later_gets_a_memory_of_its_own(self) -> None:
        tracker = tracker_with(mode="separate")
        video = draw_video(3)
        state = tracker.initialize(video[0][0], {1: video[0][1][1]})
        tracker.track(video[1][0], state)
        tracker.add_objects(video[1][0], {2: video[1][1][2]}, state)
        assert [group.frame_indices for group in state.groups] == [(0,), (1,)]
        result = tracker.track(video[2][0], state)
        assert all(result.masks[i].any() for i in (ONE, TWO))

    def test_joint_is_one_pass(self) -> None:
        tracker = tracker_with(mode="joint")
        assert len(tracker.initialize(*draw_video(1)[0]).groups) == 1


@pytest.mark.weights
class TestSlots:
    def test_by_id_gives_object_i_slot_i(self) -> None:
        frame, masks = draw_video(1)[0]
        given_masks = {3: masks[1], 12: masks[2]}
        by_id = tracker_with(slots="by_id").initialize(frame, given_masks)
        packed = tracker_with(slots="packed").initialize(frame, given_masks)
        assert by_id.slots.group_and_slot(THREE) == (0, Slot(3))
        assert by_id.slots.group_and_slot(ObjectId(12)) == (1, Slot(2))
        assert len(by_id.groups) == 2
        assert packed.slots.group_and_slot(THREE) == (0, Slot(1))
        assert packed.slots.group_and_slot(ObjectId(12)) == (0, Slot(2))

    def test_by_id_reports_unseen_lower_ids_and_takes_higher_ones_later(self) -> None:
        tracker = tracker_with(slots="by_id")
        video = draw_video(2)
        state = tracker.initialize(video[0][0], {2: video[0][1][1]})
        result = tracker.track(video[1][0], state)
        assert set(result.masks) == {1, 2}
        assert result.masks[TWO].any()
        tracker.add_objects(video[1][0], {4: video[1][1][2]}, state)
        assert state.slots.object_ids == (1, 2, 3, 4)
        with pytest.raises(InputError, match="tracked already"):
            tracker.add_objects(video[1][0], {1: video[1][1][2]}, state)

    def test_released_presets_go_by_id(self) -> None:
        assert load_preset("vmos-released").tracking.slots == "by_id"
        assert load_preset("hqtrack-released").tracking.slots == "by_id"
        assert load_preset("vmos").tracking.slots == "packed"


@pytest.mark.weights
@pytest.mark.parametrize(
    ("memory_masks", "agreement", "is_refined"),
    [("initial", 0.8, False), ("refined", 0.8, True), ("agreed", 0.8, True), ("agreed", 1, False)],
)
def test_the_memory_gets_the_masks_that_the_option_names(
    memory_masks: str, agreement: float, is_refined: bool
) -> None:
    changes = [f"tracking.memory_masks={memory_masks}", f"tracking.agreement={agreement}"]
    tracker = shipped_tracker("lite", [*SMALL, "tracking.absence_score=0", *changes])
    video = draw_video(3)
    state = tracker.initialize(*video[0])
    for frame, _ in video[1:]:
        result = tracker.track(frame, state)
        kept = result.masks if is_refined else result.initial_masks
        other = result.initial_masks if is_refined else result.masks
        expected = sum(i * mask for i, mask in kept.items())
        assert np.array_equal(state.label_map, expected)
        assert not np.array_equal(state.label_map, sum(i * m for i, m in other.items()))


@pytest.mark.weights
def test_a_failure_in_the_refiner_leaves_the_video_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracker = shipped_tracker("lite")
    video = draw_video(2)
    state = tracker.initialize(*video[0])
    before, labels = state.nbytes, state.slot_map

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(type(tracker._refiner), "refine", fail)
        with pytest.raises(MemoryLimitError, match="out of memory"):
            tracker.track(video[1][0], state)
    assert (state.frame_index, state.nbytes) == (0, before)
    assert state.slot_map is labels
    assert tracker.track(video[1][0], state).frame_index == 1
