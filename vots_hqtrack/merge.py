"""From the logits of several groups to probabilities over all objects of a video."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vots_hqtrack.errors import ShapeError

PROBABILITY_MARGIN = 1e-5
"""How near 0 and 1 probabilities may come before groups are merged, as in the released model."""


def merge_groups(logits: Sequence[Tensor]) -> Tensor:
    """Join the logits of groups that were tracked together to probabilities over all objects.

    A pixel is background if it is background to every group; the released model does the same for
    more than ten objects.

    Args:
        logits: For each group ``(1 + n, H, W)`` float, channel 0 the background.

    Returns:
        ``(1 + N, H, W)`` float, the background and then all objects in the order of the groups;
        sums to 1.

    Raises:
        ShapeError: There is no group.
    """
    if not logits:
        raise ShapeError("wanted the logits of at least one group, got none")
    shares = [one.softmax(0) for one in logits]
    if len(shares) == 1:
        return shares[0]
    background = torch.stack([share[0] for share in shares]).prod(0, keepdim=True)
    joined = torch.cat([background, *(share[1:] for share in shares)])
    return torch.logit(joined.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)).softmax(0)


def merge_separate(logits: Sequence[Tensor]) -> Tensor:
    """Join the logits of objects that were tracked alone to probabilities over all of them.

    Every object keeps its own tracker's probability, and the background gets what the surest object
    leaves. So a pixel goes to the object that is surest of it, if that one holds it for more likely
    its own than not: each mask is what the object's own tracker says, less the pixels that another
    is surer of.

    Args:
        logits: For each object ``(2, H, W)`` float, the background and the object.

    Returns:
        ``(1 + N, H, W)`` float; sums to 1.

    Raises:
        ShapeError: There is no object.

    Example:
        >>> sure, unsure = torch.tensor([[[0.0]], [[3.0]]]), torch.tensor([[[0.0]], [[1.0]]])
        >>> merge_separate([unsure, sure]).argmax(0)
        tensor([[2]])
    """
    if not logits:
        raise ShapeError("wanted the logits of at least one object, got none")
    foreground = torch.cat([one.softmax(0)[1:] for one in logits])
    joined = torch.cat([1 - foreground.amax(0, keepdim=True), foreground])
    return joined / joined.sum(0, keepdim=True)
