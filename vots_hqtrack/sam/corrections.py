"""Correction of a mask by a click: the smallest change that agrees with it, near the click.

Trained prompts are boxes and clicks on whole objects. With a mask and a corrective click the tiny
SAM often changes more than the click asked for, and makes the mask worse; see decision 0050.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.refiner import Click

REACH = 3.0
"""Reach of a correction, in distances from the click to where the mask is already right."""
MIN_REACH = 0.01
"""Smallest reach, as a fraction of the frame's longer side."""


def num_contradicted(clicks: Sequence[Click], mask: Tensor) -> int:
    """Count the clicks that a ``(H, W)`` bool mask contradicts."""
    return sum(bool(mask[int(click.y), int(click.x)]) != click.is_inside for click in clicks)


def correct_mask(mask: Tensor, candidates: Tensor, clicks: Sequence[Click]) -> Tensor:
    """Change a mask as little as the clicks allow.

    Of each candidate only what is near the newest click is taken; of the masks that come out, that
    which contradicts the fewest clicks, and of those the one with the smallest change.

    Args:
        mask: ``(H, W)`` bool, frame pixels, the mask so far.
        candidates: ``(K, H, W)`` bool, masks that it may become, K at least 1.
        clicks: All clicks, the newest last.

    Returns:
        ``(H, W)`` bool.
    """
    edited = mask ^ ((mask ^ candidates) & _near(mask, clicks[-1]))
    changes = (mask ^ edited).flatten(1).sum(1).tolist()
    wrong = [num_contradicted(clicks, one_mask) for one_mask in edited]
    best = min(range(len(edited)), key=lambda index: (wrong[index], changes[index]))
    return edited[best]


def _near(mask: Tensor, click: Click) -> Tensor:
    """Return ``(H, W)`` bool: pixels within reach of a click."""
    height, width = mask.shape
    values = mask.cpu().numpy()
    is_same = values if values[int(click.y), int(click.x)] else ~values
    depth = cv2.distanceTransform(is_same.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    reach = max(REACH * float(depth[int(click.y), int(click.x)]), MIN_REACH * max(height, width))
    rows = (torch.arange(height, device=mask.device) + 0.5 - click.y)[:, None]
    columns = torch.arange(width, device=mask.device) + 0.5 - click.x
    return rows.square() + columns.square() <= reach**2
