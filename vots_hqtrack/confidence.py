"""How sure the tracker is of a mask: from cheap signs to a calibrated probability.

Between the decoder and the report. A score is the estimated probability that a reported mask is
good, that is, overlaps with the truth with an IoU of at least one half; a mask reported where the
object is not to be seen is not good. The paper has no scores; see decision 0019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vots_hqtrack.config import ConfidenceConfig
from vots_hqtrack.errors import ShapeError
from vots_hqtrack.frame import FrameGeometry
from vots_hqtrack.masks import count_pixels
from vots_hqtrack.types import Evidence

GOOD_IOU = 0.5
"""A mask is good if its IoU with the truth is at least this."""
WEAK_MARGIN = 1.0
"""A location inside a mask is weakly held if its margin is below this."""
NEAR_MARGIN = 2.0
"""A location outside a mask is nearly the object's if its margin is above minus this."""
MARGIN_LIMIT = 10.0
LEAST_PROBABILITY = 1e-6
AREA_OFFSET = 1.0
SHRINKAGE_LIMIT = 3.0
"""Most that an area can shrink, as a logarithm: 20 times."""


@dataclass(frozen=True, slots=True)
class LogitSigns:
    """What VMOS's logits say of N masks, each ``(N,)`` float32.

    Attributes:
        mean_margin: Mean margin inside, 0 for an empty mask.
        weak_fraction: Part of the mask that is weakly held, 0 for an empty mask.
        ambiguity: Locations outside that are nearly the object's, for each location inside, as
            ``log(1 + x)``.
    """

    mean_margin: Tensor
    weak_fraction: Tensor
    ambiguity: Tensor


def read_logits(probabilities: Tensor, geometry: FrameGeometry) -> LogitSigns:
    """Read the evidence in the logits, at 1/4 of the network image.

    The margin of an object at a location is the logarithm of its probability less that of the
    strongest other class, another object or the background; it is limited to 10. Nothing waits for
    the device.

    Args:
        probabilities: ``(1 + N, H'/4, W'/4)`` float, the background first; the padding is not
            looked at.
        geometry: Of the frame's size.

    Raises:
        ShapeError: The probabilities have another size than the logits of that geometry.
    """
    if tuple(probabilities.shape[1:]) != tuple(geometry.logits_size) or probabilities.ndim != 3:
        raise ShapeError(
            f"wanted probabilities of the logits' size {geometry.logits_size}, "
            f"got {tuple(probabilities.shape)}"
        )
    height, width = geometry.content_cells
    margins = object_margins(probabilities[:, :height, :width]).flatten(1)
    inside = margins > 0
    area = inside.sum(1).clamp(min=1)
    return LogitSigns(
        mean_margin=(margins * inside).sum(1) / area,
        weak_fraction=(inside & (margins < WEAK_MARGIN)).sum(1) / area,
        ambiguity=(((margins > -NEAR_MARGIN) & ~inside).sum(1) / area).log1p(),
    )


def object_margins(probabilities: Tensor) -> Tensor:
    """Return by how much each object leads over the strongest other class.

    Args:
        probabilities: ``(1 + N, H, W)`` float, the background first.

    Returns:
        ``(N, H, W)`` float in -10..10: differences of logarithms, above 0 where the object wins.

    Example:
        >>> object_margins(torch.tensor([[[0.5]], [[0.25]], [[0.25]]])).flatten()
        tensor([-0.6931, -0.6931])
    """
    logs = probabilities.clamp(min=LEAST_PROBABILITY).log()
    if len(logs) < 2:
        return logs[1:]
    first, second = logs.topk(2, dim=0).values
    rivals = torch.where(logs[1:] == first, second, first)
    return (logs[1:] - rivals).clamp(-MARGIN_LIMIT, MARGIN_LIMIT)


def gather_evidence(
    signs: LogitSigns, coarse: Tensor, given_areas: Sequence[int]
) -> list[Evidence]:
    """Put together all that is known of N masks of one frame; the device is waited for once.

    Args:
        signs: What the logits say.
        coarse: ``(N, H, W)`` bool, VMOS's masks, frame pixels.
        given_areas: Pixels of the masks that the caller gave; 0 for an object without one.

    Raises:
        ShapeError: The masks are not bool, or their number is another one than that of the areas.
    """
    areas = count_pixels(coarse).float()
    given = torch.tensor(given_areas, dtype=areas.dtype, device=areas.device)
    if given.shape != areas.shape:
        raise ShapeError(f"wanted the given areas of {len(areas)} masks, got {len(given)}")
    shrinkage = ((given + AREA_OFFSET) / (areas + AREA_OFFSET)).log().clamp(0, SHRINKAGE_LIMIT)
    parts = signs.mean_margin, signs.weak_fraction, signs.ambiguity, shrinkage
    return [Evidence(*row) for row in torch.stack(parts, dim=1).tolist()]


def score_evidence(evidence: Evidence, config: ConfidenceConfig) -> float:
    """Turn the evidence for a mask that is not empty into a score.

    Args:
        evidence: What is known of the mask.
        config: A fitted model: a constant, and a weight for every part of the evidence.

    Returns:
        Estimated probability that the mask is good, above 0 and at most 1.

    Example:
        >>> score_evidence(Evidence(2.0, 0.3, 0.1, 0.0), ConfidenceConfig())
        0.5
    """
    total = config.constant
    for name, value in zip(Evidence._fields, evidence, strict=True):
        total += getattr(config, name) * value
    share = 1.0 / (1.0 + math.exp(-total)) if total > 0 else 1.0 - 1.0 / (1.0 + math.exp(total))
    return max(share, LEAST_PROBABILITY)
