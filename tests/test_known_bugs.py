"""Known bugs of the released code, re-created from its description, beside our results.

Each ``released_*`` function is the rule of the released code in a few lines; decision 0022 lists
them. Where its rule and ours agree, a test says so too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vots_hqtrack.build import build_untrained_parts
from vots_hqtrack.config import EncoderConfig, VMOSConfig
from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.frame import frame_to_image, plan_aligned_frame
from vots_hqtrack.masks import combine_masks, split_label_map
from vots_hqtrack.presets import load_preset
from vots_hqtrack.selector import resolve_overlaps, select
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import LabelArray, MaskArray, ObjectId, Size, Slot, check_masks

CPU = torch.device("cpu")
SIZE = Size(65, 97)
"""A size that the released model's geometry leaves alone: both sides are 16 k + 1."""


def ids(*numbers: int) -> list[ObjectId]:
    return [ObjectId(number) for number in numbers]


def row(text: str) -> MaskArray:
    """Read one row of pixels, ``x`` being the object's."""
    return np.array([[letter == "x" for letter in text]])


def released_tracker(**tracking: str) -> HQTracker:
    """Make a tracker by the rules of the preset, small and with random weights."""
    config = load_preset("vmos-released")
    vmos = dataclasses.replace(
        VMOSConfig(), width_s16=32, width_s8=32, width_s4=32, align_corners=True,
        identity_kernel=17, identity_kernel_s8=17, identity_stride_s8=16, window_radius=2,
    )  # fmt: skip
    config = dataclasses.replace(
        config,
        frame=dataclasses.replace(config.frame, min_short_edge=0),
        encoder=EncoderConfig(kind="internimage-t"),
        vmos=vmos,
        tracking=dataclasses.replace(config.tracking, **tracking),
    )
    return HQTracker(config, *build_untrained_parts(config, CPU), CPU)


@pytest.fixture(scope="module")
def by_id() -> HQTracker:
    return released_tracker()


