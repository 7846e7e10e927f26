"""Components and distances by tensor operations are those of OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from vots_hqtrack.ops.components import label_components, sum_components
from vots_hqtrack.ops.distance import deepest_pixels, squared_distances
from vots_hqtrack.sam.components import clean_logits
from vots_hqtrack.sam.geometry import SamGeometry, masks_in_frame
from vots_hqtrack.sam.prompts import prompt_masks, prompt_points
from vots_hqtrack.types import MaskArray, Size

SIDE = 257


def spiral() -> MaskArray:
    mask = np.zeros((SIDE, SIDE), bool)
    low, high = 0, SIDE - 1
    while low <= high:
        mask[low, low : high + 1] = mask[low : high + 1, high] = mask[high, low : high + 1] = True
        mask[low + 2 : high + 1, low] = True
        mask[min(low + 2, SIDE - 1), low : min(low + 3, high + 1)] = True
        low, high = low + 2, high - 2
    return mask


def comb() -> MaskArray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:, ::2] = mask[-1] = True
    return mask


def folded() -> MaskArray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[::2] = mask[1::4, -1] = mask[3::4, 0] = True
    return mask


def noise(seed: int, shape: tuple[int, int], blur: float) -> MaskArray:
    values = np.random.default_rng(seed).normal(0, 1, shape)
    return (cv2.GaussianBlur(values, (0, 0), blur) if blur else values) > 0


MASKS = [
    spiral(), spiral().T, comb(), comb()[::-1], folded(), folded().T,
    *(np.random.default_rng(seed).random((SIDE, SIDE)) < 0.4 + 0.05 * seed for seed in range(6)),
    *(noise(seed, (SIDE, SIDE), 0.5 + seed) for seed in range(4)),
    np.zeros((SIDE, SIDE), bool), np.ones((SIDE, SIDE), bool),
]  # fmt: skip


@pytest.mark.parametrize("diagonal", [False, True])
def test_components_are_opencvs(diagonal: bool) -> None:
    masks = torch.from_numpy(np.stack(MASKS))
    labels = label_components(masks, diagonal=diagonal)
    areas = sum_components(labels, masks).view(masks.shape)
    for mask, label, area in zip(MASKS, labels.view(masks.shape).numpy(), areas, strict=True):
        count, wanted, table, _ = cv2.connectedComponentsWithStats(
            mask.astype(np.uint8), connectivity=8 if diagonal else 4
        )
        pairs = set(zip(wanted[mask].tolist(), label[mask].tolist(), strict=True))
        assert len(pairs) == len({number for _, number in pairs}) == count - 1
        assert (label[~mask] == mask.size).all()
        assert np.array_equal(area.numpy()[mask], table[wanted[mask], cv2.CC_STAT_AREA])


def test_distances_are_opencvs() -> None:
    found = squared_distances(torch.from_numpy(np.stack(MASKS[:10]))).sqrt().numpy()
    for mask, distance in zip(MASKS, found, strict=False):
        wanted = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        assert np.allclose(distance, wanted, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (90, 7), (120, 160)])
def test_deepest_pixels_are_the_hosts(shape: tuple[int, int]) -> None:
    masks = [noise(seed, shape, 1 + 5 * seed) for seed in range(5)]
    masks += [np.zeros(shape, bool), np.ones(shape, bool)]
    stack = torch.from_numpy(np.stack(masks))
    assert deepest_pixels(stack).tolist() == prompt_points(stack).tolist()


def test_the_compiled_refiner_steps_equal_the_hosts() -> None:
    """Prompts, cleaning and masks in the frame: the host works in crops, a graph everywhere."""
    geometry = SamGeometry(Size(90, 121), Size(48, 64), side=64, mask_side=16)
    generator = torch.Generator().manual_seed(0)
    initial = torch.from_numpy(np.stack([noise(seed, (90, 121), 4 + seed) for seed in range(5)]))
    low = torch.nn.functional.avg_pool2d(torch.randn(5, 1, 16, 16, generator=generator), 3, 1, 1)

    def steps() -> tuple[torch.Tensor, ...]:
        prompts = prompt_masks(initial, geometry, mask_logit=20.0)
        logits = clean_logits(
            low[:, 0], prompts[:, 0] > 0, geometry.covered, fill_holes=True, drop_islands=True
        )
        return prompts, prompt_points(initial), logits, masks_in_frame(logits, geometry)

    assert not torch.equal(steps()[2], low[:, 0])
    compiled = torch.compile(steps, fullgraph=True, backend="eager")
    for found, wanted in zip(compiled(), steps(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
