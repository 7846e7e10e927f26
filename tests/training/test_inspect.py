from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.datasets import Clip
from vots_hqtrack.training.inspect import write_contact_sheets
from vots_hqtrack.video.overlay import object_colour
from vots_hqtrack.video.sheet import (
    CAPTION_HEIGHT,
    MARGIN,
    PAPER,
    THUMBNAIL_HEIGHT,
)


def make_clip(num_frames: int, height: int, width: int, *, origin: str = "set ant: 1 2") -> Clip:
    frames = np.full((num_frames, height, width, 3), 100, np.uint8)
    labels = np.zeros((num_frames, height, width), np.uint8)
    labels[:, height // 4 : height // 2, width // 4 : width // 2] = 2
    labels[:, height // 2 : 3 * height // 4, width // 2 : 3 * width // 4] = 1
    return Clip(frames, labels, origin)


def contact_sheet(clips: list[Clip], path: Path) -> None:
    """Write one sheet of clips."""
    write_contact_sheets(clips, path.parent, rows=max(len(clips), 1))[0].rename(path)


def read(path: Path) -> np.ndarray:
    sheet = cv2.imread(str(path))
    assert sheet is not None
    return sheet[:, :, ::-1]


def test_shapes(tmp_path):
    clips = [make_clip(3, 400, 800), make_clip(6, 100, 50), make_clip(1, 300, 900)]
    contact_sheet(clips, tmp_path / "sheet.jpg")
    height, width = read(tmp_path / "sheet.jpg").shape[:2]
    row = CAPTION_HEIGHT + THUMBNAIL_HEIGHT + MARGIN
    last = CAPTION_HEIGHT + round(300 * 400 / 900) + MARGIN
    assert height == 2 * row + last
    assert width == 3 * (400 + MARGIN) + MARGIN


def test_values(tmp_path):
    contact_sheet([make_clip(2, 200, 400)], tmp_path / "sheet.jpg")
    sheet = read(tmp_path / "sheet.jpg").astype(int)
    clip = sheet[CAPTION_HEIGHT:, MARGIN + 400 + MARGIN :][:200, :400]
    assert np.abs(clip[190, 10] - 100).max() < 6  # the background stays
    for object_id, place in ((2, (75, 150)), (1, (125, 250))):
        tint = np.subtract(object_colour(object_id), 100)  # the ground has 100
        assert np.corrcoef(clip[place] - 100, tint)[0, 1] > 0.98
    strongest = np.argmax(object_colour(2))
    outline = clip[75, 100:104].max(axis=0)
    assert outline[strongest] > clip[75, 150, strongest] + 30
    caption = sheet[:CAPTION_HEIGHT]
    assert (caption < 100).any()
    assert (caption > PAPER - 20).mean() > 0.7


def test_captions_warn_of_objects_that_come_late(tmp_path):
    clip = make_clip(2, 200, 400)
    late = Clip(clip.frames, clip.labels.copy(), clip.origin)
    late.labels[0][late.labels[0] == 2] = 0
    contact_sheet([clip], tmp_path / "good.jpg")
    contact_sheet([late], tmp_path / "late.jpg")
    dark = [
        int((read(tmp_path / name)[:CAPTION_HEIGHT] < 100).sum())
        for name in ("good.jpg", "late.jpg")
    ]
    assert dark[1] > 1.3 * dark[0]


def test_long_and_foreign_captions_fit(tmp_path):
    clip = make_clip(1, 60, 60, origin="données " + 100 * "x")
    contact_sheet([clip], tmp_path / "sheet.jpg")
    sheet = read(tmp_path / "sheet.jpg")
    assert sheet.shape[1] > 800
    assert (sheet[:CAPTION_HEIGHT, -MARGIN:] > PAPER - 20).all()


def test_write_contact_sheets(tmp_path):
    clips = (make_clip(2, 60, 80) for _ in range(5))
    paths = write_contact_sheets(clips, tmp_path / "new" / "folder", rows=2)
    assert [path.name for path in paths] == ["clips-00.jpg", "clips-01.jpg", "clips-02.jpg"]
    heights = [read(path).shape[0] for path in paths]
    assert heights[0] == heights[1] == 2 * heights[2]


def test_exception(tmp_path):
    with pytest.raises(InputError, match="at least one clip, got none"):
        contact_sheet([], tmp_path / "sheet.jpg")
    with pytest.raises(InputError, match="at least one clip, got none"):
        write_contact_sheets([], tmp_path)
    with pytest.raises(InputError, match="1 row or more, got 0"):
        write_contact_sheets([make_clip(1, 60, 80)], tmp_path, rows=0)
