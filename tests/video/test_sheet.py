from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.video.sheet import CAPTION_HEIGHT, MARGIN, SheetRow, draw_thumbnail, write_sheet


def grey(height: int, width: int, level: int = 100) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize(
    ("size", "wanted"), [((400, 600), (200, 300)), ((100, 1000), (40, 400)), ((50, 20), (200, 80))]
)
def test_thumbnail_shapes(size, wanted):
    thumbnail = draw_thumbnail(grey(*size), np.zeros(size, np.uint8))
    assert thumbnail.shape == (*wanted, 3)
    assert (thumbnail == 100).all()


def test_thumbnail_values():
    labels = np.zeros((200, 300), np.uint8)
    labels[100:180, 100:200] = 2
    thumbnail = draw_thumbnail(grey(200, 300), labels).astype(int)
    assert (thumbnail[190, 290] == 100).all()
    assert thumbnail[150, 150, 1] > thumbnail[150, 150, 0]  # object 2 is green
    assert thumbnail[150, 100, 1] > thumbnail[150, 150, 1]  # its outline is lighter


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_sheet(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sheet{suffix}"
    rows = [SheetRow("one", [grey(40, 90)] * 2), SheetRow("two", [grey(60, 50, 30)])]
    write_sheet(path, rows)
    picture = cv2.imread(str(path))
    assert picture.shape[:2] == (2 * (CAPTION_HEIGHT + MARGIN) + 100, 2 * (90 + MARGIN) + MARGIN)
    assert picture[CAPTION_HEIGHT + 20, MARGIN + 45].tolist() == pytest.approx([100] * 3, abs=4)
    below = CAPTION_HEIGHT + 40 + MARGIN + CAPTION_HEIGHT + 30
    assert picture[below, MARGIN + 25].tolist() == pytest.approx([30] * 3, abs=4)


def test_exception(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"frame's size \(40, 90\), got \(40, 91\)"):
        draw_thumbnail(grey(40, 90), np.zeros((40, 91), np.uint8))
    for rows in ([], [SheetRow("empty", [])]):
        with pytest.raises(InputError, match="at least one image in every row"):
            write_sheet(tmp_path / "sheet.png", rows)
    with pytest.raises(InputError, match=r"must end in \.jpg, .*got .*sheet\.gif"):
        write_sheet(tmp_path / "sheet.gif", [SheetRow("one", [grey(40, 90)])])
