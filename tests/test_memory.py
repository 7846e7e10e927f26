"""Memory of a video: references stay, the rest is bounded, ids and slots are a bijection."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from vots_hqtrack.config import Eviction, MemoryConfig
from vots_hqtrack.errors import InputError
from vots_hqtrack.memory import GroupMemory, ObjectSlots, new_group
from vots_hqtrack.types import LayerMemory, MemoryEntry, ObjectId

object_id_lists = st.lists(st.integers(1, 1000).map(ObjectId), unique=True, min_size=1, max_size=60)


def entry(frame_index: int) -> MemoryEntry:
    return MemoryEntry(frame_index, (LayerMemory(torch.zeros(1, 4, 2), torch.zeros(1, 4, 8)),))


def group_of(capacity: int, eviction: Eviction = "oldest") -> GroupMemory:
    """Memory that stores every frame for long."""
    group = GroupMemory(capacity, gap=1, eviction=eviction)
    group.write_reference(entry(0))
    return group


@given(st.integers(1, 9), st.integers(0, 60))
def test_never_above_capacity_and_reference_stays(capacity: int, commits: int) -> None:
    group = group_of(capacity)
    for index in range(1, commits + 1):
        group.write(entry(index))
        assert len(group.read().long_term) <= capacity
        assert group.frame_indices[-1] == 0
    newest = list(range(commits, max(commits - capacity + 1, 0), -1))
    assert list(group.frame_indices) == [*newest, 0]


@given(st.integers(2, 9), st.integers(1, 10), st.integers(0, 200))
def test_densest_keeps_the_newest_entries_and_the_size(capacity: int, gap: int, count: int) -> None:
    group = group_of(capacity, "densest")
    for number in range(1, count + 1):
        group.write(entry(number * gap))
    kept = group.frame_indices
    assert len(kept) == min(count + 1, capacity)
    assert kept[-1] == 0
    assert list(kept) == sorted(set(kept), reverse=True)
    assert kept[0] == count * gap


@example(2, "densest", [(1, True, 0), (0, False, 1), (0, True, 0)])
@given(
    st.integers(1, 5),
    st.sampled_from(["oldest", "densest"]),
    st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.integers(0, 9)), max_size=6),
)
def test_frames_that_are_tracked_again_are_stored_once(
    capacity: int, eviction: Eviction, runs: list[tuple[int, bool, int]]
) -> None:
    group = group_of(capacity, eviction)
    for start, is_kept, length in runs:  # the caller goes back, or ahead, and tracks from there
        group.write_reference(entry(start), is_kept=is_kept)
        for index in range(start + 1, start + 1 + length):
            group.write(entry(index))
            assert len(group.read().long_term) <= capacity
        recent = [kept.frame_index for kept in group._recent]
        assert len(set(recent)) == len(recent)


@given(st.lists(st.booleans(), max_size=60), st.sampled_from(["oldest", "densest"]))
def test_given_frames_that_are_not_kept_stay_bounded(
    is_given: list[bool], eviction: Eviction
) -> None:
    group = group_of(4, eviction)
    for index, given_here in enumerate(is_given):  # frame 0 is the reference, and stays one
        if given_here:
            group.write_reference(entry(index), is_kept=False)
            assert group.read().short_term.frame_index == index
            assert index in group.frame_indices
        elif index:
            group.write(entry(index))
        assert len(group.frame_indices) <= 4
        assert group.frame_indices[-1] == 0


def test_a_reference_of_a_later_frame_does_not_stop_the_long_term_memory() -> None:
    group = GroupMemory(4, gap=5)
    group.write_reference(entry(50))
    for index in range(10, 21):
        group.write(entry(index))
    assert group.frame_indices == (20, 15, 10, 50)


def test_densest_spreads_old_entries() -> None:
    group = group_of(6, "densest")
    kept = {}
    for index in range(5, 1001, 5):
        group.write(entry(index))
        kept[index] = group.frame_indices
    # Worked out by hand: of 5, 10, 15, 20, 25 and 30 the first has its neighbours at 10/25 of its
    # age, the others at 10/20 and more.
    assert kept[25] == (25, 20, 15, 10, 5, 0)
    assert kept[30] == (30, 25, 20, 15, 10, 0)
    assert kept[50] == (50, 45, 40, 30, 20, 0)
    # A thousand frames later the entries reach back hundreds of frames, where the newest five of
    # the rule "oldest" reach back 20.
    assert 1000 - kept[1000][4] > 200
    assert 1000 - kept[1000][1] <= 10


@pytest.mark.parametrize("eviction", ["oldest", "densest"])
def test_capacity_one_keeps_references_only(eviction: Eviction) -> None:
    group = group_of(1, eviction)
    for index in (1, 2, 3):
        group.write(entry(index))
    assert group.frame_indices == (0,)


def test_frames_read_match_the_released_rule() -> None:
    """Gap 2, capacity 6: the list of frames that the specification gives."""
    group = new_group(MemoryConfig(capacity=6, gap=2, short_term_delay=4))
    group.write_reference(entry(0))
    seen, recent = [], []
    for index in range(1, 15):
        seen.append(list(group.frame_indices))
        recent.append(group.read().short_term.frame_index)
        group.write(entry(index))
    assert seen[0] == [0]
    assert seen[2] == [2, 0]
    assert seen[10] == [10, 8, 6, 4, 2, 0]
    assert seen[12] == [12, 10, 8, 6, 4, 0]
    assert recent == [max(0, index - 4) for index in range(1, 15)]


def test_second_reference_replaces_the_same_frame_only() -> None:
    group = group_of(5)
    group.write(entry(2))
    group.write_reference(entry(2))
    assert group.frame_indices == (0, 2)
    group.write_reference(entry(5))
    assert group.frame_indices == (0, 2, 5)


@given(
    st.integers(1, 9),
    st.sampled_from(["oldest", "densest"]),
    st.lists(st.booleans(), min_size=1, max_size=60),
)
def test_objects_that_come_one_by_one_do_not_enlarge_the_memory(
    capacity: int, eviction: Eviction, given_masks: list[bool]
) -> None:
    group = group_of(capacity, eviction)
    newest = 0
    for index, is_given in enumerate(given_masks, start=1):
        group.write(entry(index))
        if is_given:
            group.write_reference(entry(index))
            newest = index
        frames = group.frame_indices
        assert len(frames) == len(set(frames)) <= capacity
        assert len(frames) == min(index + 1, capacity)
        assert newest in frames
        assert 0 in frames or capacity < 3


def test_bytes_do_not_grow_with_the_video() -> None:
    group = new_group(MemoryConfig(capacity=4, gap=5, short_term_delay=2))
    group.write_reference(entry(0))
    sizes = []
    for index in range(1, 200):
        group.write(entry(index))
        sizes.append(group.nbytes)
    assert sizes[30:] == sizes[30 - 5 : -5]
    # Four long-term entries and two short-term ones, of which one is a long-term one every gap.
    assert max(sizes) == 6 * (4 * 2 + 4 * 8) * 4


@given(object_id_lists)
def test_slots_are_a_bijection(object_ids: list[ObjectId]) -> None:
    slots = ObjectSlots()
    slots.add(object_ids)
    slots_found = [slots.group_and_slot(object_id) for object_id in object_ids]
    assert len(set(slots_found)) == len(slots_found)
    for object_id, (group, slot) in zip(object_ids, slots_found, strict=True):
        assert 1 <= slot <= 10
        assert slots.members(group)[slot - 1] == object_id


@given(object_id_lists, st.integers(0, 59))
def test_adding_keeps_the_slots_of_others(object_ids: list[ObjectId], cut: int) -> None:
    slots = ObjectSlots()
    slots.add(object_ids[:cut])
    before = {i: slots.group_and_slot(i) for i in slots.object_ids}
    slots.add(object_ids[cut:])
    assert {i: slots.group_and_slot(i) for i in before} == before
    assert slots.object_ids == tuple(object_ids)


def test_groups_hold_ten() -> None:
    slots = ObjectSlots()
    assert slots.num_groups == 0
    for number, groups in ((10, 1), (1, 2), (9, 2), (1, 3)):
        start = len(slots.object_ids) + 1
        slots.add(ObjectId(i) for i in range(start, start + number))
        assert slots.num_groups == groups


def test_known_or_unknown_objects_are_errors() -> None:
    slots = ObjectSlots()
    slots.add([ObjectId(3)])
    with pytest.raises(InputError, match=r"tracked already: \[3\]"):
        slots.add([ObjectId(3)])
    with pytest.raises(InputError, match="object 4 is not tracked"):
        slots.group_and_slot(ObjectId(4))


def test_group_size_bounds_the_groups() -> None:
    slots = ObjectSlots(group_size=1)
    slots.add([ObjectId(3), ObjectId(1)])
    assert slots.num_groups == 2
    assert slots.group_and_slot(ObjectId(1)) == (1, 1)
    assert slots.members(0) == (3,)


@given(object_id_lists, st.integers(1, 10), st.integers(0, 99))
def test_maps_are_converted_without_loss(
    object_ids: list[ObjectId], group_size: int, seed: int
) -> None:
    slots = ObjectSlots(group_size)
    slots.add(object_ids)
    label_map = np.random.default_rng(seed).choice([0, *object_ids], (6, 7)).astype(np.uint16)
    slot_map = slots.to_slots(label_map)
    assert np.array_equal(slots.to_object_ids(slot_map), label_map)
    for number in range(slots.num_groups):
        found = slots.in_group(torch.from_numpy(slot_map), number)
        wanted = np.zeros_like(label_map)
        for slot, object_id in enumerate(slots.members(number), start=1):
            wanted[label_map == object_id] = slot
        assert found.dtype == torch.uint8
        assert np.array_equal(found.numpy(), wanted)


def test_the_last_group_of_255_objects() -> None:
    slots = ObjectSlots()
    slots.add(ObjectId(i) for i in range(1, 256))
    found = slots.in_group(torch.tensor([0, 250, 251, 255], dtype=torch.uint8), 25)
    assert found.tolist() == [0, 0, 1, 5]


@pytest.mark.parametrize(
    ("num_frames", "wanted"),
    [
        (None, [104, 103, 0, 1]),
        (9, [104, 103, 0, 1]),
        (4, [104, 103, 0, 1]),
        (3, [104, 0, 1]),
        (2, [0, 1]),
        (1, [0, 1]),
    ],
)
def test_references_are_always_read(num_frames: int | None, wanted: list[int]) -> None:
    group = group_of(4)
    group.write_reference(entry(1))
    for index in range(100, 105):
        group.write(entry(index))
    read = group.read(num_frames)
    assert [kept.frame_index for kept in read.long_term] == wanted
    assert read.short_term.frame_index == 104
