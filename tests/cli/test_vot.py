from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from vots_hqtrack.cli.main import app
from vots_hqtrack.cli.steps import measures_table, show_as_lines
from vots_hqtrack.demo import run as demo_run
from vots_hqtrack.errors import ProtocolError
from vots_hqtrack.measures import SegmentationMeasures
from vots_hqtrack.types import ObjectId
from vots_hqtrack.video.label_maps import write_label_map
from vots_hqtrack.vot import run as vot_run
from vots_hqtrack.vot.measures import Measures, TrackerMeasures
from vots_hqtrack.vot.registry import BASELINE_TRACKER, read_registry
from vots_hqtrack.vot.sequences import (
    read_groundtruth,
    read_sequence_info,
    read_sequence_list,
    write_sequence,
    write_sequence_list,
)
from vots_hqtrack.vot.workspace import Workspace

HEIGHT, WIDTH = 40, 60


def hqtrack(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def vos_set(tmp_path: Path) -> Path:
    """A DAVIS-like set of three sequences, in each of which a square moves."""
    root = tmp_path / "set"
    for name in ("ant", "bee", "cow"):
        frames, annotations = (
            root / kind / "480p" / name for kind in ("JPEGImages", "Annotations")
        )
        frames.mkdir(parents=True)
        annotations.mkdir(parents=True)
        for place in range(4):
            label_map = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
            label_map[10:20, 10 + 2 * place : 20 + 2 * place] = 1
            cv2.imwrite(str(frames / f"{place:05d}.jpg"), np.dstack([label_map * 200] * 3))
            write_label_map(annotations / f"{place:05d}.png", label_map)
    return root


@pytest.fixture
def sequences(vos_set: Path, tmp_path: Path) -> Path:
    out = tmp_path / "sequences"
    assert hqtrack("vot", "import-vos", vos_set, "--out", out).exit_code == 0
    return out


@pytest.mark.parametrize(
    "names", [["--sequences", "cow", "ant"], ["--sequences", "cow,ant"], ["cow", "ant"]]
)
def test_import_takes_names_in_order(vos_set: Path, tmp_path: Path, names: list[str]) -> None:
    out = tmp_path / "out"
    result = hqtrack("vot", "import-vos", vos_set, *names, "--out", out)
    assert result.exit_code == 0, result.output
    folders = read_sequence_list(out)
    assert [folder.name for folder in folders] == ["cow", "ant"]
    info = read_sequence_info(folders[0])
    assert len(info.frame_paths) == 4
    masks = read_groundtruth(folders[0], info.size)[1]
    assert [int(mask.sum()) for mask in masks if mask is not None] == [100] * 4
    assert "cow: 4 frames, 1 objects" in result.stderr
    assert f"2 sequences in {out}" in result.stdout


def test_import_of_a_broken_set(vos_set: Path, tmp_path: Path) -> None:
    result = hqtrack("vot", "import-vos", vos_set / "Annotations", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "wanted JPEGImages/<sequence>/*.jpg" in result.stderr
    result = hqtrack("vot", "import-vos", vos_set, "--sequences", "dog", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "has no sequence dog; it has ant, bee, cow" in result.stderr


@pytest.mark.vot
def test_evaluate_prints_the_measures(vos_set: Path, tmp_path: Path) -> None:
    sequences = tmp_path / "sequences"
    hqtrack("vot", "import-vos", vos_set, "bee", "--out", sequences)
    square = np.zeros((HEIGHT, WIDTH), dtype=bool)
    square[5:15, 5:15] = True
    frames = [np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)] * 2
    write_sequence(sequences / "two", frames, {1: [square] * 2, 5: [np.roll(square, 20)] * 2})
    write_sequence_list(sequences, ["bee", "two"])
    words = ("vot", "evaluate", BASELINE_TRACKER, "--sequences", sequences, "--baseline")
    result = hqtrack(*words, "--workspace", tmp_path / "space")
    assert result.exit_code == 0, result.output
    measures = ["Qual.", "Acc.", "Rob.", "NRE", "DRE", "ADQ", "J", "F", "J&F"]
    assert [*measures, "s/frame"] in [line.split() for line in result.stdout.splitlines()]
    # The square moves by 2 of 10 pixels a frame: 8/12, 6/14, 4/16 after the given frame's 0.
    jaccards = [8 / 12, 6 / 14, 4 / 16]
    (row,) = re.findall(r"^ *bee +(.*)$", result.stdout, re.M)
    values = row.split()
    assert float(values[0]) == pytest.approx(sum(jaccards) / 4, abs=1e-3)
    assert float(values[2]) == pytest.approx(3 / 4, abs=1e-3)
    assert values[5] == "-"
    assert float(values[6]) == pytest.approx(sum(jaccards) / 3, abs=1e-3)
    # A boundary matches within 1 pixel: the 11 x 11 ring's upper and lower rows but for their ends.
    boundaries = [(2 * (11 - shift + 1) + 2) / 40 for shift in (2, 4, 6)]
    assert float(values[7]) == pytest.approx(sum(boundaries) / 3, abs=1e-3)
    assert float(values[8]) == pytest.approx((sum(jaccards) + sum(boundaries)) / 6, abs=1e-3)
    (path,) = re.findall(r"^measures: +(.*)$", result.stdout, re.M)
    bee = json.loads(Path(path).read_text())["trackers"][BASELINE_TRACKER]["sequences"]["bee"]
    assert bee["quality"] == pytest.approx(sum(jaccards) / 4)
    assert bee["J"] == bee["objects"]["1"]["J"] == pytest.approx(sum(jaccards) / 3)
    assert bee["F"] == bee["objects"]["1"]["F"] == pytest.approx(sum(boundaries) / 3)
    (path,) = re.findall(r"^report: +(.*)$", result.stdout, re.M)
    assert "VOT" in Path(path).read_text(encoding="utf-8")
    (path,) = re.findall(r"^submission: +(.*)$", result.stdout, re.M)
    with zipfile.ZipFile(path) as packed:
        names = packed.namelist()
        manifest = packed.read("manifest.yml").decode()
    assert "baseline/two/two_object5_001.bin" in names
    assert "baseline/bee/bee_001.bin" in names
    assert f"identifier: {BASELINE_TRACKER}" in manifest
    assert "stack: vots2023" in manifest


def test_table_of_several_objects_is_80_columns_wide(tmp_path: Path) -> None:
    """An object has its row where there are several; one that was never measured has dashes."""
    vots = Measures(0.5, 0.625, 0.75, 0.125, 0.125, None)
    space = Workspace(tmp_path, tmp_path, tmp_path)
    pair = {ObjectId(1): SegmentationMeasures(0.25, 0.5), ObjectId(12): None}
    lone = {ObjectId(1): SegmentationMeasures(0.75, 1.0)}
    result = vot_run.EvaluationResult(
        {"HQTrack": TrackerMeasures(vots, {"breakdance-flare": vots, "lone": vots})},
        {"HQTrack": {"breakdance-flare": pair, "lone": lone}},
        {"HQTrack": 0.25},
        tmp_path,
        tmp_path,
        space,
    )
    console = Console(width=80, file=io.StringIO())
    with console.capture() as capture:
        console.print(measures_table(result))
    rows = [line.split() for line in capture.get().splitlines()]
    shown = ["0.500", "0.625", "0.750", "0.125", "0.125", "-"]
    assert ["HQTrack", *shown, "0.500", "0.750", "0.625", "0.25"] in rows
    assert ["breakdance-flare", *shown, "0.250", "0.500", "0.375"] in rows
    assert ["1", "0.250", "0.500", "0.375"] in rows
    assert ["12", "-", "-", "-"] in rows
    assert ["lone", *shown, "0.750", "1.000", "0.875"] in rows
    assert len([row for row in rows if row[:1] == ["1"]]) == 1
    written = json.loads(result.to_json())["trackers"]["HQTrack"]
    assert [written["J"], written["F"], written["J&F"]] == [0.5, 0.75, 0.625]
    assert written["sequences"]["breakdance-flare"]["objects"] == {
        "1": {"J": 0.25, "F": 0.5, "J&F": 0.375},
        "12": {},
    }


def test_a_long_step_without_a_terminal_is_reported_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for repeat_s, num_lines in ((-1.0, 4), (60.0, 2)):
        show = show_as_lines(repeat_s)
        for num_done, detail in ((0, "2 at work"), (1, "2 at work, 5.0 frames/s"), (2, "")):
            show(vot_run.Step("run A", num_done, 2, detail))
        lines = capsys.readouterr().err.splitlines()
        assert (lines[0], lines[-1]) == ("run A ...", "run A: done (0 s)")
        assert (
            lines[1:-1]
            == [
                "run A: 0 of 2, 2 at work",
                "run A: 1 of 2, 2 at work, 5.0 frames/s",
            ][: num_lines - 2]
        )


def test_evaluate_refuses_to_mix_results(sequences: Path, tmp_path: Path) -> None:
    space = tmp_path / "space"
    registry = tmp_path / "own.ini"
    registry.write_text("[Mine]\nprotocol = traxpython\ncommand = mine\n")
    own = ("vot", "evaluate", "--sequences", sequences, "--registry", registry)
    result = hqtrack(*own, "--workspace", space)
    assert result.exit_code == 2
    assert "has no tracker HQTrack; it has Mine" in result.stderr
    result = hqtrack(*own, "--workspace", space, "--preset", "lite")
    assert result.exit_code == 2
    assert "have their own options" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["Mine", "--registry", "missing.ini"],
        ["Mine", "--registry", "own.ini"],
        ["--preset", "none"],
        ["HQ_Track"],
        ["../up"],
        ["--weights", "gone.safetensors"],
        ["--device", "tpu"],
        [BASELINE_TRACKER, "--preset", "lite-vmos"],
    ],
)
def test_an_evaluation_that_is_refused_leaves_no_workspace(
    sequences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.ini").write_text("[Other]\nprotocol = traxpython\ncommand = mine\n")
    result = hqtrack(
        "vot", "evaluate", *words, "--sequences", sequences, "--workspace", "new/space"
    )
    assert result.exit_code in (2, 3), result.output
    assert result.stderr.startswith("error: ")
    assert not Path("new").exists()


@pytest.mark.weights
def test_evaluate_keeps_results_of_other_options(
    sequences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = tmp_path / "space"
    ran: list[str] = []

    def fail(workspace: object, trackers: list[str], **options: object) -> None:
        ran.extend(trackers)
        raise ProtocolError("the tracker gave up\n  its last words")

    monkeypatch.setattr(vot_run, "run_evaluation", fail)
    words = ("vot", "evaluate", "A1", "--sequences", sequences, "--workspace", space)
    result = hqtrack(*words)
    assert result.exit_code == 4
    assert result.stderr.splitlines()[-2:] == ["  its last words", "error: the tracker gave up"]
    assert read_registry(space / "trackers.ini") == ["A1", BASELINE_TRACKER]
    (space / "results" / "A1").mkdir(parents=True)
    result = hqtrack(*words, "--preset", "lite-vmos")
    assert result.exit_code == 2
    assert "were made with other options: give --force" in result.stderr
    assert "lite-vmos" not in (space / "trackers.ini").read_text()
    assert hqtrack(*words, "--preset", "lite-vmos", "--force").exit_code == 4
    assert "lite-vmos" in (space / "trackers.ini").read_text()
    assert ran == ["A1", "A1"]
    result = hqtrack(*words, "--weights", tmp_path / "gone.safetensors")
    assert result.exit_code == 3
    assert "gone.safetensors" in result.stderr


@pytest.mark.weights
def test_demo_checks_before_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("the demo must not start")

    monkeypatch.setattr(demo_run, "run_demo", fail)
    for words, code, message in (
        (["--preset", "huge"], 2, "unknown preset 'huge'"),
        (["--set", "memory.gap=x"], 2, "memory.gap"),
        (["--weights", str(tmp_path / "gone.safetensors")], 3, "gone.safetensors"),
    ):
        result = hqtrack("demo", "--out", tmp_path / "out", *words)
        assert result.exit_code == code
        assert message in result.stderr
    monkeypatch.undo()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    result = hqtrack("demo", "--out", tmp_path / "mine")
    assert result.exit_code == 2
    assert "holds no earlier demo" in result.stderr
