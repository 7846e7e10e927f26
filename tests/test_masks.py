"""Masks, label maps, boxes and IoU."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.masks import (
    check_mask_stack,
    combine_masks,
    lay_over,
    mask_boxes,
    mask_iou,
    mask_overlap,
    one_hot_slots,
    split_label_map,
)
from vots_hqtrack.types import ObjectId

label_maps = npst.arrays(
    np.uint8, npst.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 255)
)
mask_pairs = npst.array_shapes(min_dims=3, max_dims=3, max_side=7).flatmap(
    lambda shape: st.tuples(npst.arrays(np.bool_, shape), npst.arrays(np.bool_, shape))
)


def _mask(*rows: str) -> np.ndarray:
    return np.array([[pixel == "x" for pixel in row] for row in rows])


def test_convention_label_zero_is_background() -> None:
    label_map = np.array([[0, 3], [0, 0]], dtype=np.uint8)
    assert list(split_label_map(label_map)) == [3]
    assert combine_masks({ObjectId(3): _mask(".x", "..")})[0, 0] == 0
    assert one_hot_slots(torch.tensor([[[0]]]))[0, :, 0, 0].tolist() == [1.0] + [0.0] * 10


def test_convention_box_edges_are_exclusive_and_x_comes_first() -> None:
    mask = torch.zeros(1, 20, 30, dtype=torch.bool)
    mask[0, 5:9, 3] = True
    assert mask_boxes(mask).tolist() == [[3.0, 5.0, 4.0, 9.0]]


def test_convention_smallest_mask_wins_an_overlap_in_any_order() -> None:
    masks = {ObjectId(9): _mask("xxx"), ObjectId(200): _mask("xx."), ObjectId(4): _mask(".x.")}
    for order in itertools.permutations(masks):
        combined = combine_masks({object_id: masks[object_id] for object_id in order})
        assert combined.tolist() == [[200, 4, 9]]
        assert combined.dtype == np.uint8


@given(label_maps)
def test_label_map_to_masks_and_back_is_identity(label_map: np.ndarray) -> None:
    masks = split_label_map(label_map, [ObjectId(object_id) for object_id in range(1, 256)])
    np.testing.assert_array_equal(combine_masks(masks), label_map)
    assert sum(int(mask.sum()) for mask in masks.values()) == int((label_map != 0).sum())


@given(label_maps)
def test_split_without_ids_finds_exactly_the_labels_that_occur(label_map: np.ndarray) -> None:
    masks = split_label_map(label_map)
    assert list(masks) == sorted(set(label_map.flatten().tolist()) - {0})
    assert all(mask.any() for mask in masks.values())


def test_split_keeps_asked_objects_that_do_not_occur_and_leaves_others_out() -> None:
    masks = split_label_map(np.array([[1, 7]]), [ObjectId(7), ObjectId(2)])
    assert list(masks) == [2, 7]
    assert not masks[ObjectId(2)].any()
    assert masks[ObjectId(7)].tolist() == [[False, True]]


def test_combine_exceptions() -> None:
    with pytest.raises(InputError, match="at least one mask"):
        combine_masks({})
    with pytest.raises(InputError, match=r"1\.\.1000, got 0"):
        combine_masks({ObjectId(0): _mask("x")})
    with pytest.raises(InputError, match="1001"):
        combine_masks({ObjectId(1001): _mask("x")})
    with pytest.raises(ShapeError, match="one size"):
        combine_masks({ObjectId(1): _mask("x"), ObjectId(2): _mask("xx")})
    with pytest.raises(ShapeError, match="uint8"):
        combine_masks({ObjectId(1): np.zeros((2, 2), dtype=np.uint8)})
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        combine_masks({ObjectId(1): np.zeros(2, dtype=np.bool_)})


def test_of_masks_of_one_size_the_lowest_id_wins() -> None:
    masks = {ObjectId(5): _mask(".xx"), ObjectId(2): _mask("xx.")}
    assert combine_masks(masks).tolist() == [[2, 2, 5]]


def test_object_that_others_cover_is_named() -> None:
    masks = {ObjectId(7): _mask("xx."), ObjectId(3): _mask("xx."), ObjectId(9): _mask("..x")}
    with pytest.raises(InputError, match=r"object 7 has no pixel of its own.*by object 3"):
        combine_masks(masks)
    masks = {ObjectId(1): _mask("xxx"), ObjectId(2): _mask("xx."), ObjectId(3): _mask("..x")}
    with pytest.raises(InputError, match=r"object 1 has no pixel .*by object 2, 3"):
        combine_masks(masks)


@given(label_maps, label_maps)
def test_lay_over_keeps_new_objects_or_says_that_it_cannot(
    existing: np.ndarray, added: np.ndarray
) -> None:
    known = (existing % 3).astype(np.uint8)
    rows, columns = (min(pair) for pair in zip(known.shape, added.shape, strict=True))
    known, new = known[:rows, :columns], np.where(added > 2, added, 0)[:rows, :columns]
    masks = split_label_map(new, [ObjectId(3), *map(ObjectId, set(new[new > 0].tolist()))])
    try:
        combined = lay_over(known, masks)
    except InputError:
        return
    assert set(np.unique(combined)) >= set(np.unique(new)) - {0}
    assert np.isin(combined[combined != known], new).all()


def test_known_object_inside_a_larger_new_one_stays_above() -> None:
    two = ObjectId(2)
    plate = np.array([[0, 1, 0, 0, 0]], np.uint8)
    assert lay_over(plate, {two: _mask("xxx..")}).tolist() == [[2, 1, 2, 0, 0]]
    spilt = np.array([[1, 1, 1, 0, 0]], np.uint8)
    assert lay_over(spilt, {two: _mask("..xx.")}).tolist() == [[1, 1, 2, 2, 0]]
    assert lay_over(spilt, {two: _mask("..xxx")}).tolist() == [[1, 1, 1, 2, 2]]


def test_predicted_object_stays_above_a_larger_new_one_where_it_lies_on_it() -> None:
    two = ObjectId(2)
    known = np.array([[0, 1, 1, 1, 0]], np.uint8)
    for new, wanted in {
        "xxxxx": [2, 1, 1, 1, 2],
        "xxx.x": [2, 1, 1, 1, 2],
        "xx..x": [2, 2, 1, 1, 2],
    }.items():
        combined = lay_over(known, {two: _mask(new)}, predicted=[ObjectId(1)])
        assert combined.tolist() == [wanted]


def test_predicted_object_counts_as_on_a_new_one_by_itself_and_where_others_cover_it() -> None:
    board, cup = ObjectId(2), ObjectId(3)
    plate = np.array([[0, 1, 1, 1, 1, 1, 0]], np.uint8)
    new = {board: _mask("xxxxxxx"), cup: _mask(".xxx...")}
    assert lay_over(plate, new, predicted=[ObjectId(1)]).tolist() == [[2, 3, 3, 3, 1, 1, 2]]
    sides = {board: _mask("xxx....xxx"), cup: _mask("......xx..")}
    leaking = np.array([[0, 0, 1, 1, 1, 1, 1, 0, 0, 0]], np.uint8)
    found = lay_over(leaking, sides, predicted=[ObjectId(1)])
    assert found.tolist() == [[2, 2, 2, 1, 1, 1, 3, 3, 2, 2]]


def test_smaller_of_a_known_and_a_new_object_lies_above_as_whole_masks_go() -> None:
    known = np.array([[1, 1, 0, 0, 0]], np.uint8)
    new = {ObjectId(2): _mask("xxxx."), ObjectId(3): _mask("..x..")}
    assert lay_over(known, new).tolist() == [[1, 1, 3, 2, 0]]


def test_new_object_that_known_ones_cover_is_named() -> None:
    known = np.array([[1, 2, 0, 0]], np.uint8)
    with pytest.raises(InputError, match=r"object 7 has no pixel of its own.*by object 1, 2"):
        lay_over(known, {ObjectId(7): _mask("xx..")})
    with pytest.raises(InputError, match=r"object 7 has no pixel of its own.*by object 1, 8"):
        lay_over(known, {ObjectId(7): _mask("x.xx"), ObjectId(8): _mask("..xx")})


def test_known_object_that_new_ones_cover_is_told(caplog: pytest.LogCaptureFixture) -> None:
    known = np.array([[5, 5, 5, 0]], np.uint8)
    new = {ObjectId(2): _mask("xx.."), ObjectId(3): _mask("..xx")}
    assert lay_over(known, new).tolist() == [[2, 2, 3, 3]]
    assert "whole mask of object 5" in caplog.text


def test_split_exceptions() -> None:
    with pytest.raises(ShapeError, match="float64"):
        split_label_map(np.zeros((2, 2)))
    with pytest.raises(ShapeError, match=r"\(1, 2, 2\)"):
        split_label_map(np.zeros((1, 2, 2), dtype=np.uint8))
    with pytest.raises(InputError, match="got 0"):
        split_label_map(np.zeros((2, 2), dtype=np.uint8), [ObjectId(0)])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 3), (0, 4, 4)])
def test_one_hot_shapes_and_dtypes(dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    one_hot = one_hot_slots(torch.zeros(shape, dtype=dtype))
    assert one_hot.shape == (shape[0], 11, *shape[1:])
    assert one_hot.dtype == torch.float32


def test_one_hot_values_outside_the_slots_are_all_zero() -> None:
    label_map = torch.tensor([[[0, 1, 10, 11, 255, -1]]])
    one_hot = one_hot_slots(label_map)
    assert one_hot.sum(dim=1)[0, 0].tolist() == [1, 1, 1, 0, 0, 0]
    assert one_hot[0, :, 0, :3].argmax(dim=0).tolist() == [0, 1, 10]


def test_one_hot_does_not_wrap_around_narrow_dtypes() -> None:
    one_hot = one_hot_slots(torch.tensor([[[-56]]], dtype=torch.int8), num_slots=255)
    assert one_hot.sum() == 0


@pytest.mark.parametrize(
    "label_map",
    [torch.zeros(2, 2, dtype=torch.int64), torch.zeros(1, 2, 2), torch.zeros(1, 2, 2) > 0],
)
def test_one_hot_exception(label_map: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"integer \(B, H, W\)"):
        one_hot_slots(label_map)


@given(mask_pairs)
def test_boxes_and_iou_against_plain_counting(pair: tuple[np.ndarray, np.ndarray]) -> None:
    left, right = (torch.from_numpy(masks) for masks in pair)
    boxes = mask_boxes(left)
    for index, (first, second) in enumerate(zip(*pair, strict=True)):
        rows, columns = np.nonzero(first)
        box = [0, 0, 0, 0]
        if rows.size:
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert boxes[index].tolist() == box
        union = int((first | second).sum())
        want = (first & second).sum() / union if union else 1.0
        assert mask_iou(left, right)[index].item() == pytest.approx(want)


@settings(max_examples=30)
@given(mask_pairs)
def test_iou_is_symmetric_and_one_only_for_equal_masks(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    left, right = (torch.from_numpy(masks) for masks in pair)
    iou = mask_iou(left, right)
    assert torch.equal(iou, mask_iou(right, left))
    assert ((iou >= 0) & (iou <= 1)).all()
    assert torch.equal(iou == 1, (left == right).all(dim=2).all(dim=1))


def test_iou_of_two_empty_masks_is_what_the_caller_says() -> None:
    empty = torch.zeros(1, 2, 2, dtype=torch.bool)
    assert mask_iou(empty, empty).tolist() == [1.0]
    assert mask_iou(empty, empty, both_empty=0.0).tolist() == [0.0]
    assert mask_iou(empty, ~empty, both_empty=1.0).tolist() == [0.0]


def test_no_object_gives_empty_results() -> None:
    none = torch.zeros(0, 4, 5, dtype=torch.bool)
    assert mask_boxes(none).shape == (0, 4)
    assert mask_iou(none, none).shape == (0,)
    assert mask_overlap(none, none).union.tolist() == []


def test_mask_stack_exceptions() -> None:
    good = torch.zeros(1, 2, 2, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"float32 \(1, 2, 2\)"):
        mask_boxes(torch.zeros(1, 2, 2))
    with pytest.raises(ShapeError, match=r"one shape.*\(1, 2, 2\).*\(2, 2, 2\)"):
        mask_iou(good, torch.zeros(2, 2, 2, dtype=torch.bool))
    with pytest.raises(ShapeError, match="uint8"):
        mask_overlap(good, good.to(torch.uint8))
    for shape in [(2, 2), (1, 0, 2), (1, 2, 0)]:
        with pytest.raises(ShapeError, match="bool tensor"):
            check_mask_stack(torch.zeros(shape, dtype=torch.bool))
