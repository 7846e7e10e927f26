"""Frames put together of several videos, with the exact mask of what is seen of every object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vots_hqtrack.composites.shots import OPAQUE, Cutout, Shot, cut_out
from vots_hqtrack.errors import InputError
from vots_hqtrack.training.synthesis.motion import fold
from vots_hqtrack.training.synthesis.sprites import blend
from vots_hqtrack.types import FrameArray, MaskArray, Size

FloatArray = npt.NDArray[np.float64]

GRIDS = {1: (1, 1), 2: (1, 2), 3: (2, 2), 4: (2, 2), 5: (2, 3), 6: (2, 3)}
"""Rows and columns by the number of panels."""
NUM_OBJECTS = (2, 3, 4, 5)
"""How many objects a composite shows."""
AREAS, MAX_AREA = (0.02, 0.09), 0.25
"""Part of the frame that a pasted object fills in the middle of all frames, and at most."""
MEETINGS = (0.35, 0.75)
"""When two objects meet, in lengths of the clip."""
REACHES = (1.2, 2.0)
"""How far apart two that will meet begin, in sums of their half sides."""
TILT = 0.6
MARGIN = 0.06
"""Objects' centres stay this part of a side away from it."""
START_TRIES, CROSSING_TRIES, HIDING_STEP = 200, 8, 2
WANTED_START, WANTED_HIDDEN = 0.85, 0.4
"""Part of every object that should be seen in the first frame, and part of one that should be
hidden at some time."""


@dataclass(frozen=True, slots=True)
class Collage:
    """A made-up clip.

    Attributes:
        frames: uint8 ``(H, W, 3)`` RGB.
        masks: For each object, bool ``(H, W)`` of what is seen of it, frame by frame.
    """

    frames: list[FrameArray]
    masks: list[list[MaskArray]]


def make_panels(shots: Sequence[Shot], tracked: Sequence[int], size: Size) -> Collage:
    """Put videos side by side.

    The panels together have about as many pixels as one frame.

    Args:
        shots: One for every panel, row by row, of one length.
        tracked: Which of them show the objects, in the order of the objects.
        size: Size of one video's frames.

    Raises:
        InputError: There is no layout for so many panels, or a file is damaged.
    """
    rows, columns = GRIDS.get(len(shots), (0, 0))
    if rows * columns != len(shots):
        wanted = sorted({r * c for r, c in GRIDS.values()})
        raise InputError(f"the number of panels must be one of {wanted}, got {len(shots)}")
    shrink = 1.0 / np.sqrt(rows * columns)
    cell = Size(round(size.height * shrink), round(size.width * shrink))
    collage = Collage([], [[] for _ in tracked])
    for place in range(shots[0].num_frames):
        canvas = np.zeros((rows * cell.height, columns * cell.width, 3), dtype=np.uint8)
        for number, shot in enumerate(shots):
            row, column = divmod(number, columns)
            window = (
                slice(row * cell.height, (row + 1) * cell.height),
                slice(column * cell.width, (column + 1) * cell.width),
            )
            frame, mask = shot.read(place, cell)
            canvas[window] = frame
            if number in tracked:
                whole = np.zeros(canvas.shape[:2], dtype=np.bool_)
                whole[window] = mask
                collage.masks[tracked.index(number)].append(whole)
        collage.frames.append(canvas)
    return collage


def make_crossing(shots: Sequence[Shot], size: Size, generator: np.random.Generator) -> Collage:
    """Paste the objects of videos over another video, so that they cross one another.

    The first video stays whole and its object is the first; each of the others moves along a line
    of its own and meets the one before it. Ways are drawn until all objects begin in sight and one
    is well hidden later; should that never be, the best draw is taken.

    Args:
        shots: At least two, of one length of two frames or more; the later lies above the earlier.
        size: Size of the frames.
        generator: Source of chance.

    Raises:
        InputError: A file is damaged, or an object would begin without a pixel.
    """
    area = size.height * size.width
    below = [shots[0].read(place, size) for place in range(shots[0].num_frames)]
    casts: list[list[Cutout]] = []
    for shot in shots[1:]:
        share = float(np.exp(generator.uniform(*np.log(AREAS))))
        casts.append(cut_out(shot, share * area, MAX_AREA * area, size))
    stage = _Stage([mask for _, mask in below], casts, size)
    paths = _choose_paths(stage, generator)
    seen = [hide(stage.layers(paths, place)) for place in range(len(below))]
    if not all(mask.any() for mask in seen[0]):
        names = ", ".join(shot.video.name for shot in shots)
        raise InputError(f"an object of {names} would begin without a pixel")
    frames = []
    for place, (frame, _) in enumerate(below):
        canvas = frame.copy()
        for cast, path in zip(casts, paths, strict=True):
            _paste(canvas, cast[place], path[place])
        frames.append(canvas)
    return Collage(frames, [list(track) for track in zip(*seen, strict=True)])


def hide(layers: Sequence[MaskArray]) -> list[MaskArray]:
    """Return what is seen of each layer under the later ones.

    Args:
        layers: Bool ``(H, W)``, the lowest first.

    Example:
        >>> [mask.tolist() for mask in hide([np.array([True, True]), np.array([False, True])])]
        [[True, False], [False, True]]
    """
    above = np.zeros_like(layers[0])
    seen: list[MaskArray] = []
    for layer in reversed(layers):
        seen.append(layer & ~above)
        above |= layer
    return seen[::-1]


