"""``hqtrack track --model`` tracks with a published tracker, its options and all its weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from square_video import SMALL, read_tracks

from vots_hqtrack.build import find_weights
from vots_hqtrack.checkpoints.pretrained import save_pretrained
from vots_hqtrack.cli.main import app
from vots_hqtrack.presets import lite_vmos
from vots_hqtrack.settings import apply_settings

CONFIG = apply_settings(lite_vmos(), [SMALL, "memory.gap=7"])


@pytest.fixture
def model(tmp_path, untrained) -> Path:
    folder = tmp_path / "model"
    save_pretrained(CONFIG, find_weights(CONFIG, untrained), folder)
    return folder


def test_options_and_weights_are_those_of_the_folder(runner, tmp_path, frames, first_mask, model):
    words = ["track", frames, "--mask", first_mask, "--model", model, "--device", "cpu"]
    words += ["--set", "memory.capacity=2", "--no-overlay", "--out", tmp_path / "out"]
    result = runner.invoke(app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    tracks = read_tracks(tmp_path / "out")
    wanted = dataclasses.asdict(apply_settings(CONFIG, ["memory.capacity=2"]))
    assert tracks["config"] == wanted
    assert tracks["weights"] == str(model)
    again = runner.invoke(app, [*map(str, words), "--resume"])
    assert again.exit_code == 0, again.output
    (model / "model.safetensors").write_bytes(b"something else")
    damaged = runner.invoke(app, [*map(str, words), "--overwrite"])
    assert damaged.exit_code == 3
    assert "model.safetensors is damaged or another one" in damaged.stderr
    assert len(read_tracks(tmp_path / "out")["frames"]) == 3


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--preset", "lite"], 2, "wanted either --model or --preset, got both"),
        (["--weights", "w.safetensors"], 2, "wanted either --model or --weights, got both"),
    ],
)
def test_what_the_model_says_is_not_said_twice(
    runner, tmp_path, frames, first_mask, model, options, code, reason
):
    words = ["track", frames, "--mask", first_mask, "--model", model, *options]
    result = runner.invoke(app, [*map(str, words), "--out", str(tmp_path / "out")])
    assert (result.exit_code, result.stderr.strip()) == (code, f"error: {reason}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "code", "reason"),
    [
        ("frames", 3, "frames is not a tracker that save_pretrained wrote: wanted config.json"),
        ("no/such/folder", 2, "found nothing at 'no/such/folder'"),
        ("lite", 2, "lite is a preset"),
    ],
)
def test_a_source_that_is_no_tracker_is_one_line(
    runner, tmp_path, frames, first_mask, monkeypatch, source, code, reason
):
    monkeypatch.chdir(tmp_path)
    words = ["track", "frames", "--mask", str(first_mask), "--model", source, "--out", "out"]
    result = runner.invoke(app, words)
    assert result.exit_code == code
    (line,) = result.stderr.strip().splitlines()
    assert reason in line
    assert not (tmp_path / "out").exists()
