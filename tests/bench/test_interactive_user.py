"""The automatic user of sessions, on the two discs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shipped import shipped_tracker
from two_discs import draw_video
from typer.testing import CliRunner

from vots_hqtrack.bench.interactive import play_user, read_truth
from vots_hqtrack.cli.main import app
from vots_hqtrack.errors import InputError
from vots_hqtrack.masks import combine_masks
from vots_hqtrack.session import InteractivePredictor
from vots_hqtrack.video.label_maps import write_label_map


@pytest.mark.weights
def test_corrections_raise_the_overlap_and_stay_as_given() -> None:
    video = draw_video(6)
    truth = {index: combine_masks(masks) for index, (_, masks) in enumerate(video)}
    predictor = InteractivePredictor(shipped_tracker("lite"))
    rounds = list(play_user(predictor, [frame for frame, _ in video], truth, 2))
    assert [len(found.corrected) for found in rounds] == [0, 1, 2]
    assert rounds[2].corrected[0] == rounds[1].corrected[0]
    assert rounds[1].corrected_overlap == rounds[2].corrected_overlap == 1
    assert rounds[0].overlap < rounds[1].overlap < rounds[2].overlap
    assert 0.7 < rounds[2].overlap_elsewhere <= rounds[2].overlap


@pytest.mark.weights
def test_the_documented_command_plays_the_user(tmp_path: Path) -> None:
    for folder in ("frames", "truth"):
        (tmp_path / folder).mkdir()
    for index, (frame, masks) in enumerate(draw_video(4)):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{index:05d}.png")
        write_label_map(tmp_path / "truth" / f"{index:05d}.png", combine_masks(masks))
    command = ["bench", "--interactive", tmp_path / "truth", "--source", tmp_path / "frames"]
    small = ["refiner.enabled=false", "frame.long_edge=256", "frame.min_short_edge=16"]
    words = [str(word) for word in command] + [part for text in small for part in ("--set", text)]
    shown = CliRunner().invoke(app, words, env={"COLUMNS": "120"}, catch_exceptions=False)
    rows = [line.split("│")[1:-1] for line in shown.stdout.splitlines() if line.startswith("│")]
    assert [len(row[0].split(",")) for row in rows] == [1, 1, 2, 3]
    assert rows[0][0].strip() == "none"
    assert [row[3].strip() for row in rows[1:]] == ["1.000"] * 3


def test_truth_is_read_by_the_names_of_frames(tmp_path: Path) -> None:
    for name in ("00000", "00002", "other"):
        write_label_map(tmp_path / f"{name}.png", np.full((4, 5), 3, np.uint8))
    assert list(read_truth(["00000", "00001", "00002"], tmp_path)) == [0, 2]
    with pytest.raises(InputError, match="must be a folder"):
        read_truth([], tmp_path / "00000.png")
    with pytest.raises(InputError, match="true masks of the first frame"):
        next(play_user(InteractivePredictor.__new__(InteractivePredictor), [], {}, 1))
