"""Attributes of objects, computed from the truth, and classes of them.

What makes an object hard to follow: its size, absences, speed, the objects beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from vots_hqtrack.types import MaskArray, ObjectId, Size
from vots_hqtrack.video.label_maps import mask_box
from vots_hqtrack.vot.measures import mean_of
from vots_hqtrack.vot.region_text import Region
from vots_hqtrack.vot.sequences import find_truth, read_truth

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ObjectAttributes:
    """Attributes of one object over the frames with a known truth.

    Attributes:
        size: Mean area on the frames where it is visible, as a fraction of the frame.
        absence: Fraction of frames on which it is not visible.
        num_objects: Objects of its sequence.
        overlap: Fraction of its box that the box of another object covers: mean over frames of the
            largest such fraction.
        speed: Median way of its centre from one frame to the next, in lengths of the object, which
            are square roots of its area; None where it is never visible on two frames in a row.
    """

    size: float
    absence: float
    num_objects: int
    overlap: float
    speed: float | None


@dataclass(frozen=True, slots=True)
class AttributeClasses:
    """An attribute that divides the objects into classes.

    Attributes:
        name: Name of the attribute.
        meaning: Its unit, in words.
        classes: Names of the classes, ascending.
        limits: Lower limits of all classes but the first.
        value: The attribute of an object.
    """

    name: str
    meaning: str
    classes: tuple[str, ...]
    limits: tuple[float, ...]
    value: Callable[[ObjectAttributes], float | None]

    def class_of(self, attributes: ObjectAttributes) -> str | None:
        """Return the class of an object; None where the attribute is unknown."""
        value = self.value(attributes)
        if value is None:
            return None
        return self.classes[sum(value >= limit for limit in self.limits)]


ATTRIBUTES = (
    AttributeClasses(
        "size",
        "area in percent of the frame",
        ("below 1 %", "1 to 5 %", "above 5 %"),
        (0.01, 0.05),
        lambda found: found.size,
    ),
    AttributeClasses(
        "absence",
        "frames without the object",
        ("never absent", "up to 20 %", "above 20 %"),
        (math.ulp(0.0), 0.2),
        lambda found: found.absence,
    ),
    AttributeClasses(
        "objects",
        "objects in the sequence",
        ("1 object", "2 or 3", "4 or more"),
        (2, 4),
        lambda found: found.num_objects,
    ),
    AttributeClasses(
        "overlap",
        "part of the object's box in the box of another object",
        ("below 1 %", "1 to 25 %", "above 25 %"),
        (0.01, 0.25),
        lambda found: found.overlap,
    ),
    AttributeClasses(
        "speed",
        "way in a frame, in lengths of the object",
        ("below 0.03", "0.03 to 0.1", "above 0.1"),
        (0.03, 0.1),
        lambda found: found.speed,
    ),
)


def measure_attributes(sequence: Path, size: Size) -> dict[ObjectId, ObjectAttributes]:
    """Compute the attributes of a sequence's objects.

    Args:
        sequence: The sequence's folder.
        size: Size of its frames.

    Raises:
        InputError: The truth cannot be read.
    """
    truth = find_truth(sequence)
    tracks = {object_id: _Track() for object_id in truth}
    readers = [read_truth(file.path) for file in truth.values()]
    for regions in zip_longest(*readers, fillvalue=Region("unknown")):
        masks = [region.to_mask(size) for region in regions]
        boxes = [None if mask is None else mask_box(mask) for mask in masks]
        for index, track in enumerate(tracks.values()):
            others = [box for place, box in enumerate(boxes) if box and place != index]
            track.add(masks[index], boxes[index], others)
    return {object_id: track.attributes(len(tracks)) for object_id, track in tracks.items()}


class _Track:
    """Truth of one object, frame by frame."""

    def __init__(self) -> None:
        self._num_known = 0
        self._areas: list[float] = []
        self._overlaps: list[float] = []
        self._ways: list[float] = []
        self._centre: tuple[float, float] | None = None

    def add(self, mask: MaskArray | None, box: Box | None, others: list[Box]) -> None:
        """Add a frame: the mask, None if it is unknown, its box, and those of other objects."""
        before, self._centre = self._centre, None
        if mask is None:
            return
        self._num_known += 1
        if box is None:
            return
        left, top, width, height = box
        crop = mask[top : top + height, left : left + width]
        area = int(np.count_nonzero(crop))
        columns, rows = crop.sum(axis=0), crop.sum(axis=1)
        self._centre = (
            left + float(columns @ np.arange(width)) / area,
            top + float(rows @ np.arange(height)) / area,
        )
        self._areas.append(area / mask.size)
        self._overlaps.append(max((_covered(box, other) for other in others), default=0.0))
        if before is not None:
            self._ways.append(math.dist(before, self._centre) / math.sqrt(area))

    def attributes(self, num_objects: int) -> ObjectAttributes:
        """Return the attributes of the whole track."""
        return ObjectAttributes(
            mean_of(self._areas) or 0.0,
            1 - len(self._areas) / self._num_known if self._num_known else 0.0,
            num_objects,
            mean_of(self._overlaps) or 0.0,
            float(np.median(self._ways)) if self._ways else None,
        )


def _covered(box: Box, other: Box) -> float:
    """Fraction of a box ``(left, top, width, height)`` that another one covers."""
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(0, width) * max(0, height) / (box[2] * box[3])
