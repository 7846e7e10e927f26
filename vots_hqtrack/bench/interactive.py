"""Automatic test user of interactive sessions: corrects the worst frame, again and again.

The user gives the first frame's true masks and tracks forward. In each round it takes a frame on
which the masks are worst, gives the true masks there, and tracks again what that changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.measures import jaccard
from vots_hqtrack.session import InteractivePredictor, SessionState
from vots_hqtrack.session.video import Video
from vots_hqtrack.types import LabelArray, ObjectId
from vots_hqtrack.video.label_maps import LabelMaps
from vots_hqtrack.video.reader import list_images

_BAD_MARGIN = 0.1
"""A frame is as bad as the worst one if its J is not better by more."""


@dataclass(frozen=True, slots=True)
class Round:
    """Measures after some corrections.

    Attributes:
        corrected: Frames that the user corrected so far.
        overlap: Mean J of all frames but the first, in ``[0, 1]``.
        overlap_elsewhere: The same without the corrected frames.
        corrected_overlap: Smallest J of an object on a corrected frame; 1 before the first.
    """

    corrected: tuple[int, ...]
    overlap: float
    overlap_elsewhere: float
    corrected_overlap: float


def read_truth(names: Sequence[str], folder: Path) -> dict[int, LabelArray]:
    """Read the label maps of frames, those that are there.

    Args:
        names: Names of the frames, in order.
        folder: Folder of label maps with these names.

    Raises:
        InputError: The folder is none, or a label map cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"the true masks must be a folder, got {folder}")
    paths = {path.stem: path for path in list_images(folder)}
    maps = LabelMaps(paths.values())
    return {index: maps.read(paths[name]) for index, name in enumerate(names) if name in paths}


def play_user(
    predictor: InteractivePredictor,
    video: str | Video,
    truth: Mapping[int, LabelArray],
    num_corrections: int,
) -> Iterator[Round]:
    """Track, and correct the worst frame some times.

    Args:
        predictor: The predictor.
        video: Folder of frames, or frames at random access.
        truth: ``(H, W)`` uint8 true object ids by frame, of the first frame at least.
        num_corrections: Number of corrections.

    Yields:
        Measures without a correction, then after each.

    Raises:
        InputError: The first frame has no true mask, or no other frame has one.
    """
    ids = [ObjectId(int(i)) for i in np.unique(truth[0]) if i] if 0 in truth else []
    measured = sorted(set(truth) - {0})
    if not ids or not measured:
        raise InputError("wanted true masks of the first frame and of others, got none")
    with predictor.init_state(video) as state:
        _give(predictor, state, 0, truth[0], ids)
        for _ in predictor.propagate_in_video(state, 0):
            pass
        corrected: list[int] = []
        while True:
            overlaps = {index: _overlaps(state, index, truth[index], ids) for index in measured}
            yield _summarise(overlaps, corrected)
            if len(corrected) == min(num_corrections, len(measured)):
                return
            means = {index: float(np.mean(overlaps[index])) for index in measured}
            worst = choose_frame(means, corrected)
            _give(predictor, state, worst, truth[worst], ids)
            corrected.append(worst)
            for _ in predictor.propagate_correction(state, worst):
                pass


def choose_frame(overlaps: Mapping[int, float], corrected: Collection[int] = ()) -> int:
    """Choose the frame to correct: the middle of the longest stretch of bad ones.

    A user who looks over the masks mends what is wrong for long. A frame is bad if it is at most
    a tenth better than the worst one; a corrected frame ends a stretch.

    Args:
        overlaps: J by frame.
        corrected: Frames that are corrected already, not all of them.

    Example:
        >>> choose_frame({1: 0.0, 2: 0.6, 3: 0.05, 4: 0.0, 5: 0.02, 6: 0.7})
        4
        >>> choose_frame({1: 0.5, 2: 0.5, 3: 1.0, 4: 0.5, 5: 0.5, 6: 0.5, 7: 0.9}, [3])
        5
    """
    limit = min(j for index, j in overlaps.items() if index not in corrected) + _BAD_MARGIN
    stretches: list[list[int]] = [[]]
    for index, overlap in sorted(overlaps.items()):
        if overlap <= limit and index not in corrected:
            stretches[-1].append(index)
        elif stretches[-1]:
            stretches.append([])
    longest = max(stretches, key=len)
    return longest[(len(longest) - 1) // 2]


def _give(
    predictor: InteractivePredictor,
    state: SessionState,
    index: int,
    label_map: LabelArray,
    ids: Sequence[ObjectId],
) -> None:
    for number in ids:
        predictor.add_new_mask(state, index, number, label_map == number)


def _overlaps(
    state: SessionState, index: int, label_map: LabelArray, ids: Sequence[ObjectId]
) -> list[float]:
    found = state.label_map(index)
    return [jaccard(found == number, label_map == number) for number in ids]


def _summarise(overlaps: Mapping[int, Sequence[float]], corrected: Sequence[int]) -> Round:
    elsewhere = [found for index, found in overlaps.items() if index not in corrected]
    return Round(
        tuple(corrected),
        float(np.mean(list(overlaps.values()))),
        float(np.mean(elsewhere)) if elsewhere else 1.0,
        min((min(overlaps[index]) for index in corrected), default=1.0),
    )
