"""The toolkit's own analyses, down to each object and frame.

A workspace's analysis ends at the sequences. This one asks the toolkit also for the overlap of each
object on each frame and for its counts of frames, so that every number of a report is the
toolkit's; nothing is measured a second time in another way.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from vots_hqtrack.errors import ProtocolError
from vots_hqtrack.io import write_json
from vots_hqtrack.types import ObjectId
from vots_hqtrack.vot.measures import Measures, TrackerMeasures, read_measures
from vots_hqtrack.vot.sequences import SequenceCheck, find_truth, write_sequence_list
from vots_hqtrack.vot.toolkit import failure_text, run_toolkit
from vots_hqtrack.vot.workspace import EXPERIMENT, MEASURES_STACK, Workspace, write_config

_NAME = "report"
_ABSENCE_FRAMES = 10
"""Frames without the object that ADQ needs more than, as in the toolkit."""
_OVERLAPS = {"type": "vot.analysis.accuracy.Overlaps", "burnin": 0, "ignore_unknown": False}
_MORE_ANALYSES = (
    {**_OVERLAPS, "name": "Overlaps"},
    {**_OVERLAPS, "name": "Overlaps where found", "ignore_invisible": True, "threshold": 0},
    {"type": "vot.analysis.longterm.CountFrames", "name": "Counts"},
)


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """Numbers of frames with a known truth by what the tracker made of them.

    Attributes:
        tracked: The object is there, and the mask overlaps it.
        drifted: The object is there, and the mask is elsewhere.
        missed: The object is there, and was reported absent.
        false_alarms: The object is absent, and a mask was reported.
        noticed: The object is absent, and was reported absent.
    """

    tracked: int = 0
    drifted: int = 0
    missed: int = 0
    false_alarms: int = 0
    noticed: int = 0

    def __add__(self, other: FrameCounts) -> FrameCounts:
        """Add two counts."""
        return FrameCounts(
            *(getattr(self, field.name) + getattr(other, field.name) for field in fields(self))
        )


@dataclass(frozen=True, slots=True)
class ObjectAnalysis:
    """The toolkit's numbers of one object.

    Attributes:
        measures: Measures of this object alone.
        counts: Frames by outcome.
        overlaps: Overlap by the frame's index, on frames with a known truth.
    """

    measures: Measures
    counts: FrameCounts
    overlaps: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class TrackerAnalysis:
    """The toolkit's numbers of one tracker.

    Attributes:
        measures: Measures over all sequences, and by sequence.
        curve: Quality plot: thresholds and the fraction of frames with a larger overlap.
        objects: Objects by sequence and id.
    """

    measures: TrackerMeasures
    curve: tuple[tuple[float, float], ...]
    objects: Mapping[str, Mapping[ObjectId, ObjectAnalysis]]


def analyse_objects(
    workspace: Workspace, trackers: Sequence[str], sequences: Sequence[SequenceCheck]
) -> dict[str, TrackerAnalysis]:
    """Let the toolkit analyse whole results of trackers on some of a workspace's sequences.

    It works in a temporary workspace that only links to the results, so nothing is written into
    the user's, and the trackers need not be registered any more.

    Raises:
        ProtocolError: The toolkit left no analysis.
        InputError: The toolkit cannot work with the path of a folder.
    """
    with tempfile.TemporaryDirectory(prefix="hqtrack-report-") as name:
        folder = Path(name)
        own = Workspace(folder, folder / "sequences", folder / "trackers.ini")
        own.sequences.mkdir()
        own.results.symlink_to(workspace.results, target_is_directory=True)
        write_sequence_list(own.sequences, [str(found.folder.absolute()) for found in sequences])
        # The toolkit wants to know a tracker that it reads the results of; none is started.
        text = "".join(
            f"[{tracker}]\nprotocol = traxpython\ncommand = none\n" for tracker in trackers
        )
        own.registry.write_text(text, encoding="utf-8")
        write_json(folder / "stack.yaml", _stack())
        write_config(own, folder, ("stack.yaml",))
        arguments = ["analysis", "--workspace", str(folder), "--name", _NAME, *trackers]
        output = run_toolkit(arguments, own)
        path = folder / "analysis" / f"{_NAME}.json"
        if not path.is_file():
            reason = failure_text(output, ", ".join(trackers), own)
            raise ProtocolError(f"vot analysis left no {path.name}: {reason}")
        return read_analysis(path, sequences)


def read_analysis(path: Path, sequences: Sequence[SequenceCheck]) -> dict[str, TrackerAnalysis]:
    """Read an analysis of the report's stack.

    Raises:
        ProtocolError: The file is not such an analysis.
    """
    measures = read_measures(path)
    try:
        experiment = json.loads(path.read_text(encoding="utf-8"))["results"][EXPERIMENT]
        names = [analysis["name"] for analysis in experiment["parameters"]["analyses"]]
        rows = dict(zip(names, experiment["results"], strict=True))
        found = {}
        for index, tracker in enumerate(measures):
            objects = {
                sequence.name: _objects(rows, index * len(sequences) + number, sequence)
                for number, sequence in enumerate(sequences)
            }
            curve = tuple((float(x), float(y)) for x, y in rows["Quality plot"][index][0])
            found[tracker] = TrackerAnalysis(measures[tracker], curve, objects)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ProtocolError(f"{path} has no analysis of objects: {error!r}") from error
    return found


def _stack() -> dict[str, Any]:
    stack: dict[str, Any] = copy.deepcopy(dict(MEASURES_STACK))
    stack["experiments"][EXPERIMENT]["analyses"] += _MORE_ANALYSES
    return stack


def _objects(
    rows: Mapping[str, Any], index: int, sequence: SequenceCheck
) -> dict[ObjectId, ObjectAnalysis]:
    """Return the objects of one tracker's row of a sequence, by ascending id."""
    overlaps = {
        name: dict(zip(frames, values, strict=True))
        for name, values, frames in rows["Overlaps"][index][0]
    }
    found = {name: values for name, values, _ in rows["Overlaps where found"][index][0]}
    # The counts have no names, but the same order.
    counts = dict(zip(overlaps, rows["Counts"][index][0], strict=True))
    result = {}
    for object_id, file in find_truth(sequence.folder).items():
        tracked, drifted, missed, alarms, noticed = (int(number) for number in counts[file.name])
        count = FrameCounts(tracked, drifted, missed, alarms, noticed)
        values = overlaps[file.name]
        measures = _measures(count, _mean(values.values()), _mean(found[file.name]))
        result[object_id] = ObjectAnalysis(measures, count, values)
    return result


def _mean(values: Iterable[float]) -> float:
    """Mean as the toolkit computes it, to the last digit; 0 where there is nothing."""
    known = list(values)
    return float(np.mean(known)) if known else 0.0


def _measures(counts: FrameCounts, quality: float, accuracy: float) -> Measures:
    num_present = counts.tracked + counts.drifted + counts.missed
    num_absent = counts.false_alarms + counts.noticed
    return Measures(
        quality,
        accuracy,
        counts.tracked / num_present if num_present else None,
        counts.missed / num_present if num_present else None,
        counts.drifted / num_present if num_present else None,
        counts.noticed / num_absent if num_absent > _ABSENCE_FRAMES else None,
    )
