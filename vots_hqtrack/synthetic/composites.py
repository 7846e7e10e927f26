"""Composites of several videos, with the exact mask of the visible part of every object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vots_hqtrack.errors import InputError
from vots_hqtrack.synthetic.motion import Track, reflect
from vots_hqtrack.synthetic.video_clips import OPAQUE, Cutout, VideoClip, cut_out, visible_masks
from vots_hqtrack.types import FrameArray, MaskArray, Size

T = TypeVar("T")
S = TypeVar("S", bound=np.generic)

GRIDS = {1: (1, 1), 2: (1, 2), 3: (2, 2), 4: (2, 2), 5: (2, 3), 6: (2, 3)}
"""Rows and columns of a mosaic by its number of videos."""
NUM_OBJECTS = (2, 3, 4, 5)
"""Possible numbers of objects of a composite."""
AREAS, MAX_AREA = (0.02, 0.09), 0.25
"""Median and maximum area of a pasted object, relative to the frame."""
MEETINGS = (0.35, 0.75)
"""Time at which two objects meet, relative to the clip's length."""
REACHES = (1.2, 2.0)
"""First distance of two objects that will meet, in sums of their half sides."""
TILT = 0.6
MARGIN = 0.06
"""Minimum distance of objects' centres from the border, relative to the side."""
START_ATTEMPTS, CROSSING_ATTEMPTS, OCCLUSION_STEP = 200, 8, 2
WANTED_START, WANTED_OCCLUSION = 0.85, 0.4
"""Visible fraction of every object in the first frame, and hidden fraction of one at some time."""


@dataclass(frozen=True, slots=True)
class Composite:
    """A clip composed of several videos.

    Attributes:
        frames: uint8 ``(H, W, 3)`` RGB.
        masks: For each object, bool ``(H, W)`` of its visible part, frame by frame.
    """

    frames: list[FrameArray]
    masks: list[list[MaskArray]]


def make_mosaic(clips: Sequence[VideoClip], tracked: Sequence[int], size: Size) -> Composite:
    """Put videos side by side, with about as many pixels as one frame in all.

    Args:
        clips: Clips of one length, row by row.
        tracked: Indices of the clips that show the objects, in the order of the objects.
        size: Size of a video's frames.

    Raises:
        InputError: A mosaic cannot have so many videos, or a file is damaged.
    """
    rows, columns = GRIDS.get(len(clips), (0, 0))
    if rows * columns != len(clips):
        wanted = sorted({r * c for r, c in GRIDS.values()})
        raise InputError(f"the number of videos must be one of {wanted}, got {len(clips)}")
    shrink = 1.0 / np.sqrt(rows * columns)
    tile = Size(round(size.height * shrink), round(size.width * shrink))
    mosaic = Composite([], [[] for _ in tracked])
    for index in range(clips[0].num_frames):
        pairs = [clip.read(index, tile) for clip in clips]
        mosaic.frames.append(_join_tiles([frame for frame, _ in pairs], columns))
        for track, number in zip(mosaic.masks, tracked, strict=True):
            masks = [mask if n == number else mask & False for n, (_, mask) in enumerate(pairs)]
            track.append(_join_tiles(masks, columns))
    return mosaic


def make_crossing(
    clips: Sequence[VideoClip], size: Size, generator: np.random.Generator
) -> Composite:
    """Paste the objects of videos over another video, so that they cross one another.

    The first video stays whole and its object is the first; each of the others moves along a line
    of its own and meets the one before it. Paths are sampled until all objects are visible in the
    first frame and one is well hidden later; if that never happens, the best sample is taken.

    Args:
        clips: At least two, of the same length of two frames or more; later ones cover earlier.
        size: Size of the frames.
        generator: Random generator.

    Raises:
        InputError: A file is damaged, or an object would begin without a pixel.
    """
    area = size.height * size.width
    below = [clips[0].read(index, size) for index in range(clips[0].num_frames)]
    layers: list[list[Cutout]] = []
    for clip in clips[1:]:
        fraction = float(np.exp(generator.uniform(*np.log(AREAS))))
        layers.append(cut_out(clip, fraction * area, MAX_AREA * area, size))
    crossing = _Crossing([mask for _, mask in below], layers, size)
    paths = crossing.choose_paths(generator)
    visible = [visible_masks(crossing.masks(paths, index)) for index in range(len(below))]
    if not all(mask.any() for mask in visible[0]):
        names = ", ".join(clip.video.name for clip in clips)
        raise InputError(f"an object of {names} would begin without a pixel")
    frames = []
    for index, (frame, _) in enumerate(below):
        output = frame.copy()
        for layer, path in zip(layers, paths, strict=True):
            layer[index].paste(output, path[index])
        frames.append(output)
    return Composite(frames, [list(track) for track in zip(*visible, strict=True)])


