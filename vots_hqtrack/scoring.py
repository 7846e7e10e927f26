"""Scores of masks: VMOS's mean probability, or a calibrated probability.

Between the decoder and the result. A calibrated score is the estimated probability that a reported
mask is good, that is, overlaps with the truth with an IoU of at least one half; a mask that is
reported where the object is not visible is not good. The paper has no scores; see decision 0019.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vots_hqtrack.config import ConfidenceConfig
from vots_hqtrack.errors import ShapeError
from vots_hqtrack.frame import FrameGeometry
from vots_hqtrack.masks import count_pixels
from vots_hqtrack.types import ConfidenceFeatures

GOOD_IOU = 0.5
"""A mask is good if its IoU with the truth is at least this."""
WEAK_MARGIN = 1.0
"""Locations inside a mask with a smaller margin are weak."""
NEAR_MARGIN = 2.0
"""Locations outside a mask with a margin above minus this are ambiguous."""
MARGIN_LIMIT = 10.0
MIN_PROBABILITY = 1e-6
AREA_OFFSET = 1.0
SHRINKAGE_LIMIT = 3.0
"""Maximum shrinkage of an area, as a logarithm: 20 times."""


def mean_probabilities(probability: Tensor, masks: Tensor) -> Tensor:
    """Mean probability inside each mask.

    Args:
        probability: ``(H, W)`` float, of the most probable class.
        masks: ``(N, H, W)`` bool, where that class is the object.

    Returns:
        ``(N,)`` float32; 0 for an empty mask.
    """
    # In float32, since float16 ends at 65,504: less than the pixels of a large mask.
    probability = probability.float()
    inside = probability.new_zeros(len(masks))
    for row, mask in enumerate(masks):
        inside[row] = (probability * mask).sum()
    return inside / count_pixels(masks).clamp(min=1)


def object_margins(probabilities: Tensor) -> Tensor:
    """Log-probability of each object minus that of the strongest other class.

    Args:
        probabilities: ``(1 + N, H, W)`` float, the background first.

    Returns:
        ``(N, H, W)`` float in -10..10, above 0 where the object wins.

    Example:
        >>> object_margins(torch.tensor([[[0.5]], [[0.25]], [[0.25]]])).flatten()
        tensor([-0.6931, -0.6931])
    """
    logs = probabilities.clamp(min=MIN_PROBABILITY).log()
    if len(logs) < 2:
        return logs[1:]
    first, second = logs.topk(2, dim=0).values
    rivals = torch.where(logs[1:] == first, second, first)
    return (logs[1:] - rivals).clamp(-MARGIN_LIMIT, MARGIN_LIMIT)


def confidence_features(
    probabilities: Tensor, areas: Tensor, given_areas: Tensor, geometry: FrameGeometry
) -> Tensor:
    """Compute the features of calibrated scores, on the device.

    Args:
        probabilities: ``(1 + N, H'/4, W'/4)`` float at 1/4 of the network image, the background
            first; the padding is ignored.
        areas: ``(N,)``, frame pixels of the initial masks.
        given_areas: ``(N,)``, pixels of the masks that the caller gave; 0 for an object without.
        geometry: Layout of the frame.

    Returns:
        ``(N, 4)`` float32, the fields of ``ConfidenceFeatures``.

    Raises:
        ShapeError: The probabilities have another size than the logits of that geometry, or the
            numbers of areas differ.
    """
    if tuple(probabilities.shape[1:]) != tuple(geometry.logits_size) or probabilities.ndim != 3:
        raise ShapeError(
            f"wanted probabilities of the logits' size {geometry.logits_size}, "
            f"got {tuple(probabilities.shape)}"
        )
    if given_areas.shape != areas.shape:
        raise ShapeError(f"wanted the given areas of {len(areas)} masks, got {len(given_areas)}")
    height, width = geometry.content_size
    margins = object_margins(probabilities[:, :height, :width]).flatten(1)
    inside = margins > 0
    size = inside.sum(1).clamp(min=1)
    shrinkage = ((given_areas.float() + AREA_OFFSET) / (areas.float() + AREA_OFFSET)).log()
    columns = (
        (margins * inside).sum(1) / size,
        (inside & (margins < WEAK_MARGIN)).sum(1) / size,
        (((margins > -NEAR_MARGIN) & ~inside).sum(1) / size).log1p(),
        shrinkage.clamp(0, SHRINKAGE_LIMIT),
    )
    return torch.stack(columns, dim=1)


def calibrated_score(features: ConfidenceFeatures, config: ConfidenceConfig) -> float:
    """Estimate the probability that a mask is good, by a logistic model.

    Args:
        features: Features of a mask that is not empty.
        config: A fitted model: a constant, and a weight for every feature.

    Returns:
        A number above 0 and at most 1.

    Example:
        >>> calibrated_score(ConfidenceFeatures(2.0, 0.3, 0.1, 0.0), ConfidenceConfig())
        0.5
    """
    total = config.constant
    for name, value in zip(ConfidenceFeatures._fields, features, strict=True):
        total += getattr(config, name) * value
    score = 1.0 / (1.0 + math.exp(-total)) if total > 0 else 1.0 - 1.0 / (1.0 + math.exp(total))
    return max(score, MIN_PROBABILITY)
