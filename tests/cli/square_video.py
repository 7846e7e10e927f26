"""A small video of a checked square that moves to the right."""

import json
from pathlib import Path

import cv2
import numpy as np

SIZE = (72, 128)
SIDE = 28
SMALL = "frame.long_edge=256"
"""Setting of a small network input, which is quick."""


def square_at(index: int) -> tuple[int, int]:
    """Return the left and top of the square in a frame."""
    return 20 + 4 * index, 22


def make_frame(index: int) -> np.ndarray:
    """Draw a frame: a bright checked square over dark smooth noise."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 90, (5, 8, 3), dtype=np.uint8)
    frame = cv2.resize(small, (SIZE[1], SIZE[0]), interpolation=cv2.INTER_CUBIC)
    x, y = square_at(index)
    checks = np.indices((SIDE, SIDE)).sum(axis=0) // 7 % 2
    frame[y : y + SIDE, x : x + SIDE] = np.array([[250, 200, 40], [220, 60, 30]])[checks]
    return frame


def make_mask(index: int) -> np.ndarray:
    """Return the square's mask in a frame."""
    mask = np.zeros(SIZE, dtype=np.bool_)
    x, y = square_at(index)
    mask[y : y + SIDE, x : x + SIDE] = True
    return mask


def save(path: Path, picture: np.ndarray) -> Path:
    """Write a grey, RGB or 16-bit picture, whatever the path's characters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = picture[..., ::-1] if picture.ndim == 3 else picture
    path.write_bytes(cv2.imencode(path.suffix, stored)[1].tobytes())
    return path


def read_tracks(folder: Path) -> dict:
    """Read the ``tracks.json`` of a folder of results."""
    return json.loads((folder / "tracks.json").read_text(encoding="utf-8"))
