"""Pictures of the frames on which a tracker did worst, beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.measures import jaccard
from vots_hqtrack.types import LabelArray, MaskArray, ObjectId, Size
from vots_hqtrack.video.reader import read_frame
from vots_hqtrack.video.sheet import SheetRow, draw_cell, write_sheet
from vots_hqtrack.vot.sequences import read_sequence_list
from vots_hqtrack.vot.tracked import TrackedFrame, read_tracked
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
        workspace: Where the tracker was evaluated.
        tracker: Its identifier.
        count: How many to return, at most one of each sequence.

    Returns:
        The worst first.

    Raises:
        InputError: ``count`` is not positive, or results are missing or damaged.
    """
    if count < 1:
        raise InputError(f"wanted 1 frame or more, got {count}")
    found = []
    for sequence in read_sequence_list(workspace.sequences):
        failure = _worst_of(workspace, tracker, sequence)
        if failure is not None:
            found.append(failure)
    return sorted(found, key=lambda failure: failure.score)[:count]


def write_failures(path: Path, failures: list[Failure]) -> None:
    """Write one picture: a row a failure, the truth on the left, the tracker's masks on the right.

    Args:
        path: JPEG, PNG or WebP file to write; a file there is replaced.
        failures: At least one.

    Raises:
        InputError: There is none, a frame cannot be read, or the file's ending is another one.
    """
    rows = []
    for failure in failures:
        frame = read_frame(failure.frame.path)
        size = Size(*frame.shape[:2])
        caption = (
            f"{failure.sequence}, frame {failure.frame.place}: truth, tracker"
            f" | J {failure.score:.2f} (sequence {failure.mean:.2f})"
        )
        sides = (failure.frame.truth, failure.frame.masks)
        rows.append(SheetRow(caption, [draw_cell(frame, _number(masks, size)) for masks in sides]))
    write_sheet(path, rows, quality=QUALITY)


def _worst_of(workspace: Workspace, tracker: str, sequence: Path) -> Failure | None:
    worst: TrackedFrame | None = None
    scores: list[float] = []
    started: set[ObjectId] = set()
    for frame in read_tracked(workspace, tracker, sequence):
        known = {object_id: mask for object_id, mask in frame.truth.items() if mask is not None}
        values = [jaccard(frame.masks[n], mask) for n, mask in known.items() if n in started]
        started |= set(known)
        if not values:
            continue
        score = float(np.mean(values))
        if not scores or score < min(scores):
            worst = frame
        scores.append(score)
    if worst is None:
        return None
    return Failure(sequence.name, min(scores), float(np.mean(scores)), worst)


def _number(masks: Mapping[ObjectId, MaskArray | None], size: Size) -> LabelArray:
    label_map = np.zeros(size, dtype=np.uint8)
    for object_id, mask in masks.items():
        if mask is not None:
            label_map[mask] = object_id
    return label_map
