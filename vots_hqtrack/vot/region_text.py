"""Masks as lines of VOTS ground truth, and shapes placed on a frame.

A line is ``m<x>,<y>,<width>,<height>,<runs>``: the mask's bounding box and its run lengths in row
order inside that box, off and on in turn, beginning with off. ``0`` says that nothing is known of
the frame (also: the object has not started yet); ``1`` and an empty mask say that the object is not
in the frame. The toolkit reads a mask one pixel wide or tall as empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.types import MaskArray, Size
from vots_hqtrack.video.label_maps import mask_box

UNKNOWN = "0"
EMPTY_MASK = "m0,0,0,0,0"

MAX_COORDINATE = 2**31 - 1
"""Largest coordinate of a region; the toolkit rounds larger ones to wrong pixels."""

MAX_MASK_AREA = 2**28
"""Largest box of a mask, in pixels: 16,384 x 16,384."""


def encode_region(mask: MaskArray | None) -> str:
    """Write a bool ``(H, W)`` mask, or None where nothing is known, as a line of ground truth.

    Raises:
        ShapeError: The mask is not bool ``(H, W)``.

    Example:
        >>> encode_region(np.array([[0, 0, 0], [0, 1, 1], [0, 0, 1]], dtype=bool))
        'm1,1,2,2,0,2,1,1'
    """
    if mask is None:
        return UNKNOWN
    check_mask(mask)
    if (box := mask_box(mask)) is None:
        return EMPTY_MASK
    left, top, width, height = box
    pixels = mask[top : top + height, left : left + width].ravel()
    ends = np.flatnonzero(np.diff(pixels, prepend=False, append=not pixels[-1]))
    return "m" + ",".join(str(number) for number in (*box, *np.diff(ends, prepend=0).tolist()))


@dataclass(frozen=True, slots=True)
class EncodedMask:
    """A mask as a line of ground truth, which takes much less memory than its pixels.

    Attributes:
        text: The line.
        shape: Height and width of the frame.
    """

    text: str
    shape: tuple[int, ...]

    @classmethod
    def encode(cls, mask: MaskArray) -> EncodedMask:
        """Encode a bool ``(H, W)`` mask."""
        return cls(encode_region(mask), mask.shape)


@dataclass(frozen=True, slots=True)
class Region:
    """A region as it is written, not yet on a frame.

    Attributes:
        kind: Its kind; of the kinds ``unknown`` and ``absent`` there are no numbers.
        numbers: ``x, y, width, height`` of a rectangle, ``x1, y1, x2, y2, ...`` of a polygon, or
            ``x, y, width, height`` and run lengths of a mask.
    """

    kind: Literal["unknown", "absent", "mask", "rectangle", "polygon"]
    numbers: tuple[float, ...] = ()

    @classmethod
    def mask(cls, numbers: Sequence[int]) -> Region:
        """Make a mask of ``x, y, width, height`` and run lengths.

        Raises:
            InputError: The runs do not fit the box, or it is larger than any frame.
        """
        _check_mask_numbers(numbers)
        return cls("mask", tuple(numbers))

    @classmethod
    def shape(cls, kind: Literal["rectangle", "polygon"], numbers: Sequence[float]) -> Region:
        """Make a rectangle or polygon; of ``nan`` alone it is unknown, as to the toolkit.

        Raises:
            InputError: It has fewer than three corners, or one is too far away.
        """
        if kind == "polygon" and len(numbers) < 6:
            raise InputError(f"a polygon needs three corners, got {list(numbers)}")
        if all(math.isnan(number) for number in numbers):
            return cls("unknown")
        if any(math.isnan(number) for number in numbers):
            raise InputError(f"a region must have numbers, got {list(numbers)[:8]}")
        if max(map(abs, numbers)) > MAX_COORDINATE:
            raise InputError(
                f"a region must stay within {MAX_COORDINATE} pixels, got {list(numbers)[:8]}"
            )
        return cls(kind, tuple(numbers))

    @property
    def is_known(self) -> bool:
        """Whether the region says where the object is; an empty mask does, and starts an object."""
        return self.kind not in ("unknown", "absent")

    def to_mask(self, size: Size) -> MaskArray | None:
        """Fill the region on a frame; None where nothing is known."""
        if self.kind == "unknown":
            return None
        if self.kind == "absent":
            return np.zeros(size, dtype=np.bool_)
        if self.kind == "rectangle":
            return fill_rectangle(self.numbers, size)
        if self.kind == "polygon":
            return fill_polygon(np.reshape(self.numbers, (-1, 2)), size)
        left, top, width, height, *runs = (int(number) for number in self.numbers)
        return place_runs((left, top), Size(height, width), runs, size)


def parse_region(line: str) -> Region:
    """Read one line of ground truth as the VOT toolkit does.

    Args:
        line: ``0`` (unknown), ``1`` (absent), a mask ``m<x>,<y>,<w>,<h>,<runs>``, a rectangle
            ``x,y,width,height`` or a polygon ``x1,y1,x2,y2,x3,y3,...`` in pixels. A rectangle or
            polygon of ``nan`` alone is unknown too.

    Raises:
        InputError: The line is something else, or its numbers are beyond what the toolkit takes.

    Example:
        >>> parse_region("nan,nan,nan,nan").kind
        'unknown'
    """
    text = line.strip()
    try:
        if text.startswith("m"):
            return Region.mask([int(part) for part in text[1:].split(",")])
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise _region_error(text) from error
    if len(values) == 1 and values[0] in (0, 1):
        return Region("absent" if values[0] else "unknown")
    if len(values) < 4 or len(values) % 2:
        raise _region_error(text)
    return Region.shape("rectangle" if len(values) == 4 else "polygon", values)


def _check_mask_numbers(numbers: Sequence[int]) -> None:
    """Check that a mask's runs fit into its box, beyond which the toolkit would write.

    Raises:
        InputError: They do not, or the box is larger than any frame.
    """
    if len(numbers) < 4:
        raise InputError(f"a mask needs x,y,width,height and runs, got {list(numbers)}")
    left, top, width, height, *runs = numbers
    if min(width, height, *runs, 0) < 0:
        raise InputError(
            f"a mask needs sizes and runs of 0 or more, got {width}x{height} and {runs[:8]}"
        )
    area = width * height
    if max(abs(left), abs(top)) > MAX_COORDINATE or area > MAX_MASK_AREA:
        raise InputError(
            f"a mask may have {MAX_MASK_AREA} pixels near the frame, got {width}x{height} pixels "
            f"at {left},{top}"
        )
    if sum(runs) > area:
        raise InputError(f"the runs of a mask cover {sum(runs)} pixels, but its box has {area}")


def place_runs(corner: tuple[int, int], box: Size, runs: Sequence[int], size: Size) -> MaskArray:
    """Decode run lengths and place them on an empty frame.

    Args:
        corner: ``(x, y)`` of the box's top-left pixel; may be outside the frame.
        box: Size of the box that the runs cover in row order.
        runs: Lengths, off and on in turn, beginning with off; a tail of off pixels may be left out.
        size: Size of the frame.

    Returns:
        Bool ``(H, W)``.

    Raises:
        InputError: A length is negative, or the runs do not fit the box.
    """
    _check_mask_numbers((*corner, box.width, box.height, *runs))
    area = box.height * box.width
    flat = np.zeros(area, dtype=np.bool_)
    flat[: sum(runs)] = np.repeat(np.arange(len(runs)) % 2 == 1, np.asarray(runs, dtype=np.int64))
    return place_crop(flat.reshape(box), corner, size)


def place_crop(crop: MaskArray, corner: tuple[int, int], size: Size) -> MaskArray:
    """Place a mask on an empty frame, its first pixel at ``corner`` ``(x, y)``, inside or not."""
    mask = np.zeros(size, dtype=np.bool_)
    (left, top), (height, width) = corner, crop.shape
    target = mask[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    rows, columns = target.shape
    target[:] = crop[max(-top, 0) :, max(-left, 0) :][:rows, :columns]
    return mask


def fill_rectangle(bounds: Sequence[float], size: Size) -> MaskArray:
    """Fill ``(x, y, width, height)``, its sides rounded to the nearest pixel edges."""
    x, y, width, height = bounds
    mask = np.zeros(size, dtype=np.bool_)
    mask[
        max(round(y), 0) : max(round(y + height), 0), max(round(x), 0) : max(round(x + width), 0)
    ] = True
    return mask


def fill_polygon(points: npt.ArrayLike, size: Size) -> MaskArray:
    """Fill a polygon by the even-odd rule; a pixel belongs to it where its centre does.

    Args:
        points: ``(N, 2)`` corners ``(x, y)`` in order, in pixel edges.
        size: Size of the frame.

    Returns:
        Bool ``(H, W)``.

    Example:
        >>> fill_polygon([(0, 0), (3, 0), (0, 3)], Size(3, 3)).astype(int).tolist()
        [[1, 1, 0], [1, 0, 0], [0, 0, 0]]
    """
    corners = np.asarray(points, dtype=np.float64)
    centres = np.arange(size.height) + 0.5
    crossings = np.zeros((size.height, size.width + 1), dtype=np.int32)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        rows = np.flatnonzero((centres >= min(y0, y1)) & (centres < max(y0, y1)))
        if rows.size:
            x = x0 + (centres[rows] - y0) * (x1 - x0) / (y1 - y0)
            crossings[rows, np.clip(np.ceil(x - 0.5), 0, size.width).astype(np.int64)] += 1
    inside: MaskArray = np.cumsum(crossings[:, :-1], axis=1) % 2 == 1
    return inside


def check_mask(mask: object) -> None:
    """Check that a mask is bool ``(H, W)``.

    Raises:
        ShapeError: It is not.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim != 2:
        got = f"{getattr(mask, 'dtype', type(mask).__name__)} {getattr(mask, 'shape', '')}"
        raise ShapeError(f"a mask must be a bool array (H, W), got {got.strip()}")


def _region_error(text: str) -> InputError:
    wanted = "0, 1, m<x>,<y>,<w>,<h>,<runs>, x,y,w,h or a polygon x1,y1,x2,y2,x3,y3,..."
    return InputError(f"wanted a region: {wanted}; got {text[:60]!r}")
