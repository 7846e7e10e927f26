"""Choice of footage, its frames and its objects for a clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vots_hqtrack.synthetic.footage import Floats, Footage

MAX_GAP = 10
"""Maximum number of video frames from one frame of a clip to the next."""
TOLERANCE = 0.02
"""Distance, relative to their size, at which boxes count as touching."""
ATTEMPTS = 5
"""Attempts to choose frames of which the first shows an object."""

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class FootageChooser:
    """Chooses footage by its weight.

    Args:
        footage: All of it.
    """

    def __init__(self, footage: Sequence[Footage]) -> None:
        self.footage = tuple(footage)
        weights = np.array([item.weight for item in footage], np.float64)
        is_video = np.array([item.is_video for item in footage])
        can_cut = np.array([item.can_cut.any() for item in footage])
        self._base = {kind: _normalise(weights * (is_video == kind)) for kind in (False, True)}
        self._cuts = {
            kind: _normalise(weights * can_cut * (is_video == kind)) for kind in (False, True)
        }

    def choose(self, generator: np.random.Generator, *, video: bool, cut: bool) -> Footage:
        """Choose footage.

        Args:
            generator: Random generator.
            video: Prefer a video to a still image.
            cut: Prefer footage from which an object can be cut.
        """
        tables = [self._cuts, self._base] if cut else [self._base]
        odds = [by_kind[kind] for by_kind in tables for kind in (video, not video)]
        chosen = next(table for table in odds if table is not None)
        return self.footage[int(generator.choice(len(self.footage), p=chosen))]


def choose_frames(
    generator: np.random.Generator, footage: Footage, positions: Sequence[int], num_frames: int
) -> Indices:
    """Choose frames, forwards or backwards, the first one showing an object if possible.

    Args:
        generator: Random generator.
        footage: Still image or video.
        positions: Positions of the objects in the footage.
        num_frames: ``T``, at least 2.

    Returns:
        ``(T,)`` int64, a fixed number of frames apart; at a short video's end the last one again.
    """
    total = footage.num_frames
    frames = np.zeros(num_frames, np.int64)
    if total == 1:
        return frames
    longest = int(np.clip((total - 1) // (num_frames - 1), 1, MAX_GAP))
    gap = int(np.clip(round(float(np.exp(generator.normal(0.9, 0.7)))), 1, longest))
    is_absent: npt.NDArray[np.bool_] = np.isnan(footage.boxes[:, list(positions), 0])
    shows: npt.NDArray[np.bool_] = np.any(~is_absent, axis=1)
    for _ in range(ATTEMPTS):
        start = int(generator.integers(0, max(total - gap * (num_frames - 1), 1)))
        frames = np.minimum(start + gap * np.arange(num_frames), total - 1)
        if generator.random() < 0.5:
            frames = frames[::-1].copy()
        if shows[frames[0]]:
            break
    return frames


def touching_objects(footage: Footage, frame: int, position: int, limit: int) -> list[int]:
    """Return up to ``limit`` objects with boxes that touch an object's box in a frame."""
    boxes = footage.boxes[frame]
    own = boxes[position]
    margin = TOLERANCE * float(max(own[2] - own[0], own[3] - own[1]))
    overlaps = np.all((boxes[:, :2] < own[2:] + margin) & (boxes[:, 2:] > own[:2] - margin), axis=1)
    overlaps[position] = False
    return [int(found) for found in np.flatnonzero(overlaps)[:limit]]


def union_boxes(boxes: Floats) -> Doubles:
    """Join boxes ``(T, N, 4)`` to ``(T, 4)``; NaN where all objects are absent."""
    low, high = np.fmin.reduce(boxes[..., :2], axis=1), np.fmax.reduce(boxes[..., 2:], axis=1)
    return np.concatenate([low, high], -1).astype(np.float64)


def fill_boxes(boxes: Doubles) -> Doubles:
    """Fill boxes ``(T, 4)`` of absent frames from the nearest frame before, or else after."""
    is_seen = ~np.isnan(boxes[:, 0])
    if not is_seen.any():
        return np.tile([0.0, 0.0, 1.0, 1.0], (len(boxes), 1))
    frames = np.where(is_seen, np.arange(len(boxes)), is_seen.argmax())
    return np.asarray(boxes[np.maximum.accumulate(frames)])


def _normalise(weights: Doubles) -> Doubles | None:
    total = float(weights.sum())
    return weights / total if total > 0 else None
