from __future__ import annotations

import numpy as np
import pytest

from vots_hqtrack.training.synthesis.motion import (
    MAX_STEP,
    ElasticMotion,
    affine_map,
    draw_drift,
    draw_path,
    draw_step,
    fold,
    similarity,
)


def test_steps_are_mostly_moderate_and_sometimes_large():
    rng = np.random.default_rng(0)
    steps = np.array([draw_step(rng, still=0.0) for _ in range(4000)])
    assert np.mean((steps > 0.02) & (steps < 0.08)) == pytest.approx(0.67, abs=0.04)
    assert np.mean(steps > 0.1) == pytest.approx(0.07, abs=0.02)
    assert steps.max() <= MAX_STEP


@pytest.mark.parametrize("num_frames", [1, 2, 9])
def test_paths_and_drifts_start_at_zero(num_frames):
    rng = np.random.default_rng(0)
    path = draw_path(rng, num_frames, 0.1)
    assert path.shape == (num_frames, 2)
    assert np.all(path[0] == 0.0)
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max(initial=0.0) <= MAX_STEP
    drift = draw_drift(rng, num_frames, 0.1)
    assert drift.shape == (num_frames,)
    assert drift[0] == 0.0


def test_fold_values():
    assert np.allclose(fold(np.array([-1.0, 2.0, 7.0, 11.0]), 0.0, 5.0), [1.0, 2.0, 3.0, 1.0])
    assert np.allclose(fold(np.array([3.0, 9.0]), 4.0, 2.0), 3.0)


def test_similarity_values():
    quarter = similarity(2.0, np.pi / 2.0)
    assert np.allclose(quarter @ [1.0, 0.0], [0.0, 2.0])
    assert np.allclose(similarity(1.0, 0.0, shear=0.5) @ [0.0, 1.0], [0.5, 1.0])


def test_affine_map_values():
    matrix = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, -1.0]])
    map_x, map_y = affine_map(matrix, (10, 20), (2, 3))
    assert np.allclose(map_x, [[21, 23, 25], [21, 23, 25]])
    assert np.allclose(map_y, [[59] * 3, [62] * 3])


def test_affine_map_moves_the_output_position():
    matrix = np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    shift = np.broadcast_to(np.float32([1.0, -0.5]), (2, 2, 2))
    plain = affine_map(matrix, (0, 0), (4, 4))
    moved = affine_map(matrix, (0, 0), (4, 4), shift)
    assert np.allclose(moved[0] - plain[0], 2.0)
    assert np.allclose(moved[1] - plain[1], -1.0)


def test_elastic_motion_is_smooth():
    motion = ElasticMotion.draw(np.random.default_rng(0), 5, 4.0)
    fields = np.stack([motion.at(index, 40, 60) for index in range(5)])
    assert fields.shape == (5, 40, 60, 2)
    assert 1.0 < fields.std() < 6.0
    # No fold: neighbours change by less than their distance, which is one cell of 8 pixels.
    assert np.abs(np.diff(fields, axis=2)).max() < 8.0
    assert np.abs(np.diff(fields, axis=0)).mean() < fields.std()
