"""The selector: coarse or refined mask, object by object, then pixel by pixel (paper section 2.2).

Pure functions of masks. An object takes its refined mask where that agrees enough with the coarse
one; refined masks are made one by one, so they may overlap, and `resolve_overlaps` settles whose a
pixel is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.masks import check_mask_stack, has_pixels, mask_overlap
from vots_hqtrack.types import ObjectId

IOU_SMOOTHING = 1e-6


@dataclass(frozen=True, slots=True)
class Selection:
    """One mask for each of N objects.

    Attributes:
        masks: ``(N, H, W)`` bool, frame pixels.
        is_refined: ``(N,)`` bool, True where the mask is the refined one.
    """

    masks: Tensor
    is_refined: Tensor


def select(coarse: Tensor, refined: Tensor, *, iou_threshold: float) -> Selection:
    """Take each object's refined mask if its IoU with the coarse mask is at least the threshold.

    The IoU is ``(intersection + 1e-6) / (union + 1e-6)`` in float64; exactly at the threshold the
    refined mask is taken. Two cases do not go by the threshold:

    - The refined mask is empty: the coarse one is kept, even at threshold 0. That the refiner found
      nothing is no evidence that the object is gone.
    - The coarse mask is empty: it is kept. The refiner sharpens objects, it does not find them.

    Args:
        coarse: ``(N, H, W)`` bool, VMOS's masks, frame pixels.
        refined: ``(N, H, W)`` bool, the refiner's, same objects in the same order.
        iou_threshold: Number from 0 to 1.

    Raises:
        ShapeError: The shapes differ, or a mask is not bool.

    Example:
        >>> coarse = torch.tensor([[[1, 1, 0]], [[1, 0, 0]]], dtype=torch.bool)
        >>> refined = torch.tensor([[[0, 1, 1]], [[0, 0, 1]]], dtype=torch.bool)
        >>> selection = select(coarse, refined, iou_threshold=0.1)
        >>> selection.is_refined
        tensor([ True, False])
    """
    overlap = mask_overlap(coarse, refined)
    intersection, union = overlap.intersection.double(), overlap.union.double()
    iou = (intersection + IOU_SMOOTHING) / (union + IOU_SMOOTHING)
    is_refined = (iou >= iou_threshold) & has_pixels(coarse) & has_pixels(refined)
    masks = refined.clone()
    masks[~is_refined] = coarse[~is_refined]
    return Selection(masks, is_refined)


def resolve_overlaps(
    masks: Tensor, object_ids: Sequence[ObjectId], *, coarse: Tensor | None = None
) -> Tensor:
    """Give every pixel to one object at most, whatever the order of the rows.

    A pixel of several masks goes to that claimant whose coarse mask holds it, because VMOS weighed
    all objects against each other there and the refiner none; if no claimant's does, or several do,
    to the lowest id among them, which alone is the rule of the released HQTrack. A pixel of one
    mask stays with it.

    Args:
        masks: ``(N, H, W)`` bool, frame pixels.
        object_ids: The N objects' ids, all different, in the order of the rows.
        coarse: ``(N, H, W)`` bool, VMOS's masks in the same order; None goes by id alone.

    Returns:
        ``(N, H, W)`` bool without overlaps; each mask is a part of the one given.

    Raises:
        InputError: The ids are not as many as the masks, or one occurs twice.
        ShapeError: The masks are not bool ``(N, H, W)``, or ``coarse`` has another shape.

    Example:
        >>> masks = torch.tensor([[[1, 1, 0]], [[0, 1, 1]]], dtype=torch.bool)
        >>> resolve_overlaps(masks, [ObjectId(4), ObjectId(3)]).int().tolist()
        [[[1, 0, 0]], [[0, 1, 1]]]
    """
    check_mask_stack(masks)
    if len(object_ids) != len(masks) or len(set(object_ids)) != len(masks):
        raise InputError(
            f"wanted {len(masks)} different object ids, one for each mask, got {list(object_ids)}"
        )
    claims = masks
    if coarse is not None:
        check_mask_stack(coarse)
        if coarse.shape != masks.shape:
            raise ShapeError(
                f"coarse masks must have the shape {tuple(masks.shape)} of the masks, "
                f"got {tuple(coarse.shape)}"
            )
        has_stronger = masks.new_zeros(masks.shape[1:])
        for mask, own in zip(masks, coarse, strict=True):
            has_stronger |= mask & own
        claims = masks & (coarse | ~has_stronger)
    resolved = torch.zeros_like(masks)
    taken = torch.zeros(masks.shape[1:], dtype=torch.bool, device=masks.device)
    for row in sorted(range(len(object_ids)), key=lambda row: object_ids[row]):
        resolved[row] = claims[row] & ~taken
        taken |= claims[row]
    return resolved
