"""Runs of ``hqtrack track`` that a session makes: prompts on any frame, either direction.

The session's project is in the output folder until the run is complete, so that ``--resume`` can go
on with it. Which mask a frame gets is known when all passes are over, so results are written then,
in the order of the video.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vots_hqtrack.cli import signals
from vots_hqtrack.cli.given import CheckedPrompt, check_prompt, make_masks
from vots_hqtrack.cli.progress import frame_progress
from vots_hqtrack.cli.resume import Fingerprint, fingerprint, say_of
from vots_hqtrack.cli.spans import Pass
from vots_hqtrack.cli.track_job import Job
from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.session import InteractivePredictor, SessionState
from vots_hqtrack.session.project import PROJECT_NAME, delete_project
from vots_hqtrack.session.video import SourceVideo
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import PROMPT_IDS, check_frame, is_prompt_id
from vots_hqtrack.video.background import BackgroundWriter, call, prefetch
from vots_hqtrack.video.result_folder import PASSES_NAME, SESSION_NAME, Journal, read_journal
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
        self.size = check_frame(job.source[0].frame)
        self._given: dict[int, CheckedPrompt] = {}
        for index, prompt in job.prompts.items():
            try:
                check_frame(job.source[index].frame, expected=self.size)
                self._given[index] = _check_ids(check_prompt(prompt, self.size))
            except (InputError, ShapeError) as error:
                raise type(error)(f"frame {index}: {error}") from error
        frames = (job.source[index].frame for index in job.prompts)
        config, weights = job.options.config, job.options.weights
        self._digests = fingerprint(frames, job.prompts, config, weights)
        outside = sorted(set(job.prompts) - set(self._frames))
        if outside:
            _logger.warning(
                "not tracked, and used as references only: the frames with prompts %s",
                ", ".join(map(str, outside)),
            )

    @property
    def fingerprint(self) -> Fingerprint:
        """Digests of what the masks depend on."""
        passes = repr([tuple(part) for part in self._job.passes])
        return {**self._digests, "range of frames": hashlib.sha256(passes.encode()).hexdigest()}

    def make_masks(self, tracker: HQTracker) -> None:
        """Turn all points and boxes into masks, before anything is replaced.

        Raises:
            ConfigError: The preset has no refiner to read points and boxes.
            InputError: No object was found for a prompt, or others cover it wholly.
        """
        for index, given in self._given.items():
            if given.prompts:
                signals.check()
                masks = make_masks(tracker, self._job.source[index].frame, given)
                self._given[index] = CheckedPrompt(masks, {})

    def track(self, tracker: HQTracker, writer: ResultWriter) -> None:
        """Make all passes, then write what was tracked; after an error or a signal, too.

        What a run that was cut did is not done again.
        """
        predictor = InteractivePredictor(tracker)
        with Progress(self._job.folder) as progress:
            project = self._job.folder / SESSION_NAME
            with predictor.init_state(SourceVideo(self._job.source), project) as state:
                if progress.num_done:
                    total = sum(part.length for part in self._job.passes)
                    what = f"going on after {progress.num_done} of {total} frames"
                    say_of(self._job.folder, what)
                for index in sorted(set(self._given) - progress.given):
                    signals.check()
                    given = self._given.pop(index)
                    masks = make_masks(tracker, state.frame(index), given)
                    for number, mask in masks.items():
                        predictor.add_new_mask(state, index, number, mask)
                    progress.note_given(index)
                self._given.clear()
                try:
                    self._make_passes(predictor, state, progress)
                finally:
                    with signals.on_signal("once"):
                        self._write(state, writer, progress.seconds)

    def _make_passes(
        self, predictor: InteractivePredictor, state: SessionState, progress: Progress
    ) -> None:
        with frame_progress() as bar:
            total = sum(part.length for part in self._job.passes)
            task = bar.add_task(self._title, total=total, completed=progress.num_done)
            for number, part in enumerate(self._job.passes):
                started = time.perf_counter()
                for index in _propagate(predictor, state, part, progress.length(number)):
                    progress.note_tracked(number, index, time.perf_counter() - started)
                    signals.check()
                    bar.advance(task)
                    started = time.perf_counter()

    def _write(
        self, state: SessionState, writer: ResultWriter, seconds: Mapping[int, float]
    ) -> None:
        """Write the frames that were tracked, in the order of the video."""
        wanted = [index for index in self._frames if index in seconds]
        if not wanted:
            return
        source = self._job.source
        with frame_progress() as progress, contextlib.ExitStack() as stack:
            frames = prefetch(source[index] for index in wanted)
            read_ahead = stack.enter_context(contextlib.closing(frames))
            background = stack.enter_context(BackgroundWriter(call))
            task = progress.add_task("writing", total=len(wanted))
            for index, (name, frame, shown_at) in zip(wanted, read_ahead, strict=True):
                write = partial(writer.write, name, frame, state.result(index))
                background.put(partial(write, seconds=seconds[index], shown_at=shown_at))
                progress.advance(task)


class Progress:
    """Steps of a session that are on disk: frames with prompts, and tracked frames.

    It is a context manager.

    Args:
        folder: Output folder of the run, which is locked.

    Attributes:
        given: Frames with prompts that are in the project.
        seconds: Time of each tracked frame, of all passes together.
        num_done: Number of tracked frames of all passes.
    """

    def __init__(self, folder: Path) -> None:
        self.given: set[int] = set()
        self.seconds: defaultdict[int, float] = defaultdict(float)
        self._lengths: Counter[int] = Counter()
        path, has_project = folder / PASSES_NAME, (folder / SESSION_NAME / PROJECT_NAME).exists()
        try:
            steps = read_journal(path) if has_project else []
            for step in steps:
                self._count(step)
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise InputError(
                f"cannot read {path}: {error}; give --overwrite to begin again"
            ) from error
        self._journal = Journal(path, steps)

    def __enter__(self) -> Progress:
        """Return it."""
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Close the file, which stays until the run is complete."""
        self._journal.close(remove=False)

    @property
    def num_done(self) -> int:
        """Number of tracked frames of all passes."""
        return self._lengths.total()

    def length(self, number: int) -> int:
        """Return the number of tracked frames of a pass."""
        return self._lengths[number]

    def note_given(self, index: int) -> None:
        """Note that a frame's prompts are in the project."""
        self._note({"given": index})

    def note_tracked(self, number: int, index: int, seconds: float) -> None:
        """Note that a pass has tracked a frame."""
        self._note({"pass": number, "frame": index, "seconds": seconds})

    def _note(self, step: Mapping[str, object]) -> None:
        self._count(step)
        self._journal.add(step)

    def _count(self, step: Mapping[str, Any]) -> None:
        if "given" in step:
            self.given.add(int(step["given"]))
        else:
            self.seconds[int(step["frame"])] += float(step["seconds"])
            self._lengths[int(step["pass"])] += 1


