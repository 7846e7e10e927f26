"""Initial masks made of exact ones."""

from __future__ import annotations

import numpy as np
import pytest

from vots_hqtrack.measures import jaccard
from vots_hqtrack.training.hq.degrade import degrade_mask
from vots_hqtrack.training.hq.recipe import DegradeOptions


def _disc(size: tuple[int, int] = (120, 200), radius: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.asarray((rows - 60) ** 2 + (columns - 90) ** 2 < radius**2)


@pytest.mark.parametrize("seed", range(12))
def test_masks_stay_near_and_never_vanish(seed: int) -> None:
    mask = _disc()
    degraded = degrade_mask(mask, np.random.default_rng(seed), DegradeOptions())
    assert degraded.shape == mask.shape
    assert degraded.dtype == np.bool_
    assert DegradeOptions().min_iou <= jaccard(degraded, mask) < 1


def test_masks_are_as_bad_as_vmos_makes_them() -> None:
    """VMOS has a mean J of 0.85 on the dev split; too easy or too hard would teach nothing."""
    rng = np.random.default_rng(0)
    scores = [jaccard(degrade_mask(_disc(), rng, DegradeOptions()), _disc()) for _ in range(60)]
    assert 0.75 < np.mean(scores) < 0.93
    assert np.min(scores) < 0.7


def test_the_seed_decides() -> None:
    first, again, other = (
        degrade_mask(_disc(), np.random.default_rng(seed), DegradeOptions()) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_speck_below_the_resolution_is_kept() -> None:
    speck = np.zeros((480, 854), np.bool_)
    speck[100, 100] = True
    degraded = degrade_mask(speck, np.random.default_rng(0), DegradeOptions())
    assert np.array_equal(degraded, speck)


def test_without_random_errors_only_resolution_is_lost() -> None:
    gentle = DegradeOptions(
        noise=0, bias=0, move_probability=0, blob_probability=0, cut_probability=0
    )
    degraded = degrade_mask(_disc(), np.random.default_rng(0), gentle)
    assert jaccard(degraded, _disc()) > 0.93
