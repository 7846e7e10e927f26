"""Evaluation by the official toolkit: run trackers, measure, report and pack."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vots_hqtrack.errors import InputError, ProtocolError
from vots_hqtrack.io import atomic_path
from vots_hqtrack.measures import SegmentationMeasures, mean_measures
from vots_hqtrack.types import ObjectId
from vots_hqtrack.vot.measures import (
    TrackerMeasures,
    mean_seconds,
    read_measures,
    sequence_measures,
)
from vots_hqtrack.vot.results import result_fault
from vots_hqtrack.vot.sequences import (
    SequenceCheck,
    check_sequence,
    read_sequence_list,
    write_sequence_list,
)
from vots_hqtrack.vot.toolkit import failure_text, run_toolkit
from vots_hqtrack.vot.workspace import EXPERIMENT, Workspace, read_stack, write_config

_logger = logging.getLogger(__name__)

_NAME = "measures"
"""Name under which the toolkit stores an analysis."""


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a long run.

    Attributes:
        text: The step, in words; the same as long as it lasts.
        num_done: Parts of it that are done.
        num_parts: Parts in all.
        detail: The part at work, or an empty string.
    """

    text: str
    num_done: int
    num_parts: int
    detail: str = ""


StepCallback = Callable[[Step], None]


class RunTrackers(Protocol):
    """A way to run trackers on the sequences that they have no whole results for."""

    def __call__(
        self,
        workspace: Workspace,
        trackers: Sequence[str],
        *,
        force: bool,
        on_step: StepCallback,
        on_word: Callable[[str], object],
    ) -> None:
        """Run them; the arguments are those of :func:`run_evaluation`."""


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """Measures and files that an evaluation left.

    Attributes:
        measures: The toolkit's measures by tracker.
        segmentation: J and F by tracker, sequence and object.
        seconds: Mean seconds per frame by tracker, as the toolkit waited.
        report_path: The toolkit's HTML report; None where nothing can be measured.
        archive_path: The packed submission of the first tracker.
        workspace: The workspace with all of it.
    """

    measures: Mapping[str, TrackerMeasures]
    segmentation: Mapping[str, Mapping[str, Mapping[ObjectId, SegmentationMeasures | None]]]
    seconds: Mapping[str, float | None]
    report_path: Path | None
    archive_path: Path
    workspace: Workspace

    @property
    def measures_path(self) -> Path:
        """File that :func:`run_evaluation` writes all numbers to."""
        return self.workspace.measures / "measures.json"

    def sequence_segmentation(self, tracker: str) -> dict[str, SegmentationMeasures | None]:
        """J and F of a tracker by sequence, means over the objects."""
        found = self.segmentation[tracker]
        return {name: mean_measures(objects.values()) for name, objects in found.items()}

    def to_json(self) -> str:
        """Write all measures as JSON: by tracker, its sequences, and their objects."""
        trackers = {name: self._tracker_to_dict(name) for name in self.measures}
        return json.dumps({"trackers": trackers}, indent=2)

    def _tracker_to_dict(self, tracker: str) -> dict[str, object]:
        measured, means = self.measures[tracker], self.sequence_segmentation(tracker)
        sequences = {}
        for name, objects in self.segmentation[tracker].items():
            vots = measured.sequences.get(name)
            sequences[name] = {
                **({} if vots is None else dataclasses.asdict(vots)),
                **_to_dict(means[name]),
                "objects": {str(number): _to_dict(found) for number, found in objects.items()},
            }
        return {
            **dataclasses.asdict(measured.overall),
            **_to_dict(mean_measures(means.values())),
            "seconds_per_frame": self.seconds[tracker],
            "sequences": sequences,
        }


