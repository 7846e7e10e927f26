"""Contact sheet of the frames on which a tracker did worst, beside the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.measures import jaccard
from vots_hqtrack.types import MAX_OBJECTS, LabelArray, MaskArray, ObjectId, label_dtype
from vots_hqtrack.video.reader import read_frame
from vots_hqtrack.video.sheet import SheetRow, draw_thumbnail, write_sheet
from vots_hqtrack.vot.results import TrackedFrame, read_tracked
from vots_hqtrack.vot.sequences import read_sequence_list
from vots_hqtrack.vot.workspace import Workspace

QUALITY = 75


@dataclass(frozen=True, slots=True)
class Failure:
    """The worst frame of a sequence.

    Attributes:
        sequence: Name of the sequence.
        score: Mean Jaccard index of the frame's objects, 0..1.
        mean: The same over all frames of the sequence that count.
        frame: The frame.
    """

    sequence: str
    score: float
    mean: float
    frame: TrackedFrame


def worst_frames(workspace: Workspace, tracker: str, count: int) -> list[Failure]:
    """Find the sequences' worst frames.

    An object counts from the frame after the one where it was given; an absent object that is
    reported absent counts 1.

    Args:
        workspace: Workspace in which the tracker was evaluated.
        tracker: Its identifier.
        count: Number of frames to return, the worst first, at most one of each sequence.

    Raises:
        InputError: ``count`` is not positive, or results are missing or damaged.
    """
    if count < 1:
        raise InputError(f"wanted 1 frame or more, got {count}")
    sequences = read_sequence_list(workspace.sequences)
    found = [_worst_of(workspace, tracker, sequence) for sequence in sequences]
    failures = [failure for failure in found if failure is not None]
    return sorted(failures, key=lambda failure: failure.score)[:count]


def write_failures(path: Path, failures: list[Failure]) -> None:
    """Write an image with a row for each failure: truth on the left, the tracker's masks right.

    Args:
        path: JPEG, PNG or WebP file to write; an existing one is replaced.
        failures: At least one.

    Raises:
        InputError: There is none, a frame cannot be read, or the file's ending is another one.
    """
    rows = []
    for failure in failures:
        image = read_frame(failure.frame.path)
        caption = (
            f"{failure.sequence}, frame {failure.frame.index}: truth, tracker"
            f" | J {failure.score:.2f} (sequence {failure.mean:.2f})"
        )
        sides = (join_masks(failure.frame.truth), join_masks(failure.frame.masks))
        rows.append(SheetRow(caption, [draw_thumbnail(image, labels) for labels in sides]))
    write_sheet(path, rows, quality=QUALITY)


def join_masks(masks: Mapping[ObjectId, MaskArray | None]) -> LabelArray:
    """Join masks of one frame for a picture, of which at least one is known; the last is on top.

    Where an id is above 1000 the objects are numbered from 1 in their order.
    """
    known = {object_id: mask for object_id, mask in masks.items() if mask is not None}
    numbers = known if max(known) <= MAX_OBJECTS else range(1, len(known) + 1)
    dtype = label_dtype(max(numbers))
    label_map = np.zeros(next(iter(known.values())).shape, dtype)
    for number, mask in zip(numbers, known.values(), strict=True):
        label_map[mask] = number
    return label_map


def _worst_of(workspace: Workspace, tracker: str, sequence: Path) -> Failure | None:
    """Return the worst frame of a sequence; None where no frame counts."""
    scores: list[float] = []
    lowest, worst = math.inf, None
    started: set[ObjectId] = set()
    for frame in read_tracked(workspace, tracker, sequence):
        known = {object_id: mask for object_id, mask in frame.truth.items() if mask is not None}
        values = [jaccard(frame.masks[n], mask) for n, mask in known.items() if n in started]
        started |= set(known)
        if values:
            score = float(np.mean(values))
            if score < lowest:
                lowest, worst = score, frame
            scores.append(score)
    return None if worst is None else Failure(sequence.name, lowest, float(np.mean(scores)), worst)
