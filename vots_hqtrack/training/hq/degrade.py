"""Ground truth -> masks as VMOS would give them: coarse, shifted, with holes and stray parts.

VMOS decides on logits at 1/4 of the network image, whose long side has 128 cells; what it gets
wrong is wrong by whole regions of such cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.types import MaskArray

LONG_SIDE_CELLS = 128
"""Cells of VMOS's logits along a frame's long side."""

_Field = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DegradeConfig:
    """How bad coarse masks may be.

    Attributes:
        noise: Largest amplitude of smooth noise, as a share of a cell's coverage.
        bias: Largest shift of the threshold on the coverage, which shrinks or grows the mask.
        move_share: Share of the masks that are moved and scaled a little.
        move: Largest movement, as a share of the object's box; scales change by as much.
        blob_share: Share of the masks that get holes, and of those that get stray parts.
        cut_share: Share of the masks that lose a side.
        min_iou: Least IoU with the ground truth; a worse mask is made anew with noise alone.
    """

    noise: float = 0.6
    bias: float = 0.25
    move_share: float = 0.4
    move: float = 0.05
    blob_share: float = 0.25
    cut_share: float = 0.1
    min_iou: float = 0.4


def degrade_mask(mask: MaskArray, rng: np.random.Generator, config: DegradeConfig) -> MaskArray:
    """Make a coarse mask of an exact one.

    Args:
        mask: Bool ``(H, W)`` with a pixel at least.
        rng: Source of chance.
        config: How bad the result may be.

    Returns:
        Bool ``(H, W)`` with a pixel at least; the mask itself where every coarse one is empty.
    """
    spoiled = mask.astype(np.float32)
    if rng.random() < config.move_share:
        spoiled = _moved(spoiled, rng, config.move)
    if rng.random() < config.blob_share:
        spoiled = _blobs(spoiled, mask, rng, 0.0)
    if rng.random() < config.blob_share:
        spoiled = _blobs(spoiled, mask, rng, 1.0)
    if rng.random() < config.cut_share:
        spoiled = _cut(spoiled, mask, rng)
    coarse = _coarse(spoiled, rng, config)
    if _iou(coarse, mask) < config.min_iou:
        coarse = _coarse(mask.astype(np.float32), rng, config)
    return coarse if _iou(coarse, mask) >= config.min_iou else mask


def _coarse(share: _Field, rng: np.random.Generator, config: DegradeConfig) -> MaskArray:
    """Bring a mask to VMOS's cells, add smooth noise, and come back."""
    height, width = share.shape
    scale = LONG_SIDE_CELLS / max(height, width)
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    cells = cv2.resize(share, (columns, rows), interpolation=cv2.INTER_AREA).reshape(rows, columns)
    step = int(rng.integers(2, 9))
    noise = rng.standard_normal((rows // step + 2, columns // step + 2)).astype(np.float32)
    smooth = cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_CUBIC)
    amplitude = rng.uniform(0, config.noise) * 0.5
    # Noise moves the outline; far from it VMOS is sure, so that there it makes nothing.
    unsure = cv2.GaussianBlur(cells, (0, 0), rng.uniform(0.5, 2.0))
    cells = unsure + amplitude * smooth * 4 * unsure * (1 - unsure)
    fine = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
    coarse: MaskArray = fine > 0.5 + rng.uniform(-config.bias, config.bias)
    return coarse


def _moved(share: _Field, rng: np.random.Generator, most: float) -> _Field:
    rows, columns = np.nonzero(share)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    scale = 1 + rng.uniform(-most, most)
    centre = float(columns.mean()), float(rows.mean())
    matrix = np.asarray(
        cv2.getRotationMatrix2D(centre, rng.uniform(-90, 90) * most, scale), np.float64
    )
    matrix[:, 2] += rng.uniform(-most, most, 2) * np.array([width, height])
    moved = cv2.warpAffine(share, matrix, (share.shape[1], share.shape[0]))
    return np.asarray(moved, np.float32)


def _blobs(share: _Field, mask: MaskArray, rng: np.random.Generator, value: float) -> _Field:
    """Paint ellipses of a value: holes inside the object, or parts beside it."""
    rows, columns = np.nonzero(mask)
    radius = float(np.sqrt(rows.size))
    painted = np.ascontiguousarray(share)
    for _ in range(int(rng.integers(1, 4))):
        number = int(rng.integers(rows.size))
        offset = rng.uniform(-0.5, 0.5, 2) * radius if value else np.zeros(2)
        centre = round(columns[number] + offset[0]), round(rows[number] + offset[1])
        axes = tuple(int(side) for side in rng.uniform(0.03, 0.2, 2) * radius + 1)
        cv2.ellipse(painted, centre, axes, float(rng.uniform(0, 180)), 0, 360, value, -1)
    return painted


def _cut(share: _Field, mask: MaskArray, rng: np.random.Generator) -> _Field:
    """Take away what lies beyond a straight line: up to 30 % of the object."""
    rows, columns = np.nonzero(mask)
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    limit = np.quantile(columns * direction[0] + rows * direction[1], rng.uniform(0.7, 1.0))
    height, width = share.shape
    y, x = np.mgrid[:height, :width]
    kept = x * direction[0] + y * direction[1] <= limit
    return np.where(kept, share, np.float32(0))


def _iou(left: MaskArray, right: MaskArray) -> float:
    union = int(np.count_nonzero(left | right))
    return float(np.count_nonzero(left & right)) / union if union else 0.0