def run_evaluation(
    workspace: Workspace,
    trackers: Sequence[str],
    *,
    run: RunTrackers | None = None,
    force: bool = False,
    on_step: StepCallback = lambda step: None,
    on_word: Callable[[str], object] = _logger.warning,
) -> EvaluationResult:
    """Evaluate, analyse, report and pack.

    Args:
        workspace: Workspace with the sequences and the registry.
        trackers: Identifiers of the trackers; the first one is packed.
        run: Way to run them, one after the other in this process if None.
        force: Replace results that are there already.
        on_step: Called whenever the progress changes.
        on_word: Called with each thing that the user should know, in a sentence.

    Returns:
        The measures over the sequences with truth after the frames where the objects start; without
        any such sequence there are no measures and no report.

    Raises:
        ProtocolError: A step left no result; the message has the reason.
        InputError: A sequence cannot be run or measured.
        ConfigError: Another run evaluates one of the trackers now.
    """

    @contextlib.contextmanager
    def step(text: str) -> Iterator[None]:
        on_step(Step(text, 0, 1))
        yield
        on_step(Step(text, 1, 1))

    sequences = check_sequences(workspace.sequences)
    measured = _measurable(sequences, on_word)
    (run or run_in_turn)(workspace, trackers, force=force, on_step=on_step, on_word=on_word)
    names = [sequence.name for sequence in measured]
    with workspace.hold(on_word):
        with step("measure"):
            measures = analyse(workspace, trackers, names) if measured else {}
            segmentation = {name: _segmentation(workspace, name, measured) for name in trackers}
            seconds = {tracker: mean_seconds(workspace, tracker) for tracker in trackers}
        report_path = None
        if measured:
            with step("write the report"):
                report_path = write_report(workspace, trackers, names)
        with step(f"pack {trackers[0]}"):
            archive_path = pack(workspace, trackers[0], on_word=on_word)
        files = (report_path, archive_path)
        result = EvaluationResult(measures, segmentation, seconds, *files, workspace)
        with atomic_path(result.measures_path) as temporary:
            temporary.write_text(result.to_json() + "\n", encoding="utf-8")
    return result


def check_sequences(folder: Path) -> list[SequenceCheck]:
    """Check every sequence of a folder for what a run, its analysis and its report will need.

    Raises:
        InputError: A sequence cannot be used.
    """
    return [check_sequence(path) for path in read_sequence_list(folder)]


def run_in_turn(
    workspace: Workspace,
    trackers: Sequence[str],
    *,
    force: bool = False,
    on_step: StepCallback = lambda step: None,
    on_word: Callable[[str], object] = _logger.warning,
) -> None:
    """Run trackers one after the other, as :func:`evaluate` does."""
    for tracker in trackers:
        evaluate(workspace, tracker, force=force, on_step=on_step, on_word=on_word)


def evaluate(
    workspace: Workspace,
    tracker: str,
    *,
    force: bool = False,
    again: Collection[str] = (),
    on_step: StepCallback = lambda step: None,
    on_word: Callable[[str], object] = _logger.warning,
) -> None:
    """Run a tracker on every sequence that it has no whole results for.

    The toolkit writes into a hidden workspace of this run; a sequence's results are moved into the
    workspace when all of them are whole.

    Args:
        workspace: Workspace with the sequences and the registry.
        tracker: The tracker's identifier.
        force: Remove the tracker's results first.
        again: Sequences to run although they have whole results, which stay until new ones are.
        on_step: Called whenever the progress changes.
        on_word: Called with each thing that the user should know, in a sentence.

    Raises:
        ProtocolError: Some results are missing afterwards; the message has the tracker's reason.
        InputError: A sequence cannot be run.
        ConfigError: Another run evaluates the tracker now, or its identifier is not usable.
    """
    sequences = check_sequences(workspace.sequences)
    with workspace.claim(tracker, on_wait=on_word):
        missing = find_missing(workspace, tracker, sequences, force=force, on_word=on_word)
        if again:
            shutil.rmtree(workspace.hidden / f"run-{tracker}", ignore_errors=True)
            missing |= {check.name: check for check in sequences if check.name in again}
        collector = _Collector(workspace, tracker, missing, len(sequences), on_step)
        collector()
        if not missing:
            return
        folders = [sequence.folder for sequence in missing.values()]
        with _hidden_workspace(workspace, f"run-{tracker}", folders) as hidden:
            arguments = ["evaluate", "--workspace", str(hidden.folder), tracker]
            output = run_toolkit(arguments, hidden, tracker=tracker, on_poll=collector)
            collector()
            if missing:
                raise ProtocolError(failure_text(output, tracker, hidden))


