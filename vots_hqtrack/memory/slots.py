"""Who sits where: the caller's object ids and the tensor slots of the groups, append-only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import MAX_OBJECTS, SLOTS_PER_GROUP, ObjectId, Slot


@dataclass(slots=True)
class ObjectSlots:
    """A bijection between object ids and (group, slot); an object keeps its place for ever.

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
        """Groups in use."""
        return -(-len(self._order) // self.group_size)

    def add(self, object_ids: Iterable[ObjectId]) -> None:
        """Give new objects the next free places.

        Raises:
            InputError: An object has a place already, or there are too many.
        """
        fresh = list(object_ids)
        known = sorted(set(fresh) & set(self._order))
        if known:
            raise InputError(f"these objects are tracked already: {known}")
        if len(self._order) + len(fresh) > MAX_OBJECTS:
            got = len(self._order) + len(fresh)
            raise InputError(f"at most {MAX_OBJECTS} objects fit one video, got {got}")
        self._order.extend(fresh)

    def place(self, object_id: ObjectId) -> tuple[int, Slot]:
        """Return an object's group (from 0) and slot (1..10).

        Raises:
            InputError: The object was never added.
        """
        if object_id not in self._order:
            raise InputError(f"object {object_id} is not tracked; known are {self._order}")
        group, offset = divmod(self._order.index(object_id), self.group_size)
        return group, Slot(offset + 1)

    def members(self, group: int) -> tuple[ObjectId, ...]:
        """Return the objects of a group in the order of their slots, slot 1 first."""
        start = group * self.group_size
        return tuple(self._order[start : start + self.group_size])
