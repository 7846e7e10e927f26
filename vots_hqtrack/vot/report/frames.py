"""Frames of a sequence on which trackers did worst, as pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vots_hqtrack.types import MaskArray, ObjectId
from vots_hqtrack.video.reader import read_frame
from vots_hqtrack.video.sheet import draw_thumbnail
from vots_hqtrack.vot.failures import QUALITY, join_masks
from vots_hqtrack.vot.report.collect import ReportData
from vots_hqtrack.vot.results import read_tracked
from vots_hqtrack.vot.sequences import SequenceCheck

_GAP = 6
_PAPER = 255


@dataclass(frozen=True, slots=True)
class WorstFrame:
    """The frame of a sequence on which a tracker did worst.

    Attributes:
        tracker: The tracker.
        index: Index of the frame, from 0.
        overlap: Mean overlap of the objects on it, as the toolkit measured it.
        image: WebP file: truth on the left, the tracker's masks on the right.
    """

    tracker: str
    index: int
    overlap: float
    image: bytes


def worst_frames(data: ReportData, sequence: SequenceCheck) -> list[WorstFrame]:
    """Find and draw the worst frame of each tracker on a measured sequence.

    The frames on which objects are given do not count; a tracker that was right everywhere has no
    worst frame.

    Raises:
        InputError: A frame or a result cannot be read.
    """
    found = []
    for tracker in data.trackers:
        by_frame: dict[int, list[float]] = {}
        for each in data.analyses[tracker].objects[sequence.name].values():
            for index in sorted(each.overlaps)[1:]:
                by_frame.setdefault(index, []).append(each.overlaps[index])
        means = {index: float(np.mean(values)) for index, values in by_frame.items()}
        index = min(means, key=lambda key: (means[key], key))
        if means[index] < 1:
            image = _draw(data, sequence.folder, tracker, index)
            found.append(WorstFrame(tracker, index, means[index], image))
    return found


def _draw(data: ReportData, sequence: Path, tracker: str, index: int) -> bytes:
    shown = next(read_tracked(data.workspace, tracker, sequence, start=index))
    frame = read_frame(shown.path)
    sides: tuple[Mapping[ObjectId, MaskArray | None], ...] = (shown.truth, shown.masks)
    left, right = (draw_thumbnail(frame, join_masks(side)) for side in sides)
    gap = np.full((left.shape[0], _GAP, 3), _PAPER, dtype=np.uint8)
    file = io.BytesIO()
    image = Image.fromarray(np.concatenate((left, gap, right), axis=1))
    image.save(file, "WEBP", quality=QUALITY, method=4)
    return file.getvalue()
