"""Connected components of masks by tensor operations: nothing waits for the device.

The host has OpenCV for it, which is faster there; these are for other devices and compiled graphs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

ROUNDS = 10
"""Rounds of joining. Each at least halves the number of parts that are still apart in one
component; random masks, combs and spirals of 257 x 257 need 7 at most (tests)."""


def label_components(masks: Tensor, *, diagonal: bool) -> Tensor:
    """Give the pixels of each connected component one number.

    Every pixel begins with the first pixel of its run in the row. In a round each number learns the
    least one among its pixels' neighbours, and takes over what that one has learnt.

    Args:
        masks: ``(N, H, W)`` bool, of fewer than 2^24 pixels each.
        diagonal: Diagonal neighbours are connected.

    Returns:
        ``(N, H W)`` int64, index of the component's first pixel in reading order; ``H W`` outside
        the mask.
    """
    count, height, width = masks.shape
    outside = height * width
    index = torch.arange(outside, device=masks.device).view(height, width)
    starts = masks & ~F.pad(masks, (1, 0))[..., :-1]
    label = torch.where(starts, index, 0).cummax(2).values
    label = torch.where(masks, label, outside).flatten(1)
    inside = masks.flatten(1)
    # What a number has learnt; the last one stands for the outside.
    known = torch.arange(outside + 1, device=masks.device).expand(count, -1)
    reach = (3, 3) if diagonal else (3, 1)
    padding = (1, 1) if diagonal else (1, 0)
    for _ in range(ROUNDS):
        least = -F.max_pool2d(-label.view(masks.shape).float()[:, None], reach, 1, padding)
        found = torch.where(inside, least.flatten(1).long(), outside)
        known = known.scatter_reduce(1, label, found, "amin")
        known = known.gather(1, known)
        known = known.gather(1, known)
        label = known.gather(1, label)
    return label


def sum_components(labels: Tensor, masks: Tensor) -> Tensor:
    """Count the pixels of masks in each component.

    Args:
        labels: ``(N, H W)``, from :func:`label_components`.
        masks: ``(N, H, W)`` bool.

    Returns:
        ``(N, H W)`` int64: for every pixel the number in its own component.
    """
    counts = labels.new_zeros(len(labels), labels.shape[1] + 1)
    return counts.scatter_add(1, labels, masks.flatten(1).long()).gather(1, labels)
