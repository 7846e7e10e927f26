"""Clips on which a tracker fails often enough to learn when it does.

At full frame rate a tracker of DAVIS is nearly always right, which teaches nothing about doubt. So
videos are thinned until objects leap, pasted over one another until they hide, and cut until the
object is not there at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vots_hqtrack.composites.collage import Collage, make_crossing
from vots_hqtrack.composites.shots import MaskedVideo, Shot, draw_shot, resize
from vots_hqtrack.types import FrameArray, MaskArray, Size

TrialKind = Literal["plain", "fast", "crossing", "covered", "cutaway"]
KINDS: tuple[TrialKind, ...] = ("fast", "crossing", "covered", "cutaway")
STEPS = {"fast": (5, 11), "crossing": (2, 5), "covered": (2, 5), "cutaway": (1, 5)}
"""Frames of the video from one of the clip to the next: least, and one more than most."""
OBJECTS = {"fast": (1, 2), "crossing": (3, 6), "covered": (2, 4), "cutaway": (2, 4)}
"""Objects, each of a video of its own, pasted over the first: least, and one more than most."""
LEAST_VIDEOS = max(most for _, most in OBJECTS.values())
ABSENCE = (0.3, 0.7)
"""Where in a clip the object is not there, in its length."""
COVER_MARGIN = 0.15
"""How far a cover reaches beyond the object's box, in the box's sides."""


@dataclass(frozen=True, slots=True)
class TrialClip:
    """A short clip with the truth.

    Attributes:
        kind: What makes it hard; ``plain`` is a video as it is.
        origin: The videos that it is made of.
        frames: uint8 ``(H, W, 3)`` RGB.
        masks: For each object, bool ``(H, W)``, frame by frame; none is empty in the first.
    """

    kind: TrialKind
    origin: str
    frames: Sequence[FrameArray]
    masks: Sequence[Sequence[MaskArray]]


def draw_trials(
    videos: Sequence[MaskedVideo], num_frames: int, size: Size, *, seed: int
) -> Iterator[TrialClip]:
    """Make one clip of every kind about every video; neighbours differ in kind.

    Args:
        videos: At least six, of one object each.
        num_frames: Most frames of a clip; short videos give fewer where they are thinned.
        size: Size of the frames.
        seed: Of all chance.

    Raises:
        InputError: A video is too short, or a file is damaged.
    """
    for turn in range(len(KINDS)):
        for place in range(len(videos)):
            generator = np.random.default_rng([seed, turn, place])
            yield draw_trial(KINDS[(turn + place) % 4], videos, place, num_frames, size, generator)


def plain_trials(videos: Sequence[MaskedVideo], num_frames: int, step: int) -> Iterator[TrialClip]:
    """Make one clip of every video, of one frame in ``step`` from the first on.

    Args:
        videos: Whose object is to be seen in the first frame.
        num_frames: Most frames of a clip.
        step: Frames of the video from one of the clip to the next.

    Raises:
        InputError: A file is missing or damaged.
    """
    for video in videos:
        kept = video.thin(step)
        places = range(min(num_frames, len(kept)))
        masks = [kept.mask(place) for place in places]
        frames = [kept.frame(place) for place in places]
        yield TrialClip("plain", f"{video.name}:0/{step}", frames, [masks])


def draw_trial(
    kind: TrialKind,
    videos: Sequence[MaskedVideo],
    place: int,
    num_frames: int,
    size: Size,
    generator: np.random.Generator,
) -> TrialClip:
    """Make one clip.

    Args:
        kind: What shall make it hard.
        videos: At least six, of one object each.
        place: Which of them it is about; the others are drawn.
        num_frames: Most frames.
        size: Size of the frames.
        generator: Source of chance.

    Raises:
        InputError: A video is too short, or a file is damaged.
    """
    step = int(generator.integers(*STEPS[kind]))
    count = int(generator.integers(*OBJECTS[kind]))
    others = [int(n) for n in generator.permutation(len(videos)) if n != place]
    cast = [videos[number].thin(step) for number in (place, *others[:count])]
    length = min(num_frames, *(len(video) for video in cast))
    # The last one shows no object: it is what hides the others.
    *shots, veil = [draw_shot(video, length, generator) for video in cast]
    origin = " ".join(f"{shot.video.name}:{shot.start * step}/{step}" for shot in shots)
    if count == 1:
        pairs = [shots[0].read(index, size) for index in range(length)]
        collage = Collage([frame for frame, _ in pairs], [[mask for _, mask in pairs]])
    else:
        collage = make_crossing(shots, size, generator)
    if kind == "covered":
        collage = _cover(collage, veil, size)
    elif kind == "cutaway":
        collage = _cut_away(collage, veil, size)
    return TrialClip(kind, origin, collage.frames, collage.masks)


def _absent(num_frames: int) -> range:
    return range(*(max(1, round(part * num_frames)) for part in ABSENCE))


def _cover(collage: Collage, veil: Shot, size: Size) -> Collage:
    """Lay a piece of another video over the first object's box for some frames."""
    frames, masks = list(collage.frames), [list(track) for track in collage.masks]
    for index in _absent(len(frames)):
        window = _wide_box(masks[0][index])
        patch = Size(*(one.stop - one.start for one in window))
        frames[index] = frames[index].copy()
        frames[index][window] = resize(veil.read(index, size)[0], patch)
        for track in masks:
            track[index] = track[index].copy()
            track[index][window] = False
    return Collage(frames, masks)


def _cut_away(collage: Collage, veil: Shot, size: Size) -> Collage:
    """Show another video for some frames."""
    frames, masks = list(collage.frames), [list(track) for track in collage.masks]
    for index in _absent(len(frames)):
        frames[index] = veil.read(index, size)[0]
        for track in masks:
            track[index] = np.zeros_like(track[index])
    return Collage(frames, masks)


def _wide_box(mask: MaskArray) -> tuple[slice, slice]:
    """Return the window around a mask, with a margin; one pixel if the mask is empty."""
    windows = []
    for axis in (1, 0):
        held = np.flatnonzero(mask.any(axis=axis))
        start, stop = (int(held[0]), int(held[-1]) + 1) if len(held) else (0, 1)
        margin = round(COVER_MARGIN * (stop - start))
        windows.append(slice(max(start - margin, 0), min(stop + margin, mask.shape[1 - axis])))
    return windows[0], windows[1]
