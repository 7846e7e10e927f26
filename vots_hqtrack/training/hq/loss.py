"""Loss of the HQ head: cross-entropy and dice on the points where a mask is least sure.

The points are drawn as PointRend and HQ-SAM do: of a random lot those with logits next to zero, and
some more wherever they fall.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.errors import ShapeError

OVERSAMPLE = 3
UNSURE_SHARE = 0.75
SMOOTH = 1.0


def draw_points(logits: Tensor, counted: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Draw the points that a mask's loss is computed on, three quarters of them unsure ones.

    Args:
        logits: ``(B, P)`` float; no gradient goes through the choice.
        counted: ``(B, P)`` bool; other points are taken only if there are too few of these.
        num: Points to draw, at most P.
        generator: Source of chance.

    Returns:
        ``(B, num)`` int64 places in ``0..P-1``.

    Raises:
        ShapeError: ``num`` is not in 1..P.
    """
    batch, places = logits.shape
    if not 1 <= num <= places:
        raise ShapeError(f"wanted 1 to {places} points, got {num}")
    lot = torch.rand(batch, places, generator=generator)
    # What does not count comes last in the lot, and is surest.
    lot = torch.where(counted, lot, lot + 1.0)
    size = min(OVERSAMPLE * num, places)
    candidates = lot.topk(size, dim=1, largest=False).indices
    sureness = torch.where(counted, logits.detach().abs().float(), torch.inf)
    num_unsure = int(num * UNSURE_SHARE)
    order = sureness.gather(1, candidates).argsort(dim=1, stable=True)
    unsure = candidates.gather(1, order[:, :num_unsure])
    return torch.cat([unsure, candidates[:, : num - num_unsure]], dim=1)


def point_loss(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Cross-entropy plus dice on some points of each mask.

    Args:
        logits: ``(B, P)`` float.
        target: ``(B, P)`` float in ``[0, 1]``: the object's share of the point's pixel.
        counted: ``(B, P)`` bool; other points are left out.

    Returns:
        ``()`` mean over the masks.

    Example:
        >>> one = torch.ones(1, 2)
        >>> point_loss(20 * one, one, one.bool()).item() < 1e-3
        True
    """
    weight = counted.to(torch.float32)
    total = weight.sum(1).clamp(min=1)
    wide = logits.float()
    entropy = F.binary_cross_entropy_with_logits(wide, target, weight, reduction="none")
    prob, truth = wide.sigmoid() * weight, target * weight
    overlap = 2 * (prob * truth).sum(1) + SMOOTH
    dice = 1 - overlap / (prob.sum(1) + truth.sum(1) + SMOOTH)
    return (entropy.sum(1) / total + dice).mean()
