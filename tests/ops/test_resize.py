"""Resizing on a device gives the pixels that Pillow and OpenCV give on the CPU."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vots_hqtrack.ops.resize import resize_bilinear, resize_cubic
from vots_hqtrack.types import FrameArray, Size

ON_DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
MAX_ROUNDED_OTHERWISE = 0.01
"""Fraction of the values that OpenCV may round to the other side; 0.005 was measured."""
sides = st.integers(1, 300)


def noise(height: int, width: int) -> FrameArray:
    """Levels at both ends and between, so that filters overshoot."""
    rng = np.random.default_rng(height * 1000 + width)
    frame = rng.integers(0, 256, (height, width, 3), np.uint8)
    frame[::3] = np.where(frame[::3] > 127, 255, 0)
    return frame


def pillow(frame: FrameArray, size: Size) -> FrameArray:
    resized = Image.fromarray(frame).resize((size.width, size.height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.floats(0.1, 3))
def test_bilinear_is_pillows_in_every_bit(height: int, width: int, factor: float) -> None:
    """Pillow 13 begins with the other axis where frames are twice as tall as wide."""
    height = min(height, round(1.8 * width))
    target = Size(max(round(factor * height), 1), max(round(factor * width), 1))
    frame = noise(height, width)
    found = resize_bilinear(torch.from_numpy(frame), target).numpy().astype(int)
    wanted = pillow(frame, target)
    assert np.abs(found - wanted).max() <= 1
    if factor * height >= 20:  # the sides' rounding leaves one factor for both
        assert np.array_equal(found, wanted)


@settings(max_examples=20, deadline=None)
@given(sides, sides, sides, sides)
def test_bilinear_to_any_size_differs_by_rounding_only(
    height: int, width: int, rows: int, columns: int
) -> None:
    frame, target = noise(height, width), Size(rows, columns)
    found = resize_bilinear(torch.from_numpy(frame), target).numpy().astype(int)
    assert np.abs(found - pillow(frame, target)).max() <= 1


@ON_DEVICES
@pytest.mark.parametrize("size", [(480, 854), (720, 1280), (1080, 1920)])
def test_frames_of_videos(device: str, size: tuple[int, int]) -> None:
    frame, target = noise(*size), Size(576, 1024)
    pixels = torch.from_numpy(frame).to(device)
    assert np.array_equal(resize_bilinear(pixels, target).cpu().numpy(), pillow(frame, target))
    aligned = Size(577, 1041)
    found = resize_cubic(pixels, aligned).cpu().numpy().astype(int)
    wanted = cv2.resize(frame, aligned[::-1], interpolation=cv2.INTER_CUBIC)
    assert np.abs(found - wanted).max() <= 1
    assert np.mean(found != wanted) <= MAX_ROUNDED_OTHERWISE


@settings(max_examples=20, deadline=None)
@given(sides, sides, sides, sides)
def test_cubic_is_opencvs_but_for_rounding(
    height: int, width: int, rows: int, columns: int
) -> None:
    frame = noise(height, width)
    found = resize_cubic(torch.from_numpy(frame), Size(rows, columns)).numpy()
    wanted = cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_CUBIC)
    assert np.abs(found.astype(int) - wanted.reshape(found.shape)).max() <= 1