def find_missing(
    workspace: Workspace,
    tracker: str,
    sequences: Sequence[SequenceCheck],
    *,
    force: bool,
    on_word: Callable[[str], object],
) -> dict[str, SequenceCheck]:
    """Find the sequences that a tracker, which the caller has claimed, has no whole results for.

    Args:
        workspace: Workspace with the results.
        tracker: The tracker's identifier.
        sequences: All sequences.
        force: Remove the tracker's results first.
        on_word: Called with each sequence of which the results are there, but not whole.

    Returns:
        The sequences by name, in their order.
    """
    target = workspace.results_of(tracker) / EXPERIMENT
    if force:
        with workspace.hold(on_word):  # another run may measure them now
            for folder in (target.parent, workspace.hidden / f"run-{tracker}"):
                if folder.exists():
                    shutil.rmtree(folder)
    missing = {}
    for sequence in sequences:
        if (fault := result_fault(target / sequence.name, sequence)) is None:
            continue
        missing[sequence.name] = sequence
        if any((target / sequence.name).glob("*")):
            on_word(f"{tracker} runs again on {sequence.name}: {fault}")
    return missing


def analyse(
    workspace: Workspace, trackers: Sequence[str], sequences: Sequence[str] = ()
) -> dict[str, TrackerMeasures]:
    """Measure evaluated trackers over sequences of a workspace, all of them if none is named.

    Raises:
        ProtocolError: The toolkit left no analysis.
        InputError: Results are missing or damaged.
    """
    path = workspace.measures / "analysis" / f"{_NAME}.json"
    _run_for_file("analysis", _NAME, workspace, trackers, path, sequences)
    return read_measures(path)


def write_report(
    workspace: Workspace, trackers: Sequence[str], sequences: Sequence[str] = ()
) -> Path:
    """Let the toolkit write its HTML report, and return the page's path.

    It is in a folder named after the trackers, so that the report of others stays.

    Raises:
        ProtocolError: The toolkit left no report.
    """
    name = "-".join(trackers)
    path = workspace.measures / "reports" / name / "report.html"
    _run_for_file("report", name, workspace, trackers, path, sequences)
    return path


def pack(
    workspace: Workspace,
    tracker: str,
    *,
    on_word: Callable[[str], object] = _logger.warning,
) -> Path:
    """Pack a tracker's results for submission, and return the archive's path.

    The archive appears in the workspace when it is whole.

    Raises:
        ProtocolError: A result is missing or damaged, or the toolkit left no whole archive.
    """
    sequences = check_sequences(workspace.sequences)
    target = workspace.results_of(tracker) / EXPERIMENT
    for sequence in sequences:
        fault = result_fault(target / sequence.name, sequence)
        if fault is not None:
            reason = f"the results of {tracker} on {sequence.name} are not complete: {fault}"
            raise ProtocolError(f"cannot pack: {reason}; evaluate again")
    folders = [sequence.folder for sequence in sequences]
    name = f"pack-{tracker}"
    with workspace.hold(on_word), _hidden_workspace(workspace, name, folders) as hidden:
        hidden.results.rmdir()
        hidden.results.symlink_to(workspace.results, target_is_directory=True)
        arguments = ["pack", "--workspace", str(hidden.folder), tracker]
        output = run_toolkit(arguments, hidden, tracker=tracker)
        found = list(hidden.folder.glob(f"{tracker}_*.zip"))
        if not found:
            reason = failure_text(output, tracker, workspace)
            raise ProtocolError(f"vot pack left no archive: {reason}")
        archive = found[0]
        if (fault := _archive_fault(archive, target)) is not None:
            raise ProtocolError(f"vot pack left a damaged archive: {fault}")
        return archive.rename(workspace.folder / archive.name)


def _segmentation(
    workspace: Workspace, tracker: str, sequences: Sequence[SequenceCheck]
) -> dict[str, dict[ObjectId, SegmentationMeasures | None]]:
    """Measure J and F of a tracker by sequence and object."""
    return {
        sequence.name: sequence_measures(workspace, tracker, sequence.folder)
        for sequence in sequences
    }


