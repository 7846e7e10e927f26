"""The bank: references stay, the rest is bounded, and the indices follow the released model's
rule."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from vots_hqtrack.config import MemoryConfig
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
