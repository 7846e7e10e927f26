"""State of one video: object slots, group memories, and every rule of what is stored and evicted.

Follows the memory of the paper's section 2.2: long-term entries at a fixed gap beside the reference
frames, and a short-term entry that is a few frames old.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vots_hqtrack.config import Eviction, MemoryConfig
from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.errors import InputError
from vots_hqtrack.frame import FrameGeometry
from vots_hqtrack.motion_gate import LastSeen
from vots_hqtrack.types import (
    MAX_OBJECTS,
    SLOTS_PER_GROUP,
    FrameArray,
    FrameFeatures,
    LabelArray,
    MemoryEntry,
    MemoryFrames,
    ObjectId,
    Slot,
    label_table,
)

if TYPE_CHECKING:
    from vots_hqtrack.crops import Crop

SlotArray = npt.NDArray[np.integer[Any]]
"""Slot map on the CPU, ``(H, W)``: uint8, or int16 of more than 255 objects."""

_logger = logging.getLogger(__name__)

_MANY_OBJECTS = 255
_BYTES_OF_MASKS = 4
"""Bytes that a pixel takes for each object while a frame is segmented: masks before and after."""
_SAMPLE_BYTES = 1 << 20
"""Bytes of a frame that are kept to recognise it, at most."""


@dataclass(slots=True)
class ObjectSlots:
    """Bijection between object ids and slots: the one place that converts one into the other.

    Objects are numbered from 1 in the order in which they are added, and keep their number for
    ever. A *slot map* holds these numbers, 0 = background. Group ``g`` has the numbers from
    ``g * group_size + 1`` on, which are its slots 1, 2, ...

    Attributes:
        group_size: Objects that share a group's memory, 1..10.
    """

    group_size: int = SLOTS_PER_GROUP
    _order: list[ObjectId] = field(default_factory=list)

    @property
    def object_ids(self) -> tuple[ObjectId, ...]:
        """All objects in the order in which they were added."""
        return tuple(self._order)

    @property
    def num_groups(self) -> int:
        """Number of groups in use."""
        return -(-len(self._order) // self.group_size)

    def add(self, object_ids: Iterable[ObjectId]) -> None:
        """Give new objects the next free slots.

        Raises:
            InputError: An object has a slot already, or there are too many.
        """
        fresh = list(object_ids)
        self.require_new(fresh)
        self._order.extend(fresh)

    def require_new(self, object_ids: Collection[ObjectId]) -> None:
        """Check that objects can be added; `InputError` as :meth:`add`."""
        known = sorted(set(object_ids) & set(self._order))
        if known:
            raise InputError(f"these objects are tracked already: {known}")
        if len(self._order) + len(object_ids) > MAX_OBJECTS:
            got = len(self._order) + len(object_ids)
            raise InputError(f"at most {MAX_OBJECTS} objects fit one video, got {got}")

    def group_and_slot(self, object_id: ObjectId) -> tuple[int, Slot]:
        """Return an object's group, from 0, and its slot in the group, 1..10.

        Raises:
            InputError: The object was never added.
        """
        group, offset = divmod(self.number_of(object_id) - 1, self.group_size)
        return group, Slot(offset + 1)

    def number_of(self, object_id: ObjectId) -> int:
        """Return an object's number in slot maps, from 1; `InputError` if it was never added."""
        if object_id not in self._order:
            raise InputError(f"object {object_id} is not tracked; known are {self._order}")
        return self._order.index(object_id) + 1

    def members(self, group: int) -> tuple[ObjectId, ...]:
        """Return the objects of a group in the order of their slots, slot 1 first."""
        start = group * self.group_size
        return tuple(self._order[start : start + self.group_size])

    def to_slots(self, label_map: LabelArray) -> SlotArray:
        """Convert a label map of object ids to a slot map; other ids are background."""
        few = len(self._order) <= np.iinfo(np.uint8).max
        table: SlotArray = np.zeros(MAX_OBJECTS + 2, np.uint8 if few else np.int16)
        table[self._order] = np.arange(1, len(self._order) + 1)
        slot_map: npt.NDArray[Any] = table.take(label_map, mode="clip")
        return slot_map

    def to_object_ids(self, slot_map: SlotArray) -> LabelArray:
        """Convert a slot map to a label map of object ids."""
        return label_table(self._order)[slot_map]

    def in_group(self, slot_map: Tensor, group: int) -> Tensor:
        """Keep the objects of one group.

        Args:
            slot_map: Integer of any shape: numbers of all objects.
            group: Index of the group.

        Returns:
            The same shape and dtype: the group's slots 1..10; other objects are background.
        """
        return slots_in_group(slot_map, group, self.group_size)


