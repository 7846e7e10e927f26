"""Choice of the frames with given masks that a run reads: newest, nearest, most different.

Their number is bounded, so that time and memory do not grow with the number of corrections (as in
the permanent memory of XMem++, which keeps the most different ones).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import cv2
import numpy as np

from vots_hqtrack.session.project import FrameRecord
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId
from vots_hqtrack.video.label_maps import mask_box

MAX_REFERENCES = 8
"""Frames with given masks that a run reads, at most; more where objects have none in common."""
_SIDE = 8


def signature_of(frame: FrameArray, mask: MaskArray) -> tuple[int, ...]:
    """Describe how objects look on a frame: the part that they fill, at 8 x 8 pixels.

    Args:
        frame: ``(H, W, 3)`` uint8 RGB.
        mask: ``(H, W)`` bool, all given objects; an empty one takes the whole frame.

    Returns:
        192 numbers 0..255.
    """
    x, y, width, height = mask_box(mask) or (0, 0, frame.shape[1], frame.shape[0])
    crop = frame[y : y + height, x : x + width]
    small = cv2.resize(crop, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return tuple(int(value) for value in np.asarray(small).ravel())


def choose_references(
    records: Mapping[int, FrameRecord], object_ids: Iterable[ObjectId], start: int, limit: int
) -> list[int]:
    """Choose the frames with given masks that a run reads.

    The newest given mask of each object comes first, then the frame nearest to the start, then one
    by one the frame that differs the most from those chosen.

    Args:
        records: Records by frame.
        object_ids: Objects of the run, each with a given mask.
        start: First frame of the run.
        limit: Number of frames, at most; more where the first rule asks for more.

    Returns:
        Frames, the nearest to the start last.
    """
    wanted = set(object_ids)
    given = {index: record for index, record in records.items() if record.given & wanted}
    newest = sorted(given, key=lambda index: given[index].edit, reverse=True)
    chosen: list[int] = []
    for number in sorted(wanted):
        seen = [i for i in newest if _is_seen(given[i], number)]
        if seen and seen[0] not in chosen:
            chosen.append(seen[0])
    rest = [index for index in newest if index not in chosen]
    if rest and len(chosen) < limit:
        nearest = min(given, key=lambda index: abs(index - start))
        if nearest in rest:
            rest.remove(nearest)
            chosen.append(nearest)
    while rest and len(chosen) < limit:
        farthest = max(
            rest, key=lambda index: min(_difference(given[index], given[i]) for i in chosen)
        )
        rest.remove(farthest)
        chosen.append(farthest)
    return sorted(chosen, key=lambda index: abs(index - start), reverse=True)


def _is_seen(record: FrameRecord, number: ObjectId) -> bool:
    return number in record.given and record.objects[number].score > 0


def _difference(left: FrameRecord, right: FrameRecord) -> float:
    """Mean square difference of two signatures."""
    difference = np.subtract(left.signature, right.signature, dtype=np.float64)
    return float(np.square(difference).mean())
