"""Correction of a mask by a click: the smallest change that agrees with it, near the click.

Trained prompts are boxes and clicks on whole objects. With a mask and a corrective click the tiny
SAM often changes more than the click asked for, and makes the mask worse; see decisions 0050 and
0092.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.refiner import Click
from vots_hqtrack.sam.geometry import Window

REACH = 3.0
"""Reach of a correction, in distances from the click to where the mask is already right."""
MIN_REACH = 0.01
"""Smallest reach, as a fraction of the frame's longer side."""

MAX_SURE_CHANGE = 0.3
"""Largest change that is taken of SAM's single mask without another candidate, as a fraction of the
mask."""


class Vicinity(NamedTuple):
    """The part of a frame that a click corrects.

    Attributes:
        window: Rows and columns of the frame around it.
        is_near: Bool of the window's size: pixels within reach of the click.
    """

    window: Window
    is_near: Tensor


def num_contradicted(clicks: Sequence[Click], mask: Tensor) -> int:
    """Count the clicks that a ``(H, W)`` bool mask contradicts."""
    return sum(bool(mask[int(click.y), int(click.x)]) != click.is_inside for click in clicks)


def first_agreeing(masks: Iterable[Tensor], clicks: Sequence[Click]) -> Tensor:
    """Return the first mask that contradicts no click, else the first of the fewest.

    Args:
        masks: ``(H, W)`` bool, one at least; read up to the one that is returned.
        clicks: The clicks.
    """
    found: list[tuple[int, Tensor]] = []
    for mask in masks:
        found.append((num_contradicted(clicks, mask), mask))
        if found[-1][0] == 0:
            return mask
    return min(found, key=lambda counted: counted[0])[1]


def correct_mask(
    mask: Tensor, candidates: Tensor, clicks: Sequence[Click], vicinity: Vicinity
) -> Tensor:
    """Change a mask as little as the clicks allow.

    Of each candidate only what is near the newest click is taken; of the masks that come out, that
    which contradicts the fewest clicks, and of those the one with the smallest change.

    Args:
        mask: ``(H, W)`` bool, frame pixels, the mask so far.
        candidates: ``(K, H, W)`` bool, masks that it may become, K at least 1; only the pixels
            near the newest click are read.
        clicks: All clicks, the newest last.
        vicinity: The part of the frame that the newest click corrects.

    Returns:
        ``(H, W)`` bool.
    """
    rows, columns = vicinity.window
    changed = (mask[rows, columns] ^ candidates[:, rows, columns]) & vicinity.is_near
    edited = mask.repeat(len(candidates), 1, 1)
    edited[:, rows, columns] ^= changed
    sizes = changed.flatten(1).sum(1).tolist()
    wrong = [num_contradicted(clicks, candidate) for candidate in edited]
    best = min(range(len(edited)), key=lambda index: (wrong[index], sizes[index]))
    return edited[best]


def is_sure_correction(mask: Tensor, single: Tensor, clicks: Sequence[Click]) -> bool:
    """Whether the correction by SAM's single mask for clear prompts needs no other candidate.

    Args:
        mask: ``(H, W)`` bool, the mask so far.
        single: ``(H, W)`` bool, that mask corrected by SAM's single one.
        clicks: All clicks.
    """
    change = int((mask ^ single).sum())
    return change <= MAX_SURE_CHANGE * int(mask.sum()) and not num_contradicted(clicks, single)


def vicinity_of(mask: Tensor, click: Click) -> Vicinity:
    """Return what a click corrects of a ``(H, W)`` bool mask."""
    height, width = mask.shape
    values = mask.cpu().numpy()
    is_same = values if values[int(click.y), int(click.x)] else ~values
    depth = cv2.distanceTransform(is_same.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    reach = max(REACH * float(depth[int(click.y), int(click.x)]), MIN_REACH * max(height, width))
    rows, columns = (
        slice(max(math.floor(at - reach), 0), min(math.ceil(at + reach) + 1, side))
        for at, side in ((click.y, height), (click.x, width))
    )
    down, along = (
        torch.arange(part.start, part.stop, device=mask.device) + 0.5 - at
        for part, at in ((rows, click.y), (columns, click.x))
    )
    return Vicinity((rows, columns), down[:, None].square() + along.square() <= reach**2)
