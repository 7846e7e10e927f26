from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from evaluated_results import EMPTY, NUM_FRAMES, TRACKERS, TRUTH, make_evaluated, square
from hypothesis import given, settings
from hypothesis import strategies as st

from vots_hqtrack.errors import ConfigError, InputError, ProtocolError
from vots_hqtrack.types import Size
from vots_hqtrack.vot.report.ablation import ablation_table, count_changed, make_variants, unchanged
from vots_hqtrack.vot.report.analyses import FrameCounts, read_analysis
from vots_hqtrack.vot.report.attributes import ATTRIBUTES, measure_attributes
from vots_hqtrack.vot.report.collect import ReportData, collect
from vots_hqtrack.vot.report.contents import make_tables
from vots_hqtrack.vot.report.differences import paired_difference
from vots_hqtrack.vot.run import analyse
from vots_hqtrack.vot.sequences import write_sequence
from vots_hqtrack.vot.workspace import Workspace, make_workspace


@pytest.mark.vot
def test_numbers_equal_those_of_vot_analysis(report_data: ReportData, evaluated: Workspace) -> None:
    """To the last digit: over all sequences, by sequence, and objects that make a sequence up."""
    registry = evaluated.folder / "trackers.ini"
    registry.write_text(
        "".join(f"[{name}]\nprotocol = traxpython\ncommand = none\n" for name in TRACKERS)
    )
    space = make_workspace(evaluated.folder, evaluated.sequences, registry)
    theirs = analyse(space, TRACKERS, [sequence.name for sequence in report_data.measured])
    for tracker in TRACKERS:
        ours = report_data.analyses[tracker]
        assert ours.measures == theirs[tracker]
        alone = ours.objects["alone"][1].measures
        assert alone.quality == theirs[tracker].sequences["alone"].quality
        assert alone.accuracy == theirs[tracker].sequences["alone"].accuracy
        assert (alone.nre, alone.dre) == (
            theirs[tracker].sequences["alone"].nre,
            theirs[tracker].sequences["alone"].dre,
        )
        several = [each.measures for each in ours.objects["two & more"].values()]
        for name in ("quality", "accuracy", "robustness", "nre", "dre"):
            mean = np.mean([getattr(each, name) for each in several])
            assert getattr(theirs[tracker].sequences["two & more"], name) == pytest.approx(mean)
        # The area under the plot of 100 points is near the quality.
        heights = [height for _, height in ours.curve]
        assert np.mean(heights) == pytest.approx(ours.measures.overall.quality, abs=0.02)


@pytest.mark.vot
def test_outcomes_of_frames(report_data: ReportData) -> None:
    good = report_data.analyses["Good"].objects["two & more"]
    assert good[1].counts == FrameCounts(tracked=15, missed=1)
    assert good[2].counts == FrameCounts(tracked=3, missed=1, noticed=12)
    copy = report_data.analyses["Copy"].objects["two & more"][2]
    assert copy.counts == FrameCounts(tracked=3, missed=1, false_alarms=12)
    assert copy.measures.adq == 0
    late = report_data.analyses["Late_1"].objects["alone"][1]
    assert late.counts == FrameCounts(tracked=9, missed=7)
    assert report_data.overlap_over_frames("Good", "alone")[5] == 1
    known = report_data.analyses["Good"].objects["two & more"][3].overlaps
    assert list(known) == list(range(4, NUM_FRAMES))


@pytest.mark.vot
def test_results_without_truth(report_data: ReportData) -> None:
    assert [sequence.name for sequence in report_data.measured] == ["two & more", "alone"]
    hidden = report_data.outputs["Late_1"]["hidden"]
    assert hidden.seconds == 1.0
    assert hidden.objects[1].absence == pytest.approx(6 / 15)
    assert hidden.objects[1].area == pytest.approx(144 / 2400)
    assert report_data.mean_seconds("Copy") == 1.5
    assert report_data.agreement[("Good", "Copy")]["hidden"] == 1
    assert report_data.agreement[("Good", "Late_1")]["hidden"] == pytest.approx(9 / 15)


def test_only_truth_of_first_frames(tmp_path: Path) -> None:
    """As VOTS2023 itself: no toolkit is needed, and the tables have what can be had."""
    space = make_evaluated(tmp_path, {"hidden": TRUTH["hidden"]})
    data = collect(space, ["Good", "Copy"])
    assert not data.measured
    assert [table.name for table in make_tables(data)] == ["agreement", "outputs"]


