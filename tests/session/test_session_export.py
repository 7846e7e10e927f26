"""Exports of a session: each format of the list holds the masks of the session, at their times."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_files import SIZE, write_video

from vots_hqtrack.errors import InputError
from vots_hqtrack.session import InteractivePredictor, SessionState
from vots_hqtrack.session.export import EXPORTS, export
from vots_hqtrack.video.reader import open_source

TIMES = [0, 0.04, 0.5, 0.6]
GIVEN = (1, 2)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SessionState]:
    """Two objects on two of four frames; no tracker is needed for given masks."""
    video = write_video(tmp_path / "clip.mkv", num_frames=4, times=TIMES)
    predictor = InteractivePredictor.__new__(InteractivePredictor)
    with predictor.init_state(video, tmp_path / "project") as state:
        for index in GIVEN:
            for number in (1, 254):
                mask = np.zeros(SIZE, bool)
                mask[8 : 8 + 4 * index, 20 * (number > 1) : 20 * (number > 1) + 16] = True
                predictor.add_new_mask(state, index, number, mask)
        yield state


def read_zip(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        return {name: np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names}


def test_masks_and_cutouts_as_images(state: SessionState) -> None:
    masks = read_zip(export(state, "masks"))
    assert list(masks) == ["masks/00001.png", "masks/00002.png"]
    cutouts = read_zip(export(state, "cutout-png"))
    for index in GIVEN:
        label_map = state.label_map(index)
        np.testing.assert_array_equal(masks[f"masks/0000{index}.png"], label_map)
        np.testing.assert_array_equal(
            cutouts[f"cutout/0000{index}.png"][..., 3], 255 * (label_map > 0)
        )


def test_a_frame_name_that_is_not_utf_8_is_escaped(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    Image.new("RGB", SIZE[::-1]).save(frames / "0.png")
    (frames / "0.png").rename(os.fsdecode(os.fsencode(frames) + b"/fr\xff.png"))
    predictor = InteractivePredictor.__new__(InteractivePredictor)
    with predictor.init_state(frames, tmp_path / "project") as state:
        predictor.add_new_mask(state, 0, 1, np.ones(SIZE, bool))
        assert list(read_zip(export(state, "masks"))) == [r"masks/fr\udcff.png"]


@pytest.mark.parametrize("name", ["overlay", "cutout-webm", "cutout-mp4"])
def test_videos_keep_the_frames_times(state: SessionState, name: str) -> None:
    shown = list(open_source(export(state, name)))
    assert [frame.frame.shape[:2] for frame in shown] == [SIZE, SIZE]
    assert [frame.seconds for frame in shown] == pytest.approx([0, 0.46], abs=0.002)


def test_boxes_and_scores_are_those_of_a_tracked_video(state: SessionState) -> None:
    tracks = json.loads(export(state, "tracks").read_text())
    assert tracks["status"] == "complete"
    assert [frame["index"] for frame in tracks["frames"]] == list(GIVEN)
    assert tracks["frames"][1]["objects"]["254"] == {
        "box": [20, 8, 16, 8],
        "area": 128,
        "score": 1.0,
        "source": "given",
    }


def test_each_format_is_one_file_that_an_export_replaces(state: SessionState) -> None:
    mine = state.project.folder / "overlay.mp4"
    mine.write_bytes(b"mine")
    for _ in range(2):
        paths = [export(state, name) for name in EXPORTS]
    folder = state.project.folder / "exports"
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in paths)
    assert mine.read_bytes() == b"mine"


def test_exception(state: SessionState, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"wanted one of the formats masks, overlay, .*, got 'x'"):
        export(state, "x")
    predictor = InteractivePredictor.__new__(InteractivePredictor)
    with (
        predictor.init_state(tmp_path / "clip.mkv") as empty,
        pytest.raises(InputError, match="nothing to export"),
    ):
        export(empty, "masks")
