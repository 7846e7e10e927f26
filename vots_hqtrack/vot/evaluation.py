"""Evaluation by the official toolkit: run trackers, measure, report, pack, and read the numbers.

The toolkit counts the first frame, where the objects are given, as a miss: a perfect tracker
reaches a quality of ``(n - 1) / n`` on ``n`` frames.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vots_hqtrack.errors import ProtocolError
from vots_hqtrack.measures import SegmentationMeasures, measure_object
from vots_hqtrack.types import ObjectId
from vots_hqtrack.vot.results import read_result, result_path
from vots_hqtrack.vot.sequences import read_groundtruth, read_sequence_info, read_sequence_list
from vots_hqtrack.vot.toolkit import failure_text, run_toolkit
from vots_hqtrack.vot.workspace import EXPERIMENT, Workspace


@dataclass(frozen=True, slots=True)
class EvaluationProgress:
    """How far an evaluation is.

    Attributes:
        num_done: Sequences whose results are there.
        num_sequences: Sequences in all.
        running: Name of the sequence at work, or None at the end.
    """

    num_done: int
    num_sequences: int
    running: str | None


ProgressCallback = Callable[[EvaluationProgress], None]


@dataclass(frozen=True, slots=True)
class Measures:
    """The VOTS2023 measures, each in ``[0, 1]``; None where nothing could be measured.

    Attributes:
        quality: Mean overlap over all frames, absent objects included.
        accuracy: Mean overlap where the object was found.
        robustness: Share of frames with the object on which it was found.
        nre: Not-reported error: share of frames with the object on which it was called absent.
        dre: Drift-rate error: share of frames with the object on which something else was reported.
        adq: Absence-detection quality: share of frames without the object on which it was called
            absent; measured on objects with more than ten such frames.
    """

    quality: float | None
    accuracy: float | None
    robustness: float | None
    nre: float | None
    dre: float | None
    adq: float | None


@dataclass(frozen=True, slots=True)
class TrackerMeasures:
    """What the toolkit measured of one tracker: over all sequences, and by sequence."""

    overall: Measures
    sequences: Mapping[str, Measures]


def evaluate(
    workspace: Workspace,
    tracker: str,
    *,
    force: bool = False,
    on_progress: ProgressCallback | None = None,
) -> None:
    """Run a tracker on every sequence that it has no results for.

    Args:
        workspace: Where.
        tracker: The tracker's identifier.
        force: Remove the tracker's results first.
        on_progress: Told how far it is, at the start and whenever that changes.

    Raises:
        ProtocolError: Some results are missing afterwards; the text holds the tracker's reason.
        InputError: The sequences cannot be read.
    """
    sequences = read_sequence_list(workspace.sequences)
    if force:
        shutil.rmtree(workspace.results / tracker, ignore_errors=True)
    told: list[EvaluationProgress] = []

    def tell() -> bool:
        """Report progress where it changed, and return whether all is done."""
        open_names = [path.name for path in sequences if not _is_done(workspace, tracker, path)]
        running = open_names[0] if open_names else None
        now = EvaluationProgress(len(sequences) - len(open_names), len(sequences), running)
        if now not in told:
            told.append(now)
            if on_progress is not None:
                on_progress(now)
        return running is None

    if tell():
        return
    arguments = ["evaluate", "--workspace", str(workspace.folder), tracker]
    output = run_toolkit(arguments, workspace, on_poll=tell)
    if not tell():
        raise ProtocolError(failure_text(output, tracker, workspace))


def analyse(
    workspace: Workspace, trackers: Sequence[str], *, name: str = "measures"
) -> dict[str, TrackerMeasures]:
    """Measure trackers over all sequences of a workspace.

    Args:
        workspace: Where they were evaluated.
        trackers: Their identifiers.
        name: Name of the analysis' file.

    Returns:
        The measures by tracker.

    Raises:
        ProtocolError: The toolkit left no analysis.
    """
    path = workspace.measures / "analysis" / f"{name}.json"
    _run_for_file("analysis", workspace, trackers, name, path)
    return read_measures(path)


def write_report(workspace: Workspace, trackers: Sequence[str], *, name: str = "measures") -> Path:
    """Let the toolkit write its HTML report, and return the page's path.

    Raises:
        ProtocolError: The toolkit left no report.
    """
    path = workspace.measures / "reports" / name / "report.html"
    _run_for_file("report", workspace, trackers, name, path)
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


def read_measures(path: Path) -> dict[str, TrackerMeasures]:
    """Read the toolkit's analysis of a stack with the VOTS measures.

    Args:
        path: A file that ``vot analysis --format json`` wrote. Measures by sequence are read where
            the stack has them, as that of `vots_hqtrack.vot.workspace` does.

    Returns:
        The measures by tracker.

    Raises:
        ProtocolError: The file is not such an analysis.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        trackers, sequences = list(document["trackers"]), list(document["sequences"])
        experiment = document["results"][EXPERIMENT]
        names = [analysis["name"] for analysis in experiment["parameters"]["analyses"]]
        rows = dict(zip(names, experiment["results"], strict=True))
        return {
            tracker: TrackerMeasures(
                _overall_measures(rows, place),
                _sequence_measures(rows, place * len(sequences), sequences),
            )
            for place, tracker in enumerate(trackers)
        }
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ProtocolError(f"{path} is no analysis with the VOTS measures: {error!r}") from error


