"""Measurements as JSON, and the comparison of two runs, each on its own machine's scale."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vots_hqtrack.bench.run import FLOPS_BY, CaseResult, StageResult
from vots_hqtrack.errors import InputError

FORMAT_VERSION = 1

MIN_FRACTION = 0.05
"""A stage that takes less of a frame than this is noise, and cannot fail a comparison alone."""

Record = TypeVar("Record", CaseResult, StageResult)


@dataclass(frozen=True, slots=True)
class Report:
    """Measurements of one run.

    Attributes:
        made: Date and time, ISO 8601.
        hardware: Description of the machine.
        versions: Versions of the packages that matter.
        cases: One result per case.
    """

    made: str
    hardware: Mapping[str, object]
    versions: Mapping[str, str | None]
    cases: Sequence[CaseResult]

    def to_json(self) -> str:
        """Write the report as JSON."""
        head = {"format": FORMAT_VERSION, "gflop": FLOPS_BY}
        return json.dumps({**head, **dataclasses.asdict(self)}, indent=2)


@dataclass(frozen=True, slots=True)
class StageComparison:
    """One stage of one case in two runs.

    Attributes:
        case: Name of the case.
        stage: Name of the stage.
        ratio: Work of the new run relative to the old one, above 1 is slower. Work is seconds times
            the matrix throughput of the same run, so that another or a busy machine counts less.
        is_regression: The ratio is above the tolerance.
    """

    case: str
    stage: str
    ratio: float
    is_regression: bool


def read_report(path: Path) -> Report:
    """Read a report that ``hqtrack bench --json`` wrote.

    Raises:
        InputError: The file cannot be read, or is not such a report.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT_VERSION:
            raise InputError(
                f"wanted a report of format {FORMAT_VERSION}, got {content['format']}: {path}"
            )
        cases = [_read_case(case) for case in content["cases"]]
        return Report(content["made"], content["hardware"], content["versions"], cases)
    except OSError as error:
        raise InputError(f"cannot read the report {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a report of hqtrack bench: {error}") from error


def compare(old: Report, new: Report, *, tolerance: float) -> list[StageComparison]:
    """Compare two runs case by case and stage by stage, by their fastest frames.

    Args:
        old: Baseline.
        new: Run to be judged.
        tolerance: Largest ratio that is not a regression, at least 1.

    Returns:
        A line for every stage of both runs, ``total`` last in each case. A stage below 5 % of its
        frame in both is never a regression.

    Raises:
        InputError: The runs have no case in common or other clocks, or the tolerance is below 1.
    """
    if not (math.isfinite(tolerance) and tolerance >= 1):
        raise InputError(f"the tolerance is a ratio of at least 1, got {tolerance}")
    before = {case.name: case for case in old.cases}
    pairs = [(before[case.name], case) for case in new.cases if case.name in before]
    if not pairs:
        raise InputError(
            "the two reports have no case in common: "
            f"{'; '.join(before)} against {'; '.join(case.name for case in new.cases)}"
        )
    return [line for pair in pairs for line in _compare_case(*pair, tolerance=tolerance)]


def _compare_case(old: CaseResult, new: CaseResult, *, tolerance: float) -> list[StageComparison]:
    if old.clock != new.clock:
        raise InputError(f"{new.name}: wanted the same clock, got {old.clock} and {new.clock}")
    lines = []
    for stage, after in new.stages.items():
        earlier = old.stages.get(stage)
        if earlier is None or earlier.fastest <= 0:
            continue
        ratio = after.fastest * new.throughput / (earlier.fastest * old.throughput)
        counts = max(_fraction(old, stage), _fraction(new, stage)) >= MIN_FRACTION
        lines.append(StageComparison(new.name, stage, ratio, ratio > tolerance and counts))
    return lines


def _fraction(case: CaseResult, stage: str) -> float:
    total = case.stages["total"].fastest
    return case.stages[stage].fastest / total if total > 0 else 0.0


def _read_case(content: dict[str, Any]) -> CaseResult:
    stages = {name: _read(StageResult, numbers) for name, numbers in content["stages"].items()}
    return _read(CaseResult, {**content, "stages": stages})


def _read(kind: type[Record], content: Mapping[str, Any]) -> Record:
    """Take the known fields; reports of earlier versions name some of the others differently."""
    names = [field.name for field in dataclasses.fields(kind)]
    return kind(**{name: content[name] for name in names if name in content})
