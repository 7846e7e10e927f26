from __future__ import annotations

import numpy as np
import pytest
import trax
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vots_hqtrack.errors import InputError, ProtocolError, ShapeError
from vots_hqtrack.types import Size
from vots_hqtrack.vot.regions import (
    MAX_RUN_LENGTH,
    MAX_RUNS,
    cap_runs,
    count_runs,
    mask_to_region,
    region_to_mask,
)

SIZE = Size(6, 8)
masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


def box(top: int, bottom: int, left: int, right: int, size: Size = SIZE) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def count_runs_slowly(mask: np.ndarray) -> int:
    """Follow the toolkit's writer pixel by pixel."""
    rows, columns = np.nonzero(mask)
    if rows.size == 0:
        return 1
    crop = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    runs, current, length = 0, False, 0
    for pixel in crop.ravel():
        if pixel != current:
            runs, current, length = runs + 1, pixel, 0
        length += 1
        if length == MAX_RUN_LENGTH + 1:
            runs, length = runs + 2, 1
    return runs + 1


@pytest.mark.parametrize(
    ("left", "top", "expected"),
    [
        (2, 1, box(1, 3, 2, 5)),
        (-1, -1, box(0, 1, 0, 2)),
        (6, 5, box(5, 6, 6, 8)),
        (8, 0, box(0, 0, 0, 0)),
        (0, 6, box(0, 0, 0, 0)),
        (-3, 0, box(0, 0, 0, 0)),
        (-100, -100, box(0, 0, 0, 0)),
    ],
)
def test_mask_with_offset_fills_the_frame(left: int, top: int, expected: np.ndarray) -> None:
    region = trax.Mask.create(np.ones((2, 3), dtype=np.uint8), x=left, y=top)
    found = region_to_mask(region, SIZE)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, expected)


def test_mask_larger_than_the_frame_is_cut() -> None:
    picture = np.zeros((20, 30), dtype=np.uint8)
    picture[4:7, 5:9] = 255
    region = trax.Mask.create(picture, x=-3, y=-2)
    np.testing.assert_array_equal(region_to_mask(region, SIZE), box(2, 5, 2, 6))


def test_mask_without_extent_is_empty() -> None:
    region = trax.Mask.create(np.zeros((0, 0), dtype=np.uint8))
    found = region_to_mask(region, SIZE)
    assert found.shape == SIZE
    assert not found.any()


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((2, 1, 3, 2), box(1, 3, 2, 5)),
        ((1.6, 0.6, 2.7, 2.1), box(1, 3, 2, 4)),
        ((-2, -1, 4, 3), box(0, 2, 0, 2)),
        ((5, 4, 100, 100), box(4, 6, 5, 8)),
        ((0, 0, 0, 0), box(0, 0, 0, 0)),
        ((5, 4, -2, 1), box(0, 0, 0, 0)),
        ((-9, -9, 3, 3), box(0, 0, 0, 0)),
    ],
)
def test_rectangle_is_filled(bounds: tuple[float, ...], expected: np.ndarray) -> None:
    found = region_to_mask(trax.Rectangle.create(*bounds), SIZE)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(2, 1), (5, 1), (5, 3), (2, 3)], box(1, 3, 2, 5)),
        ([(2, 3), (2, 1), (5, 1), (5, 3)], box(1, 3, 2, 5)),
        ([(1.6, 0.6), (4.4, 0.6), (4.4, 2.4), (1.6, 2.4)], box(1, 2, 2, 4)),
        ([(-9, -9), (30, -9), (30, 30), (-9, 30)], box(0, 6, 0, 8)),
        ([(9, 0), (12, 0), (12, 6)], box(0, 0, 0, 0)),
        ([(0, 2), (8, 2), (4, 2)], box(0, 0, 0, 0)),
    ],
)
def test_polygon_is_filled(points: list[tuple[float, float]], expected: np.ndarray) -> None:
    found = region_to_mask(trax.Polygon.create(points), SIZE)
    np.testing.assert_array_equal(found, expected)


def test_polygon_is_filled_where_pixel_centres_are_inside() -> None:
    corners = np.array([(3.2, 1.1), (22.7, 4.9), (15.3, 18.4), (2.1, 12.6)])
    centres = np.stack(np.meshgrid(np.arange(30), np.arange(20)), axis=-1) + 0.5
    edges = np.roll(corners, -1, axis=0) - corners
    offsets = centres[:, :, None] - corners
    sides = edges[:, 0] * offsets[..., 1] - edges[:, 1] * offsets[..., 0]
    inside = (sides > 0).all(axis=-1)
    points = [tuple(point) for point in corners.tolist()]
    np.testing.assert_array_equal(region_to_mask(trax.Polygon.create(points), Size(20, 30)), inside)


