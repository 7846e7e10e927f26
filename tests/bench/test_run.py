"""A measurement is complete, its operations are those that the formula gives, JSON keeps it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest
import torch

from vots_hqtrack.bench.machine import matrix_throughput, peak_memory
from vots_hqtrack.bench.meter import OperatorCounter
from vots_hqtrack.bench.report import Report, compare, read_report
from vots_hqtrack.bench.run import Case, CaseResult, StageResult, run_case
from vots_hqtrack.errors import InputError
from vots_hqtrack.presets import vmos
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.synthetic.discs import SyntheticVideo
from vots_hqtrack.types import Size

SIZE = Size(33, 49)
SETTINGS = ["frame.min_short_edge=0", "memory.capacity=2"]


def measure(num_objects: int, **changes: object) -> CaseResult:
    video = SyntheticVideo(SIZE, num_objects)
    case = Case(apply_settings(vmos(), SETTINGS), "cpu", num_frames=2, square=256)
    case = dataclasses.replace(case, **changes)  # type: ignore[arg-type]
    return run_case(case, [video.frame(index) for index in range(3)], video.masks(0))


@pytest.fixture(scope="module")
def result() -> CaseResult:
    return measure(2)


def test_smoke_every_number_is_there(result: CaseResult) -> None:
    assert result.name == "vmos float32 49x33, objects 2, memory 2"
    assert result.weights in ("preset", "random")
    assert result.num_frames == 2
    assert result.memory_bytes > 0
    assert result.throughput > 0
    assert 0 <= result.seen <= 1
    assert next(iter(result.stages)) == "read file"
    assert list(result.stages)[-1] == "total"
    total = result.stages["total"]
    parts = [stage for name, stage in result.stages.items() if name != "total"]
    assert total.gflop == pytest.approx(sum(part.gflop for part in parts))
    assert total.gbyte == pytest.approx(sum(part.gbyte for part in parts))
    assert total.floor == pytest.approx(sum(part.floor for part in parts))
    identify = result.stages["identify"]
    floors = (identify.gflop / result.throughput, identify.gbyte / result.copy_rate)
    assert identify.floor == pytest.approx(max(floors))
    assert total.fastest >= sum(part.fastest for part in parts) * 0.999
    assert total.fraction == pytest.approx(total.gflop / total.median / result.throughput)


def test_operations_of_the_identity_bank_follow_the_formula(result: CaseResult) -> None:
    """Two 17 x 17 convolutions of 11 labels at stride 16, to 256 and to 128 channels."""
    tokens = 3 * 4  # of 33 x 49 pixels
    wanted = 2 * tokens * 11 * 17 * 17 * (256 + 128) / 1e9
    assert result.stages["identify"].gflop == pytest.approx(wanted)


def test_operators_and_the_bytes_that_they_move() -> None:
    left, right = torch.ones(3, 4), torch.ones(4, 5)
    with OperatorCounter() as counter:
        product = left @ right.mul_(2)
        product.view(5, 3).t()
    assert counter.count == 4
    # in-place: in and out; product: both factors and the result; views: nothing
    assert counter.num_bytes == 4 * (2 * 20 + 12 + 20 + 15)


def test_operators_do_not_grow_with_the_objects(result: CaseResult) -> None:
    assert 0 < result.operators <= measure(10, num_frames=1).operators < 1.3 * result.operators


def test_videos_in_one_batch_are_measured_where_that_is_asked(result: CaseResult) -> None:
    assert result.together == 0
    assert 0 < measure(1, num_frames=1, num_videos=2).together < 10


def test_more_objects_cost_no_more_in_the_encoder(result: CaseResult) -> None:
    many = measure(11, frame_index=5000)
    assert many.name.endswith("objects 11, memory 2, frame 5000")
    assert many.stages["encode"].gflop == result.stages["encode"].gflop
    # Two groups of ten slots instead of one.
    ratio = many.stages["propagate 1/8"].gflop / result.stages["propagate 1/8"].gflop
    assert ratio == pytest.approx(2)
    assert many.memory_bytes == pytest.approx(2 * result.memory_bytes, rel=0.01)


def test_toolkit_gets_regions_and_no_files() -> None:
    stages = measure(1, for_toolkit=True).stages
    assert stages["write regions"].median > 0
    assert "write file" not in stages


def test_processor_time_stands_still_while_others_work() -> None:
    result = measure(1, uses_processor_time=True)
    assert result.clock == "processor"
    clock = Case(vmos(), uses_processor_time=True).clock(torch.device("cpu"))
    before = clock()
    time.sleep(0.3)
    assert clock() - before < 0.1


def test_exception_one_frame_is_too_few() -> None:
    video = SyntheticVideo(SIZE, 1)
    with pytest.raises(InputError, match="got 1"):
        run_case(Case(vmos()), [video.frame(0)], video.masks(0))


def test_json_keeps_everything(result: CaseResult, tmp_path: Path) -> None:
    report = Report("2026-11-21T12:00:00+00:00", {"cores": 2}, {"torch": "2.15"}, [result])
    path = tmp_path / "report.json"
    path.write_text(report.to_json())
    read = read_report(path)
    assert read.cases[0].stages == result.stages
    assert read.to_json() == report.to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "cases": [{}]}'])
def test_exception_other_files_are_no_reports(text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(InputError, match="report"):
        read_report(path)


def make_report(throughput: float, **seconds: float) -> Report:
    stages = {name: StageResult(s, s, s, 1.0, 0.5) for name, s in seconds.items()}
    case = CaseResult("a case", {}, "preset", "wall", "float32", throughput, 8, 1.0, stages, {})
    return Report("now", {}, {}, [case])


def test_comparison_goes_by_the_machine() -> None:
    """Half the throughput excuses twice the time, and no more."""
    old = make_report(100.0, encode=1.0, refine=0.02, total=1.1)
    new = make_report(50.0, encode=2.0, refine=0.2, total=2.6)
    lines = {line.stage: line for line in compare(old, new, tolerance=1.15)}
    assert lines["encode"].ratio == pytest.approx(1.0)
    assert not lines["encode"].is_regression
    assert lines["total"].ratio == pytest.approx(1.3 / 1.1)
    assert lines["total"].is_regression
    assert lines["refine"].is_regression  # five times, and 8 % of the new frame
    tolerant = compare(old, new, tolerance=6)
    assert not any(line.is_regression for line in tolerant)


def test_small_stages_are_noise() -> None:
    old = make_report(100.0, encode=1.0, refine=0.001, total=1.001)
    new = make_report(100.0, encode=1.0, refine=0.01, total=1.01)
    assert not any(line.is_regression for line in compare(old, new, tolerance=1.15))


def test_exception_nothing_to_compare() -> None:
    old = make_report(100.0, total=1.0)
    other = dataclasses.replace(old.cases[0], name="another case")
    with pytest.raises(InputError, match="another case"):
        compare(old, dataclasses.replace(old, cases=[other]), tolerance=1.15)
    processor = dataclasses.replace(old.cases[0], clock="processor")
    with pytest.raises(InputError, match="wall and processor"):
        compare(old, dataclasses.replace(old, cases=[processor]), tolerance=1.15)
    with pytest.raises(InputError, match="at least 1"):
        compare(old, old, tolerance=0.9)


def test_throughput_and_memory_are_plausible() -> None:
    assert 0.1 < matrix_throughput(torch.float32, torch.device("cpu"), side=512) < 1e6
    assert peak_memory(torch.device("cpu"))["resident"] > 10**7
