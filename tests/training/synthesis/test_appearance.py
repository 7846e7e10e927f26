from __future__ import annotations

import numpy as np
import pytest

from vots_hqtrack.training.datasets import Clip
from vots_hqtrack.training.synthesis.appearance import (
    apply_colour,
    degrade,
    draw_colour,
    jitter_colour,
    match_tone,
)


@pytest.fixture
def clip(paint_photo) -> Clip:
    photo = paint_photo(0)
    return Clip(np.stack([photo.image] * 3), np.stack([photo.label_map] * 3))


def test_no_strength_no_change(clip):
    matrix = draw_colour(np.random.default_rng(0), 0.0)
    assert np.allclose(matrix, np.eye(3, 4), atol=1e-9)
    same = jitter_colour(clip, np.random.default_rng(0), strength=0.0, flicker=0.0)
    assert np.abs(same.frames.astype(int) - clip.frames).max() <= 1


def test_hue_and_saturation_leave_grey_grey():
    grey = np.full((4, 4, 3), 128, np.uint8)
    for seed in range(5):
        changed = apply_colour(grey, draw_colour(np.random.default_rng(seed), 1.0)).astype(int)
        assert np.ptp(changed.reshape(-1, 3), axis=1).max() <= 1


def test_jitter_changes_colours_alone(clip):
    changed = jitter_colour(clip, np.random.default_rng(1))
    assert np.array_equal(changed.labels, clip.labels)
    assert not np.array_equal(changed.frames, clip.frames)
    between_frames = np.abs(changed.frames[0].astype(float) - changed.frames[1]).mean()
    to_before = np.abs(changed.frames[0].astype(float) - clip.frames[0]).mean()
    assert 0.0 < between_frames < to_before


def test_degrade_keeps_labels_and_content(clip):
    changes = []
    for seed in range(20):
        worse = degrade(clip, np.random.default_rng(seed))
        assert np.array_equal(worse.labels, clip.labels)
        assert worse.frames.shape == clip.frames.shape
        changes.append(np.abs(worse.frames.astype(float) - clip.frames).mean())
    assert min(changes) == 0.0
    assert 1.0 < max(changes) < 40.0


def test_colours_keep_their_order_through_jpeg():
    red = np.zeros((1, 32, 32, 3), np.uint8)
    red[..., 0] = 200
    clip = Clip(red, np.zeros((1, 32, 32), np.uint8))
    for seed in range(10):
        colour = degrade(clip, np.random.default_rng(seed)).frames[0].reshape(-1, 3).mean(axis=0)
        assert abs(colour[0] - 200) < 5
        assert colour[1:].max() < 10


def test_match_tone():
    rng = np.random.default_rng(0)
    bright = rng.integers(150, 250, (40, 40, 3), dtype=np.uint8)
    dark = rng.integers(20, 80, (60, 60, 3), dtype=np.uint8)
    mask = np.ones((40, 40), dtype=np.bool_)
    assert np.array_equal(match_tone(bright, mask, dark, 0.0), bright)
    matched = match_tone(bright, mask, dark, 1.0)
    assert abs(matched.mean() - dark.mean()) < 1.5
    assert bright.mean() > match_tone(bright, mask, dark, 0.5).mean() > dark.mean()
