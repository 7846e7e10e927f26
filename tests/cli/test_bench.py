"""``hqtrack bench`` measures, writes, compares, and fails when something has become slower."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app

SMALL = ["--set", "frame.min_short_edge=0", "--memory", "2", "--frames", "1", "--square", "256"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("bench") / "now.json"
    words = ["bench", "--preset", "vmos", "--size", "49x33", "--objects", "1", "--objects", "2"]
    shown = CliRunner().invoke(app, [*words, *SMALL, "--json", str(path)], env={"COLUMNS": "120"})
    assert shown.exit_code == 0, shown.output
    return path, shown.output


def test_smoke_table_and_json(measured: tuple[Path, str]) -> None:
    path, shown = measured
    report = json.loads(path.read_text())
    assert [case["name"] for case in report["cases"]] == [
        "vmos float32 49x33, objects 1, memory 2",
        "vmos float32 49x33, objects 2, memory 2",
    ]
    assert report["hardware"]["cores"] >= 1
    assert report["versions"]["torch"]
    assert "flop_counter" in report["gflop"]
    for text in ("propagate 1/8", "GFLOP/s", "peak resident", "against the first case"):
        assert text in shown


def test_compare_tells_by_its_exit_code(
    measured: tuple[Path, str], tmp_path: Path, runner: CliRunner
) -> None:
    path, _ = measured
    same = runner.invoke(app, ["bench", "--compare", str(path), str(path)])
    assert same.exit_code == 0, same.output
    report = json.loads(path.read_text())
    for case in report["cases"]:
        for stage in case["stages"].values():
            stage["fastest"] *= 1.5
    slow = tmp_path / "slow.json"
    slow.write_text(json.dumps(report))
    worse = runner.invoke(app, ["bench", "--compare", str(path), str(slow)])
    assert worse.exit_code == 1
    assert "slower" in worse.output
    better = runner.invoke(app, ["bench", "--compare", str(slow), str(path)])
    assert better.exit_code == 0
    tolerated = ["bench", "--compare", str(path), str(slow), "--tolerance", "1.6"]
    assert runner.invoke(app, tolerated).exit_code == 0


def test_given_frames(frames: Path, first_mask: Path, runner: CliRunner) -> None:
    words = ["bench", "--preset", "vmos", "--source", str(frames), "--mask", str(first_mask)]
    shown = runner.invoke(app, [*words, *SMALL])
    assert shown.exit_code == 0, shown.output
    assert "objects 1" in shown.output


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--size", "854"], "WIDTHxHEIGHT"),
        (["--size", "0x4"], "WIDTHxHEIGHT"),
        (["--memory", "some"], "full or a number"),
        (["--preset", "none"], "unknown preset"),
        (["--mask", "first.png"], "--mask goes with --source"),
        (["--tolerance", "2"], "--tolerance goes with --compare"),
        (["--references", "8"], "--references goes with --interactive"),
        (["--source", "clip", "--size", "49x33"], "either --size or --source"),
        (["--source", "clip", "--mask", "m.png", "--objects", "2"], "either --objects or --mask"),
        (["--compare", "a.json", "b.json", "--frames", "8"], "--compare does not read --frames"),
        (["--compare", "a.json", "b.json", "--interactive", "c"], "does not read --interactive"),
        (["--interactive", "t", "--json", "n.json", "--toolkit"], "not read --toolkit, --json"),
        (["--interactive", "t"], "needs the frames as --source"),
        (["--json", "missing/new.json"], "in a folder that exists, got missing/new.json"),
        (["--compare", "none.json", "none.json"], "none.json"),
    ],
)
def test_exception_wrong_options(words: list[str], wanted: str, runner: CliRunner) -> None:
    shown = runner.invoke(app, ["bench", *words])
    assert shown.exit_code == 2
    assert wanted in shown.output