def draw_frame(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def square(top: int, left: int, side: int = 24) -> MaskArray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


class TestFirstFrameAtTheNetworksSize:
    """Quirk 15."""

    @staticmethod
    def released_resize(sample: dict[str, object], target: Size) -> dict[str, object]:
        """Resize whatever the sample holds, its two sizes too, then ask all for their axes."""
        if sample["current_img"].shape[:2] != tuple(target):  # type: ignore[attr-defined]
            width_first = (target.width, target.height)
            sample = {
                name: cv2.resize(np.asarray(value, np.float64), width_first)
                for name, value in sample.items()
            }
        for value in sample.values():
            _ = value.ndim  # type: ignore[attr-defined]
        return sample

    @pytest.mark.parametrize("size", [Size(481, 641), Size(577, 1041)])
    def test_released_rule_fails_there_and_ours_keeps_the_pixels(self, size: Size) -> None:
        frame = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
        geometry = plan_aligned_frame(size)
        assert geometry.network_size == size
        sample = {"current_img": frame, "height": size.height, "weight": size.width}
        with pytest.raises(AttributeError, match="ndim"):
            self.released_resize(sample, geometry.network_size)
        image = frame_to_image(frame, geometry, CPU)
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        expected = torch.from_numpy((frame / 255 - mean) / std).permute(2, 0, 1).float()
        torch.testing.assert_close(image[0], expected)

    def test_released_rule_gets_through_at_another_size(self) -> None:
        size = Size(480, 854)
        sample = {"current_img": np.zeros((*size, 3), np.uint8), "height": 480, "weight": 854}
        resized = self.released_resize(sample, plan_aligned_frame(size).network_size)
        assert resized["height"].shape == (481, 849)  # type: ignore[attr-defined]

    def test_a_video_of_that_size_is_tracked(self, by_id: HQTracker) -> None:
        state = by_id.initialize(draw_frame(), {1: square(8, 8)})
        assert state.geometry.network_size == SIZE
        assert by_id.track(draw_frame(1), state).masks[ObjectId(1)].shape == tuple(SIZE)


class TestOverlappingFirstMasks:
    """Quirk 16 and 26: the released code adds up masks times their numbers, in 8 bits."""

    @staticmethod
    def released_label_map(masks: dict[ObjectId, MaskArray]) -> LabelArray:
        total = sum(number * mask.astype(np.int64) for number, mask in masks.items())
        return (np.asarray(total) % 256).astype(np.uint8)

    def test_a_shared_pixel_is_no_third_object(self) -> None:
        masks = dict(zip(ids(1, 2, 3), [row("xx.."), row(".xx."), row("...x")], strict=True))
        assert self.released_label_map(masks).tolist() == [[1, 3, 2, 3]]
        assert combine_masks(masks).tolist() == [[1, 1, 2, 3]]

    def test_a_sum_does_not_wrap_around(self) -> None:
        masks = dict(zip(ids(100, 200), [row("xx."), row(".xx")], strict=True))
        assert self.released_label_map(masks).tolist() == [[100, 44, 200]]
        assert combine_masks(masks).tolist() == [[100, 100, 200]]

    @given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
    def test_without_overlaps_both_agree(self, labels: list[int]) -> None:
        label_map = np.array([labels])
        masks = split_label_map(label_map, ids(1, 2, 3, 4))
        assert np.array_equal(self.released_label_map(masks), label_map)
        assert np.array_equal(combine_masks(masks), label_map)

    def test_of_equal_sizes_the_tracker_starts_with_the_lowest_id(self, by_id: HQTracker) -> None:
        masks = {2: square(8, 20), 1: square(8, 8)}
        state = by_id.initialize(draw_frame(), masks)
        assert set(np.unique(state.label_map)) == {0, 1, 2}
        assert np.array_equal(state.label_map == 1, masks[1])
        assert np.array_equal(state.label_map == 2, masks[2] & ~masks[1])

    @pytest.mark.parametrize("number", [0, 1001, 2**16])
    def test_exception_ids_that_do_not_fit(self, number: int) -> None:
        assert np.array([number]).astype(np.uint8)[0] in (0, 233)  # what 8 bits make of them
        with pytest.raises(InputError, match=rf"ids must be whole numbers 1..1000, got {number}"):
            check_masks({number: square(8, 8)}, SIZE)


class TestOverlappingRefinedMasks:
    """Quirk 17: a pixel of several masks gets the first mask's place in a stack, not its id."""

    @staticmethod
    def released_compose(present: Sequence[int], masks: Sequence[MaskArray]) -> LabelArray:
        """``present`` are the labels of VMOS's map in ascending order, 0 with an empty plane."""
        stack = np.stack(masks)
        label_map = np.zeros(stack.shape[1:], np.uint8)
        for label, mask in zip(present, masks, strict=True):
            label_map[mask & (stack.sum(0) == 1)] = label
        shared = stack.sum(0) > 1
        label_map[shared] = stack.argmax(0)[shared]
        return label_map

    @staticmethod
    def ours(numbers: Sequence[ObjectId], masks: Sequence[MaskArray]) -> LabelArray:
        slot_map = resolve_overlaps(torch.from_numpy(np.stack(masks)), numbers).numpy()
        label_map: LabelArray = np.array([0, *numbers], np.uint8)[slot_map]
        return label_map

    def test_with_a_missing_id_the_pixel_goes_to_an_absent_object(self) -> None:
        masks = [row("xx."), row(".xx")]
        assert self.released_compose([0, 2, 3], [row("..."), *masks]).tolist() == [[2, 1, 3]]
        assert self.ours(ids(2, 3), masks).tolist() == [[2, 2, 3]]

    def test_without_background_the_pixel_becomes_background(self) -> None:
        masks = [row("xx."), row(".xx")]
        assert self.released_compose([1, 2], masks).tolist() == [[1, 0, 2]]
        assert self.ours(ids(1, 2), masks).tolist() == [[1, 1, 2]]

    @given(st.integers(1, 4), st.integers(0, 999))
    def test_with_all_ids_and_background_both_agree(self, count: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        masks = [generator.random((3, 5)) < 0.4 for _ in range(count)]
        present = list(range(count + 1))
        released = self.released_compose(present, [np.zeros((3, 5), bool), *masks])
        assert np.array_equal(self.ours(ids(*present[1:]), masks), released)


class TestThreshold:
    """Section 7.2: exactly at the threshold the refined mask is taken; this is kept."""

    @pytest.mark.parametrize(("width", "scale"), [(10, 1), (10, 997), (10, 100_000), (11, 9)])
    def test_at_the_threshold_both_agree(self, width: int, scale: int) -> None:
        initial = torch.zeros(1, width, scale, dtype=torch.bool)
        initial[0, 0] = True
        refined = torch.ones_like(initial)
        released = not (scale + 1e-6) / (width * scale + 1e-6) < 0.1
        assert select(initial, refined, iou_threshold=0.1).is_refined.item() is released
        assert released is (width == 10)


class TestSizeChange:
    """Quirk 20: only a change of the network's size was noticed, and named by nobody."""

    @staticmethod
    def released_mask_size(first: Size, now: Size) -> Size:
        if plan_aligned_frame(first).network_size != plan_aligned_frame(now).network_size:
            raise RuntimeError("the sizes of two tensors do not match")
        return first  # the output is resized to the first mask

    def test_a_change_is_named_and_never_resized_away(self, by_id: HQTracker) -> None:
        first, now = Size(480, 854), Size(478, 850)
        assert self.released_mask_size(first, now) != now
        state = by_id.initialize(draw_frame(), {1: square(8, 8)})
        with pytest.raises(ShapeError, match="began with 97x65, got 97x64"):
            by_id.track(draw_frame()[:64].copy(), state)
        assert state.frame_index == 0
        assert by_id.track(draw_frame(), state).frame_index == 1


class TestIdsByPosition:
    """Section 7.1: objects were known by their place in the caller's list."""

    def test_results_carry_the_callers_ids(self, by_id: HQTracker) -> None:
        given_masks = {5: square(8, 8), 2: square(8, 60)}
        released = dict(enumerate(given_masks.values(), start=1))
        state = by_id.initialize(draw_frame(), given_masks)
        assert np.array_equal(state.label_map == 5, given_masks[5])
        assert np.array_equal(state.label_map == 2, given_masks[2])
        assert set(released) == {1, 2}
        assert np.array_equal(released[2], given_masks[2])
        assert set(by_id.track(draw_frame(1), state).masks) >= {2, 5}

    def test_the_order_of_the_list_changes_nothing(self, by_id: HQTracker) -> None:
        masks = {1: square(8, 8), 2: square(8, 20), 3: square(30, 60)}
        results = []
        for order in ([1, 2, 3], [3, 2, 1]):
            state = by_id.initialize(draw_frame(), {number: masks[number] for number in order})
            results.append(by_id.track(draw_frame(1), state).masks)
        assert all(np.array_equal(mask, results[1][i]) for i, mask in results[0].items())

    def test_sparse_ids_keep_their_slots_in_the_released_presets(self, by_id: HQTracker) -> None:
        packed = released_tracker(slots="packed")
        given_masks = {3: square(8, 8), 7: square(8, 60)}
        kept, moved = (tracker.initialize(draw_frame(), given_masks) for tracker in (by_id, packed))
        assert [kept.slots.group_and_slot(i) for i in ids(3, 7)] == [(0, Slot(3)), (0, Slot(7))]
        assert [moved.slots.group_and_slot(i) for i in ids(3, 7)] == [
            (0, Slot(1)),
            (0, Slot(2)),
        ]
        # The slots' identities differ, so what is remembered does too; the weights are the same.
        values = [state.groups[0].read().long_term[0].layers[0].value for state in (kept, moved)]
        assert not torch.allclose(values[0], values[1])
        dense = by_id.initialize(draw_frame(), {1: given_masks[3], 2: given_masks[7]})
        torch.testing.assert_close(dense.groups[0].read().long_term[0].layers[0].value, values[1])
        found = by_id.track(draw_frame(1), kept)
        assert list(found.masks) == [1, 2, 3, 4, 5, 6, 7]
        assert list(packed.track(draw_frame(1), moved).masks) == [3, 7]
