"""Masks as the COCO family of data sets stores them: run lengths and polygons.

Runs go down the columns, off and on in turn, beginning with off. Stored as a string, each run is a
little-endian number in groups of five bits, the sixth bit telling that more follow; from the fourth
run on it is the difference to the run before the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.adapters.files import IdArray, take
from vots_hqtrack.types import MaskArray, Size

_ORIGIN = 48
_BITS = 5
_MORE, _SIGN = 0x20, 0x10
_MAX_GROUPS = 8


def paint_segmentations(segmentations: Mapping[int, object], size: Size, where: object) -> IdArray:
    """Paint packed masks into one map; where they overlap, the smaller object is on top.

    Args:
        segmentations: Packed masks by object number; see `decode_segmentation`.
        size: Size of the frame.
        where: Their origin, for messages.

    Raises:
        InputError: A mask is damaged or of another size.
    """
    masks = {n: decode_segmentation(item, size, where) for n, item in segmentations.items()}
    ids = np.zeros(size, dtype=np.int32)
    for number in sorted(masks, key=lambda number: -int(masks[number].sum())):
        ids[masks[number]] = number
    return ids


def paint_frame(
    video: str, size: Size, frames: Sequence[Mapping[int, object]], position: int
) -> IdArray:
    """Paint the packed masks of one frame of a video; see `paint_segmentations`."""
    return paint_segmentations(frames[position], size, f"video {video}, frame {position}")


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
        return fill_polygons(segmentation, size)
    counts = take(segmentation, "counts", object, where)
    stated = segmentation.get("size", list(size)) if isinstance(segmentation, dict) else None
    if stated != list(size):
        raise InputError(f"{where}: wanted a mask of {size}, got one of {stated}")
    if not isinstance(counts, str | Sequence):
        raise InputError(f"{where}: wanted run lengths, got {type(counts).__name__}")
    return decode_rle(counts, size)


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
        mask |= _fill(np.asarray(polygon, dtype=np.float64).reshape(-1, 2), size)
    return mask


def _fill(corners: np.ndarray, size: Size) -> MaskArray:
    # Each edge flips, in every row with a centre line that it crosses, all pixels right of it.
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
