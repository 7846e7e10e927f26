"""Small painted images and cached clips, so that these tests need no data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import packable
import pytest
from toy_run import write_clips

from vots_hqtrack.training.adapters.packs.writer import PackReport
from vots_hqtrack.training.datasets import Photo


def _paint_photo(seed: int, *, height: int = 240, width: int = 320) -> Photo:
    """Paint a textured picture with four ellipses as instances, none at the border."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    image = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    label_map = np.zeros((height, width), np.uint8)
    places = [(0.25, 0.3), (0.7, 0.25), (0.3, 0.75), (0.75, 0.7)]
    for label, (x, y) in enumerate(places, start=1):
        centre = (round(x * width), round(y * height))
        axes = (int(rng.integers(18, 36)), int(rng.integers(18, 36)))
        cv2.ellipse(label_map, centre, axes, float(rng.uniform(0, 180)), 0, 360, label, -1)
        image[label_map == label] = rng.integers(0, 256, 3, dtype=np.uint8)
    return Photo(image, label_map)


@pytest.fixture(scope="session")
def paint_photo() -> Callable[[int], Photo]:
    return _paint_photo


@pytest.fixture
def photos() -> list[Photo]:
    return [_paint_photo(seed) for seed in range(4)]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the cached clips of the toy task."""
    return write_clips(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def packable_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of four small data sets."""
    return packable.write_all(tmp_path_factory.mktemp("pack") / "données")


@pytest.fixture(scope="session")
def packed(packable_data: Path) -> tuple[Path, PackReport]:
    """The folder of the same in parts of a few KiB, and what was reported."""
    out = packable_data.parent / "packs"
    return out, packable.pack_all(packable_data, out)