def test_other_regions_are_refused_by_name() -> None:
    with pytest.raises(ProtocolError, match="got a special"):
        region_to_mask(trax.Special.create(1), SIZE)
    for region in (
        trax.Rectangle.create(float("nan"), 0, 1, 1),
        trax.Polygon.create([(0, 0), (float("inf"), 0), (3, 3)]),
    ):
        with pytest.raises(ProtocolError, match="finite"):
            region_to_mask(region, SIZE)


def test_report_is_cut_to_its_box() -> None:
    region = mask_to_region(np.asfortranarray(box(2, 5, 3, 7)))
    assert region.offset() == (3, 2)
    np.testing.assert_array_equal(region.array(), np.ones((3, 4)))


def test_report_of_an_absent_object_is_an_empty_rectangle() -> None:
    region = mask_to_region(box(0, 0, 0, 0))
    assert region.type == trax.Region.RECTANGLE
    assert region.bounds() == (0, 0, 0, 0)


@pytest.mark.parametrize("left", [0, 3, 7])
def test_one_column_is_sent_with_an_empty_one_before_it(left: int) -> None:
    region = mask_to_region(box(1, 4, left, left + 1))
    assert region.offset() == (left - 1, 1)
    np.testing.assert_array_equal(region.array(), [[0, 1]] * 3)


@settings(deadline=None)
@given(mask=masks)
def test_mask_to_region_and_back_is_identity(mask: np.ndarray) -> None:
    back = region_to_mask(mask_to_region(mask), Size(*mask.shape))
    np.testing.assert_array_equal(back, mask)


def test_bad_masks_are_refused() -> None:
    with pytest.raises(ShapeError, match="uint8"):
        mask_to_region(np.zeros(SIZE, dtype=np.uint8))
    with pytest.raises(ShapeError, match="bool"):
        count_runs(np.zeros((1, 2, 3), dtype=bool))


@settings(deadline=None)
@given(mask=masks)
def test_runs_are_counted_as_the_toolkit_writes_them(mask: np.ndarray) -> None:
    assert count_runs(mask) == count_runs_slowly(mask)


@pytest.mark.parametrize(
    ("width", "expected"),
    [(MAX_RUN_LENGTH, 2), (MAX_RUN_LENGTH + 1, 4), (3 * MAX_RUN_LENGTH, 6)],
)
def test_long_runs_are_counted_in_parts(width: int, expected: int) -> None:
    mask = np.ones((1, width), dtype=bool)
    assert count_runs(mask) == expected == count_runs_slowly(mask)


@settings(max_examples=200, deadline=None)
@given(mask=masks, limit=st.integers(3, 20))
def test_capped_mask_fits_and_is_a_part(mask: np.ndarray, limit: int) -> None:
    capped = cap_runs(mask, limit)
    assert count_runs(capped) <= limit
    assert not (capped & ~mask).any()
    assert capped.any() == mask.any()
    if count_runs(mask) <= limit:
        np.testing.assert_array_equal(capped, mask)


def test_specks_go_and_the_large_pieces_stay() -> None:
    size = Size(720, 1280)
    mask = box(100, 400, 200, 700, size) | box(600, 620, 900, 930, size)
    speckled = mask.copy()
    speckled[::2, ::2] = True
    assert count_runs(speckled) > MAX_RUNS
    capped = cap_runs(speckled)
    assert count_runs(capped) <= MAX_RUNS
    assert (capped & mask).sum() == mask.sum()
    assert not (capped & ~speckled).any()


def test_a_single_piece_of_too_many_strokes_keeps_the_longest() -> None:
    comb = np.zeros((400, 600), dtype=bool)
    comb[:, ::2] = True
    comb[7] = True
    assert count_runs(comb) > MAX_RUNS
    capped = cap_runs(comb)
    assert MAX_RUNS * 0.9 < count_runs(capped) <= MAX_RUNS
    assert capped[7].all()


def test_the_mask_given_is_left_alone() -> None:
    mask = np.zeros((4, 40), dtype=bool)
    mask[::2, ::2] = True
    before = mask.copy()
    assert cap_runs(mask, 9) is not mask
    np.testing.assert_array_equal(mask, before)


def test_a_limit_without_room_is_refused() -> None:
    with pytest.raises(InputError, match="limit of 2 runs"):
        cap_runs(box(0, 1, 0, 1) | box(3, 4, 3, 4), 2)
