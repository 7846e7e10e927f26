"""Masks of the COCO family of data sets, painted into maps of object numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vots_hqtrack.formats.files import IdArray
from vots_hqtrack.formats.rle import decode_segmentation
from vots_hqtrack.formats.stream import paint_masks
from vots_hqtrack.types import Size


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
    return paint_masks(masks, size)


def paint_frame(
    video: str, size: Size, frames: Sequence[Mapping[int, object]], position: int
) -> IdArray:
    """Paint the packed masks of one frame of a video; see `paint_segmentations`."""
    return paint_segmentations(frames[position], size, f"video {video}, frame {position}")
