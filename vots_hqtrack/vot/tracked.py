"""An evaluated sequence frame by frame: what was there, and what a tracker reported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import MaskArray, ObjectId
from vots_hqtrack.vot.results import read_result, result_path
from vots_hqtrack.vot.sequences import read_groundtruth, read_sequence_info
from vots_hqtrack.vot.workspace import EXPERIMENT, Workspace


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """One frame of an evaluated sequence.

    Attributes:
        place: Its number, counted from 0.
        path: Its picture.
        masks: What the tracker reported, bool ``(H, W)`` by object; the given mask where the object
            was given.
        truth: What there is to see; None where nothing is known or the object has not started.
    """

    place: int
    path: Path
    masks: dict[ObjectId, MaskArray]
    truth: dict[ObjectId, MaskArray | None]


def read_tracked(workspace: Workspace, tracker: str, sequence: Path) -> Iterator[TrackedFrame]:
    """Yield a sequence's frames with the masks that a tracker reported.

    Args:
        workspace: Where it was evaluated.
        tracker: Its identifier.
        sequence: The sequence's folder.

    Raises:
        InputError: The sequence or the results are missing or damaged.
    """
    info = read_sequence_info(sequence)
    truth = read_groundtruth(sequence, info.size)
    folder = workspace.results / tracker / EXPERIMENT / sequence.name
    readers = {
        object_id: read_result(
            result_path(folder, sequence.name, object_id, num_objects=len(truth)), info.size
        )
        for object_id in truth
    }
    for place, path in enumerate(info.frame_paths):
        known = {
            object_id: track[place] if place < len(track) else None
            for object_id, track in truth.items()
        }
        masks: dict[ObjectId, MaskArray] = {}
        for object_id, reader in readers.items():
            mask = _next_mask(reader, tracker, info.folder.name, place)
            given = known[object_id] if mask is None else mask
            masks[object_id] = np.zeros(info.size, dtype=np.bool_) if given is None else given
        yield TrackedFrame(place, path, masks, known)


def _next_mask(
    reader: Iterator[MaskArray | None], tracker: str, sequence: str, place: int
) -> MaskArray | None:
    try:
        return next(reader)
    except StopIteration:
        wanted = f"the results of {tracker} on {sequence} end at frame {place}"
        raise InputError(f"{wanted}, before the sequence does; evaluate again") from None
