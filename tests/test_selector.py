"""The choice between coarse and refined masks, and whose an overlap is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.selector import resolve_overlaps, select
from vots_hqtrack.types import ObjectId


def _masks(*rows: str) -> torch.Tensor:
    return torch.tensor([[[cell == "x" for cell in row]] for row in rows])


@st.composite
def mask_stacks(draw: st.DrawFn, stacks: int) -> list[torch.Tensor]:
    shape = draw(npst.array_shapes(min_dims=3, max_dims=3, max_side=5))
    return [torch.from_numpy(draw(npst.arrays(np.bool_, shape))) for _ in range(stacks)]


def test_select_takes_the_refined_mask_above_the_threshold_only() -> None:
    coarse = _masks("xxxx....", "xxxx....")
    refined = _masks("..xxxx..", "...xxxx.")  # IoU 2/6 and 1/7
    selection = select(coarse, refined, iou_threshold=0.2)
    assert selection.is_refined.tolist() == [True, False]
    assert torch.equal(selection.masks, torch.stack([refined[0], coarse[1]]))


@pytest.mark.parametrize("scale", [1, 1000, 200_000])
def test_exactly_at_the_threshold_the_refined_mask_is_taken(scale: int) -> None:
    coarse = torch.zeros(1, 10, scale, dtype=torch.bool)
    coarse[0, 0] = True
    refined = torch.ones_like(coarse)  # IoU 1/10
    assert select(coarse, refined, iou_threshold=0.1).is_refined.tolist() == [True]
    assert select(coarse, refined, iou_threshold=0.1001).is_refined.tolist() == [False]


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_an_empty_mask_never_takes_part(threshold: float) -> None:
    coarse, refined = _masks("xx", "..", ".."), _masks("..", "xx", "..")
    selection = select(coarse, refined, iou_threshold=threshold)
    assert selection.is_refined.tolist() == [False, False, False]
    assert torch.equal(selection.masks, coarse)


def test_threshold_zero_takes_every_refined_mask_and_one_only_equal_ones() -> None:
    coarse, refined = _masks("xx..", "xx.."), _masks("..xx", "xx..")
    assert select(coarse, refined, iou_threshold=0.0).is_refined.tolist() == [True, True]
    assert select(coarse, refined, iou_threshold=1.0).is_refined.tolist() == [False, True]


@given(mask_stacks(2), st.floats(0, 1))
def test_every_selected_mask_is_one_of_the_two(
    stacks: list[torch.Tensor], threshold: float
) -> None:
    coarse, refined = stacks
    selection = select(coarse, refined, iou_threshold=threshold)
    for row, is_refined in enumerate(selection.is_refined.tolist()):
        source = refined if is_refined else coarse
        assert torch.equal(selection.masks[row], source[row])


def test_lowest_id_wins_an_overlap_without_coarse_masks() -> None:
    resolved = resolve_overlaps(_masks("xxx.", ".xxx"), [ObjectId(9), ObjectId(2)])
    assert torch.equal(resolved, _masks("x...", ".xxx"))


def test_the_claimant_that_held_the_pixel_before_wins_it() -> None:
    refined, coarse = _masks("xxxx.", ".xxxx"), _masks("xx...", "..xx.")
    resolved = resolve_overlaps(refined, [ObjectId(1), ObjectId(2)], coarse=coarse)
    assert torch.equal(resolved, _masks("xx...", "..xxx"))


def test_the_coarse_mask_of_an_object_that_claims_nothing_has_no_say() -> None:
    refined, coarse = _masks("xx", "xx", ".."), _masks("..", "..", "xx")
    resolved = resolve_overlaps(refined, [ObjectId(5), ObjectId(6), ObjectId(1)], coarse=coarse)
    assert torch.equal(resolved, _masks("xx", "..", ".."))


@given(mask_stacks(2), st.data())
def test_resolved_masks_part_the_union_and_do_not_depend_on_the_order(
    stacks: list[torch.Tensor], data: st.DataObject
) -> None:
    masks, coarse = stacks
    ids = data.draw(
        st.lists(st.integers(1, 255), min_size=len(masks), max_size=len(masks), unique=True)
    )
    order = data.draw(st.permutations(range(len(masks))))
    for before in (None, coarse):
        resolved = resolve_overlaps(masks, [ObjectId(v) for v in ids], coarse=before)
        assert (resolved.sum(dim=0) <= 1).all()
        assert torch.equal(resolved.any(dim=0), masks.any(dim=0))
        assert not (resolved & ~masks).any()
        assert torch.equal(resolve_overlaps(resolved, [ObjectId(v) for v in ids]), resolved)
        permuted = resolve_overlaps(
            masks[list(order)],
            [ObjectId(ids[row]) for row in order],
            coarse=None if before is None else before[list(order)],
        )
        assert torch.equal(permuted, resolved[list(order)])


def test_no_object() -> None:
    none = torch.zeros(0, 3, 4, dtype=torch.bool)
    selection = select(none, none, iou_threshold=0.1)
    assert selection.masks.shape == none.shape
    assert selection.is_refined.shape == (0,)
    assert resolve_overlaps(none, [], coarse=none).shape == none.shape


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
        resolve_overlaps(masks, ids, coarse=masks[:1])
