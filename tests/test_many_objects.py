"""More than 255 objects: label maps of 16 bits, from given masks to the state on disk."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from vots_hqtrack.build import build_untrained_parts
from vots_hqtrack.masks import combine_masks, lay_over, split_slot_map
from vots_hqtrack.memory import ObjectSlots
from vots_hqtrack.merge import initial_masks
from vots_hqtrack.presets import load_preset
from vots_hqtrack.saved_state import read_state, save_state
from vots_hqtrack.selector import resolve_overlaps
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import MAX_OBJECTS, ObjectId

NUM = 300
SIZE = (60, 80)


def blocks(first: int = 1, count: int = NUM) -> dict[int, np.ndarray]:
    """Masks of four by four pixels, row by row."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    index = rows // 4 * 20 + columns // 4
    return {ObjectId(first + number): index == number for number in range(count)}


def test_masks_of_high_ids_are_combined_and_laid_over_each_other():
    assert combine_masks(blocks(first=MAX_OBJECTS - NUM + 1)).max() == MAX_OBJECTS
    assert combine_masks({ObjectId(255): blocks()[1]}).dtype == np.uint8
    assert combine_masks({ObjectId(256): blocks()[1]}).dtype == np.uint16
    known = combine_masks({ObjectId(7): blocks()[1]})
    both = lay_over(known, {ObjectId(900): blocks()[2]})
    assert set(np.unique(both)) == {0, 7, 900}


@pytest.mark.parametrize(("num", "dtype"), [(255, torch.uint8), (256, torch.int16)])
def test_slots_of_many_objects_are_told_apart(num, dtype):
    ids = [ObjectId(number) for number in range(MAX_OBJECTS, MAX_OBJECTS - num, -1)]
    slots = ObjectSlots()
    slots.add(ids)
    label_map = np.array([[0, ids[0], ids[-1]], [5, ids[254], ids[10]]], np.uint16)
    slot_map = torch.from_numpy(slots.to_slots(label_map))
    assert slot_map.dtype == dtype
    assert slot_map.tolist() == [[0, 1, num], [0, 255, 11]]
    back = slots.to_object_ids(slot_map.numpy())
    assert np.array_equal(back, np.where(label_map == 5, 0, label_map))
    assert slots.in_group(slot_map, 25).tolist() == [[0, 0, num - 250], [0, 5, 0]]
    masks = split_slot_map(slot_map, num)
    assert masks.flatten(1).any(1).nonzero().flatten().tolist() == sorted({0, 10, 254, num - 1})
    narrow = torch.tensor([[0, 4, 5, 255]], dtype=torch.uint8)  # 260 and 256 wrap to 4 and 0
    assert not split_slot_map(narrow, 300)[255:].any()
    assert not slots.in_group(narrow, 26).any()
    assert torch.equal(resolve_overlaps(masks, ids), slot_map)


def test_every_one_of_many_classes_can_win_a_pixel():
    probabilities = torch.rand(1 + NUM, 6, 60, generator=torch.Generator().manual_seed(0))
    found = initial_masks(probabilities)
    assert torch.equal(found.slot_map.long(), probabilities.argmax(0))
    assert int(found.slot_map.max()) > 255


def test_exception_a_label_map_with_ids_that_are_not_known():
    slots = ObjectSlots()
    slots.add([ObjectId(3)])
    assert slots.to_slots(np.array([[3, 1000, 1001, 65535]], np.uint16)).tolist() == [[1, 0, 0, 0]]


def test_many_objects_are_tracked_and_go_on_from_a_saved_state(tmp_path, caplog):
    settings = ("frame.min_short_edge=0", "frame.long_edge=256", "runtime.dtype=float32")
    config = apply_settings(load_preset("lite-vmos"), settings)
    torch.manual_seed(0)
    device = torch.device("cpu")
    tracker = HQTracker(config, *build_untrained_parts(config, device), device)
    frames = np.random.default_rng(0).integers(0, 255, (3, *SIZE, 3), np.uint8)
    with caplog.at_level(logging.WARNING, "vots_hqtrack.memory"):
        state = tracker.initialize(frames[0], blocks(count=250))
        assert "vots_hqtrack.memory" not in {record.name for record in caplog.records}
        tracker.add_objects(frames[0], {i: m for i, m in blocks().items() if i > 250}, state)
    (told,) = (r.getMessage() for r in caplog.records if r.name == "vots_hqtrack.memory")
    assert told.startswith("300 objects take 30 passes a frame, 0.1 GB for their memory")
    assert np.array_equal(state.label_map, combine_masks(blocks()))
    tracker.track(frames[1], state)
    save_state(state).write(tmp_path / "state.safetensors")
    restored = tracker.restore(read_state(tmp_path / "state.safetensors"))
    wanted, found = tracker.track(frames[2], state), tracker.track(frames[2], restored)
    assert wanted.label_map.dtype == np.uint16
    assert np.array_equal(wanted.label_map, found.label_map)
    assert wanted.scores == found.scores
    assert len(wanted.masks) == NUM
