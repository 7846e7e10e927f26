from __future__ import annotations

import layouts
import numpy as np
import pytest

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.rle import decode_rle, decode_runs, fill_polygons
from vots_hqtrack.types import Size


def test_values_of_text_written_by_pycocotools():
    # Written by pycocotools 2.0.11 from these masks.
    ring = np.zeros((5, 7), bool)
    ring[1:4, 2:6] = True
    ring[2, 3] = False
    assert np.array_equal(decode_rle(";32NO012004", Size(5, 7)), ring)
    block = np.zeros((40, 60), bool)
    block[3:37, 20:50] = True
    text = "Si0R16000000000000000000000000000000000000000000000000000000000]<"
    assert np.array_equal(decode_rle(text, Size(40, 60)), block)


@pytest.mark.parametrize("size", [Size(1, 1), Size(3, 50), Size(31, 2), Size(40, 60)])
def test_runs_come_back(size):
    rng = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.5, 1.0):
        mask = rng.random(size) < share
        assert np.array_equal(decode_rle(layouts.runs_of(mask), size), mask)
        assert np.array_equal(decode_rle(layouts.text_of(mask), size), mask)


def test_long_and_falling_runs():
    mask = np.zeros((1000, 900), bool)
    mask[0:900, 500] = True
    mask[3, 501] = True
    runs = decode_runs(layouts.text_of(mask))
    assert runs == [500_000, 900, 103, 1, 900_000 - 500_000 - 900 - 103 - 1]


@pytest.mark.parametrize("text", ["52203\x7f", "o", "ooooooooo", "0/", "1OOO"])
def test_exception_text(text):
    with pytest.raises(InputError, match="run lengths as COCO writes them"):
        decode_runs(text)


@pytest.mark.parametrize("runs", [[5], [7], [], [8, -2], [2.0, 4.0]])
def test_exception_runs_that_do_not_fill(runs):
    with pytest.raises(InputError, match=r"must fill its 6 pixels \(3x2\)"):
        decode_rle(runs, Size(2, 3))


def test_values_of_a_polygon():
    # pycocotools 2.0.11 fills the same 351 pixels.
    mask = fill_polygons([[10.5, 3.25, 30.0, 8.0, 22.75, 25.5, 4.0, 18.0]], Size(30, 40))
    assert int(mask.sum()) == 351


def test_convention_a_pixel_is_in_if_its_centre_is():
    covered = fill_polygons([[0.6, 0.0, 2.4, 0.0, 2.4, 2.0, 0.6, 2.0]], Size(2, 4))
    assert covered[0].tolist() == [False, True, False, False]
    covered = fill_polygons([[0.4, 0.0, 2.6, 0.0, 2.6, 2.0, 0.4, 2.0]], Size(2, 4))
    assert covered[0].tolist() == [True, True, True, False]


def test_polygons_unite_and_are_cut_off():
    both = fill_polygons([[-5, -5, 2, -5, 2, 2, -5, 2], [1, 1, 9, 1, 9, 9, 1, 9]], Size(4, 4))
    assert int(both.sum()) == 4 + 9 - 1
    assert not fill_polygons([], Size(2, 2)).any()
    assert not fill_polygons([[7, 7, 9, 7, 9, 9]], Size(4, 4)).any()


def test_two_corners_enclose_nothing():
    assert not fill_polygons([[0, 0, 3, 3], []], Size(4, 4)).any()


def test_exception_polygon():
    with pytest.raises(InputError, match=r"pairs of x and y, got \[0, 0, 3, 0, 3\]"):
        fill_polygons([[0, 0, 3, 0, 3]], Size(4, 4))
