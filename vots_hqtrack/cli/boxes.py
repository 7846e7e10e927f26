"""Boxes of the command line: ``x,y,width,height`` in frame pixels."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, NamedTuple

from vots_hqtrack.errors import InputError

if TYPE_CHECKING:
    from vots_hqtrack.types import Size

_logger = logging.getLogger(__name__)


class Box(NamedTuple):
    """A box in frame pixels; the origin is the outer corner of the top-left pixel."""

    x: float
    y: float
    width: float
    height: float

    def __str__(self) -> str:
        """Write the box as it is typed."""
        return ",".join(f"{value:g}" for value in self)


def parse_box(text: str) -> Box:
    """Read a box.

    Args:
        text: ``x,y,width,height``.

    Raises:
        InputError: These are not four finite numbers, or a side is not above 0.

    Example:
        >>> parse_box("10,20,30.5,40").width
        30.5
    """
    try:
        box = Box(*(float(part) for part in text.split(",")))
    except (TypeError, ValueError) as error:
        raise InputError(f"a box reads x,y,width,height in pixels, got {text!r}") from error
    if not all(math.isfinite(value) for value in box):
        raise InputError(f"a box must have finite numbers, got {text!r}")
    if min(box.width, box.height) <= 0:
        raise InputError(f"a box must have a width and a height above 0, got {text!r}")
    return box


def clip_box(box: Box, size: Size) -> Box:
    """Cut a box to the frame, with a warning if it reaches out of it.

    Raises:
        InputError: The box is outside the frame.
    """
    left, top = max(box.x, 0.0), max(box.y, 0.0)
    right = min(box.x + box.width, float(size.width))
    bottom = min(box.y + box.height, float(size.height))
    if right <= left or bottom <= top:
        raise InputError(f"the box {box} lies outside the frame, which has the size {size}")
    if (left, top, right, bottom) == (box.x, box.y, box.x + box.width, box.y + box.height):
        return box
    clipped = Box(left, top, right - left, bottom - top)
    _logger.warning("the box %s reaches out of the frame (%s); taken: %s", box, size, clipped)
    return clipped
