"""Masks as the COCO family of data sets stores them: run lengths and polygons.

Runs go down the columns, off and on in turn, beginning with off. Stored as text, each run is a
little-endian number in groups of five bits, the sixth bit telling that more follow; from the fourth
run on it is the difference to the run before the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import MaskArray, Size

_ORIGIN = 48
_BITS = 5
_MORE, _SIGN = 0x20, 0x10
_MAX_GROUPS = 8
_COORDINATES = 2


def decode_runs(text: str) -> list[int]:
    """Read run lengths from their text form.

    Args:
        text: As in the ``counts`` of a COCO mask.

    Raises:
        InputError: The text is no such form.

    Example:
        >>> decode_runs("52203")
        [5, 2, 2, 2, 5]
    """
    runs: list[int] = []
    value, groups = 0, 0
    for letter in text:
        bits = ord(letter) - _ORIGIN
        if not 0 <= bits < 2 * _MORE or groups == _MAX_GROUPS:
            raise InputError(f"wanted run lengths as COCO writes them, got {text[:40]!r}")
        value |= (bits & (_MORE - 1)) << (_BITS * groups)
        groups += 1
        if bits & _MORE:
            continue
        if bits & _SIGN:
            value -= 1 << (_BITS * groups)
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, groups = 0, 0
    if groups or any(run < 0 for run in runs):
        raise InputError(f"wanted run lengths as COCO writes them, got {text[:40]!r}")
    return runs


def decode_rle(counts: str | Sequence[int], size: Size) -> MaskArray:
    """Unpack a mask.

    Args:
        counts: Run lengths, as numbers or as text.
        size: Size of the mask.

    Returns:
        Bool ``(H, W)``.

    Raises:
        InputError: The runs do not fill the mask exactly.

    Example:
        >>> decode_rle([1, 2, 3], Size(2, 3)).astype(int).tolist()
        [[0, 1, 0], [1, 0, 0]]
    """
    runs = decode_runs(counts) if isinstance(counts, str) else list(counts)
    area = size.height * size.width
    if any(not isinstance(run, int) or run < 0 for run in runs) or sum(runs) != area:
        raise InputError(f"the runs of a mask must fill its {area} pixels ({size}), got {runs[:8]}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(size.width, size.height).T)


def fill_polygons(polygons: Sequence[Sequence[float]], size: Size) -> MaskArray:
    """Fill polygons; a pixel belongs to one if its centre lies inside.

    Args:
        polygons: Each ``x0, y0, x1, y1, ...`` in pixels from the outer corner of the first pixel;
            with fewer than three corners, as a few in COCO have, it encloses nothing.
        size: Size of the mask; what lies outside is cut off.

    Returns:
        Bool ``(H, W)``, the union of all.

    Raises:
        InputError: A polygon has an x without a y.

    Example:
        >>> fill_polygons([[1, 0, 3, 0, 3, 2, 1, 2]], Size(2, 4)).astype(int).tolist()
        [[0, 1, 1, 0], [0, 1, 1, 0]]
    """
    mask = np.zeros(size, dtype=np.bool_)
    for polygon in polygons:
        if len(polygon) % _COORDINATES:
            raise InputError(f"a polygon needs pairs of x and y, got {list(polygon)[:9]}")
        corners = np.asarray(polygon, dtype=np.float64).reshape(-1, _COORDINATES)
        mask |= _fill(corners, size)
    return mask


def _fill(corners: np.ndarray, size: Size) -> MaskArray:
    # Each edge flips, in every row whose centre line it crosses, all pixels right of the crossing.
    flips = np.zeros((size.height, size.width + 1), dtype=np.int32)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = min(y0, y1), max(y0, y1)
        first = max(0, int(np.ceil(low - 0.5)))
        last = min(size.height, int(np.ceil(high - 0.5)))
        if first >= last:
            continue
        rows = np.arange(first, last)
        crossings = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        columns = np.clip(np.ceil(crossings - 0.5), 0, size.width).astype(np.int64)
        flips[rows, columns] += 1
    return np.asarray(np.cumsum(flips[:, :-1], axis=1) % 2 == 1)
