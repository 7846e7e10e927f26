"""TraX regions <-> full-frame masks: first regions of objects in, reported masks out.

A TraX mask is a small image with an offset; it may be larger than the frame, stick out of it, or
have no pixel. Inside the package a mask is always bool ``(H, W)`` of the whole frame. On the way
out a mask is cut to its box, because the cost of the text protocol goes with the area that is sent.

Two limits of the toolkit (0.9.0) are respected here, both of which it breaks without a message:

* Its result files count the runs of a mask in 16 bits; a mask of more runs ends the evaluation and
  leaves a broken file behind. ``cap_runs`` drops the smallest specks of such a mask.
* It takes a mask sent as a single column for an empty one. Such a mask is therefore sent with an
  empty column on its left, and the stored mask is exact. (When the measures are computed, a mask
  one pixel wide or tall that misses its object still counts as an absent one; no report can change
  that.)
"""

from __future__ import annotations

import cv2
import numpy as np
import trax

from vots_hqtrack.errors import InputError, ProtocolError
from vots_hqtrack.types import MaskArray, Size
from vots_hqtrack.video.label_maps import mask_box
from vots_hqtrack.vot.region_text import check_mask, fill_polygon, fill_rectangle, place_crop

FORMATS = (trax.Region.MASK, trax.Region.POLYGON, trax.Region.RECTANGLE)
"""Regions in which an object may be given; the toolkit makes an empty mask of any other one."""

MAX_RUNS = 65_535
"""Runs of one mask that the toolkit's result files can hold."""

MAX_RUN_LENGTH = 65_025
"""Pixels of one run there; a longer one is split by runs of length 0."""


def region_to_mask(region: trax.Region, size: Size) -> MaskArray:
    """Turn a region of the toolkit into a mask of the whole frame.

    Args:
        region: TraX mask, with any offset and of any extent, ``0 x 0`` included, polygon or
            rectangle.
        size: Frame size.

    Returns:
        Bool ``(H, W)``; what is outside the frame is cut off, so the mask may be empty.

    Raises:
        ProtocolError: The region is of another type, or its numbers are not finite.
    """
    if region.type == trax.Region.MASK:
        return place_crop(region.array() > 0, region.offset(), size)
    if region.type not in FORMATS:
        wanted = ", ".join(FORMATS)
        raise ProtocolError(f"an object must come as one of {wanted}, got a {region.type}")
    is_rectangle = region.type == trax.Region.RECTANGLE
    numbers = region.bounds() if is_rectangle else list(region)
    if not np.isfinite(numbers).all():
        raise ProtocolError(f"a {region.type} must have finite numbers, got {numbers}")
    return fill_rectangle(numbers, size) if is_rectangle else fill_polygon(numbers, size)


def mask_to_region(mask: MaskArray) -> trax.Region:
    """Turn a bool ``(H, W)`` mask of the whole frame into the region that is reported.

    Returns:
        A TraX mask cut to its box, of at most ``MAX_RUNS`` runs; the rectangle ``(0, 0, 0, 0)``,
        which the toolkit scores as absent, for an empty mask.

    Raises:
        ShapeError: The mask is not bool ``(H, W)``.
    """
    mask = cap_runs(mask)
    if (box := mask_box(mask)) is None:
        return trax.Rectangle.create(0, 0, 0, 0)
    left, top, width, height = box
    crop = mask[top : top + height, left : left + width]
    if width == 1:
        crop, left = np.pad(crop, ((0, 0), (1, 0))), left - 1
    # TraX copies memory in row order, so any other layout would arrive as noise.
    return trax.Mask.create(np.ascontiguousarray(crop, dtype=np.uint8), x=left, y=top)


def count_runs(mask: MaskArray) -> int:
    """Count the runs of zeros and ones that the toolkit writes for a mask, row by row in its box.

    A leading run of zeros of length 0 and the parts of long runs count; an empty mask has 1.

    Raises:
        ShapeError: The mask is not bool ``(H, W)``.

    Example:
        >>> count_runs(np.array([[False, True, True], [True, False, True]]))
        4
    """
    check_mask(mask)
    if (box := mask_box(mask)) is None:
        return 1
    left, top, width, height = box
    pixels = mask[top : top + height, left : left + width].ravel()
    is_border = pixels[1:] != pixels[:-1]
    if pixels.size <= MAX_RUN_LENGTH:  # no run can be too long
        return int(np.count_nonzero(is_border) + 1 + pixels[0])
    lengths = np.diff(np.flatnonzero(is_border) + 1, prepend=0, append=pixels.size)
    parts = (lengths - 1) // MAX_RUN_LENGTH
    return int(lengths.size + 2 * parts.sum() + pixels[0])


def cap_runs(mask: MaskArray, limit: int = MAX_RUNS) -> MaskArray:
    """Drop the smallest specks of a mask until the toolkit can store it.

    Components (4-connected) are kept from the largest down as long as they fit. When not even the
    largest one fits, its longest horizontal strokes are kept.

    Args:
        mask: Bool ``(H, W)``.
        limit: Runs that the result may have: 3 or more, and 2 more for every ``MAX_RUN_LENGTH``
            pixels of the frame.

    Returns:
        The mask itself when it fits, else a smaller one of at most ``limit`` runs.

    Raises:
        InputError: The limit leaves no room for a single stroke of pixels.
        ShapeError: The mask is not bool ``(H, W)``.

    Example:
        >>> cap_runs(np.array([[True, True, False, True, False, True]]), limit=3)
        array([[ True,  True, False, False, False, False]])
    """
    if count_runs(mask) <= limit:
        return mask
    # R strokes (runs of ones within a row) have R + 1 gaps at most; the parts of long runs are
    # bounded by the frame, since the gaps grow with each speck that is dropped.
    budget = (limit - 1 - 2 * (mask.size // MAX_RUN_LENGTH)) // 2
    if budget < 1:
        raise InputError(f"a limit of {limit} runs is too low for a mask of {mask.shape}")
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA]
    areas[0] = 0  # the background is not a component
    starts = mask.copy()
    starts[:, 1:] &= ~mask[:, :-1]
    strokes = np.bincount(labels[starts], minlength=areas.size)
    order = np.argsort(-areas, kind="stable")
    kept = order[np.cumsum(strokes[order]) <= budget]
    if kept.size == 0:
        return _longest_strokes(labels == order[0], budget)
    capped: MaskArray = mask & np.isin(np.arange(areas.size), kept)[labels]
    return capped


def _longest_strokes(mask: MaskArray, count: int) -> MaskArray:
    """Keep the longest runs of ones within rows; the topmost of equal ones."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    kept = np.argsort(starts - ends, kind="stable")[:count]
    steps = np.zeros((mask.shape[0], mask.shape[1] + 1), dtype=np.int8)
    steps[rows[kept], starts[kept]] += 1
    steps[rows[kept], ends[kept]] -= 1
    return np.cumsum(steps, axis=1, dtype=np.int8)[:, :-1] > 0
