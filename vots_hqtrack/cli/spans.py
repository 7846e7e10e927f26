"""Frames that ``hqtrack track`` tracks: where it begins and ends, and in which directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from vots_hqtrack.errors import InputError

Direction = Literal["forward", "reverse", "both"]


@dataclass(frozen=True, slots=True)
class Span:
    """Options of the frames to track.

    Attributes:
        start: Frame to begin with, from 0; None takes one with prompts.
        stop: Last frame to track; None goes to the end of the video, or to its first frame.
        limit: Number of frames in each direction, at most.
        direction: Order in which they are tracked.
    """

    start: int | None = None
    stop: int | None = None
    limit: int | None = None
    direction: Direction = "forward"


class Pass(NamedTuple):
    """Frames from the first to the last one that is tracked; backward if that is the lower one."""

    first: int
    last: int

    @property
    def is_reverse(self) -> bool:
        """Whether it goes backward."""
        return self.last < self.first

    @property
    def length(self) -> int:
        """Number of frames."""
        return abs(self.last - self.first) + 1

    @property
    def frames(self) -> range:
        """The frames, ascending."""
        return range(min(self.first, self.last), max(self.first, self.last) + 1)


def plan_passes(span: Span, given: Sequence[int], num_frames: int) -> list[Pass]:
    """Plan the passes over a video.

    Args:
        span: The options.
        given: Frames with prompts, ascending; empty where the prompts are for the first frame that
            is tracked.
        num_frames: Length of the video.

    Returns:
        One pass, or one forward and one backward.

    Raises:
        InputError: The video has no such frame, or the last frame is not in the direction.

    Example:
        >>> plan_passes(Span(start=5, direction="both"), [], 9)
        [Pass(first=5, last=8), Pass(first=5, last=0)]
    """
    end = num_frames - 1
    wanted = [("--start", span.start), ("--stop", span.stop), *(("a prompt for", i) for i in given)]
    for name, frame in wanted:
        if frame is not None and frame > end:
            raise InputError(f"the video has frames 0 to {end}, got {name} frame {frame}")
    lowest = given[0] if given else 0
    highest = given[-1] if given else end if span.direction == "reverse" else 0
    ahead = lowest if span.start is None else span.start
    back = highest if span.start is None else span.start
    if span.direction == "forward":
        passes = [Pass(ahead, end if span.stop is None else span.stop)]
    elif span.direction == "reverse":
        passes = [Pass(back, span.stop or 0)]
    elif span.stop is not None and ahead <= span.stop < back:
        raise InputError(
            f"--stop {span.stop} lies between frames with prompts, {ahead} and {back}; give --start"
        )
    elif span.stop is None or span.stop >= ahead:
        passes = [Pass(ahead, end if span.stop is None else span.stop), Pass(back, 0)]
    else:
        passes = [Pass(ahead, end), Pass(back, span.stop)]
    if span.direction != "both" and passes[0].first != passes[0].last:
        is_reverse = span.direction == "reverse"
        if passes[0].is_reverse != is_reverse:
            side = "after" if is_reverse else "before"
            hint = "" if is_reverse else "; --reverse tracks backward"
            raise InputError(
                f"--stop {span.stop} comes {side} the frame {passes[0].first} where tracking "
                f"begins{hint}"
            )
    passes = [_limited(part, span.limit) for part in passes]
    longer = [part for part in passes if part.length > 1]
    return longer or passes[:1]


def _limited(part: Pass, limit: int | None) -> Pass:
    if limit is None or limit >= part.length:
        return part
    step = -1 if part.is_reverse else 1
    return Pass(part.first, part.first + step * (limit - 1))
