"""Several videos of ``hqtrack track`` at once: in each step one frame of each, in one batch.

A video that ends makes room for the next one; an error of one video ends that one only.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from rich.progress import Progress

from vots_hqtrack.cli import signals
from vots_hqtrack.cli.forward_run import ForwardRun
from vots_hqtrack.cli.progress import frame_progress
from vots_hqtrack.cli.track_job import Job
from vots_hqtrack.errors import HQTrackError, WeightsError, explain_memory
from vots_hqtrack.memory import TrackState
from vots_hqtrack.result import FrameResult
from vots_hqtrack.types import FrameArray

_logger = logging.getLogger(__name__)

OpenRun = Callable[[Job], AbstractContextManager[ForwardRun | None]]
"""Makes a video ready; gives None if it has nothing left to track."""
Fail = Callable[[str, HQTrackError | OSError], None]
"""Called with the source and error of a video that failed."""


@dataclass(frozen=True, slots=True)
class WaitingVideo:
    """A video that is to be tracked.

    Attributes:
        source: Its name for messages.
        job: The job.
        title: Title of its progress bar.
    """

    source: str
    job: Job
    title: str


@dataclass(frozen=True, slots=True)
class _OpenVideo:
    source: str
    run: ForwardRun
    state: TrackState
    stack: contextlib.ExitStack


def run_together(
    videos: Iterable[WaitingVideo], *, max_videos: int, open_run: OpenRun, fail: Fail
) -> None:
    """Track videos forward, several at once.

    Args:
        videos: The videos, in order.
        max_videos: Videos that are tracked at once, at most.
        open_run: Makes a video ready.
        fail: Called for each video that fails.

    Raises:
        WeightsError: The network cannot be loaded.
    """
    with signals.on_signal("once"), contextlib.ExitStack() as ending:
        together = _Together(frame_progress(), open_run, fail, ending)
        waiting = deque(videos)
        while waiting or together.running:
            while waiting and len(together.running) < max_videos:
                together.open(waiting.popleft())
            together.step()


class _Together:
    """The videos that are open.

    Args:
        progress: Shows the frames of each; started here.
        open_run: Makes a video ready.
        fail: Called for each video that fails.
        ending: Closes what is open at the end, whatever ends it.
    """

    def __init__(
        self, progress: Progress, open_run: OpenRun, fail: Fail, ending: contextlib.ExitStack
    ) -> None:
        self.running: list[_OpenVideo] = []
        self._progress, self._open_run, self._fail, self._ending = progress, open_run, fail, ending
        self._batch_size: int | None = None

    def open(self, video: WaitingVideo) -> None:
        """Make a video ready, and track its first frame."""
        with self._errors_of(video.source), contextlib.ExitStack() as opening:
            run = opening.enter_context(self._open_run(video.job))
            if run is None:
                return
            if not self._progress.live.is_started:  # after the word about the model
                self._progress.start()
                self._ending.callback(self._progress.stop)
            state = run.begin(self._progress, video.title)
            stack = opening.pop_all()
            self._ending.push(stack)
            self.running.append(_OpenVideo(video.source, run, state, stack))

    def step(self) -> None:
        """Track the next frame of each video."""
        started = time.perf_counter()
        ready: list[tuple[_OpenVideo, FrameArray]] = []
        for video in list(self.running):
            frame = None
            with self._closing_after_error(video):
                frame = next(video.run.frames, None)
                if frame is None:
                    self._close(video)
            if frame is not None:
                ready.append((video, frame))
        results: list[FrameResult | HQTrackError] = []
        size = self._batch_size or max(len(ready), 1)
        for start in range(0, len(ready), size):
            results += self._track(ready[start : start + size])
        seconds = (time.perf_counter() - started) / max(len(ready), 1)
        for (video, _), result in zip(ready, results, strict=True):
            with self._closing_after_error(video):
                if not isinstance(result, FrameResult):
                    raise result
                video.run.write(result, seconds=seconds)

    def _track(
        self, ready: list[tuple[_OpenVideo, FrameArray]]
    ) -> list[FrameResult | HQTrackError]:
        """Track one frame of each video; after an error each alone, to find out which one it is."""
        reason: HQTrackError | None = None
        if len(ready) > 1:
            tracker = ready[0][0].run.tracker
            try:
                frames, states = [frame for _, frame in ready], [video.state for video, _ in ready]
                return list(tracker.track_together(frames, states))
            except HQTrackError as error:
                reason = error
        found: list[FrameResult | HQTrackError] = []
        for video, frame in ready:
            try:
                found.append(video.run.tracker.track(frame, video.state))
            except HQTrackError as error:
                found.append(error)
        if reason is not None and all(isinstance(each, FrameResult) for each in found):
            self._batch_size = len(ready) // 2
            _logger.warning("at most %d videos at once from here on: %s", self._batch_size, reason)
        return found

    def _close(self, video: _OpenVideo, error: BaseException | None = None) -> None:
        """End a video; its error, or what its end finds, is raised."""
        self.running.remove(video)
        with video.stack:
            if error is not None:
                raise error

    @contextlib.contextmanager
    def _closing_after_error(self, video: _OpenVideo) -> Iterator[None]:
        with self._errors_of(video.source):
            try:
                with explain_memory():
                    yield
            except (HQTrackError, OSError) as error:
                if video in self.running:
                    self._close(video, error)
                raise

    @contextlib.contextmanager
    def _errors_of(self, source: str) -> Iterator[None]:
        """Keep the error of a video from the other ones."""
        try:
            with explain_memory():
                yield
        except WeightsError:
            raise
        except (HQTrackError, OSError) as error:
            self._fail(source, error)
