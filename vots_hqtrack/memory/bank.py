"""Long-term memory of a group: references stay, the rest is first-in first-out (paper 2.1)."""

from __future__ import annotations

from collections import deque

from vots_hqtrack.types import MemoryEntry


class MemoryBank:
    """A bounded set of memory entries.

    Entries with labels that the caller gave are references and never leave. Of the others the
    newest are kept, so the size does not depend on the length of the video.

    Args:
        capacity: Most entries, the first reference counted; 1 keeps references only.
    """

    def __init__(self, capacity: int) -> None:
        self._references: list[MemoryEntry] = []
        self._recent: deque[MemoryEntry] = deque(maxlen=capacity - 1)

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
        kept_recent = [kept for kept in self._recent if kept.frame_index != frame]
        self._recent.clear()
        self._recent.extend(kept_recent)
        self._references.append(entry)

    def commit(self, entry: MemoryEntry) -> None:
        """Add an entry; the oldest that is no reference leaves when the bank is full."""
        self._recent.append(entry)
