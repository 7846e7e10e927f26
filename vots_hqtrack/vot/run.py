"""Evaluation by the official toolkit: run trackers, measure, report and pack."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vots_hqtrack.errors import ProtocolError
from vots_hqtrack.measures import SegmentationMeasures, mean_measures
from vots_hqtrack.types import ObjectId
from vots_hqtrack.vot.measures import (
    TrackerMeasures,
    mean_seconds,
    read_measures,
    sequence_measures,
)
from vots_hqtrack.vot.sequences import read_sequence_list
from vots_hqtrack.vot.toolkit import failure_text, run_toolkit
from vots_hqtrack.vot.workspace import EXPERIMENT, Workspace

_NAME = "measures"
"""Name under which the toolkit stores an analysis and a report."""


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


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """Measures and files that an evaluation left.

    Attributes:
        measures: The toolkit's measures by tracker.
        segmentation: J and F by tracker, sequence and object.
        seconds: Mean seconds per frame by tracker, as the toolkit waited.
        report_path: The toolkit's HTML report.
        archive_path: The packed submission of the first tracker.
        workspace: The workspace with all of it.
    """

    measures: Mapping[str, TrackerMeasures]
    segmentation: Mapping[str, Mapping[str, Mapping[ObjectId, SegmentationMeasures | None]]]
    seconds: Mapping[str, float | None]
    report_path: Path
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
    force: bool = False,
    on_step: StepCallback = lambda step: None,
) -> EvaluationResult:
    """Evaluate, analyse, report and pack.

    Args:
        workspace: Workspace with the sequences and the registry.
        trackers: Identifiers of the trackers; the first one is packed.
        force: Replace results that are there already.
        on_step: Called whenever the progress changes.

    Raises:
        ProtocolError: A step left no result; the message has the reason.
        InputError: The sequences cannot be read.
    """

    @contextlib.contextmanager
    def step(text: str) -> Iterator[None]:
        on_step(Step(text, 0, 1))
        yield
        on_step(Step(text, 1, 1))

    sequences = read_sequence_list(workspace.sequences)
    for tracker in trackers:
        evaluate(workspace, tracker, force=force, on_step=on_step)
    with step("measure"):
        measures = analyse(workspace, trackers)
        segmentation = {
            tracker: {path.name: sequence_measures(workspace, tracker, path) for path in sequences}
            for tracker in trackers
        }
        seconds = {tracker: mean_seconds(workspace, tracker) for tracker in trackers}
    with step("write the report"):
        report_path = write_report(workspace, trackers)
    with step(f"pack {trackers[0]}"):
        archive_path = pack(workspace, trackers[0])
    result = EvaluationResult(measures, segmentation, seconds, report_path, archive_path, workspace)
    result.measures_path.write_text(result.to_json() + "\n", encoding="utf-8")
    return result


def evaluate(
    workspace: Workspace,
    tracker: str,
    *,
    force: bool = False,
    on_step: StepCallback = lambda step: None,
) -> None:
    """Run a tracker on every sequence that it has no results for.

    Args:
        workspace: Workspace with the sequences and the registry.
        tracker: The tracker's identifier.
        force: Remove the tracker's results first.
        on_step: Called whenever the progress changes.

    Raises:
        ProtocolError: Some results are missing afterwards; the message has the tracker's reason.
        InputError: The sequences cannot be read.
    """
    sequences = read_sequence_list(workspace.sequences)
    if force:
        shutil.rmtree(workspace.results / tracker, ignore_errors=True)
    reported: Step | None = None

    def report() -> bool:
        """Report progress where it changed, and return whether all is done."""
        nonlocal reported
        missing = [path.name for path in sequences if not _is_done(workspace, tracker, path)]
        num_done = len(sequences) - len(missing)
        now = Step(f"run {tracker}", num_done, len(sequences), "".join(missing[:1]))
        if now != reported:
            reported = now
            on_step(now)
        return not missing

    if report():
        return
    arguments = ["evaluate", "--workspace", str(workspace.folder), tracker]
    output = run_toolkit(arguments, workspace, on_poll=report)
    if not report():
        raise ProtocolError(failure_text(output, tracker, workspace))


def analyse(workspace: Workspace, trackers: Sequence[str]) -> dict[str, TrackerMeasures]:
    """Measure evaluated trackers over all sequences of a workspace.

    Raises:
        ProtocolError: The toolkit left no analysis.
    """
    path = workspace.measures / "analysis" / f"{_NAME}.json"
    _run_for_file("analysis", workspace, trackers, path)
    return read_measures(path)


def write_report(workspace: Workspace, trackers: Sequence[str]) -> Path:
    """Let the toolkit write its HTML report, and return the page's path.

    Raises:
        ProtocolError: The toolkit left no report.
    """
    path = workspace.measures / "reports" / _NAME / "report.html"
    _run_for_file("report", workspace, trackers, path)
    return path


def pack(workspace: Workspace, tracker: str) -> Path:
    """Pack a tracker's results for submission, and return the archive's path.

    Raises:
        ProtocolError: The toolkit left no archive.
    """
    before = set(workspace.folder.glob(f"{tracker}_*.zip"))
    output = run_toolkit(["pack", "--workspace", str(workspace.folder), tracker], workspace)
    found = set(workspace.folder.glob(f"{tracker}_*.zip")) - before
    if not found:
        reason = failure_text(output, tracker, workspace)
        raise ProtocolError(f"vot pack left no archive: {reason}")
    return found.pop()


def _run_for_file(verb: str, workspace: Workspace, trackers: Sequence[str], path: Path) -> None:
    """Run a command of the toolkit over the measures, and check that it left a file."""
    path.unlink(missing_ok=True)
    arguments = [verb, "--workspace", str(workspace.measures), "--name", _NAME, *trackers]
    output = run_toolkit(arguments, workspace)
    if not path.is_file():
        reason = failure_text(output, ", ".join(trackers), workspace)
        raise ProtocolError(f"vot {verb} left no {path.name}: {reason}")


def _is_done(workspace: Workspace, tracker: str, sequence: Path) -> bool:
    num_objects = len(list(sequence.glob("groundtruth_object*.txt"))) or 1
    folder = workspace.results / tracker / EXPERIMENT / sequence.name
    return len(list(folder.glob(f"{sequence.name}_*001.bin"))) >= num_objects


def _to_dict(measures: SegmentationMeasures | None) -> dict[str, float]:
    return {} if measures is None else measures.to_dict()
