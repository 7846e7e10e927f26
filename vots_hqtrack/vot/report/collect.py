"""Everything that a report shows, as numbers: measures, attributes, masks without truth, speed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.measures import SegmentationMeasures, jaccard, mean_measures
from vots_hqtrack.types import MaskArray, ObjectId
from vots_hqtrack.vot.measures import mean_of, sequence_measures
from vots_hqtrack.vot.report.analyses import FrameCounts, TrackerAnalysis, analyse_objects
from vots_hqtrack.vot.report.attributes import ObjectAttributes, measure_attributes
from vots_hqtrack.vot.results import (
    read_result,
    read_times,
    result_fault,
    result_paths,
    time_path,
)
from vots_hqtrack.vot.run import Step, StepCallback, check_sequences
from vots_hqtrack.vot.sequences import SequenceCheck
from vots_hqtrack.vot.workspace import EXPERIMENT, Workspace


@dataclass(frozen=True, slots=True)
class MaskStatistics:
    """Reported masks of one object, which need no truth; the frame where it was given is left out.

    Attributes:
        area: Mean area of the masks that have pixels, as a fraction of the frame; None without any.
        absence: Fraction of frames on which the object was reported absent; None without frames.
    """

    area: float | None
    absence: float | None


@dataclass(frozen=True, slots=True)
class TrackerOutput:
    """Results of one tracker on one sequence as such.

    Attributes:
        seconds: Mean seconds for a frame, as the toolkit waited.
        objects: Masks by object.
    """

    seconds: float | None
    objects: Mapping[ObjectId, MaskStatistics]


@dataclass(frozen=True, slots=True)
class ReportData:
    """Numbers of a report.

    Attributes:
        workspace: Workspace with the results.
        trackers: Identifiers, in the order of the report.
        sequences: All sequences, in order.
        measured: Sequences with truth after the frames where the objects start.
        analyses: The toolkit's numbers by tracker; empty without measured sequences.
        segmentation: J and F by tracker, measured sequence and object.
        attributes: Attributes of the objects by measured sequence.
        outputs: Results as such, by tracker and sequence.
        agreement: Mean overlap of the masks of two trackers, by pair and sequence.
    """

    workspace: Workspace
    trackers: tuple[str, ...]
    sequences: tuple[SequenceCheck, ...]
    measured: tuple[SequenceCheck, ...]
    analyses: Mapping[str, TrackerAnalysis]
    segmentation: Mapping[str, Mapping[str, Mapping[ObjectId, SegmentationMeasures | None]]]
    attributes: Mapping[str, Mapping[ObjectId, ObjectAttributes]]
    outputs: Mapping[str, Mapping[str, TrackerOutput]]
    agreement: Mapping[tuple[str, str], Mapping[str, float]]

    def sequence_segmentation(self, tracker: str, sequence: str) -> SegmentationMeasures | None:
        """J and F of a tracker on a sequence, means over its objects."""
        return mean_measures(self.segmentation[tracker][sequence].values())

    def mean_segmentation(self, tracker: str) -> SegmentationMeasures | None:
        """J and F of a tracker, means over the sequences."""
        return mean_measures(
            self.sequence_segmentation(tracker, sequence.name) for sequence in self.measured
        )

    def mean_seconds(self, tracker: str) -> float | None:
        """Seconds per frame over all frames of all sequences."""
        times = [
            (self.outputs[tracker][sequence.name].seconds, sequence.num_frames)
            for sequence in self.sequences
        ]
        known = [(seconds, count) for seconds, count in times if seconds is not None]
        total = sum(count for _, count in known)
        return sum(seconds * count for seconds, count in known) / total if total else None

    def counts(self, tracker: str) -> FrameCounts:
        """Frames of all measured objects by what the tracker made of them."""
        objects = self.analyses[tracker].objects.values()
        found = (each.counts for sequence in objects for each in sequence.values())
        return sum(found, FrameCounts())

    def overlap_over_frames(self, tracker: str, sequence: str) -> dict[int, float]:
        """Mean overlap of a sequence's objects by frame, where the truth of one is known."""
        by_frame: dict[int, list[float]] = {}
        for found in self.analyses[tracker].objects[sequence].values():
            for index, overlap in found.overlaps.items():
                by_frame.setdefault(index, []).append(overlap)
        return {index: float(np.mean(by_frame[index])) for index in sorted(by_frame)}