def sequence_measures(
    workspace: Workspace, tracker: str, sequence: Path
) -> dict[ObjectId, SegmentationMeasures | None]:
    """Measure J and F of every object of a sequence, as DAVIS defines them.

    Args:
        workspace: Where the tracker was evaluated.
        tracker: Its identifier.
        sequence: The sequence's folder.

    Returns:
        By object, means over all frames after the one where it was given; None where the truth of
        none of them is known.

    Raises:
        InputError: Truth or results cannot be read.
    """
    size = read_sequence_info(sequence).size
    truths = read_groundtruth(sequence, size)
    folder = workspace.results / tracker / EXPERIMENT / sequence.name
    return {
        object_id: measure_object(
            read_result(
                result_path(folder, sequence.name, object_id, num_objects=len(truths)), size
            ),
            truth,
        )
        for object_id, truth in truths.items()
    }


def mean_seconds(workspace: Workspace, tracker: str) -> float | None:
    """Mean time that the toolkit waited for a frame's masks, in seconds; None without results.

    Args:
        workspace: Where the tracker was evaluated.
        tracker: Its identifier.
    """
    times: list[float | None] = []
    for folder in sorted((workspace.results / tracker / EXPERIMENT).glob("*/")):
        # Every object's file holds the same times.
        for path in sorted(folder.glob("*_time.value"))[:1]:
            times.extend(float(line) for line in path.read_text("ascii").split())
    return mean_of(times)


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are known; None where there are none.

    Example:
        >>> mean_of([1.0, None, 0.5])
        0.75
    """
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _run_for_file(
    verb: str, workspace: Workspace, trackers: Sequence[str], name: str, path: Path
) -> None:
    path.unlink(missing_ok=True)
    arguments = [verb, "--workspace", str(workspace.measures), "--name", name, *trackers]
    output = run_toolkit(arguments, workspace)
    if not path.is_file():
        reason = failure_text(output, ", ".join(trackers), workspace)
        raise ProtocolError(f"vot {verb} left no {path.name}: {reason}")


def _is_done(workspace: Workspace, tracker: str, sequence: Path) -> bool:
    num_objects = len(list(sequence.glob("groundtruth_object*.txt"))) or 1
    folder = workspace.results / tracker / EXPERIMENT / sequence.name
    return len(list(folder.glob(f"{sequence.name}_*001.bin"))) >= num_objects


def _overall_measures(rows: Mapping[str, Any], place: int) -> Measures:
    (quality,) = rows["Quality"][place]
    accuracy, robustness, _ = rows["AR"][place]
    nre, dre, adq = rows["Auxiliary"][place]
    return Measures(quality, accuracy, robustness, nre, dre, adq)


def _sequence_measures(
    rows: Mapping[str, Any], start: int, sequences: Sequence[str]
) -> dict[str, Measures]:
    if "Quality by sequence" not in rows:
        return {}
    found = {}
    for place, sequence in enumerate(sequences, start=start):
        quality = _first(rows["Quality by sequence"][place])
        accuracy = _first(rows["Accuracy by sequence"][place])
        nre, dre, adq = rows["Auxiliary by sequence"][place]
        # Found, missed and drifted frames share one denominator, so the three shares sum to 1.
        robustness = None if nre is None or dre is None else 1.0 - nre - dre
        found[sequence] = Measures(quality, accuracy, robustness, nre, dre, adq)
    return found


def _first(values: Sequence[float | None] | None) -> float | None:
    return values[0] if values else None
