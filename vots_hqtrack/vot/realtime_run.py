"""The realtime experiment of VOTS2025, which version 0.9.0 of the toolkit cannot run by itself.

There frames come at the sequence's frame rate: while a tracker computes, frames go by, and its last
masks count for them. The toolkit's class for it lacks its method ``run``; that of ordinary trackers
fits, and is set in the toolkit's own process before its command line starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vots_hqtrack.errors import InputError, ProtocolError
from vots_hqtrack.vot.results import read_times, result_fault, result_path, time_path
from vots_hqtrack.vot.run import check_sequences
from vots_hqtrack.vot.sequences import SequenceCheck, find_truth, read_sequence_info, read_truth
from vots_hqtrack.vot.toolkit import failure_text, run_toolkit
from vots_hqtrack.vot.workspace import EXPERIMENT, Workspace

REALTIME_EXPERIMENT = "realtime"
REPAIR = (
    "import vot.tracker, vot.utilities.cli; "
    "vot.tracker.RealtimeTrackerRuntime.run = vot.tracker.OnlineTrackerRuntime.run; "
    "vot.utilities.cli.main()"
)
"""Program for the toolkit's process; this package does not import the toolkit, which is GPL-3."""


@dataclass(frozen=True, slots=True)
class RealtimeSequence:
    """A tracker's run on one sequence in real time.

    Attributes:
        name: Name of the sequence.
        fps: Frames per second at which frames came.
        num_frames: Number of frames.
        num_tracked: Frames that the tracker saw; on the others its last masks counted.
    """

    name: str
    fps: float
    num_frames: int
    num_tracked: int


def evaluate_realtime(
    workspace: Workspace, tracker: str, *, on_word: Callable[[str], object]
) -> list[RealtimeSequence]:
    """Run both experiments of the stack ``vots2025/realtime`` on every sequence without results.

    Args:
        workspace: Workspace of that stack.
        tracker: The tracker's identifier.
        on_word: Called with each thing that the user should know, in a sentence.

    Returns:
        How the tracker kept up with each sequence.

    Raises:
        InputError: A sequence cannot be run, or has an object that starts later.
        ProtocolError: Results are missing or damaged afterwards; the message has the reason.
    """
    listed = workspace.sequences / "list.txt"
    if listed.is_file():  # else the toolkit downloads them
        for sequence in check_sequences(workspace.sequences):
            _check_starts(sequence)
    with workspace.claim(tracker, on_wait=on_word):
        arguments = ["evaluate", "--workspace", str(workspace.folder), tracker]
        output = run_toolkit(arguments, workspace, tracker=tracker, program=REPAIR)
        if not listed.is_file():
            raise ProtocolError(failure_text(output, tracker, workspace))
        sequences = check_sequences(workspace.sequences)
        for experiment in (EXPERIMENT, REALTIME_EXPERIMENT):
            folder = workspace.results_of(tracker) / experiment
            for sequence in sequences:
                if not (folder / sequence.name).is_dir():
                    raise ProtocolError(failure_text(output, tracker, workspace))
                if fault := result_fault(folder / sequence.name, sequence):
                    raise ProtocolError(f"{fault}; remove {folder / sequence.name} and run again")
    return [_count(workspace, tracker, sequence) for sequence in sequences]


def _count(workspace: Workspace, tracker: str, sequence: SequenceCheck) -> RealtimeSequence:
    """Count the frames that a tracker saw: the toolkit writes 0 seconds for the others."""
    folder = workspace.results_of(tracker) / REALTIME_EXPERIMENT / sequence.name
    count = len(sequence.objects)
    path = result_path(folder, sequence.name, sequence.objects[0], num_objects=count)
    times = read_times(time_path(path), sequence.num_frames)
    fps = read_sequence_info(sequence.folder).fps
    return RealtimeSequence(sequence.name, fps, len(times), sum(time > 0 for time in times))


def _check_starts(sequence: SequenceCheck) -> None:
    for file in find_truth(sequence.folder).values():
        if not next(read_truth(file.path)).is_known:
            raise InputError(
                f"{file.path}: the object starts after the first frame, which the toolkit's "
                "realtime experiment cannot do"
            )
