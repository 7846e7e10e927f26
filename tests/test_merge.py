"""Merging of groups, and the masks that come of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vots_hqtrack import merge
from vots_hqtrack.errors import ShapeError
from vots_hqtrack.frame import (
    logits_to_frame,
    logits_to_frame_rows,
    plan_aligned_frame,
    plan_frame,
)
from vots_hqtrack.merge import (
    initial_masks,
    initial_masks_by_rows,
    merge_groups,
    merge_separate,
)
from vots_hqtrack.scoring import mean_probabilities
from vots_hqtrack.types import Size


@pytest.mark.parametrize("count", [0, 1, 4, 11, 255])
def test_values_equal_the_first_maximum(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    # Few levels, so that classes tie, the background with objects too.
    levels = torch.randint(0, 6, (1 + count, 12, 17), generator=generator)
    probabilities = levels / levels.sum(0, keepdim=True).clamp(min=1)
    initial = initial_masks(probabilities)
    masks, means = initial.masks, mean_probabilities(initial.probability, initial.masks)
    winners = probabilities.numpy().argmax(axis=0)
    assert np.array_equal(initial.slot_map.numpy(), winners)
    assert masks.shape == (count, 12, 17)
    assert means.shape == (count,)
    for number, (mask, mean) in enumerate(zip(masks, means, strict=True), start=1):
        assert np.array_equal(mask.numpy(), winners == number)
        inside = probabilities[number][mask]
        assert mean.item() == pytest.approx(inside.mean().item() if len(inside) else 0.0, abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 9))
def test_merged_groups_sum_to_one_and_keep_clear_winners(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = [torch.randn(1 + size, 2, 3, generator=generator) for size in sizes]
    last = logits[-1]
    last[:, 0, 0] = -20
    last[-1, 0, 0] = 20
    for other in logits[:-1]:
        other[:, 0, 0] = -20
        other[0, 0, 0] = 20
    merged = merge_groups(logits)
    assert merged.shape == (1 + sum(sizes), 2, 3)
    torch.testing.assert_close(merged.sum(0), torch.ones(2, 3))
    assert merged[:, 0, 0].argmax() == sum(sizes)


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(0, 99))
def test_separate_merge_gives_each_pixel_to_the_highest_probability(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = [torch.randn(2, 3, 4, generator=generator) for _ in range(count)]
    merged = merge_separate(logits)
    torch.testing.assert_close(merged.sum(0), torch.ones(3, 4))
    own = torch.stack([alone.softmax(0)[1] for alone in logits])
    winner = torch.where(own.amax(0) > 0.5, own.argmax(0) + 1, 0)
    assert torch.equal(merged.argmax(0), winner)


def test_separate_merge_of_one_object_changes_nothing() -> None:
    logits = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(merge_separate([logits]), merge_groups([logits]))


@pytest.mark.parametrize("merge", [merge_groups, merge_separate])
def test_exception_nothing_to_merge(merge: object) -> None:
    with pytest.raises(ShapeError, match="got none"):
        merge([])  # type: ignore[operator]


@pytest.mark.parametrize("is_aligned", [False, True])
@pytest.mark.parametrize("size", [Size(37, 50), Size(1, 9), Size(90, 7)])
def test_strips_of_rows_give_what_the_whole_frame_gives(
    monkeypatch: pytest.MonkeyPatch, size: Size, is_aligned: bool
) -> None:
    geometry = plan_aligned_frame(size) if is_aligned else plan_frame(size, 256)
    generator = torch.Generator().manual_seed(size.width)
    logits = torch.randn(4, *geometry.logits_size, generator=generator)
    whole = logits_to_frame(logits, geometry)
    for step in (1, 5, size.height):
        rows = [slice(top, min(top + step, size.height)) for top in range(0, size.height, step)]
        strips = torch.cat([logits_to_frame_rows(logits, geometry, part) for part in rows], dim=1)
        # Aligned: PyTorch rounds the positions to float32, 3e-5 were measured.
        torch.testing.assert_close(strips, whole, atol=1e-4, rtol=0)
    wanted = initial_masks(whole.softmax(0))
    monkeypatch.setattr(merge, "WHOLE_FRAME_NUMBERS", 0)
    monkeypatch.setattr(merge, "STRIP_NUMBERS", 4 * size.width * 5)
    found = initial_masks_by_rows(lambda rows: whole[:, rows].softmax(0), size, 3)
    assert torch.equal(found.slot_map, wanted.slot_map)
    assert torch.equal(found.masks, wanted.masks)
    torch.testing.assert_close(found.probability, wanted.probability, atol=1e-6, rtol=0)
