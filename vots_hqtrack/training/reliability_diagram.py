"""Reliability diagrams of scores."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vots_hqtrack.training.calibrate import BINS, Reliability
from vots_hqtrack.types import FrameArray

SIDE, MARGIN, GAP = 300, 46, 30
TITLE_HEIGHT = 34
WHITE, INK, GRID = 255, (40, 40, 40), (205, 205, 205)
BAR, LINE = (94, 142, 196), (190, 80, 60)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_reliability(panels: Sequence[tuple[str, Reliability]]) -> FrameArray:
    """Draw one diagram for each set of scores, side by side.

    A bar is the fraction of good masks in a bin of scores; its dot is their mean score, so that a
    bar of a calibrated score ends at its dot on the diagonal. The number of masks is above.

    Args:
        panels: Titles and measurements.

    Returns:
        uint8 ``(H, W, 3)`` RGB.
    """
    width = len(panels) * (SIDE + MARGIN + GAP)
    image = np.full((SIDE + MARGIN + TITLE_HEIGHT, width, 3), WHITE, np.uint8)
    for index, (title, reliability) in enumerate(panels):
        left = MARGIN + index * (SIDE + MARGIN + GAP)
        _draw_panel(image, (left, TITLE_HEIGHT), title, reliability)
    return image


def _draw_panel(
    image: FrameArray, corner: tuple[int, int], title: str, reliability: Reliability
) -> None:
    left, top = corner
    bottom, right = top + SIDE, left + SIDE
    _write(image, title, (left, top - 14), 0.45)
    for tick in range(0, BINS + 1, 2):
        offset = tick * SIDE // BINS
        cv2.line(image, (left, bottom - offset), (right, bottom - offset), GRID, 1)
        _write(image, f"{tick / BINS:.1f}", (left - 30, bottom - offset + 4), 0.38)
        _write(image, f"{tick / BINS:.1f}", (left + offset - 10, bottom + 16), 0.38)
    for index in range(BINS):
        if reliability.counts[index]:
            _draw_bar(image, (left, bottom), index, reliability)
    cv2.rectangle(image, (left, top), (right, bottom), INK, 1)
    cv2.line(image, (left, bottom), (right, top), INK, 1, cv2.LINE_AA)
    _write(image, "score; bars: fraction of good masks", (left + 30, bottom + 36), 0.4)


def _draw_bar(
    image: FrameArray, origin: tuple[int, int], index: int, reliability: Reliability
) -> None:
    left, bottom = origin
    step = SIDE // BINS
    start = left + index * step
    height = round(float(reliability.fraction_good[index]) * SIDE)
    cv2.rectangle(image, (start + 2, bottom - height), (start + step - 2, bottom), BAR, -1)
    mean = float(reliability.mean_score[index])
    dot = left + round(mean * SIDE), bottom - round(mean * SIDE)
    cv2.circle(image, dot, 4, LINE, -1, cv2.LINE_AA)
    label = max(bottom - height - 5, bottom - SIDE + 12)
    _write(image, str(int(reliability.counts[index])), (start + 3, label), 0.35)


def _write(image: FrameArray, text: str, index: tuple[int, int], scale: float) -> None:
    cv2.putText(image, text, index, _FONT, scale, INK, 1, cv2.LINE_AA)
