"""A run of the tracker over a session's video, from any frame in one direction.

Rule of runs that meet: of two masks of an object on a frame, each is weighted by its score and by
how much nearer its given mask is, and the better one stays; of equally good ones the newest. A
given mask is never replaced by a tracked one, and masks from a given mask that was taken back give
way to all others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.result import FrameResult
from vots_hqtrack.session.project import FrameRecord, ObjectRecord
from vots_hqtrack.session.references import choose_references
from vots_hqtrack.session.state import FrameMasks, SessionState
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, ObjectId, label_dtype

UNSEEN_SCORE = 0.5
"""Score by which "the object is not seen" competes with the mask of another run."""


class _Origin(NamedTuple):
    """Origin of an object's masks: its distance at frame i is ``base + |i - anchor|``."""

    frame_index: int
    anchor: int
    base: int


class Run:
    """One pass over the video in one direction.

    The memory counts frames in the direction of the run: backward, the last frame is 0.

    Args:
        tracker: The tracker.
        state: The session.
        start: Frame to begin with.
        step: 1 forward, -1 backward.
        max_references: Frames with given masks to read, at most.
        length: Frames to track, the start frame not counted.

    Attributes:
        is_known: Whether the start frame has masks, from which the run goes on; otherwise
            :meth:`track` begins with it.

    Raises:
        InputError: No object has a given mask.
    """

    def __init__(
        self,
        tracker: HQTracker,
        state: SessionState,
        start: int,
        step: int,
        *,
        max_references: int,
        length: int,
    ) -> None:
        self._tracker, self._state, self._step = tracker, state, step
        self._end = start + step * (length + 1)
        self._results: Iterator[FrameResult] = iter(())
        ids = [number for number in state.object_ids if state.given_frames(number)]
        if not ids:
            raise InputError("nothing to track: the given masks were removed")
        references = choose_references(state.records, ids, start, max_references)
        self._references = frozenset(references)
        self._track_state = self._tracker.begin(
            state.size, ids, num_references=max(len(references), 1)
        )
        record = state.records.get(start, FrameRecord())
        self.is_known = any(number in record.objects for number in ids)
        self._origins = {
            number: _Origin(found.from_frame, start, found.distance)
            for number, found in record.objects.items()
            if state.is_given(number, found.from_frame)
        }
        for number in set(ids) - set(self._origins):
            nearest = min(state.given_frames(number), key=lambda index: abs(index - start))
            self._origins[number] = _Origin(nearest, nearest, 0)
        for index in references:
            if index != start:
                self._write(index, is_reference=True)
        if self.is_known:
            if not record.given:
                self._write_earlier(start)
            self._write(start, is_reference=start in self._references)
        else:
            self._track_state.frame_index = self._order(start) - 1

    def track(self, index: int) -> FrameMasks:
        """Track one frame, or take it as given, and write it to the project."""
        state = self._state
        result = self._next_result(index)  # in its own time, so that others can edit meanwhile
        with state.lock:
            state.check_index(index)
            if result is None and not self._is_all_given(index):
                result = self._tracker.track(state.frame(index), self._track_state)
            record = state.records.get(index, FrameRecord())
            given = record.given & set(self._track_state.slots.object_ids)
            if result is not None:
                self._commit(index, record, given, result)
            if given:
                self._write(index, is_reference=index in self._references)
            self._origins.update(dict.fromkeys(given, _Origin(index, index, 0)))
            return state.masks(index)

    def _next_result(self, index: int) -> FrameResult | None:
        """Track a frame; None where all masks are given."""
        if self._is_all_given(index):
            self._results = iter(())  # a frame that was encoded ahead may be this one
            return None
        result = next(self._results, None)
        if result is None:
            self._results = self._tracker.track_video(self._frames(index), self._track_state)
            result = next(self._results, None)
        return result

    def _frames(self, index: int) -> Iterator[FrameArray]:
        """Read the frames from one on, up to one on which all masks are given."""
        while index != self._end and not self._is_all_given(index):
            yield self._state.frame(index)
            index += self._step

    def _is_all_given(self, index: int) -> bool:
        """Whether the masks of all objects that are left are given on a frame."""
        record = self._state.records.get(index, FrameRecord())
        left = set(self._track_state.slots.object_ids) & set(self._state.object_ids)
        return left <= record.given

    def _commit(
        self, index: int, record: FrameRecord, given: Collection[ObjectId], result: FrameResult
    ) -> None:
        """Put the tracked masks into the project, by the rule of runs that meet."""
        state = self._state
        objects = dict(record.objects)
        old = state.label_map(index)
        masks = {number: old == number for number in objects}
        for number, mask in result.masks.items():
            origin = self._origins.get(number)
            if origin is None or number in given:
                continue
            if number not in state.object_ids or not state.is_given(number, origin.frame_index):
                continue  # taken back while the run was in work
            distance = origin.base + abs(index - origin.anchor)
            score, source = float(result.scores[number]), result.sources[number]
            found = ObjectRecord(score, source, origin.frame_index, distance)
            known = objects.get(number)
            if known is None or not self._is_valid(number, known) or is_better(found, known):
                objects[number], masks[number] = found, mask
        label_map = np.zeros(state.size, label_dtype(max(masks, default=0)))
        # Where masks overlap, the one from the nearest given mask wins, then the lowest id.
        for number in sorted(masks, key=lambda i: (self._distance(i, objects[i]), i), reverse=True):
            label_map[masks[number]] = number
        state.project.write_frame(
            index, label_map, FrameRecord(objects, record.edit, record.signature)
        )

    def _distance(self, number: ObjectId, record: ObjectRecord) -> float:
        """Frames tracked since the given mask; infinite where that was taken back."""
        return record.distance if self._is_valid(number, record) else np.inf

    def _is_valid(self, number: ObjectId, record: ObjectRecord) -> bool:
        """Whether the given mask that an object was tracked from is still there."""
        return self._state.is_given(number, record.from_frame)

    def _write(self, index: int, *, is_reference: bool) -> None:
        """Write a frame with the masks of the project to the memory."""
        self._tracker.write_given(
            self._state.encode(self._tracker, index),
            self._state.label_map(index),
            self._track_state,
            frame_index=self._order(index),
            is_reference=is_reference,
        )

    def _write_earlier(self, start: int) -> None:
        """Write what the memory would have held if the run had come to its start frame."""
        memory = self._tracker.config.memory
        for count in range(memory.capacity - 1, 0, -1):
            index = start - self._step * memory.gap * count
            record = self._state.records.get(index)
            if record is not None and index not in self._references:
                self._write(index, is_reference=False)

    def _order(self, index: int) -> int:
        return index if self._step > 0 else self._state.num_frames - 1 - index


def is_better(new: ObjectRecord, old: ObjectRecord) -> bool:
    """Whether a mask replaces that of an earlier run, which was tracked from a given mask, too.

    Each counts by its score times the other's share of the way between the two given masks.

    Example:
        >>> near, far = ObjectRecord(0.6, "initial", 0, 2), ObjectRecord(0.9, "initial", 9, 7)
        >>> is_better(far, near), is_better(far, ObjectRecord(0.2, "initial", 0, 2))
        (False, True)
    """
    if new.from_frame == old.from_frame:
        return new.distance <= old.distance
    return _score(new) * old.distance >= _score(old) * new.distance


def _score(record: ObjectRecord) -> float:
    return record.score or UNSEEN_SCORE
