"""Keeping a time budget: what a tracker leaves out so that its frames take so long on average.

The resolution is chosen at the first frame. While the video runs, refinement is done when enough
time has been saved for it, and the part of the memory that is read shrinks when frames take too
long without it. Memories of different resolutions do not mix, so a change of the resolution makes
the tracker begin its memory anew; that happens only where the other two cannot help, and seldom.

Nothing here knows of networks, and the clock is given: the same times lead to the same decisions.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from vots_hqtrack.types import FramePace

_logger = logging.getLogger(__name__)

SCALES = (1.0, 0.75, 0.625, 0.5, 0.375)
"""Resolutions to choose from, as shares of the preset's own."""

HEADROOM = 0.8
"""Share of the budget that the first frame may take: later ones read more memory."""

SMOOTHING = 0.3
"""Weight of the newest frame in the running means of what frames take."""

FORGETTING = 0.99
"""What is left, frame by frame, of the time that a refinement is thought to take, so that one is
tried again in the end even if the last one was held up."""

PATIENCE = 4
"""Frames between two changes of the memory that is read, so that each shows its effect first."""

SPARE = 0.7
"""Below this share of the budget more memory is read again."""

SCALE_PATIENCE = 30
"""Frames between two changes of the resolution, each of which costs the time of about three."""

DEBT_FRAMES = 20.0
"""Budgets that a video can owe at most: a machine that stood still must not starve it for ever."""


def choose_scale(measure: Callable[[float], float], budget: float) -> float:
    """Choose the largest resolution at which a frame without refinement keeps the budget.

    Args:
        measure: Seconds of such a frame at a scale.
        budget: Seconds.

    Returns:
        One of ``SCALES``, the smallest if none keeps the budget. It was measured last.

    Example:
        >>> choose_scale(lambda scale: 0.2 * scale**2, budget=0.1)
        0.625
    """
    wanted = HEADROOM * budget
    scale, seconds = SCALES[0], measure(SCALES[0])
    for smaller in SCALES[1:]:
        if seconds <= wanted:
            return scale
        # Time goes with the area at least; what cannot be enough is not tried.
        if seconds * (smaller / scale) ** 2 > wanted and smaller != SCALES[-1]:
            continue
        scale, seconds = smaller, measure(smaller)
    return scale


