from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.types import Size
from vots_hqtrack.vot.region_text import encode_region, parse_region, place_runs

SIZE = Size(20, 30)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_region_round_trip(mask: np.ndarray) -> None:
    line = encode_region(mask)
    back = parse_region(line).to_mask(Size(*mask.shape))
    assert back is not None
    np.testing.assert_array_equal(back, mask)
    assert line.isascii()
    assert "\n" not in line


@given(
    hnp.arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 8))),
    st.integers(-10, 10),
    st.integers(-10, 10),
)
def test_runs_are_cut_at_the_frame(cut: np.ndarray, left: int, top: int) -> None:
    # A frame that cuts nothing is the truth; its middle is what the small frame must show.
    runs: list[int] = [0]
    for value in cut.ravel():
        if value != bool((len(runs) - 1) % 2):
            runs.append(0)
        runs[-1] += 1
    box = Size(*cut.shape)
    large = place_runs((left + 20, top + 20), box, runs, Size(60, 60))
    assert large.sum() == cut.sum()
    small = place_runs((left, top), box, runs, Size(6, 7))
    np.testing.assert_array_equal(small, large[20:26, 20:27])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("m0,0,2,2,4", [[0, 0, 0], [0, 0, 0]]),
        ("m1,0,2,2,1,1,1,1", [[0, 0, 1], [0, 0, 1]]),
        ("m0,0,3,2,0,6", [[1, 1, 1], [1, 1, 1]]),
        ("m1,1,5,1,0,1", [[0, 0, 0], [0, 1, 0]]),
        ("1", [[0, 0, 0], [0, 0, 0]]),
        ("m0,0,0,0,0", [[0, 0, 0], [0, 0, 0]]),
        ("0.6,0,1.5,1.0", [[0, 1, 0], [0, 0, 0]]),
        ("-4,-4,6,5\n", [[1, 1, 0], [0, 0, 0]]),
        ("1,0,3,0,3,1,1,1", [[0, 1, 1], [0, 0, 0]]),
    ],
)
def test_decode_values(line: str, expected: list[list[int]]) -> None:
    mask = parse_region(line).to_mask(Size(2, 3))
    assert mask is not None
    assert mask.astype(int).tolist() == expected


def test_unknown_is_none() -> None:
    assert encode_region(None) == "0"
    assert parse_region("0").to_mask(SIZE) is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "m",
        "2",
        "m1,2,3",
        "m0,0,2,2,9",
        "m0,0,2,2,-1,2",
        "m0.5,0,2,2,1",
        "a,b,c,d",
        "1,2,3,4,5",
        "1,2,3,4,5,6,7",
        "0,0,3,0,nan,3",
        "inf,0,1,1",
    ],
)
def test_decode_names_what_came(line: str) -> None:
    with pytest.raises(InputError):
        parse_region(line)


@pytest.mark.parametrize("mask", [np.zeros((3, 3)), np.zeros(3, dtype=bool)])
def test_encode_wants_bool_masks(mask: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="bool array"):
        encode_region(mask)
