"""The run behind ``hqtrack track``: load the model once, then track and write each video."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from rich.markup import escape

from vots_hqtrack.allocation import keep_freed_memory
from vots_hqtrack.cli import signals
from vots_hqtrack.cli.console import err, out, print_error, say
from vots_hqtrack.cli.forward_run import ForwardRun
from vots_hqtrack.cli.given import check_prompt, make_masks
from vots_hqtrack.cli.progress import frame_progress
from vots_hqtrack.cli.resume import find_checkpoint, fingerprint, require_same_run, say_of
from vots_hqtrack.cli.track_job import Job, Prepared, RunOptions
from vots_hqtrack.cli.track_session import SessionRun, remove_session
from vots_hqtrack.cli.track_together import WaitingVideo, run_together
from vots_hqtrack.devices import pick_device
from vots_hqtrack.errors import (
    HQTrackError,
    InputError,
    PartialError,
    WeightsError,
    explain_memory,
    printable,
)
from vots_hqtrack.saved_state import SavedState
from vots_hqtrack.summary import TrackSummary
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import check_frame
from vots_hqtrack.video.cutout import Cutout
from vots_hqtrack.video.result_folder import (
    OVERLAY_NAME,
    EarlierRun,
    claim_output,
    remove_leftovers,
)
from vots_hqtrack.video.results import ResultWriter, count_whole_frames

TOGETHER_ON_GPU = 8
"""Videos that a GPU tracks at once, unless the user says otherwise."""


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
    errors: dict[str, HQTrackError | OSError] = {}

    def fail(source: str, error: HQTrackError | OSError) -> None:
        errors[source] = error
        print_error(f"{source}: {error}")

    videos: list[WaitingVideo] = []
    for number, (source, job) in enumerate(prepared, start=1):
        if isinstance(job, Job):
            title = f"{escape(printable(Path(source).name))} ({number} of {len(prepared)})"
            videos.append(WaitingVideo(source, job, title))
        else:
            fail(source, job)
    alone = videos
    if videos and (max_videos := _max_together(videos[0].job.options)) > 1:
        alone = [video for video in videos if not video.job.fits_together]
        together = [video for video in videos if video.job.fits_together]
        open_run = partial(open_forward, network=network, is_beside_others=True)
        run_together(together, max_videos=max_videos, open_run=open_run, fail=fail)
    for video in alone:
        try:
            with explain_memory():
                _run(video.job, network, video.title)
        except WeightsError:
            raise
        except (HQTrackError, OSError) as error:
            fail(video.source, error)
    if errors:
        raise _summed_up(errors, len(prepared))


def _max_together(options: RunOptions) -> int:
    """Return how many videos are tracked at once at most.

    Raises:
        InputError: A latency budget does not fit what the user wants.
    """
    has_budget = bool(options.config.runtime.frame_budget)
    if has_budget and (options.together or 1) > 1:
        raise InputError("a latency budget is kept for one video at a time: give --together 1")
    if options.together is not None or has_budget:
        return options.together or 1
    return TOGETHER_ON_GPU if pick_device(options.device).type == "cuda" else 1


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
            resumed = earlier if job.options.earlier == "resume" else None
            if resumed is not None:
                require_same_run(resumed, digests, job.folder)
                if _has_nothing_left(job, resumed):
                    return
            tracker = network.load(job.options)
            if resumed is None:
                session.make_masks(tracker)
                remove_session(job.folder)
            facts = job.facts(session.size, str(tracker.device), digests)
            writer = _new_writer(job, facts, earlier)
            with _write_all(job, writer):
                session.track(tracker, writer)


def _run_forward(job: Job, network: Network, title: str) -> None:
    """Track a video forward."""
    with open_forward(job, network) as run:
        if run is not None:
            with frame_progress() as progress:
                run.track(progress, title)


@contextlib.contextmanager
def open_forward(
    job: Job,
    network: Network,
    *,
    is_beside_others: bool = False,
) -> Iterator[ForwardRun | None]:
    """Check the first frame and its prompts, load the model, and make ready to track.

    Gives None where an earlier run has left nothing to do.
    """
    options = job.options
    with contextlib.closing(job.source.read(job.start)) as frames:
        with nullcontext() if is_beside_others else signals.on_signal("leave"):
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
                if _has_nothing_left(job, earlier):
                    yield None
                    return
                if not earlier.has_ended:
                    saved = find_checkpoint(job.folder, earlier)
                    _check_limit(job, saved)
            tracker = network.load(options)
            masks = {} if saved else make_masks(tracker, first.frame, checked)
            remove_session(job.folder)
            facts = job.facts(size, str(tracker.device), digests)
            writer = _new_writer(job, facts, earlier, num_done=saved.num_frames if saved else 0)
            state = tracker.restore(saved) if saved else None
            rest = itertools.chain([first], frames)
            forward = ForwardRun(job, tracker, rest, masks, writer, state)
            with _write_all(job, writer), forward as run:
                yield run


def _new_writer(
    job: Job, facts: Mapping[str, object], earlier: EarlierRun | None, *, num_done: int = 0
) -> ResultWriter:
    options = job.options
    return ResultWriter(
        job.folder,
        facts,
        overlay_fps=job.source.fps if options.use_overlay else None,
        cutout=None if options.cutout is None else Cutout(options.cutout, job.source.fps),
        # At another frame rate sound and frames would not agree.
        sound=Path(job.source.location)
        if job.source.kind == "video" and options.fps is None
        else None,
        earlier=earlier,
        num_done=num_done,
        get_losses=lambda: job.source.losses,
    )


@contextlib.contextmanager
def _write_all(job: Job, writer: ResultWriter) -> Iterator[None]:
    """Write what is tracked in the body; no signal disturbs the end. Then print the summary."""
    num_before, started = writer.num_frames, time.perf_counter()
    try:
        with signals.on_signal("note"), writer, signals.on_signal("once"):
            yield
    except (HQTrackError, OSError, KeyboardInterrupt):
        kept = _count(writer.num_frames, "frame")
        say(printable(f"kept: {kept} in {job.folder}"))
        raise
    remove_session(job.folder)  # the results hold all of it
    seconds = time.perf_counter() - started
    speed = f"{seconds / max(writer.num_frames - num_before, 1):.2f} s a frame"
    _print_summary(writer.summary, writer.num_frames, speed, writer.folder)
    if losses := writer.losses.lines():
        raise PartialError(f"the results are partial: {'; '.join(losses)}")


def _has_nothing_left(job: Job, earlier: EarlierRun) -> bool:
    """Check whether an earlier run has done everything; report it again then.

    Raises:
        InputError: It had another limit.
        PartialError: Its source had lost or damaged frames.
    """
    if not (earlier.has_ended and _is_whole(job, earlier)):
        return False
    remove_session(job.folder)
    remove_leftovers(job.folder, earlier)
    _report_again(job, earlier)
    return True


def _is_whole(job: Job, earlier: EarlierRun) -> bool:
    """Check that everything is there that a run wrote that came to its end; say what is not.

    Raises:
        InputError: It had another limit.
    """
    has_other_frames = earlier.head.get("passes") != [list(part) for part in job.passes]
    limit = earlier.head.get("limit")
    if has_other_frames and limit != job.limit:
        until = "to the end of the video" if limit is None else f"with --limit {limit}"
        raise InputError(
            f"the run in {job.folder} is {earlier.status} {until}; give --overwrite to begin again"
        )
    cutout = job.options.cutout
    wanted = [OVERLAY_NAME] if job.options.use_overlay else []
    wanted += [] if cutout is None else [Cutout(cutout, job.source.fps).file_name]
    lost = [name for name in wanted if not (job.folder / name).exists()]
    if has_other_frames:
        lost.append("the frames that the source has now")
    num_frames = len(earlier.frames)
    num_whole = count_whole_frames(job.folder, earlier, num_frames)
    if num_whole < num_frames:
        lost.append(f"the label map of frame {num_whole}, as it was written")
    if lost:
        missing = f"it is {earlier.status}, but lacks {' and '.join(lost)}"
        say_of(job.folder, f"the run begins again: {missing}")
    return not lost


def _report_again(job: Job, earlier: EarlierRun) -> None:
    """Print the summary of a run that has nothing left to do.

    Raises:
        PartialError: Its source had lost or damaged frames.
    """
    summary = TrackSummary()
    for record in earlier.frames:
        summary.add_record(record)
    _print_summary(summary, len(earlier.frames), f"{earlier.status} already", job.folder)
    if earlier.status == "partial":
        losses = "; ".join(earlier.losses.lines())
        raise PartialError(
            f"the results are partial: {losses}; with a repaired source give --overwrite"
        )


def _check_limit(job: Job, saved: SavedState | None) -> None:
    if saved is not None and job.limit is not None and job.limit < saved.num_frames:
        raise InputError(
            f"{saved.num_frames} frames are tracked already in {job.folder}, more than --limit "
            f"{job.limit}"
        )


def _print_summary(summary: TrackSummary, num_frames: int, speed: str, folder: Path) -> None:
    counts = f"{_count(num_frames, 'frame')}, {_count(len(summary.objects), 'object')}"
    lines = [f"{counts}, {speed}; results in {folder}", *summary.lines()]
    if len(summary.objects) > 1 and (lost := summary.lost_line()):
        lines.append(lost)
    for line in lines:
        out.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
