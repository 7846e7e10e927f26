"""Long-term memory of a group: references stay, of the rest a fixed number (paper 2.1)."""

from __future__ import annotations

from vots_hqtrack.config import Eviction
from vots_hqtrack.types import MemoryEntry


class MemoryBank:
    """A bounded set of memory entries.

    Entries with labels that the caller gave are references and never leave. The number of the
    others is fixed, so the size does not depend on the length of the video.

    Args:
        capacity: Most entries, the first reference counted; 1 keeps references only.
        eviction: Which entry leaves a full bank, see ``MemoryConfig``.
    """

    def __init__(self, capacity: int, eviction: Eviction = "oldest") -> None:
        self._max_recent = capacity - 1
        self._eviction = eviction
        self._references: list[MemoryEntry] = []
        self._recent: list[MemoryEntry] = []

    def __len__(self) -> int:
        """Count all entries."""
        return len(self._references) + len(self._recent)

    @property
    def entries(self) -> tuple[MemoryEntry, ...]:
        """All entries: the newest recent one first, references last."""
        return (*reversed(self._recent), *self._references)

    def newest(self, count: int) -> tuple[MemoryEntry, ...]:
        """The first of :attr:`entries`, ``count`` in all; references are never left out."""
        num_recent = max(count - len(self._references), 0)
        return (*tuple(reversed(self._recent))[:num_recent], *self._references)

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Frame numbers of :attr:`entries`, in the same order."""
        return tuple(entry.frame_index for entry in self.entries)

    @property
    def nbytes(self) -> int:
        """Bytes that all entries hold."""
        return sum(entry.nbytes for entry in self.entries)

    def commit_reference(self, entry: MemoryEntry) -> None:
        """Keep an entry for ever; it replaces what is stored of the same frame."""
        frame = entry.frame_index
        self._references = [kept for kept in self._references if kept.frame_index != frame]
        self._recent = [kept for kept in self._recent if kept.frame_index != frame]
        self._references.append(entry)

    def commit(self, entry: MemoryEntry) -> None:
        """Add an entry; one that is no reference leaves if there are too many."""
        self._recent.append(entry)
        if len(self._recent) > self._max_recent:
            del self._recent[0 if self._eviction == "oldest" else self._densest()]

    def _densest(self) -> int:
        """Index of the recent entry, the newest excluded, whose neighbours in time are nearest.

        Distances are relative to the entry's age, so that old entries end up farther apart.
        """
        frames = [entry.frame_index for entry in self._recent]
        before = [min((entry.frame_index for entry in self._references), default=0), *frames]
        density = [
            (after - left) / (frames[-1] - frame)
            for left, frame, after in zip(before, frames, frames[1:], strict=False)
        ]
        return density.index(min(density)) if density else 0
