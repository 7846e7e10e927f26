"""Object ids and their places: a bijection that only grows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vots_hqtrack.errors import InputError
from vots_hqtrack.memory.slots import ObjectSlots
from vots_hqtrack.types import ObjectId

ids = st.lists(st.integers(1, 255).map(ObjectId), unique=True, min_size=1, max_size=60)


@given(ids)
def test_places_are_a_bijection(object_ids: list[ObjectId]) -> None:
    slots = ObjectSlots()
    slots.add(object_ids)
    places = [slots.place(object_id) for object_id in object_ids]
    assert len(set(places)) == len(places)
    for object_id, (group, slot) in zip(object_ids, places, strict=True):
        assert 1 <= slot <= 10
        assert slots.members(group)[slot - 1] == object_id


@given(ids, st.integers(0, 59))
def test_adding_moves_nobody(object_ids: list[ObjectId], cut: int) -> None:
    slots = ObjectSlots()
    slots.add(object_ids[:cut])
    before = {one: slots.place(one) for one in slots.object_ids}
    slots.add(object_ids[cut:])
    assert {one: slots.place(one) for one in before} == before
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
        slots.place(ObjectId(4))
