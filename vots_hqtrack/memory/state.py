"""All that belongs to one video: who is tracked, and what VMOS remembers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from vots_hqtrack.config import MemoryConfig
from vots_hqtrack.frame import FrameGeometry
from vots_hqtrack.memory.bank import MemoryBank
from vots_hqtrack.memory.slots import ObjectSlots
from vots_hqtrack.motion_gate import LastSeen
from vots_hqtrack.pace import PaceKeeper
from vots_hqtrack.types import FrameArray, LabelArray, MemoryEntry, ObjectId


@dataclass(slots=True)
class GroupState:
    """Memory of at most ten objects.

    Attributes:
        long_term: Reference entries and the newest others.
        short_term: Delay line; its oldest item is read.
        last_long_term: Frame of the newest long-term commit.
    """

    long_term: MemoryBank
    short_term: deque[MemoryEntry]
    last_long_term: int

    def start(self, entry: MemoryEntry) -> None:
        """Take an entry with given labels as a reference; the delay line begins anew with it."""
        self.long_term.commit_reference(entry)
        self.short_term.clear()
        self.short_term.append(entry)
        self.last_long_term = entry.frame_index

    def commit(self, entry: MemoryEntry, gap: int) -> None:
        """Remember a tracked frame; for the long term, one in ``gap`` frames."""
        self.short_term.append(entry)
        if entry.frame_index - self.last_long_term >= gap:
            self.long_term.commit(entry)
            self.last_long_term = entry.frame_index


def new_group(config: MemoryConfig) -> GroupState:
    """Make the empty memory of a group."""
    bank = MemoryBank(config.capacity, config.eviction)
    return GroupState(bank, deque(maxlen=config.short_term_delay), 0)


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """A frame from which a memory can begin anew at another resolution.

    Attributes:
        frame_index: Place of the frame in the video.
        frame: uint8 ``(H, W, 3)`` RGB, a copy.
        label_map: ``(H, W)`` uint8 object ids.
        groups: Groups of which it is a reference frame.
    """

    frame_index: int
    frame: FrameArray
    label_map: LabelArray
    groups: range


@dataclass(slots=True)
class TrackState:
    """One video; made by ``HQTracker.initialize`` and owned by the caller.

    Attributes:
        geometry: How the video's frames lie in the network's input.
        frame_index: Last frame seen; the reference frame is 0.
        slots: Object ids and their places.
        groups: Memory of each group.
        label_map: ``(H, W)`` uint8 object ids that VMOS gave the last frame; empty before the
            first.
        given_areas: Pixels of the masks that the caller gave, by object.
        pace: Keeps the time budget, if there is one.
        references: Reference frames, kept only where there is a time budget.
        newest: Copy of the last frame, kept likewise.
        last_seen: Where the objects were last seen; None if they are looked for everywhere.
    """

    geometry: FrameGeometry
    frame_index: int = 0
    slots: ObjectSlots = field(default_factory=ObjectSlots)
    groups: list[GroupState] = field(default_factory=list)
    label_map: LabelArray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    given_areas: dict[ObjectId, int] = field(default_factory=dict)
    pace: PaceKeeper | None = None
    references: list[KeptFrame] = field(default_factory=list)
    newest: FrameArray | None = None
    last_seen: LastSeen | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the long-term and short-term memories; constant once they are full."""
        total = 0
        for group in self.groups:
            entries = {id(entry): entry for entry in (*group.long_term.entries, *group.short_term)}
            total += sum(entry.nbytes for entry in entries.values())
        return total
