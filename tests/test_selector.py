"""The choice between initial and refined masks, and the owner of overlaps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.masks import split_slot_map
from vots_hqtrack.selector import resolve_overlaps, select
from vots_hqtrack.types import ObjectId


def _masks(*rows: str) -> torch.Tensor:
    return torch.tensor([[[pixel == "x" for pixel in row]] for row in rows])


def resolved_masks(masks: torch.Tensor, numbers: list[int], **options: object) -> torch.Tensor:
    slot_map = resolve_overlaps(masks, [ObjectId(number) for number in numbers], **options)
    return split_slot_map(slot_map, len(masks))


@st.composite
def mask_stacks(draw: st.DrawFn, stacks: int) -> list[torch.Tensor]:
    shape = draw(npst.array_shapes(min_dims=3, max_dims=3, max_side=5))
    return [torch.from_numpy(draw(npst.arrays(np.bool_, shape))) for _ in range(stacks)]


def test_select_takes_the_refined_mask_above_the_threshold_only() -> None:
    initial = _masks("xxxx....", "xxxx....")
    refined = _masks("..xxxx..", "...xxxx.")  # IoU 2/6 and 1/7
    selection = select(initial, refined, iou_threshold=0.2)
    assert selection.is_refined.tolist() == [True, False]
    assert torch.equal(selection.masks, torch.stack([refined[0], initial[1]]))


@pytest.mark.parametrize("scale", [1, 1000, 200_000])
def test_exactly_at_the_threshold_the_refined_mask_is_taken(scale: int) -> None:
    initial = torch.zeros(1, 10, scale, dtype=torch.bool)
    initial[0, 0] = True
    refined = torch.ones_like(initial)  # IoU 1/10
    assert select(initial, refined, iou_threshold=0.1).is_refined.tolist() == [True]
    assert select(initial, refined, iou_threshold=0.1001).is_refined.tolist() == [False]


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_an_empty_mask_never_takes_part(threshold: float) -> None:
    initial, refined = _masks("xx", "..", ".."), _masks("..", "xx", "..")
    selection = select(initial, refined, iou_threshold=threshold)
    assert selection.is_refined.tolist() == [False, False, False]
    assert torch.equal(selection.masks, initial)


def test_threshold_zero_takes_every_refined_mask_and_one_only_equal_ones() -> None:
    initial, refined = _masks("xx..", "xx.."), _masks("..xx", "xx..")
    assert select(initial, refined, iou_threshold=0.0).is_refined.tolist() == [True, True]
    assert select(initial, refined, iou_threshold=1.0).is_refined.tolist() == [False, True]


@given(mask_stacks(2), st.floats(0, 1))
def test_every_selected_mask_is_one_of_the_two(
    stacks: list[torch.Tensor], threshold: float
) -> None:
    initial, refined = stacks
    selection = select(initial, refined, iou_threshold=threshold)
    for row, is_refined in enumerate(selection.is_refined.tolist()):
        source = refined if is_refined else initial
        assert torch.equal(selection.masks[row], source[row])


def test_lowest_id_wins_an_overlap_without_initial_masks() -> None:
    resolved = resolved_masks(_masks("xxx.", ".xxx"), [9, 2])
    assert torch.equal(resolved, _masks("x...", ".xxx"))


def test_the_claimant_that_held_the_pixel_before_wins_it() -> None:
    refined, initial = _masks("xxxx.", ".xxxx"), _masks("xx...", "..xx.")
    resolved = resolved_masks(refined, [1, 2], initial=initial)
    assert torch.equal(resolved, _masks("xx...", "..xxx"))


def test_the_initial_mask_of_an_object_without_a_claim_does_not_count() -> None:
    refined, initial = _masks("xx", "xx", ".."), _masks("..", "..", "xx")
    resolved = resolved_masks(refined, [5, 6, 1], initial=initial)
    assert torch.equal(resolved, _masks("xx", "..", ".."))


@given(mask_stacks(2), st.data())
def test_resolved_masks_part_the_union_and_do_not_depend_on_the_order(
    stacks: list[torch.Tensor], data: st.DataObject
) -> None:
    masks, initial = stacks
    ids = data.draw(
        st.lists(st.integers(1, 255), min_size=len(masks), max_size=len(masks), unique=True)
    )
    order = data.draw(st.permutations(range(len(masks))))
    for before in (None, initial):
        resolved = resolved_masks(masks, ids, initial=before)
        assert (resolved.sum(dim=0) <= 1).all()
        assert torch.equal(resolved.any(dim=0), masks.any(dim=0))
        assert not (resolved & ~masks).any()
        assert torch.equal(resolved_masks(resolved, ids), resolved)
        permuted = resolved_masks(
            masks[list(order)],
            [ids[row] for row in order],
            initial=None if before is None else before[list(order)],
        )
        assert torch.equal(permuted, resolved[list(order)])


def test_no_object() -> None:
    none = torch.zeros(0, 3, 4, dtype=torch.bool)
    selection = select(none, none, iou_threshold=0.1)
    assert selection.masks.shape == none.shape
    assert selection.is_refined.shape == (0,)
    assert resolve_overlaps(none, [], initial=none).tolist() == [[0] * 4] * 3


def test_exceptions() -> None:
    masks = _masks("x.", ".x")
    ids = [ObjectId(1), ObjectId(2)]
    with pytest.raises(ShapeError, match="one shape"):
        select(masks, masks[:1], iou_threshold=0.1)
    with pytest.raises(ShapeError, match="bool"):
        select(masks, masks.float(), iou_threshold=0.1)
    with pytest.raises(InputError, match=r"2 different object ids.*\[1\]"):
        resolve_overlaps(masks, ids[:1])
    with pytest.raises(InputError, match=r"\[1, 1\]"):
        resolve_overlaps(masks, [ids[0], ids[0]])
    with pytest.raises(ShapeError, match="bool"):
        resolve_overlaps(masks.int(), ids)
    with pytest.raises(ShapeError, match=r"\(2, 1, 2\).*got \(1, 1, 2\)"):
        resolve_overlaps(masks, ids, initial=masks[:1])