def _measurable(
    sequences: Sequence[SequenceCheck], on_word: Callable[[str], object]
) -> list[SequenceCheck]:
    """Return the sequences that can be measured; say which ones cannot."""
    found = [sequence for sequence in sequences if sequence.is_measurable]
    others = [sequence.name for sequence in sequences if not sequence.is_measurable]
    if others:
        which = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        on_word(
            f"not measured: {which}: the truth of an object ends with the frame where it starts"
        )
    if found and others and any("," in sequence.name for sequence in found):
        raise InputError("with sequences that are not measured, no name may hold a comma")
    return found


class _Collector:
    """Takes the results of a running toolkit over, sequence by sequence, and reports progress."""

    def __init__(
        self,
        workspace: Workspace,
        tracker: str,
        missing: dict[str, SequenceCheck],
        num_sequences: int,
        on_step: StepCallback,
    ) -> None:
        """Take over what is missing, which shrinks as it comes."""
        self._target = workspace.results_of(tracker) / EXPERIMENT
        self._source = workspace.hidden / f"run-{tracker}" / "results" / tracker / EXPERIMENT
        self._text, self._missing, self._num_sequences = f"run {tracker}", missing, num_sequences
        self._on_step = on_step
        self._reported: Step | None = None

    def __call__(self) -> None:
        """Move the results that are whole, and report progress where it changed."""
        for name in list(self._missing):
            source = self._source / name
            if source.is_dir() and result_fault(source, self._missing[name]) is None:
                move_results(source, self._target / name)
                del self._missing[name]
        num_done = self._num_sequences - len(self._missing)
        now = Step(self._text, num_done, self._num_sequences, next(iter(self._missing), ""))
        if now != self._reported:
            self._reported = now
            self._on_step(now)


@contextlib.contextmanager
def _hidden_workspace(
    workspace: Workspace, name: str, sequences: Sequence[Path]
) -> Iterator[Workspace]:
    """Make a workspace of some of the sequences, and remove it at the end.

    What a run left that was killed is removed too; the caller holds the lock for this name.
    """
    folder = workspace.hidden / name
    hidden = Workspace(folder, folder / "sequences", workspace.registry)
    if folder.exists():
        shutil.rmtree(folder)
    try:
        for path in (hidden.results, hidden.sequences, workspace.folder / "logs"):
            path.mkdir(parents=True, exist_ok=True)
        (folder / "logs").symlink_to(workspace.folder / "logs", target_is_directory=True)
        write_sequence_list(hidden.sequences, [str(path) for path in sequences])
        write_config(hidden, folder, (read_stack(workspace),))
        yield hidden
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_results(source: Path, target: Path) -> None:
    """Move a sequence's whole results in place of those that were not."""
    target.mkdir(parents=True, exist_ok=True)
    stem = f"{source.name}_"
    for old in target.iterdir():
        if old.name.startswith(stem) and old.suffix in (".bin", ".txt", ".value"):
            old.unlink()
    for path in sorted(source.iterdir()):
        path.replace(target / path.name)
    source.rmdir()


def _archive_fault(path: Path, results: Path) -> str | None:
    """Say what a packed archive lacks, None where it is whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (name := archive.testzip()) is not None:
                return f"{name} in {path.name} is damaged"
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        return f"{path.name}: {error}"
    if "manifest.yml" not in names:
        return f"{path.name} has no manifest.yml"
    sizes = {f"{results.name}/{file.relative_to(results)}" for file in results.glob("*/*.bin")}
    lost = sizes - names
    return f"{path.name} lacks {min(lost)}" if lost else None


def _run_for_file(
    verb: str,
    name: str,
    workspace: Workspace,
    trackers: Sequence[str],
    path: Path,
    sequences: Sequence[str],
) -> None:
    """Run a command of the toolkit over the measures, and check that it left a file."""
    path.unlink(missing_ok=True)
    arguments = [verb, "--workspace", str(workspace.measures), "--name", name, *trackers]
    if sequences and len(sequences) < len(read_sequence_list(workspace.sequences)):
        arguments += ["--sequences", ",".join(sequences)]
    output = run_toolkit(arguments, workspace)
    if not path.is_file():
        reason = failure_text(output, ", ".join(trackers), workspace)
        raise ProtocolError(f"vot {verb} left no {path.name}: {reason}")


def _to_dict(measures: SegmentationMeasures | None) -> dict[str, float]:
    return {} if measures is None else measures.to_dict()
