"""Holes and islands of SAM's masks, removed where VMOS's mask says otherwise.

SAM goes by appearance: a logo becomes a hole in a shirt, and the neighbour's shirt an island. Both
are removed from the low-resolution logits, which costs less than at the frame's size.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vots_hqtrack.devices import host_can_read
from vots_hqtrack.errors import ShapeError
from vots_hqtrack.ops.components import label_components, sum_components
from vots_hqtrack.ops.distance import squared_distances
from vots_hqtrack.types import MaskArray, Size

MIN_LOGIT = 1e-3
"""Magnitude that a logit has at least where its sign was changed."""

HOLE_AGREEMENT = 0.5
"""A hole is filled where VMOS's mask covers at least this fraction of it."""

ISLAND_DISTANCE = 0.2
"""An island is farther from VMOS's mask than this, in square roots of that mask's area."""


def clean_logits(
    logits: Tensor, initial: Tensor, covered: Size, *, fill_holes: bool, drop_islands: bool
) -> Tensor:
    """Fill holes and drop islands of masks by changing the signs of their logits.

    Args:
        logits: ``(N, H', W')`` float: SAM's masks at low resolution.
        initial: ``(N, H', W')`` bool: VMOS's masks, at the same resolution.
        covered: Rows and columns that the frame covers, from the first on. One more each way is
            looked at, as interpolation to the frame reads it.
        fill_holes: Fill what :func:`find_holes` finds.
        drop_islands: Drop what :func:`find_islands` finds.

    Returns:
        ``(N, H', W')`` float of the same dtype; ``logits`` itself where there is nothing to clean.

    Raises:
        ShapeError: The shapes differ, or VMOS's masks are not bool.
    """
    if logits.ndim != 3 or initial.shape != logits.shape or initial.dtype != torch.bool:
        raise ShapeError(
            "wanted logits (N, H', W') and bool masks of the same shape, "
            f"got {tuple(logits.shape)} and {initial.dtype} {tuple(initial.shape)}"
        )
    window = slice(None), slice(covered.height + 1), slice(covered.width + 1)
    magnitude = logits[window].abs().clamp(min=MIN_LOGIT)
    if not host_can_read(logits):
        masks = logits[window] > 0
        wrong = torch.zeros_like(masks)
        if fill_holes:
            wrong |= _find_holes_on_device(masks, initial[window], covered)
        if drop_islands:
            wrong |= _find_islands_on_device(masks, initial[window])
        cleaned = logits.clone()
        cleaned[window] = torch.where(
            wrong, torch.where(masks, -magnitude, magnitude), logits[window]
        )
        return cleaned
    inside = (logits[window] > 0).numpy()
    known = initial[window].numpy()
    filled, dropped = np.zeros_like(inside), np.zeros_like(inside)
    for row, (mask, wanted) in enumerate(zip(inside, known, strict=True)):
        if fill_holes:
            filled[row] = find_holes(mask, wanted, covered)
        if drop_islands:
            dropped[row] = find_islands(mask, wanted)
    if not (filled.any() or dropped.any()):
        return logits
    cleaned = logits.clone()
    for places, values in ((filled, magnitude), (dropped, -magnitude)):
        is_changed = torch.from_numpy(places).to(logits.device)
        cleaned[window] = torch.where(is_changed, values, cleaned[window])
    return cleaned