@pytest.mark.parametrize("loss", ["tracker", "file", "cut", "times"])
def test_exception_results_that_are_not_whole(tmp_path: Path, loss: str) -> None:
    space = make_evaluated(tmp_path, {"hidden": TRUTH["hidden"]})
    path = space.results / "Good" / "baseline" / "hidden" / "hidden_object2_001.bin"
    if loss == "tracker":
        shutil.rmtree(space.results / "Good")
        message = "has no results of Good: it has those of Copy, Late_1"
    elif loss == "times":
        path.with_name(f"{path.stem}_time.value").write_text("0.5\n")
        message = "on hidden are not complete: .* 1 lines for 16 frames"
    else:
        content = path.read_bytes()
        path.unlink()
        if loss == "cut":
            path.write_bytes(content[:-3])
        message = "results of Good on hidden are not complete: .*evaluate again"
    with pytest.raises(InputError, match=message):
        collect(space, ["Copy", "Good"])


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"results": {"baseline": {}}}'])
def test_exception_other_analyses(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ProtocolError, match="has no analysis of"):
        read_analysis(path, [])


def test_attributes_of_the_truth(tmp_path: Path) -> None:
    truth = {
        1: [square(3 * index) for index in range(4)],
        2: [square(3 * index + 6) if index != 1 else EMPTY for index in range(4)],
        5: [None, None, square(40, side=10), None],
    }
    folder = tmp_path / "s"
    write_sequence(folder, [np.zeros((*EMPTY.shape, 3), np.uint8)] * 4, truth)
    found = measure_attributes(folder, Size(*EMPTY.shape))
    assert found[1].size == pytest.approx(144 / 2400)
    assert (found[1].absence, found[2].absence) == (0, 0.25)
    assert found[1].speed == pytest.approx(3 / 12)
    assert found[2].speed == pytest.approx(3 / 12)  # of the last two frames alone
    assert found[5].speed is None
    # Half of the box is in the other one, on three frames of four.
    assert found[1].overlap == pytest.approx(0.5 * 3 / 4)
    assert {each.num_objects for each in found.values()} == {3}
    classes = {each.name: each.class_of(found[2]) for each in ATTRIBUTES}
    assert classes == {
        "size": "above 5 %",
        "absence": "above 20 %",
        "objects": "2 or 3",
        "overlap": "above 25 %",
        "speed": "above 0.1",
    }
    assert [each.class_of(found[5]) for each in ATTRIBUTES][-1] is None


def test_a_difference_and_its_interval() -> None:
    first = [0.5, 0.6, 0.7, None, 0.2]
    second = [0.6, 0.7, 0.7, 0.9, 0.1]
    found = paired_difference(first, second)
    assert found is not None
    assert found.mean == pytest.approx(0.025)
    assert (found.num_higher, found.num_lower, found.num_equal) == (2, 1, 1)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high
    assert paired_difference(first, second) == found  # from a fixed seed
    swapped = paired_difference(second, first)
    assert swapped is not None
    assert swapped.mean == -found.mean
    clear = paired_difference([0.1] * 5, [0.2, 0.3, 0.25, 0.2, 0.3])
    assert clear is not None
    assert clear.low is not None
    assert clear.low > 0
    assert paired_difference([None], [0.5]) is None


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6))
def test_an_interval_holds_the_mean(pairs: list[tuple[float, float]]) -> None:
    found = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
    assert found is not None
    assert found.num_higher + found.num_lower + found.num_equal == len(pairs)
    if len(pairs) == 1:
        assert (found.low, found.high) == (None, None)
    else:
        assert found.low is not None
        assert found.high is not None
        assert found.low - 1e-12 <= found.mean <= found.high + 1e-12


@pytest.mark.vot
def test_an_ablation_says_which_variant_changed_nothing(report_data: ReportData) -> None:
    variants = make_variants("Good", "lite", [], ["memory.gap=5", "preset=vmos memory.gap=5"])
    assert [each.identifier for each in variants] == [
        "Good",
        "Good-memory-gap-5",
        "Good-preset-vmos-memory-gap-5",
    ]
    assert variants[2].preset == "vmos"
    assert variants[2].settings == ("memory.gap=5",)
    # The results of other trackers stand for those of the variants.
    names = ("Good", "Good", "Copy")
    stand_ins = [
        dataclasses.replace(variant, identifier=name)
        for variant, name in zip(variants, names, strict=True)
    ]
    table = ablation_table(report_data, stand_ins)
    assert unchanged(table) == ["memory.gap=5"]
    changed, total = count_changed(report_data, "Good", "Copy")
    assert total == 6 * NUM_FRAMES
    # Copy differs on the moving objects after their start, and on the absent one.
    assert changed == 15 + 12 + 15
    assert table.rows[2][-1] == changed / total


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (["a.b=1", "a.b=1"], "two variants have the name N-a-b-1"),
        (["a.b=1-0", "a.b=1.0"], "two variants have the name"),
        (["  "], "at least one setting"),
        (["preset=lite preset=vmos"], "one preset, got lite, vmos"),
    ],
)
def test_exception_variants(variants: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_variants("N", "lite", [], variants)
