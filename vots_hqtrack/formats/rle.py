"""Masks as the COCO family of data sets stores them: run lengths and polygons.

Runs go down the columns, off and on in turn, beginning with off. Stored as a string, each run is a
little-endian number in groups of five bits, the sixth bit telling that more follow; from the fourth
run on it is the difference to the run before the last.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.files import take
from vots_hqtrack.types import MaskArray, Size
from vots_hqtrack.vot.region_text import MAX_COORDINATE, check_mask, fill_polygon

_ORIGIN = 48
_BITS = 5
_MORE, _SIGN = 0x20, 0x10
_MAX_GROUPS = 8


def decode_segmentation(segmentation: object, size: Size, where: object) -> MaskArray:
    """Unpack one ``segmentation`` of COCO's JSON, or of a format that descends from it.

    Args:
        segmentation: List of polygons, or a table with ``counts`` and perhaps ``size``.
        size: Size of the frame.
        where: Its origin, for messages.

    Returns:
        Bool ``(H, W)``.

    Raises:
        InputError: It is neither, or does not fit the frame.
    """
    if isinstance(segmentation, list):
        if not all(map(_is_polygon, segmentation)):
            got = reprlib.repr(segmentation)
            raise InputError(f"{where}: wanted polygons of finite numbers, got {got}")
        return fill_polygons(segmentation, size)
    counts = take(segmentation, "counts", object, where)
    stated = segmentation.get("size", list(size)) if isinstance(segmentation, dict) else None
    if stated != list(size):
        raise InputError(f"{where}: wanted a mask of {size}, got one of {stated}")
    if not isinstance(counts, str | Sequence):
        raise InputError(f"{where}: wanted run lengths, got {type(counts).__name__}")
    try:
        return decode_rle(counts, size)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _is_polygon(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(part, int | float) and abs(part) <= MAX_COORDINATE for part in value
    )


def encode_mask(mask: MaskArray) -> dict[str, object]:
    """Pack a bool ``(H, W)`` mask as COCO's tools do: ``size`` and a ``counts`` string.

    Example:
        >>> encode_mask(np.array([[0, 1, 0], [1, 0, 0]], dtype=bool))
        {'size': [2, 3], 'counts': '123'}
    """
    check_mask(mask)
    return {"size": list(mask.shape), "counts": encode_runs(mask_runs(mask))}


def mask_runs(mask: MaskArray) -> list[int]:
    """Run lengths of a bool ``(H, W)`` mask down its columns, off and on in turn, off first."""
    flat = np.concatenate([[False], mask.T.ravel()])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(run) for run in np.diff(ends, prepend=0, append=mask.size)]


def encode_runs(runs: Sequence[int]) -> str:
    """Write run lengths as the ``counts`` string of a COCO mask.

    Example:
        >>> encode_runs([5, 2, 2, 2, 5])
        '52203'
    """
    codes = bytearray()
    for position, run in enumerate(runs):
        value = run - runs[position - 2] if position > 2 else run
        while True:
            group, value = value & (_MORE - 1), value >> _BITS
            is_last = value == (-1 if group & _SIGN else 0)
            codes.append(_ORIGIN + group + (0 if is_last else _MORE))
            if is_last:
                break
    return codes.decode("ascii")


def decode_runs(string: str) -> list[int]:
    """Read run lengths from the ``counts`` string of a COCO mask.

    Raises:
        InputError: The string has another form.

    Example:
        >>> decode_runs("52203")
        [5, 2, 2, 2, 5]
    """
    codes = np.frombuffer(string.encode(), np.uint8).astype(np.int64) - _ORIGIN
    ends = np.flatnonzero(codes & _MORE == 0)
    starts = np.concatenate([[0], ends + 1])[: len(ends)]
    lengths = ends - starts + 1
    runs = np.zeros(len(ends), np.int64)
    is_valid = bool(((codes >= 0) & (codes < 2 * _MORE)).all() and (lengths <= _MAX_GROUPS).all())
    is_valid &= int(lengths.sum()) == len(codes)
    if is_valid and len(codes):
        shifts = _BITS * (np.arange(len(codes)) - np.repeat(starts, lengths))
        runs = np.add.reduceat((codes & (_MORE - 1)) << shifts, starts)
        runs -= np.where(codes[ends] & _SIGN, 1 << (_BITS * lengths), 0)
        runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    if not is_valid or (runs < 0).any():
        raise InputError(f"wanted run lengths as COCO writes them, got {string[:40]!r}")
    return [int(run) for run in runs]


def decode_rle(counts: str | Sequence[int], size: Size) -> MaskArray:
    """Unpack a mask.

    Args:
        counts: Run lengths, as numbers or as a string.
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
    """Fill polygons; a pixel belongs to a polygon if its centre is inside.

    Args:
        polygons: Each ``x0, y0, x1, y1, ...`` in pixels from the outer corner of the first pixel;
            with fewer than three corners, as a few in COCO have, it encloses nothing.
        size: Size of the mask; pixels outside are cut off.

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
        if len(polygon) % 2:
            raise InputError(f"a polygon needs pairs of x and y, got {list(polygon)[:9]}")
        mask |= fill_polygon(np.asarray(polygon, dtype=np.float64).reshape(-1, 2), size)
    return mask
