"""One evaluation from start to end: trackers run and measured, report and submission written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vots_hqtrack.types import ObjectId
from vots_hqtrack.vot.evaluation import (
    EvaluationProgress,
    TrackerMeasures,
    analyse,
    evaluate,
    mean_seconds,
    pack,
    sequence_jaccards,
    write_report,
)
from vots_hqtrack.vot.sequences import read_sequence_list
from vots_hqtrack.vot.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Step:
    """What a long run is doing.

    Attributes:
        text: The step, in words; the same as long as it lasts.
        num_done: Parts of it that are done.
        num_parts: Parts in all.
        detail: The part at work, or an empty text.
    """

    text: str
    num_done: int
    num_parts: int
    detail: str = ""


StepCallback = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What an evaluation left.

    Attributes:
        measures: The toolkit's measures by tracker.
        jaccards: Mean intersection over union by tracker, sequence and object.
        seconds: Mean seconds a frame by tracker, as the toolkit waited.
        report_path: The toolkit's HTML report.
        archive_path: The packed submission of the first tracker.
        workspace: Where all that lies.
    """

    measures: Mapping[str, TrackerMeasures]
    jaccards: Mapping[str, Mapping[str, Mapping[ObjectId, float | None]]]
    seconds: Mapping[str, float | None]
    report_path: Path
    archive_path: Path
    workspace: Workspace


def run_evaluation(
    workspace: Workspace,
    trackers: Sequence[str],
    *,
    force: bool = False,
    on_step: StepCallback = lambda step: None,
) -> EvaluationResult:
    """Evaluate, analyse, report and pack.

    Args:
        workspace: Where.
        trackers: Identifiers of the trackers; the first one is packed.
        force: Make results anew that are there already.
        on_step: Told what is being done.

    Returns:
        The measures and where the files lie.

    Raises:
        ProtocolError: A step left no result; the text holds the reason.
        InputError: The sequences cannot be read.
    """
    sequences = read_sequence_list(workspace.sequences)
    for tracker in trackers:
        text = f"run {tracker}"

        def tell(now: EvaluationProgress, text: str = text) -> None:
            on_step(Step(text, now.num_done, now.num_sequences, now.running or ""))

        evaluate(workspace, tracker, force=force, on_progress=tell)
    on_step(Step("measure", 0, 1))
    measures = analyse(workspace, trackers)
    jaccards = {
        tracker: {path.name: sequence_jaccards(workspace, tracker, path) for path in sequences}
        for tracker in trackers
    }
    seconds = {tracker: mean_seconds(workspace, tracker) for tracker in trackers}
    on_step(Step("measure", 1, 1))
    on_step(Step("write the report", 0, 1))
    report_path = write_report(workspace, trackers)
    on_step(Step("write the report", 1, 1))
    on_step(Step(f"pack {trackers[0]}", 0, 1))
    archive_path = pack(workspace, trackers[0])
    on_step(Step(f"pack {trackers[0]}", 1, 1))
    return EvaluationResult(measures, jaccards, seconds, report_path, archive_path, workspace)