def slots_in_group(slot_map: Tensor, group: int, group_size: int) -> Tensor:
    """Keep the objects of one group, as :meth:`ObjectSlots.in_group`."""
    first = group * group_size
    last = min(first + group_size, torch.iinfo(slot_map.dtype).max)
    if first >= last:  # a number that the dtype cannot hold would wrap around
        return torch.zeros_like(slot_map)
    return (slot_map - first) * ((slot_map > first) & (slot_map <= last))


class GroupMemory:
    """Memory of the objects of one group, at most ten.

    Entries with masks that the caller gave are references, of which the first and the newest ones
    stay, half of the memory at most. An earlier one that has to make room for another becomes an
    entry like those of tracked frames. So the size depends neither on the length of the video nor
    on how often objects were added.

    Args:
        capacity: Maximum number of long-term entries, references included; 1 keeps a reference
            only.
        gap: Frames between two entries of the long-term memory.
        short_term_delay: Age in frames of the short-term entry.
        eviction: Rule by which an entry leaves a full long-term memory, see ``MemoryConfig``.
        max_references: Maximum number of references; None takes half of the capacity.

    Attributes:
        capacity: As given.
    """

    def __init__(
        self,
        capacity: int,
        *,
        gap: int,
        short_term_delay: int = 1,
        eviction: Eviction = "oldest",
        max_references: int | None = None,
    ) -> None:
        self.gap = gap
        self.last_long_term = 0
        self.capacity = capacity
        self._max_references = max_references or (capacity + 1) // 2
        self._eviction = eviction
        self._references: list[MemoryEntry] = []
        self._recent: list[MemoryEntry] = []
        self._short_term: deque[MemoryEntry] = deque(maxlen=short_term_delay)

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Frames of the long-term entries: the newest recent entry first, references last."""
        return tuple(entry.frame_index for entry in (*reversed(self._recent), *self._references))

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        entries = (*self._references, *self._recent, *self._short_term)
        return sum(entry.nbytes for entry in {id(entry): entry for entry in entries}.values())

    def read(self, num_frames: int | None = None) -> MemoryFrames:
        """Return the entries that the next frame attends to.

        Args:
            num_frames: Maximum number of long-term entries; references are never left out.
        """
        recent = self._recent[::-1]
        if num_frames is not None:
            recent = recent[: max(num_frames - len(self._references), 0)]
        return MemoryFrames((*recent, *self._references), self._short_term[0])

    def write_reference(self, entry: MemoryEntry, *, is_kept: bool = True) -> None:
        """Store a frame with given masks; it replaces all of its frame, and the short-term memory.

        Args:
            entry: The frame.
            is_kept: Make it a reference; False evicts it in its turn like a tracked frame. What was
                a reference before stays one.
        """
        frame = entry.frame_index
        is_kept = is_kept or any(kept.frame_index == frame for kept in self._references)
        self._references = [kept for kept in self._references if kept.frame_index != frame]
        self._recent = [kept for kept in self._recent if kept.frame_index != frame]
        self._short_term.clear()
        self._short_term.append(entry)
        self.last_long_term = frame
        if is_kept:
            self._references.append(entry)
            if len(self._references) > self._max_references:
                left = self._references.pop(min(1, self._max_references - 1))
                # Its frame may have been tracked since: the given masks are the better ones.
                others = [kept for kept in self._recent if kept.frame_index != left.frame_index]
                self._recent = sorted([*others, left], key=lambda kept: kept.frame_index)
        else:
            self._recent.append(entry)
        self._evict()

    def write(self, entry: MemoryEntry) -> None:
        """Store a tracked frame: always in the short-term memory, every ``gap`` frames for long.

        It replaces what is kept of the same frame: a caller may go back and track again.
        """
        self._short_term.append(entry)
        # References of later frames do not count for the gap.
        if 0 <= entry.frame_index - self.last_long_term < self.gap:
            return
        self.last_long_term = entry.frame_index
        self._recent = [kept for kept in self._recent if kept.frame_index != entry.frame_index]
        self._recent.append(entry)
        self._evict()

    def _evict(self) -> None:
        while len(self._references) + len(self._recent) > self.capacity:
            del self._recent[0 if self._eviction == "oldest" else self._densest()]

    def _densest(self) -> int:
        """Index of the recent entry, the newest excluded, with the nearest neighbours in time.

        Distances are relative to the entry's age, so that old entries end up farther apart.
        """
        frames = [entry.frame_index for entry in self._recent]
        past = [e.frame_index for e in self._references if e.frame_index < frames[0]]
        before = [min(past, default=0), *frames]
        density = [
            (after - left) / (frames[-1] - frame)
            for left, frame, after in zip(before, frames, frames[1:], strict=False)
        ]
        return density.index(min(density)) if density else 0


def without_numbers(memory: MemoryFrames) -> MemoryFrames:
    """Return the same memory frames without their frame indices, which no network reads."""
    long_term = tuple(replace(entry, frame_index=0) for entry in memory.long_term)
    return MemoryFrames(long_term, replace(memory.short_term, frame_index=0))


def new_group(config: MemoryConfig, num_references: int = 1) -> GroupMemory:
    """Return the empty memory of a group, with room for more reference frames than one."""
    return GroupMemory(
        config.capacity + num_references - 1,
        gap=config.gap,
        short_term_delay=config.short_term_delay,
        eviction=config.eviction,
        max_references=max(num_references, (config.capacity + 1) // 2),
    )


@dataclass(slots=True)
class TrackState:
    """One video; made by ``HQTracker.initialize`` and owned by the caller.

    Attributes:
        geometry: Layout of the video's frames in the network's input.
        slot_map: ``(H, W)`` on the device, uint8 or int16: the masks of the last frame that went to
            memory.
        slots: Object ids and their slots.
        frame_index: Last frame seen; the reference frame is 0.
        groups: Memory of each group.
        crops: Parts of the frame in which small objects are tracked at a higher scale.
        given_areas: ``(N,)`` int64 on the device, pixels of the masks that the caller gave.
        given: Objects whose masks of the last frame the caller gave; those of others are predicted.
        features: Encoder features of the last frame, for objects that are added on it.
        last_seen: Boxes for the motion gate; None without one.
        owner: Number of the tracker; None fits the first one that it is given to.
        sample: Rows of the last frame, by which it is recognised; None if it is not known.
    """

    geometry: FrameGeometry
    slot_map: Tensor
    slots: ObjectSlots = field(default_factory=ObjectSlots)
    frame_index: int = 0
    groups: list[GroupMemory] = field(default_factory=list)
    crops: list[Crop] = field(default_factory=list)
    given_areas: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    given: frozenset[ObjectId] = frozenset()
    features: FrameFeatures | None = None
    last_seen: LastSeen | None = None
    owner: int | None = None
    sample: FrameArray | None = None

    def keep_features(self, encoded: EncodedFrame) -> None:
        """Keep the features of the last frame, and some of its rows."""
        self.features, self.sample = encoded.features, _sample_rows(encoded.frame).copy()

    def has_seen(self, frame: FrameArray) -> bool:
        """Check whether a frame may be the last one; a restored video takes any."""
        return self.sample is None or np.array_equal(self.sample, _sample_rows(frame))

    @property
    def label_map(self) -> LabelArray:
        """``(H, W)`` object ids of the last frame's masks, as they went to memory."""
        return self.slots.to_object_ids(self.slot_map.cpu().numpy())

    @property
    def nbytes(self) -> int:
        """Bytes of the memory; constant once it is full."""
        crops = sum(crop.state.nbytes for crop in self.crops)
        return crops + sum(group.nbytes for group in self.groups)


def warn_if_many(state: TrackState, groups: Iterable[int], config: MemoryConfig) -> None:
    """Warn of the memory that more than 255 objects will take, where groups of them begin.

    Args:
        state: The video.
        groups: Groups to which a frame was just written.
        config: Options of its memory.
    """
    num_objects, num_groups = len(state.slots.object_ids), state.slots.num_groups
    written = [state.groups[number] for number in groups]
    if num_objects <= _MANY_OBJECTS or all(len(group.frame_indices) > 1 for group in written):
        return
    entry = written[0].read().short_term.nbytes
    full = num_groups * entry * (config.capacity + config.short_term_delay)
    height, width = state.geometry.frame_size
    masks = num_objects * height * width * _BYTES_OF_MASKS
    _logger.warning(
        "%d objects take %d passes a frame, %.1f GB for their memory once it is full, and %.1f GB "
        "for the masks of a frame",
        *(num_objects, num_groups, full / 1e9, masks / 1e9),
    )


def _sample_rows(frame: FrameArray) -> FrameArray:
    """Return every nth row of a frame, all rows of a small one."""
    return frame[:: -(-frame.nbytes // _SAMPLE_BYTES)]
