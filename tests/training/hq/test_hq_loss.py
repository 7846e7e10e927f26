"""The HQ head's loss and its points."""

from __future__ import annotations

import math

import pytest
import torch

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.training.hq.network import point_loss, sample_points


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_values() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    target = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    counted = torch.ones(1, 4, dtype=torch.bool)
    loss = point_loss(logits, target, counted)
    # Dice with half probabilities: 1 - (2 * 1 + 1) / (2 + 2 + 1).
    assert loss.total.item() == pytest.approx(math.log(2) + 1 - 3 / 5)
    assert loss.cross_entropy.item() == pytest.approx(math.log(2))
    # A dice of 3 / 5 is a Jaccard index of 3 / 7.
    assert loss.jaccard.item() == pytest.approx(1 - 3 / 7)


def test_points_that_do_not_count_change_nothing() -> None:
    logits = torch.randn(2, 6, generator=_generator())
    target = (torch.rand(2, 6, generator=_generator(1)) > 0.5).float()
    counted = torch.tensor([[True] * 4 + [False] * 2] * 2)
    other = torch.where(counted, logits, -logits)
    total = point_loss(logits, target, counted).total
    assert torch.equal(total, point_loss(other, target, counted).total)
    first = point_loss(logits[:, :4], target[:, :4], counted[:, :4])
    torch.testing.assert_close(total, first.total)


def test_gradients() -> None:
    logits = torch.randn(2, 5, generator=_generator(), requires_grad=True)
    target = torch.rand(2, 5, generator=_generator(1))
    point_loss(logits, target, torch.ones(2, 5, dtype=torch.bool)).total.backward()
    assert logits.grad is not None
    assert bool((logits.grad != 0).all())


def test_unsure_points_are_preferred() -> None:
    torch.manual_seed(0)
    logits = torch.full((1, 1000), 9.0)
    logits[0, ::10] = 0.1
    places = sample_points(logits, torch.ones(1, 1000, dtype=torch.bool), 100)
    unsure = (logits[0, places[0]] < 1).float().mean().item()
    assert places.shape == (1, 100)
    assert 0.2 < unsure < 0.6, "three in ten candidates are unsure; a blind choice has one in ten"


def test_points_that_do_not_count_are_left_out_while_there_are_others() -> None:
    torch.manual_seed(0)
    counted = torch.zeros(1, 100, dtype=torch.bool)
    counted[0, 40:80] = True
    logits = torch.where(counted, 5.0, 0.0)
    places = sample_points(logits, counted, 40)
    assert bool(counted[0, places[0, :30]].all())
    assert bool(counted[0, places[0, 30:]].all())


@pytest.mark.parametrize("num", [0, 101])
def test_exception_number_of_points(num: int) -> None:
    with pytest.raises(ShapeError, match=f"wanted 1 to 100 points, got {num}"):
        sample_points(torch.zeros(1, 100), torch.ones(1, 100, dtype=torch.bool), num)