def _check_ids(given: CheckedPrompt) -> CheckedPrompt:
    """Refuse objects that a session cannot keep, before anything is written."""
    for number in (*given.masks, *given.prompts):
        if not is_prompt_id(number):
            raise InputError(
                "prompts on other frames than the first, and runs backward, take object ids from "
                f"{PROMPT_IDS}, got {number}"
            )
    return given


def remove_session(folder: Path) -> None:
    """Delete the project that a run made in its output folder, which is locked.

    Raises:
        InputError: The project is open in another process.
    """
    path = folder / PASSES_NAME
    if path.is_file() and not path.is_symlink():
        delete_project(folder / SESSION_NAME)
        path.unlink()


def _propagate(
    predictor: InteractivePredictor, state: SessionState, part: Pass, num_done: int
) -> Iterator[int]:
    """Track the frames of a pass that are left; yields the index of each."""
    step = -1 if part.is_reverse else 1
    start = part.first + step * max(num_done - 1, 0)  # the newest one, which it goes on from
    left = part.length - max(num_done, 1)
    if num_done == part.length:
        return
    tracked = predictor.propagate_in_video(state, start, left, reverse=part.is_reverse)
    with contextlib.closing(tracked):
        for found in itertools.islice(tracked, int(num_done > 0), None):
            yield found.frame_idx
