"""The selector: initial or refined mask, object by object, then pixel by pixel (paper section 2.3).

Pure functions of masks on the device. An object takes its refined mask where that agrees enough
with the initial one; refined masks are made independently, so they may overlap, and
`resolve_overlaps` gives each pixel to one object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.masks import check_mask_stack, has_pixels, mask_overlap, slot_dtype
from vots_hqtrack.merge import InitialMasks
from vots_hqtrack.types import ObjectId

IOU_SMOOTHING = 1e-6


@dataclass(frozen=True, slots=True)
class Selection:
    """Chosen masks of N objects.

    Attributes:
        masks: ``(N, H, W)`` bool, frame pixels; they may overlap.
        is_refined: ``(N,)`` bool, True where the mask is the refined one.
    """

    masks: Tensor
    is_refined: Tensor


@dataclass(frozen=True, slots=True)
class FinalMasks:
    """Masks of one frame to report.

    Attributes:
        slot_map: ``(H, W)`` uint8 or int16, number of the object from 1; 0 = background.
        is_refined: ``(N,)`` bool, True where the refined mask was taken.
    """

    slot_map: Tensor
    is_refined: Tensor


def choose_masks(
    initial: InitialMasks, refined: Tensor, object_ids: Sequence[ObjectId], *, iou_threshold: float
) -> FinalMasks:
    """Take the initial or the refined mask of each object, and resolve overlaps.

    Args:
        initial: Masks of N objects before refinement.
        refined: ``(N, H, W)`` bool, their refined masks.
        object_ids: Their ids.
        iou_threshold: See :func:`select`.
    """
    selection = select(initial.masks, refined, iou_threshold=iou_threshold)
    slot_map = resolve_overlaps(selection.masks, object_ids, initial=initial.masks)
    return FinalMasks(slot_map, selection.is_refined)


def keep_initial(initial: InitialMasks) -> FinalMasks:
    """Take the initial mask of every object."""
    return FinalMasks(initial.slot_map, initial.masks.new_zeros(len(initial.masks)))


def select(initial: Tensor, refined: Tensor, *, iou_threshold: float) -> Selection:
    """Take each object's refined mask if its IoU with the initial mask is at least the threshold.

    The IoU is ``(intersection + 1e-6) / (union + 1e-6)`` in float64; exactly at the threshold the
    refined mask is taken. Two cases do not go by the threshold:

    - The refined mask is empty: the initial mask is kept, even at threshold 0. An empty refinement
      does not show that the object is gone.
    - The initial mask is empty: it is kept. The refiner sharpens objects, it does not find them.

    Args:
        initial: ``(N, H, W)`` bool, VMOS's masks, frame pixels.
        refined: ``(N, H, W)`` bool, the refiner's, same objects in the same order.
        iou_threshold: Number from 0 to 1.

    Raises:
        ShapeError: The shapes differ, or a mask is not bool.

    Example:
        >>> initial = torch.tensor([[[1, 1, 0]], [[1, 0, 0]]], dtype=torch.bool)
        >>> refined = torch.tensor([[[0, 1, 1]], [[0, 0, 1]]], dtype=torch.bool)
        >>> selection = select(initial, refined, iou_threshold=0.1)
        >>> selection.is_refined
        tensor([ True, False])
    """
    overlap = mask_overlap(initial, refined)
    intersection, union = overlap.intersection.double(), overlap.union.double()
    iou = (intersection + IOU_SMOOTHING) / (union + IOU_SMOOTHING)
    is_refined = (iou >= iou_threshold) & has_pixels(initial) & has_pixels(refined)
    return Selection(torch.where(is_refined[:, None, None], refined, initial), is_refined)


def resolve_overlaps(
    masks: Tensor, object_ids: Sequence[ObjectId], *, initial: Tensor | None = None
) -> Tensor:
    """Give every pixel to one object at most; the order of the rows does not matter.

    A pixel of several masks goes to the object that has it in its initial mask, because VMOS
    weighed all objects against each other there and the refiner none; if that holds for none or
    several of them, to the lowest id among them. By the lowest id alone is the rule of the released
    HQTrack. A pixel of one mask stays with it.

    Args:
        masks: ``(N, H, W)`` bool, frame pixels.
        object_ids: The N objects' ids, all different, in the order of the rows.
        initial: ``(N, H, W)`` bool, VMOS's masks in the same order; None goes by id alone.

    Returns:
        ``(H, W)`` slot map, uint8 or int16: row of the object, from 1; 0 = background.

    Raises:
        InputError: The ids are not as many as the masks, or an id occurs twice.
        ShapeError: The masks are not bool ``(N, H, W)``, or ``initial`` has another shape.

    Example:
        >>> masks = torch.tensor([[[1, 1, 0]], [[0, 1, 1]]], dtype=torch.bool)
        >>> resolve_overlaps(masks, [ObjectId(4), ObjectId(3)]).tolist()
        [[1, 2, 2]]
    """
    check_mask_stack(masks)
    if len(object_ids) != len(masks) or len(set(object_ids)) != len(masks):
        raise InputError(
            f"wanted {len(masks)} different object ids, one for each mask, got {list(object_ids)}"
        )
    slot_map = masks.new_zeros(masks.shape[1:], dtype=slot_dtype(len(masks)))
    has_stronger = taken = masks.new_zeros(masks.shape[1:])
    if initial is not None:
        check_mask_stack(initial)
        if initial.shape != masks.shape:
            raise ShapeError(
                f"initial masks must have the shape {tuple(masks.shape)} of the masks, "
                f"got {tuple(initial.shape)}"
            )
        for mask, before in zip(masks, initial, strict=True):
            has_stronger = has_stronger | (mask & before)
    for row in sorted(range(len(masks)), key=lambda row: object_ids[row]):
        claimed = masks[row] & ~taken
        if initial is not None:
            claimed &= initial[row] | ~has_stronger
        taken = taken | claimed
        slot_map += claimed.view(torch.uint8).to(slot_map.dtype) * (row + 1)
    return slot_map
