"""The bank: references stay, the rest is bounded, and the indices follow the released model's
rule."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vots_hqtrack.config import Eviction, MemoryConfig
from vots_hqtrack.memory.bank import MemoryBank
from vots_hqtrack.memory.state import new_group
from vots_hqtrack.types import LayerMemory, MemoryEntry


def entry(frame_index: int) -> MemoryEntry:
    return MemoryEntry(frame_index, (LayerMemory(torch.zeros(1, 4, 2), torch.zeros(1, 4, 8)),))


@given(st.integers(1, 9), st.integers(0, 60))
def test_never_above_capacity_and_reference_stays(capacity: int, commits: int) -> None:
    bank = MemoryBank(capacity)
    bank.commit_reference(entry(0))
    for index in range(1, commits + 1):
        bank.commit(entry(index))
        assert len(bank) <= capacity
        assert bank.frame_indices[-1] == 0
    newest = list(range(commits, max(commits - capacity + 1, 0), -1))
    assert list(bank.frame_indices) == [*newest, 0]


@given(st.integers(2, 9), st.integers(1, 10), st.integers(0, 200))
def test_densest_keeps_the_newest_entries_and_the_size(capacity: int, gap: int, count: int) -> None:
    bank = MemoryBank(capacity, "densest")
    bank.commit_reference(entry(0))
    for number in range(1, count + 1):
        bank.commit(entry(number * gap))
    kept = bank.frame_indices
    assert len(kept) == min(count + 1, capacity)
    assert kept[-1] == 0
    assert list(kept) == sorted(set(kept), reverse=True)
    assert kept[0] == count * gap


def test_densest_spreads_old_entries() -> None:
    bank = MemoryBank(6, "densest")
    bank.commit_reference(entry(0))
    kept = {}
    for index in range(5, 1001, 5):
        bank.commit(entry(index))
        kept[index] = bank.frame_indices
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
    bank = MemoryBank(1, eviction)
    bank.commit_reference(entry(0))
    for index in (1, 2, 3):
        bank.commit(entry(index))
    assert bank.frame_indices == (0,)


def test_frames_read_match_the_released_rule() -> None:
    """Gap 2, capacity 6: the list of frames that the specification gives."""
    group = new_group(MemoryConfig(capacity=6, gap=2, short_term_delay=4))
    group.start(entry(0))
    seen, recent = [], []
    for index in range(1, 15):
        seen.append(list(group.long_term.frame_indices))
        recent.append(group.short_term[0].frame_index)
        group.commit(entry(index), gap=2)
    assert seen[0] == [0]
    assert seen[2] == [2, 0]
    assert seen[10] == [10, 8, 6, 4, 2, 0]
    assert seen[12] == [12, 10, 8, 6, 4, 0]
    assert recent == [max(0, index - 4) for index in range(1, 15)]


def test_second_reference_replaces_the_same_frame_only() -> None:
    bank = MemoryBank(3)
    bank.commit_reference(entry(0))
    bank.commit(entry(2))
    bank.commit_reference(entry(2))
    assert bank.frame_indices == (0, 2)
    bank.commit_reference(entry(5))
    assert bank.frame_indices == (0, 2, 5)


def test_bytes_do_not_grow_with_the_video() -> None:
    group = new_group(MemoryConfig(capacity=4, gap=5, short_term_delay=2))
    group.start(entry(0))
    sizes = []
    for index in range(1, 200):
        group.commit(entry(index), gap=5)
        sizes.append(group.long_term.nbytes)
    assert len(set(sizes[30:])) == 1
    assert sizes[-1] == 4 * (4 * 2 + 4 * 8) * 4
