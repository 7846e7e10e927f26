"""Saved states: a video that goes on from one has the masks and scores of one that was not cut."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shipped import shipped_tracker
from two_discs import draw_video

from vots_hqtrack.errors import HQTrackError, InputError
from vots_hqtrack.realtime import RealtimeState
from vots_hqtrack.saved_state import SavedState, read_state, save_state
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import MaskArray

NUM_FRAMES = 5
SMALL = (
    "frame.min_short_edge=0",
    "frame.long_edge=256",
    "memory.gap=1",
    "memory.capacity=3",
    "runtime.dtype=float32",
)
CASES = {
    "joint": ("lite-vmos", ()),
    "refined": ("lite", ()),
    "separate": ("lite-vmos", ("tracking.mode=separate",)),
    "windows": ("lite-vmos", ("tracking.search_reach=2.5",)),
    "delayed": ("lite-vmos", ("memory.short_term_delay=3", "memory.eviction=densest")),
    "aligned": ("vmos-r50", ()),
    "single scale": ("deaot-r50", ()),
}


def make_tracker(name: str, changes: tuple[str, ...]) -> HQTracker:
    return shipped_tracker(name, [*SMALL, *changes], is_trained=False)


def twelve(masks: dict[int, MaskArray]) -> dict[int, MaskArray]:
    """Cut the two discs into twelve objects, which take two groups."""
    rows = np.arange(masks[1].shape[0])[:, None]
    parts = {6 * (i - 1) + part + 1: (mask & (rows % 6 == part)) for i, mask in masks.items()
             for part in range(6)}  # fmt: skip
    return {i: mask for i, mask in parts.items() if mask.any()}


@pytest.mark.parametrize("case", CASES)
def test_video_goes_on_as_if_it_were_not_cut(case: str, tmp_path: Path) -> None:
    tracker = make_tracker(*CASES[case])
    video = draw_video(NUM_FRAMES)
    cut = 1 + list(CASES).index(case) % (NUM_FRAMES - 2)
    state = tracker.initialize(video[0][0], twelve(video[0][1]))
    for frame, _ in video[1 : cut + 1]:
        tracker.track(frame, state)
    saved = save_state(state)
    expected = [tracker.track(frame, state) for frame, _ in video[cut + 1 :]]
    saved.write(tmp_path / "state.safetensors")
    restored = tracker.restore(read_state(tmp_path / "state.safetensors"))
    assert restored.frame_index == cut
    assert restored.nbytes == sum(t.nbytes for n, t in saved.tensors.items() if n[:6] == "groups")
    for (frame, _), wanted in zip(video[cut + 1 :], expected, strict=True):
        found = tracker.track(frame, restored)
        assert np.array_equal(found.label_map, wanted.label_map)
        assert dict(found.scores) == dict(wanted.scores)
        assert found.frame_index == wanted.frame_index
    assert [g.frame_indices for g in restored.groups] == [g.frame_indices for g in state.groups]


@pytest.fixture(scope="module")
def saved() -> SavedState:
    tracker = make_tracker(*CASES["joint"])
    frame, masks = draw_video(1)[0]
    return save_state(tracker.initialize(frame, masks))


def test_object_is_added_to_a_restored_video(saved: SavedState) -> None:
    tracker = make_tracker(*CASES["joint"])
    frame, masks = draw_video(1)[0]
    state = tracker.restore(saved)
    tracker.add_objects(frame, {7: np.roll(masks[1], 40, axis=1)}, state)
    assert state.slots.object_ids == (1, 2, 7)


def test_dtypes_and_values_come_back(tmp_path: Path) -> None:
    values = [0.1, float("nan"), float("-inf")]
    tensors = {
        str(dtype): torch.tensor(values, dtype=dtype) for dtype in (torch.bfloat16, torch.float16)
    }
    written = SavedState({**tensors, "empty": torch.zeros(0, 4)}, {"format": 1})
    written.write(tmp_path / "state.safetensors")
    found = read_state(tmp_path / "state.safetensors")
    assert found.digest == written.digest
    for name, tensor in written.tensors.items():
        assert torch.equal(found.tensors[name].view(torch.uint8), tensor.view(torch.uint8))


def test_exception_other_options(saved: SavedState) -> None:
    for changes in (("tracking.mode=separate",), ("frame.long_edge=320",)):
        with pytest.raises(InputError, match="a tracker with other options"):
            make_tracker("lite-vmos", changes).restore(saved)


def test_exception_latency_budget() -> None:
    state = make_tracker(*CASES["joint"])._new_state(draw_video(1)[0][0].shape[:2])
    with pytest.raises(InputError, match="latency budget cannot be saved"):
        save_state(RealtimeState(state.geometry, state.slot_map))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_exception_damaged_file(saved: SavedState, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "state.safetensors"
    saved.write(path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), place]))])
    with contextlib.suppress(HQTrackError):
        found = read_state(path)
        # Blanks around the header may differ; nothing else may.
        assert found.digest == saved.digest
