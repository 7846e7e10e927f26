"""Coarse masks made of exact ones."""

from __future__ import annotations

import numpy as np
import pytest

from vots_hqtrack.training.hq.degrade import DegradeConfig, degrade_mask


def _disc(size: tuple[int, int] = (120, 200), radius: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.asarray((rows - 60) ** 2 + (columns - 90) ** 2 < radius**2)


def _iou(left: np.ndarray, right: np.ndarray) -> float:
    return float((left & right).sum() / (left | right).sum())


@pytest.mark.parametrize("seed", range(12))
def test_masks_stay_near_and_never_vanish(seed: int) -> None:
    mask = _disc()
    coarse = degrade_mask(mask, np.random.default_rng(seed), DegradeConfig())
    assert coarse.shape == mask.shape
    assert coarse.dtype == np.bool_
    assert DegradeConfig().min_iou <= _iou(coarse, mask) < 1


def test_masks_are_as_bad_as_vmos_makes_them() -> None:
    """VMOS has a mean J of 0.85 on the dev split; too easy or too hard would teach nothing."""
    rng = np.random.default_rng(0)
    scores = [_iou(degrade_mask(_disc(), rng, DegradeConfig()), _disc()) for _ in range(60)]
    assert 0.75 < np.mean(scores) < 0.93
    assert np.min(scores) < 0.7


def test_the_seed_decides() -> None:
    first, again, other = (
        degrade_mask(_disc(), np.random.default_rng(seed), DegradeConfig()) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_speck_that_no_cell_shows_is_kept() -> None:
    speck = np.zeros((480, 854), np.bool_)
    speck[100, 100] = True
    coarse = degrade_mask(speck, np.random.default_rng(0), DegradeConfig())
    assert np.array_equal(coarse, speck)


def test_without_any_chance_only_the_cells_are_coarse() -> None:
    gentle = DegradeConfig(noise=0, bias=0, move_share=0, blob_share=0, cut_share=0)
    coarse = degrade_mask(_disc(), np.random.default_rng(0), gentle)
    assert _iou(coarse, _disc()) > 0.93
