"""A made-up video before the toolkit is greeted, so that no reply pays for what happens only once.

The first frame of a process starts threads, lays out memory and, on a GPU, compiles kernels. The
toolkit's time limit counts for replies only; it waits for the greeting as long as it takes.
"""

from __future__ import annotations

import logging
import time
from typing import TypeVar

import numpy as np

from vots_hqtrack.types import Size
from vots_hqtrack.vot.server import VideoTracker

_logger = logging.getLogger(__name__)

FRAME_SIZE = Size(720, 1280)
"""Most videos of VOTS have this shape, and the network's input depends on the shape alone."""

STEP_LIMIT_S = 5.0
"""Where one step takes longer, what happens only once no longer matters beside it."""

Tracker = TypeVar("Tracker", bound=VideoTracker)


def warm_up(tracker: Tracker, *, size: Size = FRAME_SIZE) -> Tracker:
    """Track a made-up object through two frames and forget it.

    Args:
        tracker: It holds no video, so nothing of this stays but speed.
        size: Of the frames.

    Returns:
        The same tracker.
    """
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    mask = np.zeros(size, np.bool_)
    mask[size.height // 4 : size.height // 2, size.width // 4 : size.width // 2] = True
    started = time.perf_counter()
    state = tracker.initialize(frame, {1: mask})
    if time.perf_counter() - started < STEP_LIMIT_S:
        tracker.track(frame, state)
    _logger.info("warmed up in %.1f s", time.perf_counter() - started)
    return tracker
