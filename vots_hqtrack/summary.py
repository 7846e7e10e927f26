"""Summary of a run: objects that were lost, absent for a while, or doubtful.

Results come in frame by frame; a few numbers for each object are kept, so that videos of any length
can be summed up. The paper has no such summary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.result import FrameResult
from vots_hqtrack.types import ObjectId

DOUBTFUL_BELOW = 0.5
"""A mask with a lower score is more likely wrong than right, where scores are calibrated."""
KEPT_RANGES = 5
"""Ranges of frames that are kept for an object; of those that follow only the number."""

Range = tuple[int, int]
"""First and last frame, both inclusive."""


@dataclass(slots=True)
class FrameRanges:
    """Frames that come in ascending order, as ranges; of many ranges only the first are kept.

    Attributes:
        kept: The first ranges, at most `KEPT_RANGES`.
        num_more: Number of ranges that followed.
        num_frames: Frames in all ranges.
        last: The newest range, kept or not; None before the first frame.
    """

    kept: list[Range] = field(default_factory=list)
    num_more: int = 0
    num_frames: int = 0
    last: Range | None = None

    def add(self, frame_index: int) -> None:
        """Add a frame that is later than all before."""
        self.num_frames += 1
        goes_on = self.last is not None and self.last[1] == frame_index - 1
        self.last = (self.last[0] if goes_on and self.last else frame_index, frame_index)
        if goes_on and not self.num_more:
            self.kept[-1] = self.last
        elif not goes_on and len(self.kept) < KEPT_RANGES:
            self.kept.append(self.last)
        elif not goes_on:
            self.num_more += 1

    def before_last(self) -> FrameRanges:
        """Return the same frames without the newest range."""
        if self.last is None:
            return FrameRanges()
        is_kept = not self.num_more
        return FrameRanges(
            kept=self.kept[:-1] if is_kept else list(self.kept),
            num_more=0 if is_kept else self.num_more - 1,
            num_frames=self.num_frames - (self.last[1] - self.last[0] + 1),
        )

    def __str__(self) -> str:
        """Write the ranges as ``12-40, 77 and 5 more``."""
        text = _format_ranges(self.kept)
        return f"{text} and {self.num_more} more" if self.num_more else text

    def to_dict(self) -> dict[str, object]:
        """Return what JSON holds."""
        ranges = [list(pair) for pair in self.kept]
        return {"frames": self.num_frames, "ranges": ranges, "more_ranges": self.num_more}


@dataclass(slots=True)
class ObjectSummary:
    """Frames in which an object was absent or doubtful.

    Attributes:
        is_seen: It had a mask in some frame.
        last_frame: Newest frame that was added.
        num_frames: Frames that were added.
        absences: Frames without a mask, those at the end included.
        doubtful: Frames with a mask and a score below the threshold.
        lowest_score: Lowest score of a mask; 1 before the first.
        lowest_frame: Frame of that mask.
    """

    is_seen: bool = False
    last_frame: int = -1
    num_frames: int = 0
    absences: FrameRanges = field(default_factory=FrameRanges)
    doubtful: FrameRanges = field(default_factory=FrameRanges)
    lowest_score: float = 1.0
    lowest_frame: int = -1

    @property
    def lost_from(self) -> int | None:
        """First frame of an absence that lasts to the end; None if the object is there then."""
        last = self.absences.last
        return last[0] if last is not None and last[1] == self.last_frame else None

    @property
    def absent(self) -> FrameRanges:
        """Frames without a mask after which the object came back."""
        return self.absences if self.lost_from is None else self.absences.before_last()

    def to_dict(self) -> dict[str, object]:
        """Return what JSON holds."""
        scored = self.lowest_frame >= 0
        return {
            "lost_from": self.lost_from,
            "absent": self.absent.to_dict(),
            "doubtful": self.doubtful.to_dict(),
            "lowest_score": round(self.lowest_score, 4) if scored else None,
            "lowest_score_frame": self.lowest_frame if scored else None,
        }


class TrackSummary:
    r"""Collects the summary of every object of a video; its size does not grow with the video's.

    Args:
        doubtful_below: A mask with a lower score is doubtful, in ``[0, 1]``.

    Raises:
        ConfigError: The threshold is out of range.

    Example:
        >>> import numpy as np
        >>> here, gone = np.ones((1, 1), bool), np.zeros((1, 1), bool)
        >>> summary = TrackSummary()
        >>> for index, (mask, score) in enumerate([(here, 1.0), (here, 0.3), (gone, 0.0)]):
        ...     summary.add(FrameResult(index, {1: mask}, {1: score}, {1: "initial"}))
        >>> print("\n".join(summary.lines()))
        object 1: lost from frame 2 on; doubtful in 1 (score below 0.5, lowest 0.30 in frame 1)
    """

    def __init__(self, *, doubtful_below: float = DOUBTFUL_BELOW) -> None:
        if not 0 <= doubtful_below <= 1:
            raise ConfigError(f"doubtful_below must be a number from 0 to 1, got {doubtful_below}")
        self.doubtful_below = doubtful_below
        self._objects: dict[ObjectId, ObjectSummary] = {}

    @property
    def objects(self) -> Mapping[ObjectId, ObjectSummary]:
        """The summary of every object so far."""
        return self._objects

    def add(self, result: FrameResult) -> None:
        """Take the result of the next frame; objects may be new in it."""
        for object_id, mask in result.masks.items():
            score = float(result.scores[object_id])
            self._add(result.frame_index, object_id, score, has_mask=bool(mask.any()))

    def add_record(self, record: Mapping[str, Any]) -> None:
        """Take the record of the next frame, as ``tracks.json`` has it."""
        for number, found in record["objects"].items():
            has_mask = bool(found["area"])
            self._add(record["index"], ObjectId(int(number)), found["score"], has_mask=has_mask)

    def _add(self, frame: int, object_id: ObjectId, score: float, *, has_mask: bool) -> None:
        known = self._objects.setdefault(object_id, ObjectSummary())
        known.last_frame = frame
        known.num_frames += 1
        if not has_mask:
            known.absences.add(frame)
            return
        known.is_seen = True
        if score < known.lowest_score:
            known.lowest_score, known.lowest_frame = score, frame
        if score < self.doubtful_below:
            known.doubtful.add(frame)

    def lines(self) -> list[str]:
        """Return the summary in words: a line for each object with trouble, one for all others."""
        troubles = {i: self._trouble(summary) for i, summary in sorted(self._objects.items())}
        lines = [f"object {i}: {trouble}" for i, trouble in troubles.items() if trouble]
        fine = [int(i) for i, trouble in troubles.items() if not trouble]
        if fine:
            which = f"object{'s' if len(fine) > 1 else ''} {_join(fine)}"
            seen = f"a mask in every frame, no score below {self.doubtful_below:g}"
            lines.append(f"{which}: {seen}")
        return lines

    def lost_line(self) -> str:
        """Name all objects that are lost at the end or were never seen; empty if there are none."""
        parts = []
        for object_id, summary in sorted(self._objects.items()):
            absent, total = summary.absences.num_frames, summary.num_frames
            if not summary.is_seen:
                parts.append(f"object {object_id} (never seen in {total} frames)")
            elif summary.lost_from is not None:
                percent = f"{absent / total:.0%}"
                parts.append(
                    f"object {object_id} (no mask in {absent} of {total} frames, {percent})"
                )
        return f"not there at the end: {', '.join(parts)}" if parts else ""

    def to_dict(self) -> dict[str, object]:
        """Return what JSON holds: the threshold, and the summary of every object by its id."""
        objects = {str(i): summary.to_dict() for i, summary in sorted(self._objects.items())}
        return {"doubtful_below": self.doubtful_below, "objects": objects}

    def _trouble(self, summary: ObjectSummary) -> str:
        if not summary.is_seen:
            return "never seen"
        parts = []
        if summary.lost_from is not None:
            parts.append(f"lost from frame {summary.lost_from} on")
        if summary.absent.num_frames:
            parts.append(f"absent in {summary.absent}")
        if summary.doubtful.num_frames:
            below = f"score below {self.doubtful_below:g}"
            lowest = f"lowest {summary.lowest_score:.2f} in frame {summary.lowest_frame}"
            parts.append(f"doubtful in {summary.doubtful} ({below}, {lowest})")
        return "; ".join(parts)


def summarise(
    results: Iterable[FrameResult], *, doubtful_below: float = DOUBTFUL_BELOW
) -> TrackSummary:
    """Sum up the results of a video.

    Args:
        results: Results of its frames, in order.
        doubtful_below: A mask with a lower score is doubtful, in ``[0, 1]``.

    Returns:
        The summary: ``lines()`` says it in words, ``objects`` has the numbers.

    Raises:
        ConfigError: The threshold is out of range.
    """
    summary = TrackSummary(doubtful_below=doubtful_below)
    for result in results:
        summary.add(result)
    return summary


def _join(numbers: Sequence[int]) -> str:
    """Write ascending numbers compactly, as ``1-4, 7``."""
    ranges: list[Range] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return _format_ranges(ranges)


def _format_ranges(ranges: Iterable[Range]) -> str:
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
