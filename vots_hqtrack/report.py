"""From what was found in a frame to what is reported: whose masks, how sure, and from where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vots_hqtrack.confidence import LogitSigns, gather_evidence, score_evidence
from vots_hqtrack.config import ConfidenceConfig
from vots_hqtrack.masks import count_pixels, has_pixels
from vots_hqtrack.memory.state import TrackState
from vots_hqtrack.types import (
    Evidence,
    FrameResult,
    MaskArray,
    ObjectId,
    PropagationOutput,
    Source,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What VMOS makes of a frame before anything is remembered.

    Attributes:
        outputs: Of each group.
        own: ``(H, W)`` uint8 slots of each group by its own logits alone.
        refused: For each group ``(H', W')`` bool at 1/4 of the network image, where an object was
            found outside its search window; none without search windows.
        coarse: ``(N, H, W)`` bool, the objects' masks in the order of their places.
        mean_probabilities: ``(N,)`` float in ``[0, 1]``, inside each mask.
        signs: What the logits say of the masks.
    """

    outputs: list[PropagationOutput]
    own: list[Tensor]
    refused: list[Tensor]
    coarse: Tensor
    mean_probabilities: Tensor
    signs: LogitSigns


@dataclass(frozen=True, slots=True)
class Decision:
    """The masks to report.

    Attributes:
        masks: ``(N, H, W)`` bool without overlaps.
        is_refined: For each object, whether the mask is the refiner's.
    """

    masks: Tensor
    is_refined: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How sure the tracker is of the masks, in their order.

    Attributes:
        evidence: What is known of each.
        scores: In ``[0, 1]``; 0 for an empty mask.
    """

    evidence: Sequence[Evidence]
    scores: Sequence[float]


def coarse_masks(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Give every pixel to its likeliest class.

    Args:
        probabilities: ``(1 + N, H, W)`` float, the background first.

    Returns:
        ``(N, H, W)`` bool masks, and ``(N,)`` float32 mean probabilities inside them; 0 for an
        empty one.
    """
    places, best = _likeliest(probabilities)
    shape = len(probabilities) - 1, *places.shape
    coarse = probabilities.new_empty(shape, dtype=torch.bool)
    best = best.flatten().float()
    inside = best.new_empty(shape[0])
    # Autocast would sum in 16 bits, and float16 ends at 65,504: fewer than a large mask's pixels.
    with torch.autocast(best.device.type, enabled=False):
        for row, mask in enumerate(coarse):
            torch.eq(places, row + 1, out=mask)
            inside[row] = best @ mask.flatten().to(best.dtype)
    return coarse, inside / count_pixels(coarse).clamp(min=1)


def _likeliest(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first of the largest of at most 256 classes, uint8, and its share: ``(H, W)``."""
    # PyTorch's argmax over the first dimension takes twenty times as long on the CPU.
    best = probabilities[0].clone()
    places = torch.zeros_like(best, dtype=torch.uint8)
    for number, share in enumerate(probabilities[1:], start=1):
        # Numbers grow, so the largest is the newest; PyTorch fills by a mask fifty times as slowly.
        torch.maximum(places, (share > best).view(torch.uint8).mul_(number), out=places)
        torch.maximum(best, share, out=best)
    return places, best


def judge(
    reading: Reading, decision: Decision, state: TrackState, config: ConfidenceConfig
) -> Judgement:
    """Say how sure the tracker is of every mask.

    Args:
        reading: What VMOS made of the frame.
        decision: The masks.
        state: The video.
        config: How scores are made.
    """
    given = [state.given_areas[one] for one in state.slots.object_ids]
    evidence = gather_evidence(reading.signs, reading.coarse, given)
    if config.kind == "calibrated":
        scores = [score_evidence(one, config) for one in evidence]
    else:
        scores = reading.mean_probabilities.tolist()
    is_seen = has_pixels(decision.masks).tolist()
    return Judgement(
        evidence, [s if seen else 0.0 for s, seen in zip(scores, is_seen, strict=True)]
    )


def report(
    reading: Reading,
    decision: Decision,
    judgement: Judgement,
    state: TrackState,
    *,
    absence_score: float,
) -> FrameResult:
    """Put the result of a frame together.

    Args:
        reading: What VMOS made of the frame.
        decision: The masks.
        judgement: How sure the tracker is of them.
        state: The video.
        absence_score: An object with a lower score is reported as not seen.
    """
    order = state.slots.object_ids
    found: npt.NDArray[np.bool_] = decision.masks.cpu().numpy()
    coarse: npt.NDArray[np.bool_] = reading.coarse.cpu().numpy()
    masks: dict[ObjectId, MaskArray] = {}
    sources: dict[ObjectId, Source] = {}
    scores: dict[ObjectId, float] = {}
    for index, (object_id, score) in enumerate(zip(order, judgement.scores, strict=True)):
        # An empty mask has the score 0 and no other has.
        present = score > 0 and score >= absence_score
        source: Source = "refined" if decision.is_refined[index] else "coarse"
        masks[object_id] = found[index] if present else np.zeros_like(found[index])
        sources[object_id] = source if present else "absent"
        scores[object_id] = score if present else 0.0
    return FrameResult(
        frame_index=state.frame_index,
        masks=masks,
        scores=scores,
        sources=sources,
        coarse_masks=dict(zip(order, coarse, strict=True)),
        evidence=dict(zip(order, judgement.evidence, strict=True)),
    )
