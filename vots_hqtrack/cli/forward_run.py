"""One video of ``hqtrack track`` that is tracked forward: frames in, results into its folder."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType

from rich.progress import Progress

from vots_hqtrack.cli import signals
from vots_hqtrack.cli.track_job import Job
from vots_hqtrack.errors import InputError
from vots_hqtrack.memory import TrackState
from vots_hqtrack.result import FrameResult
from vots_hqtrack.saved_state import save_state
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId
from vots_hqtrack.video.background import BackgroundWriter, call, prefetch
from vots_hqtrack.video.reader import NamedFrame
from vots_hqtrack.video.results import ResultWriter


class ForwardRun:
    """Tracks and writes frame by frame; files are read and written in threads while it is entered.

    A camera is not read ahead: the older its frames, the less they are worth.

    Args:
        job: The video.
        tracker: The tracker.
        frames: Its frames, the first one with masks included.
        masks: Masks of that frame; unused where a state is given.
        writer: Writes its results.
        state: State after the frames that an earlier run wrote; None begins the video.

    Attributes:
        tracker: The tracker.
        frames: Frames to track, once the run has begun; each wants its :meth:`write`.
    """

    def __init__(
        self,
        job: Job,
        tracker: HQTracker,
        frames: Iterator[NamedFrame],
        masks: Mapping[ObjectId, MaskArray],
        writer: ResultWriter,
        state: TrackState | None,
    ) -> None:
        self.tracker = tracker
        self._job, self._masks, self._writer, self._state = job, masks, writer, state
        self._gap = job.options.checkpoint_gap if job.can_resume else 0
        self._num_done = writer.num_frames
        self._index = writer.num_frames
        self._is_camera = job.source.kind == "camera"
        self._coming: Iterator[NamedFrame] = itertools.islice(frames, job.limit)
        self._read: deque[NamedFrame] = deque()
        self._stack = contextlib.ExitStack()
        self.frames = self._read_frames()
        self._advance: Callable[[], None] = lambda: None
        self._started = 0.0

    def __enter__(self) -> ForwardRun:
        """Start the threads."""
        if not self._is_camera:
            closing = contextlib.closing(prefetch(self._coming))
            self._coming = self._stack.enter_context(closing)
        self._background = self._stack.enter_context(BackgroundWriter(call))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait until everything is written, and end the threads."""
        self._stack.__exit__(kind, error, traceback)

    def begin(self, progress: Progress, title: str) -> TrackState:
        """Draw the frames that an earlier run tracked, or start the video.

        Args:
            progress: Shows the frames that are done.
            title: Title of the video in it.

        Returns:
            The state with which :attr:`frames` are tracked.

        Raises:
            InputError: There are fewer frames than the earlier run had.
        """
        task = progress.add_task(title, total=self._job.length)
        self._stack.callback(progress.update, task, visible=False)  # its summary comes instead
        self._advance = partial(progress.advance, task)
        num_read = 0
        for name, frame, shown_at in itertools.islice(self._coming, self._num_done):
            signals.check()
            redraw = partial(self._writer.redraw, num_read, name, frame, shown_at=shown_at)
            self._background.put(redraw)
            num_read += 1
            self._advance()
        if num_read < self._num_done:
            raise InputError(
                f"wanted the {self._num_done} frames of the run that was cut, got {num_read}"
            )
        self._started = time.perf_counter()
        if self._state is None:
            first = next(self.frames)
            masks = {int(number): mask for number, mask in self._masks.items()}
            self._state = self.tracker.initialize(first, masks)
            self.write(_given(self._masks))
        return self._state

    def track(self, progress: Progress, title: str) -> None:
        """Track the whole video; arguments as for :meth:`begin`."""
        state = self.begin(progress, title)
        results: Iterable[FrameResult]
        if self._is_camera:
            results = (self.tracker.track(frame, state) for frame in self.frames)
        else:
            results = self.tracker.track_video(self.frames, state)
        for result in results:
            self.write(result)

    def write(self, result: FrameResult, *, seconds: float | None = None) -> None:
        """Write the result of the frame that was read first of those without one.

        Args:
            result: The tracker's result.
            seconds: Time that the frame took; None takes all since the frame before.
        """
        name, frame, shown_at = self._read.popleft()
        if seconds is None:
            seconds = time.perf_counter() - self._started
        result = replace(result, frame_index=self._job.start + self._index)
        write = partial(self._writer.write, name, frame, result, seconds=seconds)
        self._background.put(partial(write, shown_at=shown_at))
        self._index += 1
        is_last = self._index == self._job.length
        if self._state is not None and self._gap and self._index % self._gap == 0 and not is_last:
            self._background.put(partial(self._writer.checkpoint, save_state(self._state)))
        self._advance()
        signals.check()
        self._started = time.perf_counter()

    def _read_frames(self) -> Iterator[FrameArray]:
        """Read frames, and keep each until its result is written."""
        for named in self._coming:
            self._read.append(named)
            yield named.frame


def _given(masks: Mapping[ObjectId, MaskArray]) -> FrameResult:
    """Return the result of the first frame: the masks that were given."""
    scores = dict.fromkeys(masks, 1.0)
    return FrameResult(0, masks, scores, dict.fromkeys(masks, "given"))
