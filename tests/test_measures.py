"""J and F against values by hand, and against a matcher that compares every pair of pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.measures import (
    SegmentationMeasures,
    boundary_accuracy,
    jaccard,
    mask_boundary,
    mean_measures,
    measure_mask,
    measure_object,
)
from vots_hqtrack.types import MaskArray


def square(size: tuple[int, int], top: int, left: int, side: int) -> MaskArray:
    mask = np.zeros(size, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def slow_boundary(mask: MaskArray) -> list[tuple[int, int]]:
    """Pixel by pixel; beyond the frame the last row and column go on."""
    height, width = mask.shape
    found = []
    for y in range(height):
        for x in range(width):
            below, right = min(y + 1, height - 1), min(x + 1, width - 1)
            others = (mask[y, right], mask[below, x], mask[below, right])
            if any(other != mask[y, x] for other in others):
                found.append((y, x))
    return found


def slow_f(predicted: MaskArray, truth: MaskArray, tolerance: float = 0.008) -> float:
    """Compare every boundary pixel with every other one."""
    found, wanted = slow_boundary(predicted), slow_boundary(truth)
    reach = math.ceil(tolerance * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2))

    def share(pixels: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        near = [any((y - v) ** 2 + (x - u) ** 2 <= reach**2 for v, u in others) for y, x in pixels]
        return sum(near) / len(near)

    if not found or not wanted:
        return 1.0 if not found and not wanted else 0.0
    precision, recall = share(found, wanted), share(wanted, found)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def blob(generator: np.random.Generator, size: tuple[int, int]) -> MaskArray:
    """Some discs together, cut by the frame."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, dtype=bool)
    for _ in range(3):
        y, x = generator.uniform(0, size[0]), generator.uniform(0, size[1])
        mask |= (rows - y) ** 2 + (columns - x) ** 2 < generator.uniform(2, 2 + min(size) / 3) ** 2
    return mask


@pytest.mark.parametrize("size", [(37, 53), (60, 40), (7, 131), (90, 161), (1, 30), (30, 1)])
def test_boundary_accuracy_is_that_of_the_slow_matcher(size: tuple[int, int]) -> None:
    generator = np.random.default_rng(size[0])
    found = []
    for _ in range(6):
        truth, predicted = blob(generator, size), blob(generator, size)
        near = np.roll(truth, (1, 2), axis=(0, 1)) & (generator.random(size) > 0.02)
        for mask in (predicted, near):
            assert set(slow_boundary(mask)) == set(
                zip(*np.nonzero(mask_boundary(mask)), strict=True)
            )
            expected = slow_f(mask, truth)
            assert boundary_accuracy(mask, truth) == pytest.approx(expected, abs=1e-12)
            found.append(expected)
    assert len({round(value, 3) for value in found}) > 3


def test_boundary_values() -> None:
    """The boundary of a square is a ring with its right and lower sides inside it."""
    boundary = mask_boundary(square((8, 9), 2, 3, 3))
    expected = np.zeros((8, 9), dtype=bool)
    expected[1:5, 2:6] = True
    expected[2:4, 3:5] = False
    assert np.array_equal(boundary, expected)
    # Shifts, with a tolerance of one pixel.
    truth = square((40, 40), 10, 10, 9)
    assert boundary_accuracy(truth, truth, tolerance=1) == 1
    assert boundary_accuracy(square((40, 40), 10, 11, 9), truth, tolerance=1) == 1
    # Two pixels aside: of 36 pixels each, nine of ten match in the upper and in the lower row. Of
    # the column inside the other square, the two pixels next to its rows match.
    aside = boundary_accuracy(square((40, 40), 10, 12, 9), truth, tolerance=1)
    assert aside == pytest.approx((9 + 9 + 2) / 36)
    assert boundary_accuracy(square((40, 40), 10, 25, 9), truth, tolerance=1) == 0


def test_tolerance_is_a_fraction_of_the_diagonal() -> None:
    """On 300 x 400, 0.008 of the diagonal are 4 pixels; on 303 x 404 it is a fifth one."""
    for size, reach in (((300, 400), 4), ((303, 404), 5)):
        truth = square(size, 0, 0, 500)
        truth[:, 100:] = False
        for shift in (reach, reach + 1):
            moved = truth.copy()
            moved[:, : 100 + shift] = True
            assert boundary_accuracy(moved, truth) == (1.0 if shift == reach else 0.0)


def test_empty_and_full_masks() -> None:
    empty, full, some = np.zeros((9, 11), bool), np.ones((9, 11), bool), square((9, 11), 3, 3, 3)
    assert measure_mask(empty, empty) == SegmentationMeasures(1.0, 1.0)
    for pair in ((empty, some), (some, empty)):
        assert measure_mask(*pair) == SegmentationMeasures(0.0, 0.0)
    assert measure_mask(full, full) == SegmentationMeasures(1.0, 1.0)
    # Neither has a boundary, which is what DAVIS's definition counts.
    assert measure_mask(full, empty) == SegmentationMeasures(0.0, 1.0)


def test_jaccard_values() -> None:
    assert jaccard(square((9, 9), 0, 0, 4), square((9, 9), 2, 2, 4)) == 4 / 28


def test_means() -> None:
    empty, some = np.zeros((9, 11), bool), square((9, 11), 3, 3, 3)
    half = some.copy()
    half[:, 4:] = False
    truth = [None, some, some, None, empty, some, some]
    measured = measure_object([None, some, half, some, empty, empty], truth)
    assert measured is not None
    # Counted: a third of the mask, both empty, two misses (one reported empty, one not at all).
    assert measured.region == pytest.approx((1 / 3 + 1 + 0 + 0) / 4)
    assert measured.boundary == pytest.approx((slow_f(half, some) + 1 + 0 + 0) / 4)
    assert measured.mean == pytest.approx((measured.region + measured.boundary) / 2)
    assert measured.to_dict()["J&F"] == measured.mean
    assert measure_object([some], [some]) is None
    assert mean_measures([None, SegmentationMeasures(0.5, 1), SegmentationMeasures(1, 0)]) == (
        SegmentationMeasures(0.75, 0.5)
    )
    assert mean_measures([None]) is None


@pytest.mark.parametrize(
    "other", [np.zeros((4, 5), np.uint8), np.zeros((5, 4), bool), np.zeros((1, 4, 5), bool)]
)
def test_exception_masks_do_not_fit(other: MaskArray) -> None:
    mask = np.zeros((4, 5), bool)
    for measure in (jaccard, boundary_accuracy):
        for pair in ((mask, other), (other, mask)):
            with pytest.raises(ShapeError, match=r"bool \(H, W\) of one size"):
                measure(*pair)
