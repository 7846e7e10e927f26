"""Ground truth -> initial masks with VMOS's errors: blurred, shifted, with holes and stray parts.

VMOS decides on logits at 1/4 of the network image, 128 along its long side; its errors are
whole regions of such pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.measures import jaccard
from vots_hqtrack.training.hq.recipe import DegradeOptions
from vots_hqtrack.types import MaskArray

LONG_SIDE = 128
"""Logits of VMOS along a frame's long side."""

_Field = npt.NDArray[np.float32]


def degrade_mask(
    mask: MaskArray, generator: np.random.Generator, options: DegradeOptions
) -> MaskArray:
    """Make an initial mask of an exact one.

    Args:
        mask: Bool ``(H, W)`` with a pixel at least.
        generator: Random generator.
        options: Errors of the result.

    Returns:
        Bool ``(H, W)`` with a pixel at least; the mask itself where every initial one is empty.
    """
    spoiled = mask.astype(np.float32)
    if generator.random() < options.move_probability:
        spoiled = _moved(spoiled, generator, options.move)
    if generator.random() < options.blob_probability:
        spoiled = _blobs(spoiled, mask, generator, 0.0)
    if generator.random() < options.blob_probability:
        spoiled = _blobs(spoiled, mask, generator, 1.0)
    if generator.random() < options.cut_probability:
        spoiled = _cut(spoiled, mask, generator)
    initial = _reduced(spoiled, generator, options)
    if jaccard(initial, mask) < options.min_iou:
        initial = _reduced(mask.astype(np.float32), generator, options)
    return initial if jaccard(initial, mask) >= options.min_iou else mask


def _reduced(
    coverage: _Field, generator: np.random.Generator, options: DegradeOptions
) -> MaskArray:
    """Reduce a mask to the size of VMOS's logits, add smooth noise, and come back."""
    height, width = coverage.shape
    scale = LONG_SIDE / max(height, width)
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    small = cv2.resize(coverage, (columns, rows), interpolation=cv2.INTER_AREA).reshape(
        rows, columns
    )
    step = int(generator.integers(2, 9))
    noise = generator.standard_normal((rows // step + 2, columns // step + 2)).astype(np.float32)
    smooth = cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_CUBIC)
    amplitude = generator.uniform(0, options.noise) * 0.5
    # Noise moves the outline; far from it VMOS is sure, and noise has no effect.
    unsure = cv2.GaussianBlur(small, (0, 0), generator.uniform(0.5, 2.0))
    small = unsure + amplitude * smooth * 4 * unsure * (1 - unsure)
    fine = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    initial: MaskArray = fine > 0.5 + generator.uniform(-options.bias, options.bias)
    return initial


def _moved(coverage: _Field, generator: np.random.Generator, most: float) -> _Field:
    rows, columns = np.nonzero(coverage)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    scale = 1 + generator.uniform(-most, most)
    centre = float(columns.mean()), float(rows.mean())
    matrix = np.asarray(
        cv2.getRotationMatrix2D(centre, generator.uniform(-90, 90) * most, scale), np.float64
    )
    matrix[:, 2] += generator.uniform(-most, most, 2) * np.array([width, height])
    moved = cv2.warpAffine(coverage, matrix, (coverage.shape[1], coverage.shape[0]))
    return np.asarray(moved, np.float32)


def _blobs(
    coverage: _Field, mask: MaskArray, generator: np.random.Generator, value: float
) -> _Field:
    """Paint ellipses of a value: holes inside the object, or parts beside it."""
    rows, columns = np.nonzero(mask)
    radius = float(np.sqrt(rows.size))
    painted = np.ascontiguousarray(coverage)
    for _ in range(int(generator.integers(1, 4))):
        number = int(generator.integers(rows.size))
        offset = generator.uniform(-0.5, 0.5, 2) * radius if value else np.zeros(2)
        centre = round(columns[number] + offset[0]), round(rows[number] + offset[1])
        axes = tuple(int(side) for side in generator.uniform(0.03, 0.2, 2) * radius + 1)
        cv2.ellipse(painted, centre, axes, float(generator.uniform(0, 180)), 0, 360, value, -1)
    return painted


def _cut(coverage: _Field, mask: MaskArray, generator: np.random.Generator) -> _Field:
    """Cut off all beyond a straight line: up to 30 % of the object."""
    rows, columns = np.nonzero(mask)
    angle = generator.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    limit = np.quantile(columns * direction[0] + rows * direction[1], generator.uniform(0.7, 1.0))
    height, width = coverage.shape
    y, x = np.mgrid[:height, :width]
    kept = x * direction[0] + y * direction[1] <= limit
    return np.where(kept, coverage, np.float32(0))