def collect(
    workspace: Workspace, trackers: Sequence[str], on_step: StepCallback = lambda step: None
) -> ReportData:
    """Read and measure the results of trackers on all sequences of a workspace.

    Raises:
        InputError: A tracker has no whole results on a sequence, or a sequence cannot be used.
        ProtocolError: The toolkit left no analysis.
    """
    trackers = tuple(dict.fromkeys(trackers))
    if not trackers:
        raise InputError("a report needs at least one tracker, got none")
    sequences = tuple(check_sequences(workspace.sequences))
    for tracker in trackers:
        _check_results(workspace, tracker, sequences)
    measured = tuple(sequence for sequence in sequences if sequence.is_measurable)
    analyses: Mapping[str, TrackerAnalysis] = {}
    if measured:
        on_step(Step("measure", 0, 1))
        analyses = analyse_objects(workspace, trackers, measured)
        on_step(Step("measure", 1, 1))
    segmentation = {
        tracker: {
            sequence.name: sequence_measures(workspace, tracker, sequence.folder)
            for sequence in _steps(f"J and F of {tracker}", measured, on_step)
        }
        for tracker in trackers
    }
    outputs: dict[str, dict[str, TrackerOutput]] = {tracker: {} for tracker in trackers}
    agreement: dict[tuple[str, str], dict[str, float]] = {
        pair: {} for pair in itertools.combinations(trackers, 2)
    }
    for sequence in _steps("read masks", sequences, on_step):
        masks = _Masks(trackers)
        masks.read(workspace, sequence)
        for tracker in trackers:
            outputs[tracker][sequence.name] = masks.output(tracker)
        for pair, values in agreement.items():
            if (overlap := masks.agreement(pair)) is not None:
                values[sequence.name] = overlap
    attributes = {
        sequence.name: measure_attributes(sequence.folder, sequence.size)
        for sequence in _steps("attributes", measured, on_step)
    }
    return ReportData(
        workspace,
        trackers,
        sequences,
        measured,
        analyses,
        segmentation,
        attributes,
        outputs,
        agreement,
    )


class _Masks:
    """Masks of trackers on one sequence, summed up."""

    def __init__(self, trackers: tuple[str, ...]) -> None:
        self._trackers = trackers
        self._seconds: dict[str, float | None] = {}
        self._areas: dict[str, dict[ObjectId, list[float]]] = {}
        self._overlaps: dict[tuple[str, str], list[float]] = {}

    def read(self, workspace: Workspace, sequence: SequenceCheck) -> None:
        """Read all results on a sequence, a frame at a time."""
        paths = {t: result_paths(workspace, t, sequence.folder) for t in self._trackers}
        for tracker, files in paths.items():
            times = read_times(time_path(next(iter(files.values()))))
            self._seconds[tracker] = mean_of(times)
            self._areas[tracker] = {object_id: [] for object_id in files}
        for object_id in paths[self._trackers[0]]:
            readers = [read_result(paths[t][object_id], sequence.size) for t in self._trackers]
            for masks in zip(*readers, strict=True):
                self._add(object_id, dict(zip(self._trackers, masks, strict=True)))

    def _add(self, object_id: ObjectId, masks: Mapping[str, MaskArray | None]) -> None:
        for tracker, mask in masks.items():
            if mask is not None:
                self._areas[tracker][object_id].append(np.count_nonzero(mask) / mask.size)
        for left, right in itertools.combinations(masks, 2):
            first, second = masks[left], masks[right]
            if first is not None and second is not None:
                values = self._overlaps.setdefault((left, right), [])
                values.append(jaccard(first, second))

    def output(self, tracker: str) -> TrackerOutput:
        """Return what one tracker reported."""
        objects = {}
        for object_id, areas in self._areas[tracker].items():
            present = [area for area in areas if area]
            absence = 1 - len(present) / len(areas) if areas else None
            objects[object_id] = MaskStatistics(mean_of(present), absence)
        return TrackerOutput(self._seconds[tracker], objects)

    def agreement(self, pair: tuple[str, str]) -> float | None:
        """Return the mean overlap of two trackers' masks."""
        return mean_of(self._overlaps.get(pair, []))


def _check_results(workspace: Workspace, tracker: str, sequences: Sequence[SequenceCheck]) -> None:
    """Refuse a tracker without whole results, before anything is computed."""
    folder = workspace.results_of(tracker)
    if not folder.is_dir():
        known = sorted(path.name for path in workspace.results.glob("*/") if path.is_dir())
        has = f"it has those of {', '.join(known)}" if known else "evaluate it first"
        raise InputError(f"{workspace.folder} has no results of {tracker}: {has}")
    for sequence in sequences:
        fault = result_fault(folder / EXPERIMENT / sequence.name, sequence)
        if fault is not None:
            reason = f"the results of {tracker} on {sequence.name} are not complete: {fault}"
            raise InputError(f"{reason}; evaluate again")


def _steps(
    text: str, sequences: Sequence[SequenceCheck], on_step: StepCallback
) -> Iterator[SequenceCheck]:
    """Yield sequences, and report each as a part of a step."""
    for index, sequence in enumerate(sequences):
        on_step(Step(text, index, len(sequences), sequence.name))
        yield sequence
    if sequences:
        on_step(Step(text, len(sequences), len(sequences)))
