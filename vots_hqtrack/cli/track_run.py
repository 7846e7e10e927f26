"""The run behind ``hqtrack track``: load the model once, then track and write each video."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.markup import escape

from vots_hqtrack.allocation import keep_freed_memory
from vots_hqtrack.cli import signals
from vots_hqtrack.cli.console import err, frame_progress, out, print_error
from vots_hqtrack.cli.given import check_prompt, make_masks
from vots_hqtrack.cli.resume import find_checkpoint, fingerprint, require_same_run
from vots_hqtrack.cli.track_job import Job, Prepared, RunOptions
from vots_hqtrack.cli.track_session import SessionRun, remove_session
from vots_hqtrack.errors import (
    HQTrackError,
    InputError,
    PartialError,
    WeightsError,
    explain_memory,
    printable,
)
from vots_hqtrack.memory import TrackState
from vots_hqtrack.result import FrameResult
from vots_hqtrack.saved_state import SavedState, save_state
from vots_hqtrack.summary import TrackSummary
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import MaskArray, ObjectId, check_frame
from vots_hqtrack.video.background import BackgroundWriter, call, prefetch
from vots_hqtrack.video.cutout import Cutout
from vots_hqtrack.video.reader import NamedFrame
from vots_hqtrack.video.result_folder import EarlierRun, claim_output
from vots_hqtrack.video.results import ResultWriter


class Network:
    """The tracker of all videos of a call, loaded when the first one needs it."""

    def __init__(self) -> None:
        self._tracker: HQTracker | None = None

    def load(self, options: RunOptions) -> HQTracker:
        """Return the tracker."""
        if self._tracker is None:
            with err.status("loading the model"):
                self._tracker = HQTracker.from_config(
                    options.config, device=options.device, weights=options.weights
                )
        return self._tracker


def run_all(prepared: Sequence[Prepared]) -> None:
    """Track all videos; of several, one that fails does not stop the others.

    Raises:
        HQTrackError: The only video failed, or all of them.
        PartialError: Some failed, or lost frames.
    """
    keep_freed_memory()
    network = Network()
    if len(prepared) == 1:
        _run(prepared[0][1], network, "tracking")
        return
    errors = {source: job for source, job in prepared if not isinstance(job, Job)}
    for source, error in errors.items():
        print_error(f"{source}: {error}")
    for number, (source, job) in enumerate(prepared, start=1):
        if source in errors:
            continue
        try:
            with explain_memory():
                title = f"{escape(printable(Path(source).name))} ({number} of {len(prepared)})"
                _run(job, network, title)
        except WeightsError:
            raise
        except (HQTrackError, OSError) as error:
            errors[source] = error
            print_error(f"{source}: {error}")
    if errors:
        raise _summed_up(errors, len(prepared))


def _summed_up(errors: Mapping[str, HQTrackError | OSError], num_sources: int) -> HQTrackError:
    """Return the error of a call that several sources had."""
    lost = f"{len(errors)} of {num_sources} sources failed or are partial: {', '.join(errors)}"
    first = next(iter(errors.values()))
    is_partial = any(isinstance(error, PartialError) for error in errors.values())
    if len(errors) < num_sources or is_partial:
        return PartialError(lost)
    return type(first)(lost) if isinstance(first, HQTrackError) else HQTrackError(lost)


def _run(job: Job | HQTrackError | OSError, network: Network, title: str) -> None:
    if not isinstance(job, Job):
        raise job
    if job.is_plain:
        _run_forward(job, network, title)
    else:
        _run_session(job, network, title)


def _run_session(job: Job, network: Network, title: str) -> None:
    """Check the prompts of all frames, load the model, and track by a session."""
    with contextlib.closing(job.source):
        with signals.on_signal("leave"):
            session = SessionRun(job, title)
        with claim_output(job.folder, earlier=job.options.earlier) as earlier:
            digests = session.fingerprint
            if job.options.earlier == "resume" and earlier is not None:
                require_same_run(earlier, digests, job.folder)
                if _is_complete(job, earlier):
                    return
            else:
                remove_session(job.folder)
            tracker = network.load(job.options)
            facts = job.facts(session.size, str(tracker.device), digests)
            writer = _new_writer(job, facts, earlier)
            _write_all(job, writer, lambda: session.track(tracker, writer))


def _run_forward(job: Job, network: Network, title: str) -> None:
    """Check the first frame and its prompts, load the model, and track."""
    options = job.options
    with contextlib.closing(job.source.read(job.start)) as frames:
        with signals.on_signal("leave"):
            first = next(frames, None)
            if first is None:
                raise InputError(f"no frame could be read from {job.source.location}")
            size, prompt = check_frame(first.frame), job.prompts[job.start]
            checked = check_prompt(prompt, size)
            given = ([first.frame], job.prompts, options.config, options.weights)
            digests = fingerprint(*given)
        with claim_output(job.folder, earlier=options.earlier) as earlier:
            saved = None
            if options.earlier == "resume" and earlier is not None:
                require_same_run(earlier, digests, job.folder)
                if _is_complete(job, earlier):
                    return
                saved = find_checkpoint(job.folder, earlier)
                _check_limit(job, saved)
            remove_session(job.folder)
            tracker = network.load(options)
            masks = {} if saved else make_masks(tracker, first.frame, checked)
            facts = job.facts(size, str(tracker.device), digests)
            writer = _new_writer(job, facts, earlier, num_done=saved.num_frames if saved else 0)
            state = tracker.restore(saved) if saved else None
            rest = itertools.chain([first], frames)
            go = partial(_track_frames, job, tracker, rest, masks, writer, state, title)
            _write_all(job, writer, go)


def _new_writer(
    job: Job, facts: Mapping[str, object], earlier: EarlierRun | None, *, num_done: int = 0
) -> ResultWriter:
    options = job.options
    return ResultWriter(
        job.folder,
        facts,
        overlay_fps=job.source.fps if options.use_overlay else None,
        cutout=None if options.cutout is None else Cutout(options.cutout, job.source.fps),
        earlier=earlier,
        num_done=num_done,
        get_losses=lambda: job.source.losses,
    )


def _write_all(job: Job, writer: ResultWriter, track_frames: Callable[[], None]) -> None:
    """Track under a writer, the end of which no signal disturbs, and print the summary."""
    num_before, started = writer.num_frames, time.perf_counter()
    try:
        with signals.on_signal("note"), writer, signals.on_signal("once"):
            track_frames()
    except (HQTrackError, OSError, KeyboardInterrupt):
        kept = _count(writer.num_frames, "frame")
        err.print(printable(f"kept: {kept} in {job.folder}"), markup=False, soft_wrap=True)
        raise
    remove_session(job.folder)  # the results hold all of it
    seconds = time.perf_counter() - started
    speed = f"{seconds / max(writer.num_frames - num_before, 1):.2f} s a frame"
    _print_summary(writer.summary, writer.num_frames, speed, writer.folder)
    if losses := job.source.losses.lines():
        raise PartialError(f"the results are partial: {'; '.join(losses)}")


def _is_complete(job: Job, earlier: EarlierRun) -> bool:
    """Whether nothing is left to do; the summary is printed then.

    Raises:
        InputError: The run is complete, but with another limit.
    """
    if earlier.status not in ("complete", "partial"):
        return False
    remove_session(job.folder)
    if earlier.head.get("limit") != job.limit:
        raise InputError(
            f"the run in {job.folder} is complete with --limit {earlier.head.get('limit')}; give "
            "--overwrite to begin again"
        )
    summary = TrackSummary()
    for record in earlier.frames:
        summary.add_record(record)
    _print_summary(summary, len(earlier.frames), f"{earlier.status} already", job.folder)
    if earlier.status == "partial":
        raise PartialError("the results are partial: their source had lost or damaged frames")
    return True


def _check_limit(job: Job, saved: SavedState | None) -> None:
    if saved is not None and job.limit is not None and job.limit < saved.num_frames:
        raise InputError(
            f"{saved.num_frames} frames are tracked already in {job.folder}, more than --limit "
            f"{job.limit}"
        )


def _track_frames(
    job: Job,
    tracker: HQTracker,
    frames: Iterator[NamedFrame],
    masks: Mapping[ObjectId, MaskArray],
    writer: ResultWriter,
    state: TrackState | None,
    title: str,
) -> None:
    """Track and write frame by frame under a progress bar; files are read and written in threads.

    A camera is not read ahead: the older its frames, the less they are worth.
    """
    num_done, gap = writer.num_frames, job.options.checkpoint_gap if job.can_resume else 0
    limited: Iterable[NamedFrame] = itertools.islice(frames, job.limit)
    with frame_progress() as progress, contextlib.ExitStack() as stack:
        if job.source.kind != "camera":
            limited = stack.enter_context(contextlib.closing(prefetch(iter(limited))))
        background = stack.enter_context(BackgroundWriter(call))
        task = progress.add_task(title, total=job.length)
        num_read = 0
        for index, named in enumerate(limited):
            signals.check()
            num_read += 1
            name, frame, shown_at = named
            if index < num_done:
                background.put(partial(writer.redraw, index, name, frame, shown_at=shown_at))
            else:
                started = time.perf_counter()
                if state is None:
                    state = tracker.initialize(named.frame, dict(masks.items()))
                    result = _given(masks)
                else:
                    result = tracker.track(named.frame, state)
                seconds = time.perf_counter() - started
                result = replace(result, frame_index=job.start + index)
                write = partial(writer.write, name, frame, result, seconds=seconds)
                background.put(partial(write, shown_at=shown_at))
                if gap and (index + 1) % gap == 0 and index + 1 != job.length:
                    background.put(partial(writer.checkpoint, save_state(state)))
            progress.advance(task)
        if num_read < num_done:
            raise InputError(
                f"wanted the {num_done} frames of the run that was cut, got {num_read}"
            )


def _given(masks: Mapping[ObjectId, MaskArray]) -> FrameResult:
    """Return the result of the first frame: the masks that were given."""
    scores = dict.fromkeys(masks, 1.0)
    return FrameResult(0, masks, scores, dict.fromkeys(masks, "given"))


def _print_summary(summary: TrackSummary, num_frames: int, speed: str, folder: Path) -> None:
    counts = f"{_count(num_frames, 'frame')}, {_count(len(summary.objects), 'object')}"
    for line in (f"{counts}, {speed}; results in {folder}", *summary.lines()):
        out.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