class PaceKeeper:
    """Decides frame by frame what to leave out, by what the frames before took.

    Args:
        budget: Seconds a frame.
        scale: The first resolution as a share of the preset's own. The attribute of that name is
            the one that the next frame shall have.
        capacity: Long-term frames that the memory holds when it is full.
        can_refine: Whether there is a refinement to leave out.
        clock: Gives the time in seconds.
    """

    def __init__(
        self,
        budget: float,
        *,
        scale: float,
        capacity: int,
        can_refine: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.budget = budget
        self.scale = scale
        self.memory_frames = capacity
        self.is_refining = False
        self._capacity = capacity
        self._can_refine = can_refine
        self._clock = clock
        self._began = 0.0
        self._spent_refining = 0.0
        self._spent_restarting = 0.0
        self._saved = 0.0
        self._plain = 0.0
        self._refinement = 0.0
        self._mean = 0.0
        self._num_frames = 0
        self._since_change = 0
        self._since_scale = 0
        self._is_new = True
        self._has_warned = False

    def begin(self) -> None:
        """Begin a frame: decide what it leaves out."""
        self._began = self._clock()
        self._spent_refining = self._spent_restarting = 0.0
        self.is_refining = self._can_refine and self._can_afford_refinement()

    @contextlib.contextmanager
    def refinement(self) -> Iterator[None]:
        """Measure the body as the frame's refinement."""
        began = self._clock()
        yield
        self._spent_refining = self._clock() - began

    @contextlib.contextmanager
    def restart(self) -> Iterator[None]:
        """Measure the body as bringing the memory to another resolution."""
        began = self._clock()
        yield
        self._spent_restarting = self._clock() - began

    def end(self) -> FramePace:
        """End the frame, learn from it, and say how it went."""
        seconds = self._clock() - self._began
        self._learn(seconds)
        pace = FramePace(
            scale=self.scale,
            memory_frames=self.memory_frames,
            is_refinement_skipped=self._can_refine and not self.is_refining,
            mean_seconds=self._mean,
            is_in_budget=self._mean <= self.budget,
            restart_seconds=self._spent_restarting,
        )
        self._adapt()
        return pace

    def _can_afford_refinement(self) -> bool:
        if not self._num_frames:
            return False
        # The first refinement tells what one takes; it waits until plain frames keep the budget.
        return self._saved + self.budget - self._plain >= self._refinement and (
            self._plain < self.budget
        )

    def _learn(self, seconds: float) -> None:
        self._num_frames += 1
        share = 1.0 if self._is_new else SMOOTHING
        self._plain += share * (
            seconds - self._spent_refining - self._spent_restarting - self._plain
        )
        self._is_new = False
        if self.is_refining:
            self._learn_refinement(self._spent_refining)
        else:
            self._refinement *= FORGETTING
        # A mean over the whole video at first, over the newest frames later.
        self._mean += max(1 / self._num_frames, 1 / DEBT_FRAMES) * (seconds - self._mean)
        # Nothing is saved beyond one refinement: there is nothing else to spend it on.
        most = self._refinement + self.budget
        owed = -DEBT_FRAMES * self.budget
        self._saved = min(max(self._saved + self.budget - seconds, owed), most)

    def _learn_refinement(self, seconds: float) -> None:
        if not self._refinement:
            self._refinement = seconds
            return
        # A frame that was held up says little of what a refinement takes.
        seconds = min(seconds, 2 * self._refinement)
        self._refinement += SMOOTHING * (seconds - self._refinement)

    def _adapt(self) -> None:
        self._since_change += 1
        self._since_scale += 1
        if self._since_change < PATIENCE:
            return
        if self._plain > self.budget and self.memory_frames > 1:
            self._change_memory(self.memory_frames // 2)
        elif self._plain > self.budget:
            self._lower_scale()
        elif self._plain < SPARE * self.budget and self.memory_frames < self._capacity:
            self._change_memory(min(2 * self.memory_frames, self._capacity))
        else:
            self._raise_scale()

    def _lower_scale(self) -> None:
        smaller = [scale for scale in SCALES if scale < self.scale]
        if not smaller:
            self._warn()
        elif self._since_scale >= SCALE_PATIENCE:
            wanted = HEADROOM * self.budget
            fitting = [one for one in smaller if self._plain * (one / self.scale) ** 2 <= wanted]
            self._change_scale(fitting[0] if fitting else smaller[-1])

    def _raise_scale(self) -> None:
        larger = [scale for scale in SCALES if scale > self.scale]
        is_skipping = self._can_refine and not self.is_refining
        if not larger or is_skipping or self._since_scale < SCALE_PATIENCE:
            return
        # Time goes with the square of the area at most: every place may attend to every other. The
        # refiner's decoder has cells of one size.
        seconds = self._plain * (larger[-1] / self.scale) ** 4 + self._refinement
        if seconds <= HEADROOM * self.budget:
            self._change_scale(larger[-1])

    def _change_scale(self, scale: float) -> None:
        self.scale = scale
        self._since_scale = 0
        # Little is in the new memory, and all of it may be read until frames take too long again.
        self._change_memory(self._capacity)

    def _change_memory(self, frames: int) -> None:
        self.memory_frames = max(frames, 1)
        self._since_change = 0
        self._is_new = True

    def _warn(self) -> None:
        if not self._has_warned:
            _logger.warning(
                "a frame takes %.3f s at the cheapest setting, and the budget is %.3f s",
                self._plain,
                self.budget,
            )
        self._has_warned = True
