"""Videos of masks in memory, and their strategies for property tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from vots_hqtrack.formats.stream import FrameMasks, FrameName, MaskVideo
from vots_hqtrack.types import Size

Frames = dict[int, dict[int, np.ndarray]]
"""Masks by frame index and object id."""


def make_video(frames: Frames, size: Size, *, name: str = "clip", scores: bool = False, **more):
    """Make a video of masks."""
    indices = sorted(frames)
    numbers = sorted({number for masks in frames.values() for number in masks})

    def read(position: int) -> FrameMasks:
        masks = {i: mask for i, mask in frames[indices[position]].items() if mask.any()}
        known = {i: 1 / (1 + i + position) for i in masks} if scores else {}
        return FrameMasks(masks, known)

    return MaskVideo(
        name,
        size,
        tuple(FrameName(index, f"{index:05d}") for index in indices),
        dict.fromkeys(numbers, "object"),
        read,
        has_scores=scores,
        **more,
    )


def content(video: MaskVideo) -> dict[int, dict[int, list[list[bool]]]]:
    """Return all masks of a video, to compare; frames without any are left out."""
    return {
        frame.index: {number: mask.tolist() for number, mask in sorted(found.masks.items())}
        for frame, found in video
        if found.masks
    }


@st.composite
def mask_videos(draw, *, last_id: int = 10**6, overlaps: bool = True, gaps: bool = True):
    """Draw a small video in which at least one frame shows an object."""
    size = Size(draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    ids = draw(st.lists(st.integers(1, last_id), min_size=1, max_size=3, unique=True))
    first = draw(st.integers(0, 3))
    count = draw(st.integers(1, 4))
    spaced = st.lists(st.integers(0, 9), min_size=count, max_size=count, unique=True)
    indices = sorted(draw(spaced)) if gaps else list(range(first, first + count))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames: Frames = {}
    for index in indices:
        if overlaps:
            masks = {number: rng.random(size) < rng.choice([0, 0.2, 0.7, 1]) for number in ids}
        else:
            label_map = rng.choice([0, *ids], size)
            masks = {number: label_map == number for number in ids}
        frames[index] = masks
    frames[indices[0]][ids[0]][0, 0] = True
    if not overlaps:
        for number in ids[1:]:
            frames[indices[0]][number][0, 0] = False
    return make_video(frames, size, scores=draw(st.booleans()))
