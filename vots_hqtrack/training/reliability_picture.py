"""Draws how scores compare with what came true: a reliability diagram."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vots_hqtrack.training.calibrate import BINS, Reliability
from vots_hqtrack.types import FrameArray

SIDE, MARGIN, GAP = 300, 46, 30
TITLE_HEIGHT = 34
PAPER, INK, GRID = 255, (40, 40, 40), (205, 205, 205)
BAR, LINE = (94, 142, 196), (190, 80, 60)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_reliability(panels: Sequence[tuple[str, Reliability]]) -> FrameArray:
    """Draw one diagram for each set of scores, side by side.

    A bar is the share of good masks among those of a bin of scores, as wide as the bin; its dot is
    their mean score, so that a bar of a calibrated score ends at its dot on the diagonal. The
    number of masks stands above.

    Args:
        panels: Titles and measurements.

    Returns:
        uint8 ``(H, W, 3)`` RGB.
    """
    width = len(panels) * (SIDE + MARGIN + GAP)
    canvas = np.full((SIDE + MARGIN + TITLE_HEIGHT, width, 3), PAPER, np.uint8)
    for index, (title, reliability) in enumerate(panels):
        left = MARGIN + index * (SIDE + MARGIN + GAP)
        _draw_panel(canvas, (left, TITLE_HEIGHT), title, reliability)
    return canvas


def _draw_panel(
    canvas: FrameArray, corner: tuple[int, int], title: str, reliability: Reliability
) -> None:
    left, top = corner
    bottom, right = top + SIDE, left + SIDE
    _write(canvas, title, (left, top - 14), 0.45)
    for tick in range(0, BINS + 1, 2):
        offset = tick * SIDE // BINS
        cv2.line(canvas, (left, bottom - offset), (right, bottom - offset), GRID, 1)
        _write(canvas, f"{tick / BINS:.1f}", (left - 30, bottom - offset + 4), 0.38)
        _write(canvas, f"{tick / BINS:.1f}", (left + offset - 10, bottom + 16), 0.38)
    for place in range(BINS):
        if reliability.counts[place]:
            _draw_bar(canvas, (left, bottom), place, reliability)
    cv2.rectangle(canvas, (left, top), (right, bottom), INK, 1)
    cv2.line(canvas, (left, bottom), (right, top), INK, 1, cv2.LINE_AA)
    _write(canvas, "score; bars: share of good masks", (left + 30, bottom + 36), 0.4)


def _draw_bar(
    canvas: FrameArray, origin: tuple[int, int], place: int, reliability: Reliability
) -> None:
    left, bottom = origin
    step = SIDE // BINS
    start = left + place * step
    height = round(float(reliability.share_good[place]) * SIDE)
    cv2.rectangle(canvas, (start + 2, bottom - height), (start + step - 2, bottom), BAR, -1)
    mean = float(reliability.mean_score[place])
    dot = left + round(mean * SIDE), bottom - round(mean * SIDE)
    cv2.circle(canvas, dot, 4, LINE, -1, cv2.LINE_AA)
    label = max(bottom - height - 5, bottom - SIDE + 12)
    _write(canvas, str(int(reliability.counts[place])), (start + 3, label), 0.35)


def _write(canvas: FrameArray, text: str, place: tuple[int, int], scale: float) -> None:
    cv2.putText(canvas, text, place, _FONT, scale, INK, 1, cv2.LINE_AA)
