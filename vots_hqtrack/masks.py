"""Label maps, masks, one-hot maps, boxes and IoU: the conversions that every stage shares.

Owns three conventions of the package: label 0 is the background; of two given masks that claim one
pixel the smaller one gets it, as a plate lies on a board; a box is ``xyxy`` in pixel edges, right
and bottom exclusive.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vots_hqtrack.devices import host_can_read
from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.types import (
    MAX_OBJECTS,
    SLOTS_PER_GROUP,
    LabelArray,
    MaskArray,
    ObjectId,
    check_object_id,
    label_dtype,
)

_logger = logging.getLogger(__name__)

BACKGROUND = 0


@dataclass(frozen=True, slots=True)
class MaskOverlap:
    """Intersection and union of pairs of masks, in pixels.

    Attributes:
        intersection: ``(N,)`` int64, pixels in both masks.
        union: ``(N,)`` int64, pixels in at least one of them.
    """

    intersection: Tensor
    union: Tensor


def combine_masks(masks: Mapping[ObjectId, MaskArray]) -> LabelArray:
    """Paint masks into one label map; where several claim a pixel, the smallest mask gets it.

    Of masks of one size the lowest object id wins. The order of the mapping does not matter.

    Args:
        masks: Bool ``(H, W)`` by object id, 1..1000.

    Returns:
        ``(H, W)`` object ids, 0 = background.

    Raises:
        InputError: The mapping is empty, an id is outside 1..1000, or an object is left without
            pixels.
        ShapeError: A mask is not bool ``(H, W)``, or the sizes differ.

    Example:
        >>> left, right = np.array([[True, True, False]]), np.array([[False, True, True]])
        >>> combine_masks({ObjectId(7): right, ObjectId(2): left})
        array([[2, 2, 7]], dtype=uint8)
    """
    if not isinstance(masks, Mapping) or not all(isinstance(m, np.ndarray) for m in masks.values()):
        raise InputError(f"masks must be a mapping from ids to arrays, got {type(masks).__name__}")
    if not masks:
        raise InputError("a label map needs at least one mask, got none")
    shape = next(iter(masks.values())).shape
    by_id = {check_object_id(object_id): mask for object_id, mask in masks.items()}
    for object_id, mask in by_id.items():
        if mask.dtype != np.bool_ or mask.ndim != 2 or mask.shape != shape:
            raise ShapeError(
                f"masks must be bool (H, W) of one size, got {mask.dtype} {mask.shape} for "
                f"object {object_id} where another mask has {shape}"
            )
    areas = {object_id: int(np.count_nonzero(mask)) for object_id, mask in by_id.items()}
    label_map = np.zeros(shape, dtype=label_dtype(max(by_id)))
    for object_id in sorted(by_id, key=lambda key: (areas[key], key), reverse=True):
        label_map[by_id[object_id]] = object_id
    if sum(areas.values()) > np.count_nonzero(label_map):
        _check_visible(by_id, areas, label_map)
    return label_map


def lay_over(
    existing: LabelArray,
    added: Mapping[ObjectId, MaskArray],
    *,
    predicted: Collection[ObjectId] = (),
) -> LabelArray:
    """Lay masks of new objects over a label map of known ones; the smaller of two lies above.

    A known object lies above a new one of its size. What a predicted mask has of a new object may
    be an error, so that it lies above a larger new one only with more than half of its pixels
    inside: as a plate on a board. One that new objects cover whole is logged.

    Args:
        existing: ``(H, W)`` ids of known objects.
        added: Bool ``(H, W)`` by id, new objects; an empty mask is an object that is not seen.
        predicted: Known objects whose masks were predicted; those of the others were given.

    Returns:
        ``(H, W)`` ids of all objects.

    Raises:
        InputError: A new object is left without pixels.

    Example:
        >>> plate = np.array([[0, 1, 0, 0]], np.uint8)
        >>> lay_over(plate, {ObjectId(2): np.array([[True, True, True, False]])})
        array([[2, 1, 2, 0]], dtype=uint8)
    """
    given = combine_masks(added)
    combined = np.where(given > 0, given, existing)
    areas = {object_id: int(np.count_nonzero(mask)) for object_id, mask in added.items()}
    covered = []
    for label in np.unique(existing[(existing > 0) & (given > 0)]):
        known = existing == label
        area = int(np.count_nonzero(known))
        needed = area / 2 if label in predicted else 0
        below = [
            object_id
            for object_id, mask in added.items()
            if areas[object_id] >= area and np.count_nonzero(known & mask) > needed
        ]
        combined[known & np.isin(given, below)] = label
        if not (combined == label).any():
            covered.append(str(label))
    _check_visible(added, areas, combined)
    if covered:
        _logger.warning("new objects cover the whole mask of object %s", ", ".join(covered))
    return combined


def split_label_map(
    label_map: npt.NDArray[np.integer], object_ids: Iterable[ObjectId] | None = None
) -> dict[ObjectId, MaskArray]:
    """Take the masks of objects out of a label map.

    Args:
        label_map: ``(H, W)`` integer, 0 = background.
        object_ids: The objects wanted; None wants every label that occurs.

    Returns:
        Bool ``(H, W)`` by object id, ids ascending; all False for an object that does not occur.

    Raises:
        InputError: An id is outside 1..1000.
        ShapeError: The label map is not an integer ``(H, W)``.

    Example:
        >>> masks = split_label_map(np.array([[0, 2, 2]]), [ObjectId(2), ObjectId(5)])
        >>> masks[ObjectId(2)], masks[ObjectId(5)]
        (array([[False,  True,  True]]), array([[False, False, False]]))
    """
    if not isinstance(label_map, np.ndarray):
        raise ShapeError(f"a label map must be an array (H, W), got {type(label_map).__name__}")
    if label_map.ndim != 2 or not np.issubdtype(label_map.dtype, np.integer):
        raise ShapeError(
            f"a label map must be integer (H, W), got {label_map.dtype} {label_map.shape}"
        )
    if object_ids is None:
        object_ids = [ObjectId(int(v)) for v in np.unique(label_map) if v != BACKGROUND]
    if not isinstance(object_ids, Iterable):
        raise InputError(f"wanted a list of object ids, got {type(object_ids).__name__}")
    return {i: label_map == i for i in sorted(check_object_id(wanted) for wanted in object_ids)}


def one_hot_slots(label_map: Tensor, num_slots: int = SLOTS_PER_GROUP) -> Tensor:
    """Turn a label map of slots into one channel per slot.

    Args:
        label_map: ``(B, H, W)`` integer; 0 = background, 1..``num_slots`` = slots.
        num_slots: Slots beside the background.

    Returns:
        ``(B, num_slots + 1, H, W)`` float32 of 0 and 1. A pixel of any other value is 0 in every
        channel.

    Raises:
        ShapeError: The label map is not an integer ``(B, H, W)``.

    Example:
        >>> one_hot_slots(torch.tensor([[[0, 1, 9]]]), num_slots=2)[0, :, 0]
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 0.]])
    """
    if not isinstance(label_map, Tensor):
        got = type(label_map).__name__
        raise ShapeError(f"a label map of slots must be an integer tensor (B, H, W), got {got}")
    if label_map.ndim != 3 or label_map.is_floating_point() or label_map.dtype == torch.bool:
        raise ShapeError(
            f"a label map of slots must be integer (B, H, W), got {_describe(label_map)}"
        )
    # As int64: a slot number must not wrap around in a narrow dtype such as int8.
    slots = torch.arange(num_slots + 1, device=label_map.device).view(1, -1, 1, 1)
    return (label_map.long().unsqueeze(1) == slots).to(torch.float32)


def slot_dtype(num_objects: int) -> torch.dtype:
    """Return the dtype of slot maps of so many objects: uint8, or int16 for more than 255."""
    return torch.uint8 if num_objects <= torch.iinfo(torch.uint8).max else torch.int16


def split_slot_map(slot_map: Tensor, num_objects: int) -> Tensor:
    """Split a slot map into masks.

    Args:
        slot_map: ``(H, W)`` integer, number of the object from 1; 0 = background.
        num_objects: Number of masks ``N``.

    Returns:
        ``(N, H, W)`` bool.
    """
    if not isinstance(slot_map, Tensor) or slot_map.ndim != 2:
        got = _describe(slot_map) if isinstance(slot_map, Tensor) else type(slot_map).__name__
        raise ShapeError(f"a slot map must be a tensor (H, W), got {got}")
    if num_objects > torch.iinfo(slot_map.dtype).max:  # a row number must not wrap around
        slot_map = slot_map.to(slot_dtype(num_objects))
    masks = slot_map.new_empty((num_objects, *slot_map.shape), dtype=torch.bool)
    for row, mask in enumerate(masks):
        torch.eq(slot_map, row + 1, out=mask)
    return masks


def mask_overlap(left: Tensor, right: Tensor) -> MaskOverlap:
    """Count the common and the joint pixels of masks, pair by pair.

    Args:
        left: ``(N, H, W)`` bool, frame pixels.
        right: ``(N, H, W)`` bool, same objects in the same order.

    Raises:
        ShapeError: The shapes differ, or a mask is not bool.
    """
    check_mask_stack(left)
    check_mask_stack(right)
    if left.shape != right.shape:
        raise ShapeError(
            f"masks to compare must have one shape, got {_describe(left)} and {_describe(right)}"
        )
    return MaskOverlap(count_pixels(left & right), count_pixels(left | right))


def count_pixels(masks: Tensor) -> Tensor:
    """Count the pixels of each mask.

    Args:
        masks: ``(N, H, W)`` bool.

    Returns:
        ``(N,)`` int64.

    Raises:
        ShapeError: The masks are not bool ``(N, H, W)``.
    """
    check_mask_stack(masks)
    if host_can_read(masks):
        # NumPy counts bytes five times faster than PyTorch.
        counts = [int(np.count_nonzero(mask)) for mask in masks.numpy()]
        return torch.tensor(counts, dtype=torch.int64)
    return masks.flatten(1).sum(1)


def has_pixels(masks: Tensor) -> Tensor:
    """Return which masks are not empty.

    Args:
        masks: ``(N, H, W)`` bool.

    Returns:
        ``(N,)`` bool.

    Raises:
        ShapeError: The masks are not bool ``(N, H, W)``.
    """
    check_mask_stack(masks)
    return _any(masks, (1, 2))


def mask_iou(left: Tensor, right: Tensor, *, both_empty: float = 1.0) -> Tensor:
    """Intersection over union of masks, pair by pair.

    Args:
        left: ``(N, H, W)`` bool, frame pixels.
        right: ``(N, H, W)`` bool, same objects in the same order.
        both_empty: Score of a pair of empty masks.

    Returns:
        ``(N,)`` float32 in ``[0, 1]``.

    Raises:
        ShapeError: The shapes differ, or a mask is not bool.

    Example:
        >>> left = torch.tensor([[[1, 1, 0]], [[0, 0, 0]]], dtype=torch.bool)
        >>> right = torch.tensor([[[0, 1, 1]], [[0, 0, 0]]], dtype=torch.bool)
        >>> mask_iou(left, right)
        tensor([0.3333, 1.0000])
    """
    overlap = mask_overlap(left, right)
    iou = overlap.intersection.to(torch.float32) / overlap.union.clamp(min=1)
    return torch.where(overlap.union == 0, iou.new_tensor(both_empty), iou)


def mask_boxes(masks: Tensor) -> Tensor:
    """Tight boxes around masks.

    Args:
        masks: ``(N, H, W)`` bool, frame pixels.

    Returns:
        ``(N, 4)`` float32, ``xyxy`` in pixel edges, right and bottom exclusive: the pixel in column
        3, row 5 has the box ``(3, 5, 4, 6)``. Zeros for an empty mask.

    Raises:
        ShapeError: The masks are not bool ``(N, H, W)``.

    Example:
        >>> mask_boxes(torch.tensor([[[0, 1, 1, 0]], [[0, 0, 0, 0]]], dtype=torch.bool))
        tensor([[1., 0., 3., 1.],
                [0., 0., 0., 0.]])
    """
    check_mask_stack(masks)
    left, right = _extent(_any(masks, (1,)))
    top, bottom = _extent(_any(masks, (2,)))
    return torch.stack([left, top, right, bottom], dim=1).to(torch.float32)


def check_mask_stack(masks: Tensor) -> None:
    """Check that masks are bool ``(N, H, W)``, N being any number and no side being 0.

    Raises:
        ShapeError: They are not.
    """
    if not isinstance(masks, Tensor):
        raise ShapeError(f"masks must be a bool tensor (N, H, W), got {type(masks).__name__}")
    if masks.ndim != 3 or masks.dtype != torch.bool or masks.shape[1] < 1 or masks.shape[2] < 1:
        raise ShapeError(f"masks must be a bool tensor (N, H, W), got {_describe(masks)}")


def _check_visible(
    masks: Mapping[ObjectId, MaskArray], areas: Mapping[ObjectId, int], label_map: LabelArray
) -> None:
    """Refuse objects that others cover whole."""
    visible = np.bincount(label_map.ravel(), minlength=MAX_OBJECTS + 1)
    for object_id, area in areas.items():
        if area and not visible[object_id]:
            above = ", ".join(str(label) for label in np.unique(label_map[masks[object_id]]))
            raise InputError(
                f"object {object_id} has no pixel of its own: its whole mask is covered by object "
                f"{above}, which is smaller or of the same size"
            )


def _any(masks: Tensor, dims: tuple[int, ...]) -> Tensor:
    # The largest byte is found ten times faster on the CPU than `any` finds a True.
    return masks.view(torch.uint8).amax(dims).bool()


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and one-past-last True of every row of ``(N, L)`` bool; both 0 in a row without one."""
    length = occupied.shape[1]
    flags = occupied.to(torch.uint8)
    any_flag = occupied.any(dim=1)
    first = flags.argmax(dim=1)
    end = length - flags.flip(1).argmax(dim=1)
    return first * any_flag, end * any_flag


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
