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
from vots_hqtrack.masks import check_mask_stack, count_pixels
from vots_hqtrack.types import Evidence

GOOD_IOU = 0.5
"""A mask is good if its IoU with the truth is at least this."""
LOW_QUANTILE = 0.1
NEAR_MARGIN = 2.0
"""A cell outside a mask is nearly the object's if its margin is above minus this."""
MARGIN_LIMIT = 10.0
LEAST_PROBABILITY = 1e-6
AREA_OFFSET = 1.0
CHANGE_LIMIT = 3.0
"""Most that an area can change, as a logarithm: 20 times."""


@dataclass(frozen=True, slots=True)
class LogitSigns:
    """What VMOS's logits say of N masks, each ``(N,)`` float32.

    Attributes:
        mean_margin: Mean margin inside, 0 for an empty mask.
        low_margin: Tenth-smallest percentile of the margin inside, 0 for an empty mask.
        peak_margin: Largest margin anywhere; below 0 for an empty mask.
        spill: Cells that are nearly the object's, to each cell inside, as ``log(1 + x)``.
    """

    mean_margin: Tensor
    low_margin: Tensor
    peak_margin: Tensor
    spill: Tensor


def read_logits(probabilities: Tensor, geometry: FrameGeometry) -> LogitSigns:
    """Read the signs of confidence in the cells at 1/4 of the network image.

    The margin of an object in a cell is the logarithm of its probability less that of the strongest
    other, the background included; it is limited to 10.

    Args:
        probabilities: ``(1 + N, H'/4, W'/4)`` float, the background first; cells of the padding are
            not looked at.
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
    margins = object_margins(probabilities[:, :height, :width])
    if not len(margins):
        nothing = margins.new_zeros(0)
        return LogitSigns(nothing, nothing, nothing, nothing)
    inside = margins > 0
    area = inside.flatten(1).sum(1)
    some = area.clamp(min=1)
    near = ((margins > -NEAR_MARGIN) & ~inside).flatten(1).sum(1)
    lows = [_low_quantile(one[held]) for one, held in zip(margins, inside, strict=True)]
    return LogitSigns(
        mean_margin=(margins * inside).flatten(1).sum(1) / some,
        low_margin=torch.stack(lows),
        peak_margin=margins.flatten(1).amax(1),
        spill=torch.log1p(near / some),
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
    signs: LogitSigns,
    coarse: Tensor,
    masks: Tensor,
    areas_before: Sequence[int],
    predicted_iou: Sequence[float],
) -> list[Evidence]:
    """Put together all that is known of N masks of one frame.

    Args:
        signs: What the logits say.
        coarse: ``(N, H, W)`` bool, VMOS's masks, frame pixels.
        masks: ``(N, H, W)`` bool, the masks to report.
        areas_before: Pixels of VMOS's masks in the frame before.
        predicted_iou: The refiner's own opinions in ``[0, 1]``; 0 where there is none.

    Raises:
        ShapeError: The masks differ in shape, or are not bool.
    """
    for stack in (coarse, masks):
        check_mask_stack(stack)
    if coarse.shape != masks.shape:
        raise ShapeError(
            f"VMOS's masks must have the shape {tuple(masks.shape)} of the masks to report, "
            f"got {tuple(coarse.shape)}"
        )
    areas: list[int] = count_pixels(coarse).tolist()
    is_changed = coarse is not masks
    common = count_pixels(coarse & masks).tolist() if is_changed else areas
    reported = count_pixels(masks).tolist() if is_changed else areas
    num_pixels = masks.shape[1] * masks.shape[2]
    found = []
    for index, (area, before) in enumerate(zip(areas, areas_before, strict=True)):
        union = area + reported[index] - common[index]
        change = abs(math.log((area + AREA_OFFSET) / (before + AREA_OFFSET)))
        found.append(
            Evidence(
                mean_margin=float(signs.mean_margin[index]),
                low_margin=float(signs.low_margin[index]),
                peak_margin=float(signs.peak_margin[index]),
                spill=float(signs.spill[index]),
                change=min(change, CHANGE_LIMIT),
                size=math.log10((area + AREA_OFFSET) / num_pixels),
                agreement=common[index] / union if union else 1.0,
                predicted_iou=float(predicted_iou[index]),
            )
        )
    return found


def score_evidence(evidence: Evidence, config: ConfidenceConfig) -> float:
    """Turn the evidence for a mask that is not empty into a score.

    Args:
        evidence: What is known of the mask.
        config: A fitted model: a constant, and a weight for every part of the evidence.

    Returns:
        Estimated probability that the mask is good, above 0 and at most 1.

    Example:
        >>> score_evidence(Evidence(2.0, 0.5, 4.0, 0.3, 0.0, -1.0, 0.9, 0.9), ConfidenceConfig())
        0.5
    """
    total = config.constant
    for name, value in zip(Evidence._fields, evidence, strict=True):
        total += getattr(config, name) * value
    share = 1.0 / (1.0 + math.exp(-total)) if total > 0 else 1.0 - 1.0 / (1.0 + math.exp(total))
    return max(share, LEAST_PROBABILITY)


def _low_quantile(values: Tensor) -> Tensor:
    """Return the lowest tenth's upper end of ``(n,)`` float values; 0 if there is none."""
    if not len(values):
        return values.new_zeros(())
    return values.kthvalue(1 + int(LOW_QUANTILE * (len(values) - 1))).values
