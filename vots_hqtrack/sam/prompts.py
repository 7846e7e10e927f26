"""Initial mask -> SAM's prompts: box, low-resolution mask and centre point.

The paper (section 2.3) prompts with the tight box alone; the other two say what inside the box is
meant. Coordinates of prompts are SAM's: pixel indices ``(x, y)``, the prompt encoder itself adds
the half pixel that leads to the pixel's centre. So the box of a mask runs from its first to its
*last* column and row (inclusive maxima), unlike ``masks.mask_boxes``.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.config import PromptKind
from vots_hqtrack.devices import device_table, host_can_read
from vots_hqtrack.masks import check_mask_stack, mask_boxes
from vots_hqtrack.ops.distance import deepest_pixels
from vots_hqtrack.sam.geometry import SamGeometry, linear_indices, scale_points
from vots_hqtrack.types import MaskArray


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts of N objects in the geometry of SAM's input.

    Attributes:
        boxes: ``(N, 4)`` float32, ``xyxy`` pixel indices of SAM's input; None gives points alone.
        masks: ``(N, 1, mask_side, mask_side)`` float32 logits, or None.
        points: ``(N, K, 2)`` float32, ``(x, y)`` pixel indices of SAM's input, or None.
        labels: ``(N, K)`` bool, True for foreground points; None makes all of them such.
    """

    boxes: Tensor | None
    masks: Tensor | None = None
    points: Tensor | None = None
    labels: Tensor | None = None

    @property
    def num_objects(self) -> int:
        """N; there are boxes, points or both."""
        first = self.points if self.boxes is None else self.boxes
        return 0 if first is None else len(first)


def make_prompts(
    initial: Tensor, geometry: SamGeometry, *, kind: PromptKind, mask_logit: float
) -> Prompts:
    """Derive the prompts of N objects from their initial masks.

    Args:
        initial: ``(N, H, W)`` bool, frame pixels; each with a pixel at least.
        geometry: The frame's position in SAM's input.
        kind: Kinds of prompts.
        mask_logit: Logit of a mask pixel wholly inside; wholly outside it is the negative.
    """
    boxes = scale_points(prompt_boxes(initial).view(-1, 2, 2), geometry).view(-1, 4)
    masks = points = None
    if kind in ("box+mask", "box+mask+point"):
        masks = prompt_masks(initial, geometry, mask_logit=mask_logit)
    if kind == "box+mask+point":
        points = scale_points(prompt_points(initial), geometry).unsqueeze(1)
    return Prompts(boxes, masks, points)


def prompt_boxes(masks: Tensor) -> Tensor:
    """Tight boxes from the first to the last pixel of each mask.

    Args:
        masks: ``(N, H, W)`` bool, frame pixels.

    Returns:
        ``(N, 4)`` float32, ``xyxy`` pixel indices, maxima inclusive. Meaningless for an empty mask.

    Example:
        >>> prompt_boxes(torch.tensor([[[0, 1, 1, 0]]], dtype=torch.bool))
        tensor([[1., 0., 2., 0.]])
    """
    boxes = mask_boxes(masks)
    return torch.cat([boxes[:, :2], boxes[:, 2:] - 1], dim=1)


def prompt_points(masks: Tensor) -> Tensor:
    """A point well inside each mask: the pixel farthest from everything that is not the mask.

    Everything beyond the frame counts as not the mask. Of several such pixels the first one in
    reading order is taken.

    Args:
        masks: ``(N, H, W)`` bool, frame pixels.

    Returns:
        ``(N, 2)`` float32, ``(x, y)`` pixel indices. ``(0, 0)`` for an empty mask.
    """
    check_mask_stack(masks)
    if not host_can_read(masks):
        return deepest_pixels(masks).float()
    points = [_deepest_pixel(mask) for mask in masks.cpu().numpy()]
    return torch.tensor(points, dtype=torch.float32, device=masks.device).view(-1, 2)


def prompt_masks(masks: Tensor, geometry: SamGeometry, *, mask_logit: float) -> Tensor:
    """Low-resolution logits of masks: the covered fraction of each pixel, as -logit to +logit.

    Args:
        masks: ``(N, H, W)`` bool, frame pixels.
        geometry: The frame's position in SAM's input.
        mask_logit: Logit of a mask pixel wholly inside; wholly outside it is the negative.

    Returns:
        ``(N, 1, mask_side, mask_side)`` float32 in ``[-mask_logit, mask_logit]``. The padding is
        outside every mask.
    """
    check_mask_stack(masks)
    side = geometry.mask_side
    fraction = masks.new_zeros((len(masks), 1, side, side), dtype=torch.float32)
    height, width = geometry.covered
    frame, content = geometry.frame_size, geometry.input_size
    stride, device = geometry.mask_stride, masks.device
    down = _pooling_weights(frame.height, content.height, stride, device)
    along = _pooling_weights(frame.width, content.width, stride, device)
    if not host_can_read(masks):
        fraction[:, 0, :height, :width] = down @ (masks.to(torch.float32) @ along.t())
        return (2 * fraction - 1) * mask_logit
    boxes = mask_boxes(masks).int().tolist()
    for mask, target, (left, top, right, bottom) in zip(masks, fraction, boxes, strict=True):
        part = mask[top:bottom, left:right].to(torch.float32)
        target[0, :height, :width] = down[:, top:bottom] @ (part @ along[:, left:right].t())
    return (2 * fraction - 1) * mask_logit


@device_table
def _pooling_weights(frame_side: int, input_side: int, stride: int, device: torch.device) -> Tensor:
    """Return ``(mask side, frame_side)`` float32: weights of the frame's pixels along one side.

    The frame is resized to SAM's input by bilinear interpolation, then averaged over the stride.
    """
    indices = linear_indices(input_side, frame_side, torch.device("cpu"))
    weights = torch.zeros(-(-input_side // stride) * stride, frame_side)
    rows = torch.arange(input_side)
    weights[rows, indices.low] += 1 - indices.weight
    weights[rows, indices.high] += indices.weight
    return weights.view(-1, stride, frame_side).mean(1).to(device)


def _deepest_pixel(mask: MaskArray) -> tuple[int, int]:
    """Return ``(x, y)`` of the pixel farthest from the outside; ``(0, 0)`` in an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0, 0
    top, left = int(rows[0]), int(columns[0])
    crop = mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.uint8)
    # One ring of background, so that the crop's edge (the frame's, perhaps) is an outside as well.
    ringed = cv2.copyMakeBorder(crop, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(ringed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return left + int(x) - 1, top + int(y) - 1
