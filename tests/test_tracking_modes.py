"""Joint and separate tracking, slots by id, and what the memory is given (paper Table 1)."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from two_discs import draw_video

from vots_hqtrack.config import TrackingConfig
from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.memory.slots import ObjectSlots
from vots_hqtrack.merge import merge_groups, merge_separate
from vots_hqtrack.presets import lite_vmos, load_preset
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import ObjectId, Slot

ONE, TWO, THREE = ObjectId(1), ObjectId(2), ObjectId(3)


def tracker_with(**options: str) -> HQTracker:
    config = dataclasses.replace(lite_vmos(), tracking=TrackingConfig(**options))
    return HQTracker.from_config(config, device="cpu")


@pytest.mark.weights
class TestSeparate:
    def test_each_object_is_tracked_as_if_it_were_alone(self) -> None:
        tracker = tracker_with(mode="separate")
        video = draw_video(3)
        together = tracker.initialize(*video[0])
        alone = {one: tracker.initialize(video[0][0], {one: video[0][1][one]}) for one in (1, 2)}
        assert len(together.groups) == 2
        for frame, _ in video[1:]:
            found = tracker.track(frame, together)
            for one, state in alone.items():
                expected = tracker.track(frame, state).masks[ObjectId(one)]
                # The objects are far from each other: neither is surer of the other's pixels.
                assert np.array_equal(found.masks[ObjectId(one)], expected)
                assert expected.any()

    def test_an_object_added_later_gets_a_memory_of_its_own(self) -> None:
        tracker = tracker_with(mode="separate")
        video = draw_video(3)
        state = tracker.initialize(video[0][0], {1: video[0][1][1]})
        tracker.track(video[1][0], state)
        tracker.add_objects(video[1][0], {2: video[1][1][2]}, state)
        assert [group.long_term.frame_indices for group in state.groups] == [(0,), (1,)]
        result = tracker.track(video[2][0], state)
        assert all(result.masks[one].any() for one in (ONE, TWO))

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
        assert by_id.slots.place(THREE) == (0, Slot(3))
        assert by_id.slots.place(ObjectId(12)) == (1, Slot(2))
        assert len(by_id.groups) == 2
        assert packed.slots.place(THREE) == (0, Slot(1))
        assert packed.slots.place(ObjectId(12)) == (0, Slot(2))

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
    ("remember", "agreement", "is_refined"),
    [("coarse", 0.8, False), ("refined", 0.8, True), ("agreed", 0.8, True), ("agreed", 1, False)],
)
def test_the_memory_gets_the_masks_that_the_option_names(
    remember: Literal["coarse", "refined", "agreed"], agreement: float, is_refined: bool
) -> None:
    base = load_preset("lite")
    tracking = TrackingConfig(remember=remember, agreement=agreement)
    config = dataclasses.replace(base, tracking=tracking)
    tracker = HQTracker.from_config(config, device="cpu")
    video = draw_video(3)
    state = tracker.initialize(*video[0])
    for frame, _ in video[1:]:
        result = tracker.track(frame, state)
        kept = result.masks if is_refined else result.coarse_masks
        other = result.coarse_masks if is_refined else result.masks
        expected = sum(one * mask for one, mask in kept.items())
        assert np.array_equal(state.label_map, expected)
        assert not np.array_equal(state.label_map, sum(one * m for one, m in other.items()))


@pytest.mark.weights
def test_a_failure_in_the_refiner_leaves_the_video_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracker = HQTracker.from_preset("lite", device="cpu")
    video = draw_video(2)
    state = tracker.initialize(*video[0])
    before, labels = state.nbytes, state.label_map

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(type(tracker._refiner), "refine", fail)
        with pytest.raises(MemoryError):
            tracker.track(video[1][0], state)
    assert (state.frame_index, state.nbytes) == (0, before)
    assert state.label_map is labels
    assert tracker.track(video[1][0], state).frame_index == 1


def test_group_size_bounds_the_groups() -> None:
    slots = ObjectSlots(group_size=1)
    slots.add([THREE, ONE])
    assert slots.num_groups == 2
    assert slots.place(ONE) == (1, Slot(1))
    assert slots.members(0) == (THREE,)


@given(st.integers(1, 5), st.integers(0, 99))
def test_separate_merge_gives_each_pixel_to_who_is_surest(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = [torch.randn(2, 3, 4, generator=generator) for _ in range(count)]
    merged = merge_separate(logits)
    torch.testing.assert_close(merged.sum(0), torch.ones(3, 4))
    own = torch.stack([one.softmax(0)[1] for one in logits])
    winner = torch.where(own.amax(0) > 0.5, own.argmax(0) + 1, 0)
    assert torch.equal(merged.argmax(0), winner)


def test_separate_merge_of_one_object_changes_nothing() -> None:
    logits = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(merge_separate([logits]), merge_groups([logits]))


@pytest.mark.parametrize("merge", [merge_groups, merge_separate])
def test_exception_nothing_to_merge(merge: object) -> None:
    with pytest.raises(ShapeError, match="got none"):
        merge([])  # type: ignore[operator]