@dataclass(frozen=True, slots=True)
class _Crossing:
    """Layers of a crossing before their paths are known.

    Attributes:
        ground: Masks of the lowest object, frame by frame.
        layers: Pasted objects, the lowest first, frame by frame.
        size: Size of the frames.
    """

    ground: list[MaskArray]
    layers: list[list[Cutout]]
    size: Size

    def choose_paths(self, generator: np.random.Generator) -> list[Track]:
        """Sample paths with a good start and a good occlusion, or the best of all attempts."""

        def sample() -> tuple[list[Track], float]:
            paths, start = _best(
                lambda: self._sample_paths(generator), self._start, WANTED_START, START_ATTEMPTS
            )
            return paths, min(start / WANTED_START, 1.0)

        def score(sampled: tuple[list[Track], float]) -> float:
            paths, start = sampled
            return start + min(self._max_occlusion(paths) / WANTED_OCCLUSION, 1.0)

        ((paths, _), _) = _best(sample, score, 2.0, CROSSING_ATTEMPTS)
        return paths

    def masks(self, paths: Sequence[Track], index: int) -> list[MaskArray]:
        """Return the objects' masks in a frame as if none hid another."""
        pasted = [
            layer[index].mask(path[index], self.size)
            for layer, path in zip(self.layers, paths, strict=True)
        ]
        return [self.ground[index], *pasted]

    def _sample_paths(self, generator: np.random.Generator) -> list[Track]:
        """Sample the centre of each pasted object, ``(T, 2)`` x and y in pixels."""
        num_frames = len(self.ground)
        paths: list[Track] = []
        partner = np.stack([_centre(mask) for mask in self.ground])
        partner_half = np.sqrt(np.mean([mask.sum() for mask in self.ground])) / 2.0
        extent = np.array(self.size[::-1], np.float64)
        for layer in self.layers:
            sides = [cutout.alpha.shape for cutout in layer if cutout.alpha.size]
            half = float(np.mean(sides)) / 2.0
            meeting = max(1, round(generator.uniform(*MEETINGS) * (num_frames - 1)))
            reach = generator.uniform(*REACHES) * (half + partner_half)
            heading = generator.normal(0.0, TILT) + np.pi * float(generator.integers(2))
            step = reach / meeting * np.array([np.cos(heading), np.sin(heading)])
            path = partner[meeting] + (np.arange(num_frames) - meeting)[:, None] * step
            paths.append(reflect(path, MARGIN * extent, (1.0 - MARGIN) * extent))
            partner, partner_half = paths[-1], half
        return paths

    def _start(self, paths: Sequence[Track]) -> float:
        """Return the visible fraction of the least visible object in the first frame."""
        wholes = [int((layer[0].alpha > OPAQUE // 2).sum()) for layer in self.layers]
        wholes = [int(self.ground[0].sum()), *wholes]
        visible = [int(mask.sum()) for mask in visible_masks(self.masks(paths, 0))]
        return min(part / max(whole, 1) for part, whole in zip(visible, wholes, strict=True))

    def _max_occlusion(self, paths: Sequence[Track]) -> float:
        """Return the maximum hidden fraction of an object over the frames."""
        hidden = [0.0]
        for index in range(1, len(self.ground), OCCLUSION_STEP):
            masks = self.masks(paths, index)
            for visible, mask in zip(visible_masks(masks), masks, strict=True):
                hidden.append(1.0 - float(visible.sum()) / max(float(mask.sum()), 1.0))
        return max(hidden)


def _best(
    sample: Callable[[], T], score: Callable[[T], float], wanted: float, attempts: int
) -> tuple[T, float]:
    """Sample until a score is reached, and return the best sample with its score."""
    best = sample()
    best_score = score(best)
    for _ in range(attempts - 1):
        if best_score >= wanted:
            break
        sampled = sample()
        if (found := score(sampled)) > best_score:
            best, best_score = sampled, found
    return best, best_score


def _join_tiles(tiles: Sequence[npt.NDArray[S]], columns: int) -> npt.NDArray[S]:
    """Join images ``(h, w, ...)``, row by row."""
    rows = [np.hstack(tiles[first : first + columns]) for first in range(0, len(tiles), columns)]
    return np.vstack(rows)


def _centre(mask: MaskArray) -> Track:
    ys, xs = np.nonzero(mask)
    if not len(xs):
        return np.array([mask.shape[1] / 2.0, mask.shape[0] / 2.0])
    return np.array([xs.mean(), ys.mean()])
