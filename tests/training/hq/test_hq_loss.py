"""The HQ head's loss and the points it is computed on."""

from __future__ import annotations

import math

import pytest
import torch
from vots_hqtrack.training.hq.loss import draw_points, point_loss

from vots_hqtrack.errors import ShapeError


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_values() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    target = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    counted = torch.ones(1, 4, dtype=torch.bool)
    # Dice with half probabilities: 1 - (2 * 1 + 1) / (2 + 2 + 1).
    expected = math.log(2) + 1 - 3 / 5
    assert point_loss(logits, target, counted).item() == pytest.approx(expected)


def test_points_that_do_not_count_change_nothing() -> None:
    logits = torch.randn(2, 6, generator=_generator())
    target = (torch.rand(2, 6, generator=_generator(1)) > 0.5).float()
    counted = torch.tensor([[True] * 4 + [False] * 2] * 2)
    other = torch.where(counted, logits, -logits)
    assert torch.equal(point_loss(logits, target, counted), point_loss(other, target, counted))
    first = point_loss(logits[:, :4], target[:, :4], counted[:, :4])
    torch.testing.assert_close(point_loss(logits, target, counted), first)


def test_gradients() -> None:
    logits = torch.randn(2, 5, generator=_generator(), requires_grad=True)
    target = torch.rand(2, 5, generator=_generator(1))
    point_loss(logits, target, torch.ones(2, 5, dtype=torch.bool)).backward()
    assert logits.grad is not None
    assert bool((logits.grad != 0).all())


def test_unsure_points_are_preferred() -> None:
    logits = torch.full((1, 1000), 9.0)
    logits[0, ::10] = 0.1
    places = draw_points(logits, torch.ones(1, 1000, dtype=torch.bool), 100, _generator())
    unsure = (logits[0, places[0]] < 1).float().mean().item()
    assert places.shape == (1, 100)
    assert 0.2 < unsure < 0.6, "three in ten of the lot are unsure; a blind choice gives one in ten"


def test_what_does_not_count_is_left_out_while_there_is_enough_else() -> None:
    counted = torch.zeros(1, 100, dtype=torch.bool)
    counted[0, 40:80] = True
    logits = torch.where(counted, 5.0, 0.0)
    places = draw_points(logits, counted, 40, _generator())
    assert bool(counted[0, places[0, :30]].all())
    assert bool(counted[0, places[0, 30:]].all())


@pytest.mark.parametrize("num", [0, 101])
def test_exception_number_of_points(num: int) -> None:
    with pytest.raises(ShapeError, match=f"wanted 1 to 100 points, got {num}"):
        draw_points(torch.zeros(1, 100), torch.ones(1, 100, dtype=torch.bool), num, _generator())
