"""Masks as the text that VOTS ground truth is written in; pure functions.

A line is ``m<x>,<y>,<width>,<height>,<runs>``: the mask's bounding box and its run lengths in row
order inside that box, off and on in turn, beginning with off. ``0`` says that nothing is known of
the frame (also: the object has not started yet); ``1`` and an empty mask say that the object is not
in the picture. The toolkit reads a mask one pixel wide or tall as empty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.types import MaskArray, Size

UNKNOWN = "0"
EMPTY_MASK = "m0,0,0,0,0"


def encode_region(mask: MaskArray | None) -> str:
    """Write one mask as a line of a ground-truth file.

    Args:
        mask: Bool ``(H, W)``, or None where nothing is known.

    Returns:
        The line, without its end.

    Raises:
        ShapeError: The mask is not a bool array of two dimensions.

    Example:
        >>> encode_region(np.array([[0, 0, 0], [0, 1, 1], [0, 0, 1]], dtype=bool))
        'm1,1,2,2,0,2,1,1'
    """
    if mask is None:
        return UNKNOWN
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim != 2:
        got = f"{getattr(mask, 'dtype', type(mask).__name__)} {getattr(mask, 'shape', '')}"
        raise ShapeError(f"a mask must be a bool array (H, W), got {got.strip()}")
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return EMPTY_MASK
    columns = np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    box = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    flat = np.concatenate(([False], box.ravel(), [not box[-1, -1]]))
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(ends, prepend=0)
    numbers = (left, top, box.shape[1], box.shape[0], *runs.tolist())
    return "m" + ",".join(str(number) for number in numbers)


def decode_region(line: str, size: Size) -> MaskArray | None:
    """Read one line of a ground-truth file.

    Args:
        line: ``0``, ``1``, a mask ``m...`` or a rectangle ``x,y,width,height`` in pixels.
        size: Size of the frame; what lies outside is cut off.

    Returns:
        Bool ``(H, W)``, all False where the object is absent; None where nothing is known.

    Raises:
        InputError: The line is none of these.

    Example:
        >>> decode_region("m1,1,2,2,0,2,1,1", Size(3, 3)).astype(int).tolist()
        [[0, 0, 0], [0, 1, 1], [0, 0, 1]]
    """
    text = line.strip()
    if text == UNKNOWN:
        return None
    if text == "1":
        return np.zeros(size, dtype=np.bool_)
    is_mask = text.startswith("m")
    try:
        numbers = [float(part) for part in text.removeprefix("m").split(",")]
        counts = [int(number) for number in numbers]
    except (ValueError, OverflowError) as error:
        raise _region_error(line) from error
    if is_mask and len(counts) >= 4 and counts == numbers:
        left, top, width, height = counts[:4]
        return place_runs((left, top), Size(height, width), counts[4:], size)
    if not is_mask and len(numbers) == 4:
        left, top = round(numbers[0]), round(numbers[1])
        right, bottom = round(numbers[0] + numbers[2]), round(numbers[1] + numbers[3])
        box = Size(max(bottom - top, 0), max(right - left, 0))
        return place_runs((left, top), box, [0, box.height * box.width], size)
    raise _region_error(line)


def place_runs(corner: tuple[int, int], box: Size, runs: Sequence[int], size: Size) -> MaskArray:
    """Unpack run lengths and place them on an empty frame.

    Args:
        corner: ``(x, y)`` of the box's top-left pixel; may lie outside the frame.
        box: Size of the box that the runs fill in row order.
        runs: Lengths, off and on in turn, beginning with off; a tail of off pixels may be left out.
        size: Size of the frame.

    Returns:
        Bool ``(H, W)``.

    Raises:
        InputError: A length is negative, or the runs do not fit the box.
    """
    if box.height < 0 or box.width < 0 or any(run < 0 for run in runs):
        raise InputError(
            f"a mask needs sizes and runs of 0 or more, got {box} and {list(runs)[:8]}"
        )
    area = box.height * box.width
    if sum(runs) > area:
        raise InputError(f"the runs of a mask fill {sum(runs)} pixels, but its box has {area}")
    values = np.arange(len(runs)) % 2 == 1
    flat = np.zeros(area, dtype=np.bool_)
    flat[: sum(runs)] = np.repeat(values, np.asarray(runs, dtype=np.int64))
    cut = flat.reshape(box)
    left, top = corner
    mask = np.zeros(size, dtype=np.bool_)
    target = mask[max(top, 0) : max(top + box.height, 0), max(left, 0) : max(left + box.width, 0)]
    skip_rows, skip_columns = max(-top, 0), max(-left, 0)
    rows, columns = target.shape
    target[:] = cut[skip_rows : skip_rows + rows, skip_columns : skip_columns + columns]
    return mask


def _region_error(line: str) -> InputError:
    shown = line.strip()[:60]
    return InputError(f"wanted a region: 0, 1, m<x>,<y>,<w>,<h>,<runs> or x,y,w,h; got {shown!r}")
