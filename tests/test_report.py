"""Every pixel goes to the first of its likeliest classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vots_hqtrack.report import coarse_masks


@pytest.mark.parametrize("count", [0, 1, 4, 11, 255])
def test_values_equal_the_first_maximum(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    # Few levels, so that classes tie, the background with objects too.
    levels = torch.randint(0, 6, (1 + count, 12, 17), generator=generator)
    probabilities = levels / levels.sum(0, keepdim=True).clamp(min=1)
    masks, means = coarse_masks(probabilities)
    winners = probabilities.numpy().argmax(axis=0)
    assert masks.shape == (count, 12, 17)
    assert means.shape == (count,)
    for place, (mask, mean) in enumerate(zip(masks, means, strict=True), start=1):
        assert np.array_equal(mask.numpy(), winners == place)
        inside = probabilities[place][mask]
        assert mean.item() == pytest.approx(inside.mean().item() if len(inside) else 0.0, abs=1e-6)
