"""Measures of evaluated trackers: those that the toolkit computed, and J, F and speed by us.

The toolkit counts the first frame, where the objects are given, as a miss: a perfect tracker
reaches a quality of ``(n - 1) / n`` on ``n`` frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vots_hqtrack.errors import ProtocolError
from vots_hqtrack.measures import SegmentationMeasures, measure_object
from vots_hqtrack.types import ObjectId
from vots_hqtrack.vot.results import read_result, read_times, result_paths
from vots_hqtrack.vot.sequences import read_groundtruth, read_sequence_info
from vots_hqtrack.vot.workspace import EXPERIMENT, Workspace


@dataclass(frozen=True, slots=True)
class Measures:
    """The VOTS2023 measures, each in ``[0, 1]``; None where nothing could be measured.

    Attributes:
        quality: Mean overlap over all frames, absent objects included.
        accuracy: Mean overlap where the object was found.
        robustness: Fraction of frames with the object on which it was found.
        nre: Not-reported error: fraction of frames with the object on which it was called absent.
        dre: Drift-rate error: fraction of frames with the object on which something else was
            reported.
        adq: Absence-detection quality: fraction of frames without the object on which it was called
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
    """The toolkit's measures of one tracker: over all sequences, and by sequence."""

    overall: Measures
    sequences: Mapping[str, Measures]


def read_measures(path: Path) -> dict[str, TrackerMeasures]:
    """Read the toolkit's analysis of a stack with the VOTS measures.

    Args:
        path: A file that ``vot analysis --format json`` wrote. Measures by sequence are read where
            the stack has them, as that of `vots_hqtrack.vot.workspace` does.

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
                _overall_measures(rows, index),
                _sequence_measures(rows, index * len(sequences), sequences),
            )
            for index, tracker in enumerate(trackers)
        }
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ProtocolError(f"{path} has no analysis of the VOTS measures: {error!r}") from error


def sequence_measures(
    workspace: Workspace, tracker: str, sequence: Path
) -> dict[ObjectId, SegmentationMeasures | None]:
    """Measure J and F of every object of a sequence, as DAVIS defines them.

    Returns:
        By object, means over all frames after the one where it was given; None where the truth of
        none of them is known.

    Raises:
        InputError: Truth or results cannot be read.
    """
    size = read_sequence_info(sequence).size
    truths = read_groundtruth(sequence, size)
    paths = result_paths(workspace, tracker, sequence)
    return {
        object_id: measure_object(read_result(paths[object_id], size), truth)
        for object_id, truth in truths.items()
    }


def mean_seconds(workspace: Workspace, tracker: str) -> float | None:
    """Mean time that the toolkit waited for a frame's masks, in seconds; None without results.

    Raises:
        InputError: A file of times is damaged.
    """
    times: list[float | None] = []
    for folder in sorted((workspace.results_of(tracker) / EXPERIMENT).glob("*/")):
        # Every object's file holds the same times.
        for path in sorted(folder.glob("*_time.value"))[:1]:
            times.extend(read_times(path))
    return mean_of(times)


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are known; None where there are none.

    Example:
        >>> mean_of([1.0, None, 0.5])
        0.75
    """
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _overall_measures(rows: Mapping[str, Any], index: int) -> Measures:
    (quality,) = rows["Quality"][index]
    accuracy, robustness, _ = rows["AR"][index]
    return Measures(quality, accuracy, robustness, *rows["Auxiliary"][index])


def _sequence_measures(
    rows: Mapping[str, Any], start: int, sequences: Sequence[str]
) -> dict[str, Measures]:
    if "Quality by sequence" not in rows:
        return {}
    found = {}
    for index, sequence in enumerate(sequences, start=start):
        quality = _first(rows["Quality by sequence"][index])
        accuracy = _first(rows["Accuracy by sequence"][index])
        nre, dre, adq = rows["Auxiliary by sequence"][index]
        # Found, missed and drifted frames have one denominator, so the three fractions sum to 1.
        robustness = None if nre is None or dre is None else 1.0 - nre - dre
        found[sequence] = Measures(quality, accuracy, robustness, nre, dre, adq)
    return found


def _first(values: Sequence[float | None] | None) -> float | None:
    return values[0] if values else None
