"""Runs of ``hqtrack track`` that a session makes: prompts on any frame, either direction.

The session's project is in a temporary folder. Which mask a frame gets is known when all passes are
over, so results are written then, in the order of the video.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial

from vots_hqtrack.cli import signals
from vots_hqtrack.cli.console import frame_progress
from vots_hqtrack.cli.given import CheckedPrompt, check_prompt, make_masks
from vots_hqtrack.cli.spans import Pass
from vots_hqtrack.cli.track_job import Job
from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.masks import split_label_map
from vots_hqtrack.result import FrameResult
from vots_hqtrack.session import InteractivePredictor, SessionState
from vots_hqtrack.session.video import SourceVideo
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import check_frame
from vots_hqtrack.video.background import BackgroundWriter, call, prefetch
from vots_hqtrack.video.results import ResultWriter

_logger = logging.getLogger(__name__)


class SessionRun:
    """A job that prompts on other frames than the first, or its direction, make a session.

    Args:
        job: The job.
        title: Title of the progress bar.

    Attributes:
        size: Size of a frame.

    Raises:
        InputError: A frame cannot be read, or a prompt does not fit it.
        ShapeError: Frames differ in size.
    """

    def __init__(self, job: Job, title: str) -> None:
        self._job, self._title = job, title
        self._frames = sorted({index for part in job.passes for index in part.frames})
        self._seconds: defaultdict[int, float] = defaultdict(float)
        self.size = check_frame(job.source[0].frame)
        self._given: dict[int, CheckedPrompt] = {}
        for index, prompt in job.prompts.items():
            try:
                check_frame(job.source[index].frame, expected=self.size)
                self._given[index] = check_prompt(prompt, self.size)
            except (InputError, ShapeError) as error:
                raise type(error)(f"frame {index}: {error}") from error
        outside = sorted(set(job.prompts) - set(self._frames))
        if outside:
            _logger.warning(
                "not tracked, and used as references only: the frames with prompts %s",
                ", ".join(map(str, outside)),
            )

    def track(self, tracker: HQTracker, writer: ResultWriter) -> None:
        """Make all passes, then write what was tracked; after an error or a signal, too."""
        predictor = InteractivePredictor(tracker)
        with predictor.init_state(SourceVideo(self._job.source)) as state:
            for index, given in self._given.items():
                signals.check()
                masks = make_masks(tracker, state.frame(index), given)
                for number, mask in masks.items():
                    predictor.add_new_mask(state, index, number, mask)
            try:
                self._make_passes(predictor, state)
                self._find_losses()
            finally:
                with signals.on_signal("once"):
                    self._write(state, writer)

    def _make_passes(self, predictor: InteractivePredictor, state: SessionState) -> None:
        with frame_progress() as progress:
            total = sum(part.length for part in self._job.passes)
            task = progress.add_task(self._title, total=total)
            for part in self._job.passes:
                started = time.perf_counter()
                for index in _propagate(predictor, state, part):
                    self._seconds[index] += time.perf_counter() - started
                    signals.check()
                    progress.advance(task)
                    started = time.perf_counter()

    def _write(self, state: SessionState, writer: ResultWriter) -> None:
        """Write the frames that were tracked, in the order of the video."""
        wanted = [index for index in self._frames if index in self._seconds]
        if not wanted:
            return
        source = self._job.source
        with frame_progress() as progress, contextlib.ExitStack() as stack:
            frames = prefetch(source[index] for index in wanted)
            read_ahead = stack.enter_context(contextlib.closing(frames))
            background = stack.enter_context(BackgroundWriter(call))
            task = progress.add_task("writing", total=len(wanted))
            for index, (name, frame, shown_at) in zip(wanted, read_ahead, strict=True):
                write = partial(writer.write, name, frame, _result(state, index))
                background.put(partial(write, seconds=self._seconds[index], shown_at=shown_at))
                progress.advance(task)

    def _find_losses(self) -> None:
        """Read the tracked frames in order, by which the source notes what is lost or damaged."""
        first, last = self._frames[0], self._frames[-1]
        with contextlib.closing(self._job.source.read(first)) as frames:
            for index, _ in enumerate(frames, first):
                signals.check()
                if index > last:
                    break


def _propagate(predictor: InteractivePredictor, state: SessionState, part: Pass) -> Iterator[int]:
    """Track the frames of a pass; yields the index of each."""
    length = part.length - 1
    tracked = predictor.propagate_in_video(state, part.first, length, reverse=part.is_reverse)
    with contextlib.closing(tracked):
        for found in tracked:
            yield found.frame_idx


def _result(state: SessionState, index: int) -> FrameResult:
    """Return the masks and scores of a frame of the session."""
    objects = state.records[index].objects
    masks = split_label_map(state.label_map(index), sorted(objects))
    scores = {number: objects[number].score for number in masks}
    return FrameResult(index, masks, scores, {i: objects[i].source for i in masks})
