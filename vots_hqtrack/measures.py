"""The measures of video object segmentation: region similarity J, boundary accuracy F, and J&F.

Both follow the definition of DAVIS, frame by frame. Means go over all frames after the one where an
object was given; DAVIS's semi-supervised protocol leaves out the last frame too, we do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.types import MaskArray

BOUNDARY_TOLERANCE = 0.008
"""Distance at which boundary pixels still match, as a fraction of the frame's diagonal."""


@dataclass(frozen=True, slots=True)
class SegmentationMeasures:
    """J and F of a mask, or their means over frames, objects or sequences.

    Attributes:
        region: Region similarity J, in ``[0, 1]``.
        boundary: Boundary accuracy F, in ``[0, 1]``.
    """

    region: float
    boundary: float

    @property
    def mean(self) -> float:
        """J&F, the mean of both."""
        return (self.region + self.boundary) / 2

    def to_dict(self) -> dict[str, float]:
        """Return the three numbers by the names that the field gives them."""
        return {"J": self.region, "F": self.boundary, "J&F": self.mean}


def jaccard(left: MaskArray, right: MaskArray) -> float:
    """Region similarity J: intersection over union of two masks; 1 where both are empty.

    Args:
        left: Bool ``(H, W)``.
        right: The same size.

    Raises:
        ShapeError: A mask is not bool ``(H, W)``, or the sizes differ.

    Example:
        >>> jaccard(np.array([[True, True, False]]), np.array([[False, True, True]]))
        0.3333333333333333
    """
    _check_pair(left, right)
    union = int(np.count_nonzero(left | right))
    return int(np.count_nonzero(left & right)) / union if union else 1.0


def boundary_accuracy(
    predicted: MaskArray, truth: MaskArray, *, tolerance: float = BOUNDARY_TOLERANCE
) -> float:
    """Boundary accuracy F: harmonic mean of the precision and recall of the boundary's pixels.

    A boundary pixel counts as found where the other mask's boundary passes within the tolerance,
    rounded up to whole pixels, in a straight line.

    Args:
        predicted: Bool ``(H, W)``.
        truth: The same size.
        tolerance: As a fraction of the frame's diagonal; from 1 on, in pixels.

    Returns:
        A number in ``[0, 1]``: 1 where neither mask has a boundary, 0 where one of them has none.

    Raises:
        ShapeError: A mask is not bool ``(H, W)``, or the sizes differ.
    """
    _check_pair(predicted, truth)
    radius = math.ceil(tolerance if tolerance >= 1 else tolerance * math.hypot(*truth.shape))
    both = predicted | truth
    if not both.any():
        return 1.0
    window = _window_around(both)
    found, wanted = mask_boundary(predicted[window]), mask_boundary(truth[window])
    num_found, num_wanted = int(np.count_nonzero(found)), int(np.count_nonzero(wanted))
    if not num_found or not num_wanted:
        return float(num_found == num_wanted)
    precision = int(np.count_nonzero(found & _dilate(wanted, radius))) / num_found
    recall = int(np.count_nonzero(wanted & _dilate(found, radius))) / num_wanted
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def mask_boundary(mask: MaskArray) -> MaskArray:
    """Boundary of a mask: pixels unlike the one on the right, the one below, or the one between.

    The frame's edge does not count, so a mask that fills the frame has none.

    Args:
        mask: Bool ``(H, W)``.

    Returns:
        Bool ``(H, W)``.

    Example:
        >>> mask_boundary(np.array([[False, True, True, False]]))
        array([[ True, False,  True, False]])
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    unlike: MaskArray = (here != padded[:-1, 1:]) | (here != padded[1:, :-1])
    unlike |= here != padded[1:, 1:]
    return unlike


def measure_mask(predicted: MaskArray, truth: MaskArray) -> SegmentationMeasures:
    """Measure the mask of one object in one frame.

    Args:
        predicted: Bool ``(H, W)``.
        truth: The same size.

    Raises:
        ShapeError: A mask is not bool ``(H, W)``, or the sizes differ.
    """
    return SegmentationMeasures(jaccard(predicted, truth), boundary_accuracy(predicted, truth))


def measure_object(
    predicted: Iterable[MaskArray | None], truth: Iterable[MaskArray | None]
) -> SegmentationMeasures | None:
    """Measure one object's masks, over all frames after the one where it was given.

    Frames without a known truth do not count, a frame that both call empty counts 1, and a missing
    prediction counts as empty. The first frame with a known truth is the one where it was given.

    Args:
        predicted: Bool ``(H, W)`` for every frame.
        truth: The same size, frame by frame; None where nothing is known.

    Returns:
        The means; None where no frame counts.

    Raises:
        ShapeError: A mask is not bool ``(H, W)``, or the sizes differ.

    Example:
        >>> full, half = np.ones((2, 2), dtype=bool), np.eye(2, dtype=bool)
        >>> measure_object([None, full, half], [full, full, full])
        SegmentationMeasures(region=0.75, boundary=0.5)
    """
    found: list[SegmentationMeasures] = []
    started = False
    for mask, wanted in zip_longest(predicted, truth):
        if wanted is None:
            continue
        if started:
            found.append(measure_mask(np.zeros_like(wanted) if mask is None else mask, wanted))
        started = True
    return mean_measures(found)


def mean_measures(measures: Iterable[SegmentationMeasures | None]) -> SegmentationMeasures | None:
    """Mean of the measures that are known; None where there are none."""
    known = [pair for pair in measures if pair is not None]
    if not known:
        return None
    region = sum(pair.region for pair in known) / len(known)
    return SegmentationMeasures(region, sum(pair.boundary for pair in known) / len(known))


def _dilate(boundary: MaskArray, radius: int) -> MaskArray:
    """Mark all pixels within ``radius`` of a boundary pixel."""
    steps = np.arange(-radius, radius + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
    dilated: MaskArray = cv2.dilate(boundary.astype(np.uint8), disk).astype(bool)
    return dilated


def _window_around(mask: MaskArray) -> tuple[slice, slice]:
    """Return the box around a mask's pixels, of which it has some, and one pixel more on each side.

    The boundary inside of this window is that of the whole frame.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = max(rows[0] - 1, 0), max(columns[0] - 1, 0)
    return slice(top, rows[-1] + 2), slice(left, columns[-1] + 2)


def _check_pair(left: npt.NDArray[np.generic], right: npt.NDArray[np.generic]) -> None:
    for mask in (left, right):
        if mask.ndim != 2 or mask.dtype != np.bool_ or mask.shape != left.shape:
            raise ShapeError(
                "masks to compare must be bool (H, W) of one size, got "
                f"{left.dtype} {left.shape} and {right.dtype} {right.shape}"
            )
