"""``hqtrack weights score`` on dev sets of a few frames."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app


def write_sequence(frames: Path, labels: Path, objects: int) -> None:
    """Three frames of discs that stand still on noise."""
    frames.mkdir(parents=True)
    labels.mkdir(parents=True)
    mask = np.zeros((96, 160), np.uint8)
    for number in range(objects):
        cv2.circle(mask, (40 + 70 * number, 48), 26, number + 1, -1)
    colours = np.array([(0, 0, 0), (190, 30, 30), (20, 60, 190)], np.uint8)
    noise = np.random.default_rng(0).integers(0, 60, (96, 160, 3), dtype=np.uint8)
    for index in range(3):
        cv2.imwrite(str(frames / f"{index:05d}.jpg"), noise + colours[mask])
        cv2.imwrite(str(labels / f"{index:05d}.png"), mask)


@pytest.mark.weights
def test_table_and_file(runner: CliRunner, tmp_path: Path) -> None:
    davis, split = tmp_path / "davis2016-train", tmp_path / "davis16-split"
    frames = davis / "JPEGImages" / "480p"
    write_sequence(frames / "lucia", davis / "Annotations" / "480p" / "lucia", 1)
    write_sequence(frames / "hike", split / "Annotations" / "hike", 2)
    chosen = ["--only", "lucia", "--only", "hike", "--data", str(tmp_path), "--device", "cpu"]
    target = tmp_path / "scores.json"
    chosen += ["--set", "frame.long_edge=384"]
    result = runner.invoke(app, ["weights", "score", *chosen, "--out", str(target)])
    assert result.exit_code == 0, result.output
    document = json.loads(target.read_text())
    assert len(document["sha256"]) == 64
    assert list(document["sets"]) == ["one object", "several objects"]
    hike = document["sets"]["several objects"]["sequences"]["hike"]
    assert list(hike["objects"]) == ["1", "2"]
    assert hike["frames"] == 2
    for name in ("J", "F"):
        values = [score[name] for score in hike["objects"].values()]
        assert hike[name] == pytest.approx(sum(values) / 2)
        assert min(values) > 0.8
    assert hike["J&F"] == pytest.approx((hike["J"] + hike["F"]) / 2)
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.split()}
    assert rows["hike"][1] == "2"
    assert rows["hike"][2:5] == [f"{hike[name]:.3f}" for name in ("J", "F", "J&F")]
    assert rows["lucia"][1] == "1"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--only", "lucie"], "no dev sequence 'lucie'; wanted one of: bmx-bumps"),
        (["--only", "lucia"], "davis2016-train"),
    ],
)
def test_exception_sequences(
    runner: CliRunner, tmp_path: Path, options: list[str], text: str
) -> None:
    result = runner.invoke(app, ["weights", "score", "--data", str(tmp_path), *options])
    assert result.exit_code == 2, result.output
    assert text in result.stderr.replace("\n", "")
