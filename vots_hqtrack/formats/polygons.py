"""Outlines of masks along the edges of their pixels, parts and holes in one polygon."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from vots_hqtrack.types import MaskArray

Corner = tuple[int, int]
"""``(x, y)`` of a pixel's corner; ``(0, 0)`` is the outer corner of the first pixel."""


def mask_polygon(mask: MaskArray) -> list[Corner]:
    """Outline a mask by one polygon, which gives the same mask back by the even-odd rule.

    Parts and holes are joined by lines that the outline takes in both directions, along rows and
    columns, so that they enclose nothing.

    Args:
        mask: Bool ``(H, W)``.

    Returns:
        Corners in order; empty for an empty mask.

    Example:
        >>> mask_polygon(np.array([[False, True, True]]))
        [(1, 0), (3, 0), (3, 1), (1, 1)]
    """
    loops = _loops(mask)
    if not loops:
        return []
    polygon = list(loops[0])
    if len(loops) > 1:
        home = loops[0][0]
        polygon.append(home)
        for loop in loops[1:]:
            start = loop[0]
            bend = (start[0], home[1])
            polygon += [bend, *loop, start, bend, home]
    return polygon


def _loops(mask: MaskArray) -> list[list[Corner]]:
    """Trace the borders of a mask, each closed; corners in the middle of a line are left out."""
    padded = np.pad(mask, 1).astype(np.int8)
    follow: defaultdict[Corner, list[Corner]] = defaultdict(list)
    across = np.diff(padded, axis=0)[:, 1:-1]  # between rows: 1 enters the mask, -1 leaves it
    along = np.diff(padded, axis=1)[1:-1]
    for y, x in np.argwhere(across == 1).tolist():
        follow[x, y].append((x + 1, y))
    for y, x in np.argwhere(across == -1).tolist():
        follow[x + 1, y].append((x, y))
    for y, x in np.argwhere(along == 1).tolist():
        follow[x, y + 1].append((x, y))
    for y, x in np.argwhere(along == -1).tolist():
        follow[x, y].append((x, y + 1))
    loops = []
    for start in list(follow):
        while follow[start]:
            loop, corner = [start], follow[start].pop()
            while corner != start:
                loop.append(corner)
                corner = follow[corner].pop()
            loops.append(_without_middles(loop))
    return loops


def _without_middles(loop: list[Corner]) -> list[Corner]:
    kept = []
    for position, (x, y) in enumerate(loop):
        before, after = loop[position - 1], loop[(position + 1) % len(loop)]
        if not (before[0] == x == after[0] or before[1] == y == after[1]):
            kept.append((x, y))
    return kept
