"""Paths of foreground layers and of the camera, in output pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Track = npt.NDArray[np.float64]
"""``(T, 2)`` positions ``x, y``."""

STILL, STILL_CAMERA = 0.1, 0.15
"""Probability that a layer, and that the camera, does not move by itself."""
APPROACHING = 0.7
"""Probability that a layer that changes its size approaches instead of receding."""
STEP, MAX_STEP = 0.04, 0.25
"""Median and largest step from frame to frame, relative to the frame's short side."""


def drift(generator: np.random.Generator, num_frames: int, rate: float) -> npt.NDArray[np.float64]:
    """Return ``(T,)`` values that begin at 0 and wander with about ``rate`` a frame."""
    changes = generator.normal(0, rate) + generator.normal(0, rate / 2, num_frames)
    total: npt.NDArray[np.float64] = np.cumsum(changes) - changes[0]
    return total


def approach(
    generator: np.random.Generator, num_frames: int, factor: float
) -> npt.NDArray[np.float64]:
    """Return ``(T,)`` scales that rise evenly to ``factor``, or sometimes fall from it."""
    growth = np.asarray(np.exp(np.log(max(factor, 1.0)) * np.linspace(0, 1, num_frames)))
    return growth if generator.random() < APPROACHING else growth[::-1].copy()


def free_path(
    generator: np.random.Generator,
    num_frames: int,
    size: tuple[int, int],
    *,
    anchor: tuple[int, npt.NDArray[np.float64]] | None = None,
) -> Track:
    """Sample a nearly straight path that is reflected at the frame's borders.

    Args:
        generator: Random generator.
        num_frames: ``T``.
        size: Height and width of the frame.
        anchor: Frame and position that the path passes; None lets it begin anywhere.
    """
    short = min(size)
    speed = min(STEP * _spread(generator), MAX_STEP) * short
    if generator.random() < STILL:
        speed = 0.0
    heading = generator.uniform(0, 2 * np.pi)
    step = speed * np.array([np.cos(heading), np.sin(heading)])
    wobble = np.cumsum(generator.normal(0, 0.25 * speed, (num_frames, 2)), axis=0)
    times = np.arange(num_frames)[:, None]
    extent = np.array([size[1], size[0]], np.float64)
    if anchor is None:
        path = generator.uniform(0.07, 0.93, 2) * extent + times * step + wobble
    else:
        frame, position = anchor
        path = position + (times - frame) * step + wobble - wobble[frame]
    return reflect(path, -0.03 * extent, 1.03 * extent)


def camera_path(generator: np.random.Generator, num_frames: int, rate: float) -> Track:
    """Sample a wandering path ``(T, 2)`` that begins at 0, with steps of about ``rate``."""
    step = 0.0 if generator.random() < STILL_CAMERA else rate * _spread(generator)
    heading = generator.uniform(0, 2 * np.pi) + np.cumsum(generator.normal(0, 0.5, num_frames))
    length = np.minimum(step * generator.uniform(0.5, 1.5, num_frames), 0.5)
    steps = np.stack([np.cos(heading), np.sin(heading)], 1) * length[:, None]
    path: Track = np.cumsum(steps, 0) - steps[0]
    return path


def crossing_path(
    generator: np.random.Generator, target: Track, frame: int, distance: float, duration: float
) -> Track:
    """Sample a path that crosses another one and needs ``duration`` frames to pass it.

    Args:
        generator: Random generator.
        target: Path to be crossed.
        frame: Frame at which the two meet.
        distance: Length of the overlap in pixels.
        duration: Length of the overlap in frames.
    """
    heading = generator.uniform(0, 2 * np.pi)
    step = distance / duration * np.array([np.cos(heading), np.sin(heading)])
    times = np.arange(len(target))[:, None] - frame
    follows = 1.0 if generator.random() < 0.5 else 0.0
    path: Track = follows * target + (1 - follows) * target[frame] + times * step
    return path


def reflect(values: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike) -> Track:
    """Reflect values at the ends of an interval; an empty interval gives its lower end.

    Example:
        >>> reflect([0.5, 1.25, -0.25], 0.0, 1.0)
        array([0.5 , 0.75, 0.25])
        >>> reflect([[12.0, 5.0]], 0, [10, 10])
        array([[8., 5.]])
    """
    low = np.asarray(low, np.float64)
    span = np.maximum(np.asarray(high) - low, np.finfo(np.float64).tiny)
    phase = np.mod(np.asarray(values) - low, 2 * span)
    return np.asarray(low + np.minimum(phase, 2 * span - phase))


def meeting_point(
    generator: np.random.Generator, known: Sequence[Track], spread: float
) -> tuple[int, npt.NDArray[np.float64]]:
    """Sample a frame and a position near another object's path.

    Args:
        generator: Random generator.
        known: Paths of other objects, at least one.
        spread: Standard deviation of the distance in pixels.
    """
    other = known[int(generator.integers(len(known)))]
    frame = int(generator.integers(len(other)))
    return frame, other[frame] + generator.normal(0, spread, 2)


def _spread(generator: np.random.Generator) -> float:
    """Sample a factor on a speed: half of them are below 1, 1 in 20 is above 3."""
    return float(np.exp(0.7 * generator.standard_normal()))
