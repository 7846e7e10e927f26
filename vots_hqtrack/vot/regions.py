"""TraX regions <-> full-frame masks: what comes in for an object, what goes out every frame.

A TraX mask is a small picture with an offset; it may be larger than the frame, stick out of it, or
have no pixel. Inside the package a mask is always bool ``(H, W)`` of the whole frame. On the way
out a mask is cut to its box, because the cost of the text protocol goes with the area that is sent.

Two limits of the toolkit (0.9.0) are respected here, both of which it breaks without a message:

* Its result files count the runs of a mask in 16 bits, so that a mask of more runs ends the
  evaluation and leaves a broken file behind. ``cap_runs`` drops the smallest specks of such a mask.
* It takes a mask whose last column is column 0 of the picture sent for an empty one. A mask one
  column wide is therefore sent with an empty column on its left, and the stored mask is exact.
  (When the measures are computed, a mask one pixel wide or tall that misses its object still counts
  as an absent one; that lies in the toolkit and no report can change it.)
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import trax

from vots_hqtrack.errors import InputError, ProtocolError, ShapeError
from vots_hqtrack.types import MaskArray, Size

MAX_RUNS = 65_535
"""Runs of one mask that the toolkit's result files can hold."""

MAX_RUN_LENGTH = 65_025
"""Pixels of one run there; a longer one is split by runs of length 0."""


def region_to_mask(region: trax.Region, size: Size) -> MaskArray:
    """Turn a region of the toolkit into a mask of the whole frame.

    Args:
        region: TraX mask, with any offset and of any extent, ``0 x 0`` included, or TraX rectangle.
        size: Frame size.

    Returns:
        Bool ``(H, W)``; what lies outside the frame is cut off, so the mask may be empty.

    Raises:
        ProtocolError: The region is neither a mask nor a rectangle, or its numbers are not finite.
    """
    if region.type == trax.Region.MASK:
        left, top = region.offset()
        return _place(region.array() > 0, left, top, size)
    if region.type == trax.Region.RECTANGLE:
        return _fill_rectangle(region.bounds(), size)
    raise ProtocolError(f"an object must come as a mask or a rectangle, got a {region.type}")


def mask_to_region(mask: MaskArray) -> trax.Region:
    """Turn a mask of the whole frame into the region that is reported to the toolkit.

    Args:
        mask: Bool ``(H, W)``; without a pixel it stands for an absent object.

    Returns:
        A TraX mask cut to its box, of at most ``MAX_RUNS`` runs; the rectangle ``(0, 0, 0, 0)``,
        which the toolkit scores as absent, for an empty mask.

    Raises:
        ShapeError: The mask is not bool ``(H, W)``.
    """
    _check_mask(mask)
    if not mask.any():
        return trax.Rectangle.create(0, 0, 0, 0)
    rows, columns = _find_box(mask)
    if _count_runs_in_box(mask[rows, columns]) > MAX_RUNS:
        mask = cap_runs(mask)
        rows, columns = _find_box(mask)
    crop, left = mask[rows, columns], columns.start
    if crop.shape[1] == 1:
        crop, left = np.pad(crop, ((0, 0), (1, 0))), left - 1
    # TraX copies the memory as it lies, so that any other layout would arrive as noise.
    return trax.Mask.create(np.ascontiguousarray(crop, dtype=np.uint8), x=left, y=rows.start)


def count_runs(mask: MaskArray) -> int:
    """Count the runs of zeros and ones that the toolkit writes for a mask, row by row in its box.

    Args:
        mask: Bool ``(H, W)``.

    Returns:
        Their number, counting a leading run of zeros of length 0 and the parts of long runs; 1 for
        an empty mask.

    Raises:
        ShapeError: The mask is not bool ``(H, W)``.

    Example:
        >>> count_runs(np.array([[False, True, True], [True, False, True]]))
        4
    """
    _check_mask(mask)
    if not mask.any():
        return 1
    return _count_runs_in_box(mask[_find_box(mask)])


def cap_runs(mask: MaskArray, limit: int = MAX_RUNS) -> MaskArray:
    """Drop the smallest specks of a mask until the toolkit can store it.

    Pieces (4-connected) are kept from the largest down as long as they fit. When not even the
    largest piece fits, of that piece the longest horizontal strokes are kept.

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
    labels, areas = _label_pieces(mask)
    starts = mask.copy()
    starts[:, 1:] &= ~mask[:, :-1]
    strokes = np.bincount(labels[starts], minlength=areas.size)
    order = np.argsort(-areas, kind="stable")
    kept = order[np.cumsum(strokes[order]) <= budget]
    if kept.size == 0:
        return _longest_strokes(labels == order[0], budget)
    keep = np.zeros(areas.size, dtype=np.bool_)
    keep[kept] = True
    return mask & keep[labels]


def _check_mask(mask: MaskArray) -> None:
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ShapeError(f"a mask must be a bool array (H, W), got {mask.dtype} {mask.shape}")


def _count_runs_in_box(crop: MaskArray) -> int:
    """Count the runs of a mask that is cut to its box; it has a pixel."""
    pixels = crop.ravel()
    is_border = pixels[1:] != pixels[:-1]
    if pixels.size <= MAX_RUN_LENGTH:  # no run can be too long
        return int(np.count_nonzero(is_border) + 1 + pixels[0])
    borders = np.flatnonzero(is_border) + 1
    lengths = np.diff(np.concatenate([[0], borders, [pixels.size]]))
    parts = (lengths - 1) // MAX_RUN_LENGTH
    return int(lengths.size + 2 * parts.sum() + pixels[0])


def _find_box(mask: MaskArray) -> tuple[slice, slice]:
    """Rows and columns of the box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _place(crop: MaskArray, left: int, top: int, size: Size) -> MaskArray:
    """Put a crop into an empty frame, its first pixel at ``(left, top)``, inside or not."""
    mask = np.zeros(size, dtype=np.bool_)
    height, width = crop.shape
    rows = slice(max(top, 0), max(top + height, 0))
    columns = slice(max(left, 0), max(left + width, 0))
    inside = mask[rows, columns]
    skipped_rows, skipped_columns = max(-top, 0), max(-left, 0)
    inside[:] = crop[skipped_rows:, skipped_columns:][: inside.shape[0], : inside.shape[1]]
    return mask


def _fill_rectangle(bounds: tuple[float, float, float, float], size: Size) -> MaskArray:
    """Fill ``(x, y, width, height)``, its sides rounded to the nearest pixel edges."""
    if not all(math.isfinite(number) for number in bounds):
        raise ProtocolError(f"a rectangle must be four finite numbers, got {bounds}")
    x, y, width, height = bounds
    left, right = max(round(x), 0), max(round(x + width), 0)
    top, bottom = max(round(y), 0), max(round(y + height), 0)
    mask = np.zeros(size, dtype=np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def _label_pieces(mask: MaskArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Number the 4-connected pieces of a mask.

    Returns:
        ``(H, W)`` piece of each pixel, 0 = none of them, and each piece's area in pixels, 0 for
        piece 0.
    """
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    areas = np.bincount(labels.ravel(), minlength=count)
    areas[0] = 0
    return labels.astype(np.int32, copy=False), areas.astype(np.int64, copy=False)


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