def find_holes(mask: MaskArray, initial: MaskArray, covered: Size) -> MaskArray:
    """Find the holes of a mask of which VMOS's mask covers half or more.

    A hole is a connected part of the background that does not touch the frame's edge. Where VMOS's
    mask has a hole too, it stays: a ring remains a ring.

    Args:
        mask: Bool ``(H', W')``.
        initial: VMOS's mask, the same size.
        covered: Rows and columns of the frame.

    Returns:
        Bool ``(H', W')``.

    Example:
        >>> mask = np.ones((3, 7), dtype=bool)
        >>> mask[1, [1, 5]] = False
        >>> initial = np.ones((3, 7), dtype=bool)
        >>> initial[1, 5] = False
        >>> np.argwhere(find_holes(mask, initial, Size(3, 7))).tolist()
        [[1, 1]]
    """
    found = np.zeros_like(mask)
    window = _window(mask[: covered.height, : covered.width])
    if window is None:
        return found
    # What touches the edge of the mask's box goes on outside of it, or touches the frame's edge.
    part = mask[window]
    # Diagonal neighbours belong together in the mask, so they do not in the background.
    labels, boxes, areas = _components(~part, connectivity=4)
    left, top, width, height = boxes.T
    is_enclosed = (left > 0) & (top > 0)
    is_enclosed &= (left + width < part.shape[1]) & (top + height < part.shape[0])
    is_enclosed[0] = False
    if is_enclosed.any():
        overlap = np.bincount(labels[initial[window]], minlength=len(areas))
        found[window] = (is_enclosed & (overlap >= HOLE_AGREEMENT * areas))[labels]
    return found


def find_islands(mask: MaskArray, initial: MaskArray) -> MaskArray:
    """Find the connected parts of a mask that are far from VMOS's mask.

    Far is more than a fifth of the square root of the area of VMOS's mask: what is nearer may be a
    part of the object that VMOS missed.

    Args:
        mask: Bool ``(H', W')``.
        initial: VMOS's mask, the same size.

    Returns:
        Bool ``(H', W')``; all False where VMOS's mask touches no part at all.

    Example:
        >>> mask, initial = np.zeros((1, 30), dtype=bool), np.zeros((1, 30), dtype=bool)
        >>> initial[:, :25] = mask[:, :20] = mask[:, 25] = mask[:, 28] = True
        >>> np.argwhere(find_islands(mask, initial)).tolist()
        [[0, 28]]
    """
    found = np.zeros_like(mask)
    window = _window(mask)
    if window is None:
        return found
    labels, _, areas = _components(mask[window], connectivity=8)
    is_touched = np.bincount(labels[initial[window]], minlength=len(areas)) > 0
    if is_touched[1:].all() or not is_touched[1:].any():
        return found
    distance = cv2.distanceTransform(
        (~initial).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    is_near = distance <= ISLAND_DISTANCE * math.sqrt(np.count_nonzero(initial))
    is_island = np.bincount(labels[is_near[window]], minlength=len(areas)) == 0
    is_island[0] = False
    found[window] = is_island[labels]
    return found


def _find_holes_on_device(masks: Tensor, initial: Tensor, covered: Size) -> Tensor:
    """As :func:`find_holes`, for ``(N, H', W')`` bool masks and without the host."""
    window = slice(None), slice(covered.height), slice(covered.width)
    background = ~masks[window]
    edge = background.clone()
    edge[:, 1:-1, 1:-1] = False
    labels = label_components(background, diagonal=False)
    area = sum_components(labels, background)
    overlap = sum_components(labels, background & initial[window])
    is_filled = (sum_components(labels, edge) == 0) & (overlap >= HOLE_AGREEMENT * area)
    found = torch.zeros_like(masks)
    found[window] = is_filled.view(background.shape) & background
    return found


def _find_islands_on_device(masks: Tensor, initial: Tensor) -> Tensor:
    """As :func:`find_islands`, for ``(N, H', W')`` bool masks and without the host."""
    labels = label_components(masks, diagonal=True)
    touching = sum_components(labels, masks & initial).view(masks.shape)
    is_touched = (masks & (touching > 0)).flatten(1).any(1)
    radius = ISLAND_DISTANCE * initial.flatten(1).sum(1).double().sqrt()
    is_near = squared_distances(initial).sqrt() <= radius[:, None, None]
    near = sum_components(labels, masks & is_near).view(masks.shape)
    return masks & (near == 0) & is_touched[:, None, None]


def _window(mask: MaskArray) -> tuple[slice, slice] | None:
    """Return rows and columns of the box around a mask; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _components(
    mask: MaskArray, *, connectivity: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return labels, boxes ``(left, top, width, height)`` and areas; 0 is what is not the mask."""
    _, labels, table, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=connectivity
    )
    numbers = table.astype(np.int32)
    return labels.astype(np.int32), numbers[:, :4], numbers[:, 4]
