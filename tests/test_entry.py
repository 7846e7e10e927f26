"""Whatever the public API is given, it works or raises the package's errors, and harms no state."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from vots_hqtrack.build import build_untrained_parts, make_tracker
from vots_hqtrack.devices import pick_device
from vots_hqtrack.entry import hold_state
from vots_hqtrack.errors import (
    ConfigError,
    HQTrackError,
    InputError,
    MemoryLimitError,
    ShapeError,
    explain_memory,
)
from vots_hqtrack.masks import (
    combine_masks,
    mask_boxes,
    mask_iou,
    one_hot_slots,
    split_label_map,
    split_slot_map,
)
from vots_hqtrack.presets import load_preset
from vots_hqtrack.result import FrameResult
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import ObjectId
from vots_hqtrack.vot.server import VideoSession

CPU = torch.device("cpu")
FRAME = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
MASK = np.zeros((48, 64), np.bool_)
MASK[10:30, 20:50] = True


def _make(preset: str) -> HQTracker:
    config = apply_settings(load_preset(preset), ["frame.long_edge=256"])
    return make_tracker(config, build_untrained_parts(config, CPU), CPU)


@pytest.fixture(scope="module")
def tracker() -> HQTracker:
    return _make("lite-vmos")


@pytest.fixture(scope="module")
def paced() -> HQTracker:
    return _make("lite-realtime")


WRONG_MASKS: list[tuple[Any, type[HQTrackError]]] = [
    ([MASK], InputError),
    (MASK, InputError),
    (None, InputError),
    ({}, InputError),
    ({1.2: MASK, 1.7: MASK}, InputError),
    ({1.0: MASK}, InputError),
    ({True: MASK}, InputError),
    ({"1": MASK}, InputError),
    ({1: MASK, None: MASK}, InputError),
    ({float("nan"): MASK}, InputError),
    ({0: MASK}, InputError),
    ({1001: MASK}, InputError),
    ({10**30: MASK}, InputError),
    ({1: MASK.tolist()}, ShapeError),
    ({1: torch.from_numpy(MASK)}, ShapeError),
    ({1: MASK.astype(np.uint8)}, ShapeError),
    ({1: MASK[:5]}, ShapeError),
    ({1: None}, ShapeError),
]


@pytest.mark.parametrize("name", ["tracker", "paced"])
def test_exception_masks(request: pytest.FixtureRequest, name: str) -> None:
    used: HQTracker = request.getfixturevalue(name)
    state = used.initialize(FRAME, {9: MASK})
    for masks, error in WRONG_MASKS:
        with pytest.raises(error):
            used.initialize(FRAME, masks)
        with pytest.raises(error):
            used.add_objects(FRAME, masks, state)
    assert (state.slots.object_ids, state.groups[0].frame_indices) == ((9,), (0,))


@pytest.mark.parametrize("name", ["tracker", "paced"])
def test_exception_frames(request: pytest.FixtureRequest, name: str) -> None:
    used: HQTracker = request.getfixturevalue(name)
    state = used.initialize(FRAME, {1: MASK})
    wrong: list[Any] = [None, "a.png", FRAME.tolist(), torch.zeros(48, 64, 3), FRAME / 255]
    calls: list[tuple[Callable[..., object], tuple[object, ...]]] = [
        (used.initialize, ({1: MASK},)),
        (used.track, (state,)),
        (used.add_objects, ({2: MASK}, state)),
        (used.masks_from_boxes, ([(0, 0, 9, 9)],)),
    ]
    for frame in wrong:
        for call, arguments in calls:
            with pytest.raises(ShapeError, match="a frame must be"):
                call(frame, *arguments)
    assert used.track(FRAME, state).frame_index == 1


def test_frames_and_masks_of_any_strides_give_the_same(tracker: HQTracker) -> None:
    """Such as a picture of OpenCV with its channels in reverse order."""
    wanted = tracker.track(FRAME, tracker.initialize(FRAME, {1: MASK})).label_map
    flipped, mirrored = FRAME[:, :, ::-1].copy()[:, :, ::-1], MASK[:, ::-1].copy()[:, ::-1]
    locked = np.frombuffer(FRAME.tobytes(), np.uint8).reshape(FRAME.shape)
    for frame, mask in ((flipped, mirrored), (np.asfortranarray(FRAME), MASK), (locked, MASK)):
        found = tracker.track(frame, tracker.initialize(frame, {np.int64(1): mask}))
        assert np.array_equal(found.label_map, wanted)


@pytest.mark.parametrize("name", ["tracker", "paced"])
def test_exception_options_of_track(request: pytest.FixtureRequest, name: str) -> None:
    used: HQTracker = request.getfixturevalue(name)
    state = used.initialize(FRAME, {1: MASK})
    wrong: list[Any] = [0, -1, 1.5, "a", True, 1e30]
    for value in wrong:
        with pytest.raises(InputError, match="memory_frames must be"):
            used.track(FRAME, state, memory_frames=value)
    wrong = ["no", None, 1]
    for value in wrong:
        with pytest.raises(InputError, match="use_refiner must be"):
            used.track(FRAME, state, use_refiner=value)
    assert state.frame_index == 0


@pytest.mark.parametrize(
    "boxes",
    [None, 5, "0,0,9,9", [5], [(1, 2, 3)], [(1, 2, 3, "a")], [(0, 0, float("inf"), 5)], [None]],
)
def test_exception_boxes(paced: HQTracker, boxes: Any) -> None:
    with pytest.raises(InputError, match="boxes must be a list"):
        paced.masks_from_boxes(FRAME, boxes)


@pytest.mark.parametrize("state", [None, {}, 5, FRAME])
def test_exception_no_state(tracker: HQTracker, state: Any) -> None:
    with pytest.raises(InputError, match="the one that initialize returned"):
        tracker.track(FRAME, state)
    with pytest.raises(InputError, match="the one that initialize returned"):
        tracker.add_objects(FRAME, {1: MASK}, state)


def test_exception_a_state_of_another_tracker(tracker: HQTracker, paced: HQTracker) -> None:
    state, other = tracker.initialize(FRAME, {1: MASK}), _make("lite-vmos")
    for stranger in (other, paced):
        with pytest.raises(InputError, match="belongs to another tracker"):
            stranger.track(FRAME, state)
        with pytest.raises(InputError, match="belongs to another tracker"):
            stranger.add_objects(FRAME, {2: MASK}, state)
    with pytest.raises(InputError, match="belongs to another tracker"):
        tracker.track(FRAME, paced.initialize(FRAME, {1: MASK}))
    assert tracker.track(FRAME, state).frame_index == 1


@pytest.mark.parametrize("name", ["tracker", "paced"])
def test_objects_are_added_on_the_last_frame_only(
    request: pytest.FixtureRequest, name: str
) -> None:
    used: HQTracker = request.getfixturevalue(name)
    other = FRAME.copy()
    other[-1, -1, -1] ^= 1
    state = used.initialize(FRAME, {1: MASK})
    for last, strange in ((FRAME, other), (other, FRAME)):
        with pytest.raises(InputError, match=r"tracked last \(frame \d of this video\)"):
            used.add_objects(strange, {9: MASK[:, ::-1]}, state)
        assert len(state.slots.object_ids) == state.frame_index + 1
        small = np.zeros_like(MASK)
        small[40:43, 9 * state.frame_index : 9 * state.frame_index + 3] = True
        used.add_objects(last.copy(), {2 + state.frame_index: small}, state)
        used.track(other, state)


def test_smaller_mask_lies_above_when_objects_are_added_as_when_they_are_first(
    tracker: HQTracker,
) -> None:
    small, large = np.zeros_like(MASK), np.zeros_like(MASK)
    small[12:20, 15:25], large[15:40, 10:60] = True, True
    masks = {1: MASK, 2: small, 3: large}
    wanted = tracker.initialize(FRAME, masks).label_map
    assert [int((wanted == i).sum()) for i in masks] == [560, 80, 775]
    for order in itertools.permutations(masks):
        state = tracker.initialize(FRAME, {order[0]: masks[order[0]]})
        tracker.add_objects(FRAME, {i: masks[i] for i in order[1:]}, state)
        assert np.array_equal(state.label_map, wanted)
        session = VideoSession(tracker)
        session.step(FRAME, [masks[i] for i in order])
        assert [int((session._state.label_map == i).sum()) for i in masks] == [80, 560, 775]
    with pytest.raises(InputError, match=r"object 4 has no pixel of its own.* by object 2"):
        tracker.add_objects(FRAME, {4: small}, state)


def test_added_mask_holds_where_it_meets_a_prediction_but_not_where_it_meets_a_given_one(
    tracker: HQTracker,
) -> None:
    large = np.zeros_like(MASK)
    small = np.zeros_like(MASK)
    large[20:60, 20:60], small[10:28, 20:40] = True, True
    state = tracker.initialize(FRAME, {1: small})
    assert state.given == {1}
    tracker.track(FRAME, state)
    assert state.given == set()
    state.slot_map = torch.from_numpy(small.astype(np.uint8))  # a prediction that is known
    tracker.add_objects(FRAME, {2: large}, state)
    assert np.array_equal(state.label_map == 2, large)
    assert np.array_equal(state.label_map == 1, small & ~large)
    larger = np.zeros_like(MASK)
    larger[:, 40:] = True
    tracker.add_objects(FRAME, {3: larger}, state)  # both are given on this frame
    assert np.array_equal(state.label_map == 2, large)
    assert np.array_equal(state.label_map == 3, larger & ~large)

    encoded, known = tracker.encode(FRAME), small.astype(np.uint8)
    state = tracker.initialize(FRAME, {1: small})
    tracker.write_given(encoded, known, state, frame_index=5)
    tracker.add_objects(FRAME, {2: large}, state)
    assert np.array_equal(state.label_map == 1, small)


def test_a_state_refuses_a_second_user_at_the_same_time(tracker: HQTracker) -> None:
    state, another = tracker.initialize(FRAME, {1: MASK}), tracker.initialize(FRAME, {1: MASK})
    found: list[object] = []

    def use() -> None:
        for held in (state, another):
            try:
                found.append(tracker.track(FRAME, held).frame_index)
            except InputError as error:
                found.append(str(error))

    with hold_state(state, tracker.number):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert tracker.track(FRAME, state).frame_index == 1  # the holder itself may
    assert "in use by another thread" in str(found[0])
    assert found[1] == 1
    use()
    assert found[2:] == [2, 2]


def test_threads_at_once_never_give_an_index_twice(tracker: HQTracker) -> None:
    state = tracker.initialize(FRAME, {1: MASK})
    indices: list[int] = []

    def use() -> None:
        for _ in range(5):
            try:
                indices.append(tracker.track(FRAME, state).frame_index)
            except InputError as error:
                assert "another thread" in str(error)  # noqa: PT017 - it may or may not come

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(indices) == list(range(1, len(indices) + 1))
    assert state.frame_index == len(indices)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_fork_after_tracking_is_told_at_once(tracker: HQTracker) -> None:
    state = tracker.initialize(FRAME, {1: MASK})
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "no error"
        try:
            tracker.track(FRAME, state)
        except HQTrackError as error:
            said = str(error)
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.waitpid(child, 0)
    said = os.read(reading, 4000).decode()
    for end in (reading, writing):
        os.close(end)
    assert "forked" in said
    assert "spawn" in said


def test_arrays_of_a_result_are_the_reader_s_own(tracker: HQTracker) -> None:
    result = tracker.track(FRAME, tracker.initialize(FRAME, {1: MASK, 2: ~MASK}))
    before = [mask.copy() for mask in (*result.masks.values(), *result.initial_masks.values())]
    for mask in (*result.masks.values(), *result.initial_masks.values()):
        mask[:] = True
    result.label_map[:] = 9
    after = (*result.masks.values(), *result.initial_masks.values())
    assert all(map(np.array_equal, before, after))
    assert set(np.unique(result.label_map)) <= {0, 1, 2}
    assert ObjectId(3) not in result.masks
    with pytest.raises(KeyError):
        result.masks[ObjectId(3)]


def test_exception_functions_of_masks() -> None:
    calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = [
        (combine_masks, ([MASK],)),
        (combine_masks, ({1: MASK.tolist()},)),
        (combine_masks, ({1.5: MASK},)),
        (split_label_map, ([[1]],)),
        (split_label_map, (MASK.astype(np.uint8), 5)),
        (split_label_map, (MASK.astype(np.uint8), [1.5])),
        (split_label_map, (np.full((2, 2), 3000),)),
        (mask_iou, (MASK, MASK)),
        (mask_boxes, (None,)),
        (one_hot_slots, (MASK,)),
        (split_slot_map, (MASK, 2)),
    ]
    for function, arguments in calls:
        with pytest.raises(InputError):
            function(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        *({"name": 5}, {"name": ["lite"]}, {"settings": "memory.gap=5"}, {"settings": 5}),
        *(
            {"device": 5},
            {"device": None},
            {"device": ""},
            {"device": "meta"},
            {"device": "x" * 999},
        ),
        *({"device": "privateuseone"}, {"weights": 5}),
    ],
)
def test_exception_from_preset(arguments: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, InputError)) as caught:
        HQTracker.from_preset(**arguments)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_exception_from_config() -> None:
    with pytest.raises(ConfigError, match="wanted a TrackerConfig, got dict"):
        HQTracker.from_config({})  # type: ignore[arg-type]
    assert pick_device(torch.device("cpu")) == CPU  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "amount"),
    [
        (MemoryError(), "an allocation failed"),
        (MemoryError("Unable to allocate 1.46 TiB for an array"), "wanted 1.46 TiB more"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB."), "wanted 20.00 GiB more"),
    ],
)
def test_exception_out_of_memory_says_what_helps(error: Exception, amount: str) -> None:
    said = rf"{amount}; less is needed"
    with pytest.raises(MemoryLimitError, match=said) as caught, explain_memory():
        raise error
    assert caught.value.exit_code == 1
    with pytest.raises(MemoryLimitError, match=r"wanted \d+ bytes more"), explain_memory():
        torch.empty(1 << 50, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="another"), explain_memory():
        raise RuntimeError("another one")


def test_a_result_of_many_objects_is_as_small_as_of_one(tracker: HQTracker) -> None:
    masks = {i + 1: np.zeros((48, 64), np.bool_) for i in range(40)}
    for number, mask in masks.items():
        mask[number, :] = True
    result: FrameResult = tracker.track(FRAME, tracker.initialize(FRAME, masks))
    assert all(mask.shape == MASK.shape for mask in result.masks.values())
    held = [value for value in vars(result.masks).values() if isinstance(value, np.ndarray)]
    assert [array.nbytes for array in held] == [48 * 64]
