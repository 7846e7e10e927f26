"""One evaluation from start to end: trackers run and measured, report and submission written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vots_hqtrack.measures import SegmentationMeasures, mean_measures
from vots_hqtrack.types import ObjectId
from vots_hqtrack.vot.evaluation import (
    EvaluationProgress,
    TrackerMeasures,
    analyse,
    evaluate,
    mean_seconds,
    pack,
    sequence_measures,
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
        segmentation: J and F by tracker, sequence and object.
        seconds: Mean seconds a frame by tracker, as the toolkit waited.
        report_path: The toolkit's HTML report.
        archive_path: The packed submission of the first tracker.
        workspace: Where all that lies.
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
    segmentation = {
        tracker: {path.name: sequence_measures(workspace, tracker, path) for path in sequences}
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
    result = EvaluationResult(measures, segmentation, seconds, report_path, archive_path, workspace)
    result.measures_path.write_text(result.to_json() + "\n", encoding="utf-8")
    return result


def _to_dict(measures: SegmentationMeasures | None) -> dict[str, float]:
    return {} if measures is None else measures.to_dict()
