"""Prompts made of initial masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra import numpy as npst

from vots_hqtrack.config import PromptKind
from vots_hqtrack.errors import ShapeError
from vots_hqtrack.masks import mask_iou
from vots_hqtrack.sam.geometry import SamGeometry, masks_in_frame
from vots_hqtrack.sam.prompts import make_prompts, prompt_boxes, prompt_masks, prompt_points
from vots_hqtrack.types import Size

SMALL = SamGeometry(Size(12, 16), Size(24, 32), side=32, mask_side=8)


def _rectangle(size: tuple[int, int], top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[0, top:bottom, left:right] = True
    return mask


def test_convention_prompt_boxes_have_inclusive_maxima() -> None:
    mask = _rectangle((20, 30), 5, 3, 9, 4)
    assert prompt_boxes(mask).tolist() == [[3.0, 5.0, 3.0, 8.0]]


def test_convention_prompts_are_scaled_pixel_indices() -> None:
    mask = _rectangle((12, 16), 2, 6, 7, 11)  # columns 6..10, rows 2..6, centre (8, 4)
    prompts = make_prompts(mask, SMALL, kind="box+mask+point", mask_logit=1.0)
    assert prompts.boxes.tolist() == [[12.0, 4.0, 20.0, 12.0]]
    assert prompts.points is not None
    assert prompts.points.tolist() == [[[16.0, 8.0]]]


def test_mask_prompt_by_hand() -> None:
    geometry = SamGeometry(Size(12, 16), Size(12, 16), side=32, mask_side=8)  # not resized
    logits = prompt_masks(_rectangle((12, 16), 4, 8, 10, 12), geometry, mask_logit=10.0)
    wanted = torch.full((8, 8), -10.0)
    wanted[1, 2] = 10.0  # covered wholly
    wanted[2, 2] = 0.0  # by half
    assert torch.equal(logits, wanted[None, None])


def test_mask_prompt_keeps_padding_outside() -> None:
    geometry = SamGeometry(Size(10, 13), Size(10, 13), side=32, mask_side=8)
    logits = prompt_masks(torch.ones(1, 10, 13, dtype=torch.bool), geometry, mask_logit=1.0)[0, 0]
    assert logits[:2, :3].eq(1).all()
    assert logits[2, :3].eq(0).all()  # the frame ends in the middle of the third row of pixels
    assert logits[:2, 3].eq(-0.5).all()  # and after a quarter of the fourth column
    assert logits[3:].eq(-1).all()
    assert logits[:, 4:].eq(-1).all()


@pytest.mark.parametrize("size", [(480, 854), (1080, 1920), (300, 200)])
def test_mask_prompt_comes_back_as_the_same_mask(size: tuple[int, int]) -> None:
    scale = 1024 / max(size)
    input_size = Size(int(size[0] * scale + 0.5), int(size[1] * scale + 0.5))
    geometry = SamGeometry(Size(*size), input_size, side=1024, mask_side=256)
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    radius = min(size) / 4
    middle = ((rows - size[0] / 2) ** 2 + (columns - size[1] / 3) ** 2 < radius**2)[None]
    corner = (rows + columns < radius)[None]
    masks = torch.cat([middle, corner])
    logits = prompt_masks(masks, geometry, mask_logit=8.0)
    assert (mask_iou(masks_in_frame(logits[:, 0], geometry), masks) > 0.97).all()


@settings(max_examples=50)
@given(npst.arrays(np.bool_, npst.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_points_lie_deepest_inside_their_mask(mask: np.ndarray) -> None:
    x, y = prompt_points(torch.from_numpy(mask)[None])[0].int().tolist()
    if not mask.any():
        assert (x, y) == (0, 0)
        return
    ringed = np.pad(mask, 1)
    outside = np.argwhere(~ringed)
    distance = {
        (int(column) - 1, int(row) - 1): np.linalg.norm(outside - [row, column], axis=1).min()
        for row, column in np.argwhere(ringed)
    }
    assert (x, y) in distance
    assert distance[x, y] == pytest.approx(max(distance.values()))


@pytest.mark.parametrize(
    ("kind", "has_masks", "has_points"),
    [("box", False, False), ("box+mask", True, False), ("box+mask+point", True, True)],
)
@pytest.mark.parametrize("num_objects", [0, 1, 11])
def test_kinds_and_shapes(
    kind: PromptKind, has_masks: bool, has_points: bool, num_objects: int
) -> None:
    initial = torch.ones(num_objects, 12, 16, dtype=torch.bool)
    prompts = make_prompts(initial, SMALL, kind=kind, mask_logit=1.0)
    assert prompts.boxes.shape == (num_objects, 4)
    assert (prompts.masks is not None) == has_masks
    assert (prompts.points is not None) == has_points
    if prompts.masks is not None:
        assert prompts.masks.shape == (num_objects, 1, 8, 8)
    if prompts.points is not None:
        assert prompts.points.shape == (num_objects, 1, 2)


def test_exception() -> None:
    for make in (prompt_boxes, prompt_points):
        with pytest.raises(ShapeError, match="bool tensor"):
            make(torch.zeros(1, 4, 4))
    with pytest.raises(ShapeError, match="bool tensor"):
        prompt_masks(torch.zeros(1, 12, 16), SMALL, mask_logit=1.0)