@dataclass(frozen=True, slots=True)
class _Stage:
    """What a crossing is made of.

    Attributes:
        ground: The lowest object's masks, frame by frame.
        casts: The pasted objects, the lowest first, frame by frame.
        size: Size of the frames.
    """

    ground: list[MaskArray]
    casts: list[list[Cutout]]
    size: Size

    def draw_paths(self, generator: np.random.Generator) -> list[FloatArray]:
        """Draw for each pasted object where its centre is, ``(T, 2)`` x and y in pixels."""
        num_frames = len(self.ground)
        paths: list[FloatArray] = []
        partner = np.stack([_centre(mask) for mask in self.ground])
        partner_half = np.sqrt(np.mean([mask.sum() for mask in self.ground])) / 2.0
        for cast in self.casts:
            sides = [cutout.alpha.shape for cutout in cast if cutout.alpha.size]
            half = float(np.mean(sides)) / 2.0
            meeting = max(1, round(generator.uniform(*MEETINGS) * (num_frames - 1)))
            reach = generator.uniform(*REACHES) * (half + partner_half)
            heading = generator.normal(0.0, TILT) + np.pi * float(generator.integers(2))
            step = reach / meeting * np.array([np.cos(heading), np.sin(heading)])
            path = partner[meeting] + (np.arange(num_frames) - meeting)[:, None] * step
            limits = [(MARGIN * side, (1.0 - MARGIN) * side) for side in self.size[::-1]]
            columns = [fold(path[:, axis], *limits[axis]) for axis in (0, 1)]
            paths.append(np.stack(columns, axis=1))
            partner, partner_half = paths[-1], half
        return paths

    def layers(self, paths: Sequence[FloatArray], place: int) -> list[MaskArray]:
        """Return the objects' masks in one frame as if none hid another."""
        pasted = [
            _cover(cast[place], path[place], self.size)
            for cast, path in zip(self.casts, paths, strict=True)
        ]
        return [self.ground[place], *pasted]

    def start(self, paths: Sequence[FloatArray]) -> float:
        """Return which part of the worst seen object is seen in the first frame."""
        wholes = [int((cast[0].alpha > OPAQUE // 2).sum()) for cast in self.casts]
        wholes = [int(self.ground[0].sum()), *wholes]
        seen = [int(mask.sum()) for mask in hide(self.layers(paths, 0))]
        return min(part / max(whole, 1) for part, whole in zip(seen, wholes, strict=True))

    def most_hidden(self, paths: Sequence[FloatArray]) -> float:
        """Return the largest part of an object that others hide in a frame."""
        most = 0.0
        for place in range(1, len(self.ground), HIDING_STEP):
            layers = self.layers(paths, place)
            for seen, layer in zip(hide(layers), layers, strict=True):
                most = max(most, 1.0 - float(seen.sum()) / max(float(layer.sum()), 1.0))
        return most


def _choose_paths(stage: _Stage, generator: np.random.Generator) -> list[FloatArray]:
    best: list[FloatArray] = []
    best_score = -1.0
    for _ in range(CROSSING_TRIES):
        paths, start = _draw_start(stage, generator)
        score = min(start / WANTED_START, 1.0) + min(stage.most_hidden(paths) / WANTED_HIDDEN, 1.0)
        if score > best_score:
            best, best_score = paths, score
        if score >= 2.0:
            break
    return best


def _draw_start(stage: _Stage, generator: np.random.Generator) -> tuple[list[FloatArray], float]:
    best: list[FloatArray] = []
    best_start = -1.0
    for _ in range(START_TRIES):
        paths = stage.draw_paths(generator)
        start = stage.start(paths)
        if start > best_start:
            best, best_start = paths, start
        if start >= WANTED_START:
            break
    return best, best_start


def _paste(canvas: FrameArray, cutout: Cutout, position: FloatArray) -> None:
    target, source = _overlap(cutout, position, Size(*canvas.shape[:2]))
    canvas[target] = blend(canvas[target], cutout.picture[source], cutout.alpha[source])


def _cover(cutout: Cutout, position: FloatArray, size: Size) -> MaskArray:
    covered = np.zeros(size, dtype=np.bool_)
    target, source = _overlap(cutout, position, size)
    covered[target] = cutout.alpha[source] > OPAQUE // 2
    return covered


def _overlap(
    cutout: Cutout, position: FloatArray, size: Size
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the window of the frame that a cut-out fills, and that window of the cut-out."""
    height, width = cutout.alpha.shape
    left = round(float(position[0]) - cutout.anchor[0])
    top = round(float(position[1]) - cutout.anchor[1])
    rows = slice(max(top, 0), max(min(top + height, size.height), 0))
    columns = slice(max(left, 0), max(min(left + width, size.width), 0))
    source_rows = slice(max(-top, 0), max(-top, 0) + max(rows.stop - rows.start, 0))
    source_columns = slice(max(-left, 0), max(-left, 0) + max(columns.stop - columns.start, 0))
    return (rows, columns), (source_rows, source_columns)


def _centre(mask: MaskArray) -> FloatArray:
    ys, xs = np.nonzero(mask)
    if not len(xs):
        return np.array([mask.shape[1] / 2.0, mask.shape[0] / 2.0])
    return np.array([xs.mean(), ys.mean()])
