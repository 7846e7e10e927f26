"""Random motion for synthesised clips: paths, drifts and elastic warps.

Paths are in frame sides (the shorter one) and start at zero; warps are in output pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
MapArray = npt.NDArray[np.float32]

MEDIAN_STEP = 0.035
STEP_SPREAD = 0.7
MAX_STEP = 0.25
STILL_STEP = 0.003
WARP_CELL = 8
ELASTIC_NODES = 6


def draw_step(rng: np.random.Generator, *, still: float = 0.15) -> float:
    """Draw how far something moves from one frame to the next.

    Args:
        rng: Source of chance.
        still: Probability of standing (almost) still.

    Returns:
        Length in frame sides: two in three lie within 0.02 and 0.08, one in fourteen above 0.1.
    """
    if rng.random() < still:
        return STILL_STEP
    step = MEDIAN_STEP * np.exp(STEP_SPREAD * rng.standard_normal())
    return float(np.clip(step, STILL_STEP, MAX_STEP))


def draw_path(rng: np.random.Generator, num_frames: int, step: float) -> FloatArray:
    """Draw a path whose heading and speed change smoothly.

    Args:
        rng: Source of chance.
        num_frames: ``T``.
        step: Mean length between two frames in frame sides.

    Returns:
        ``(T, 2)`` x and y in frame sides; the first is zero.
    """
    turns = rng.normal(0.0, 0.5, num_frames)
    heading = rng.uniform(0.0, 2.0 * np.pi) + np.cumsum(turns)
    length = np.minimum(step * rng.uniform(0.5, 1.5, num_frames), MAX_STEP)
    steps = length[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    return np.asarray(np.cumsum(steps, axis=0) - steps[0])


def draw_drift(rng: np.random.Generator, num_frames: int, rate: float) -> FloatArray:
    """Draw a value that drifts from zero, for scales (logarithm), angles and shears.

    Args:
        rng: Source of chance.
        num_frames: ``T``.
        rate: Spread of the change from one frame to the next.

    Returns:
        ``(T,)``; the first is zero.
    """
    changes = rng.normal(0.0, rate) + rng.normal(0.0, rate / 2.0, num_frames)
    changes = np.clip(changes, -2.0 * rate, 2.0 * rate)
    return np.asarray(np.cumsum(changes) - changes[0])


def fold(values: FloatArray, low: float, high: float) -> FloatArray:
    """Fold values back into an interval, as a ball bounces between two walls.

    Example:
        >>> fold(np.array([0.5, 1.25, -0.25]), 0.0, 1.0)
        array([0.5 , 0.75, 0.25])
    """
    span = high - low
    if span <= 0.0:
        return np.full_like(values, (low + high) / 2.0)
    phase = np.mod(values - low, 2.0 * span)
    return np.asarray(low + np.minimum(phase, 2.0 * span - phase))


def similarity(scale: float, angle: float, *, shear: float = 0.0) -> FloatArray:
    """Return the ``(2, 2)`` matrix that scales, rotates (radians, clockwise) and shears."""
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.array([[cosine, -sine], [sine, cosine]])
    return np.asarray(scale * rotation @ np.array([[1.0, shear], [0.0, 1.0]]))


@dataclass(frozen=True, slots=True)
class ElasticMotion:
    """A smooth random displacement that changes smoothly over time.

    Attributes:
        nodes: ``(2, G, G, 2)`` float32, two displacement fields in pixels that are swung through.
        phases: ``(T,)`` radians.
    """

    nodes: MapArray
    phases: FloatArray

    @classmethod
    def draw(cls, rng: np.random.Generator, num_frames: int, amplitude: float) -> ElasticMotion:
        """Draw a motion whose displacements have a spread of ``amplitude`` pixels."""
        shape = (2, ELASTIC_NODES, ELASTIC_NODES, 2)
        nodes = rng.normal(0.0, amplitude, shape).astype(np.float32)
        phases = rng.uniform(0.0, 2.0 * np.pi) + rng.uniform(0.1, 0.8) * np.arange(num_frames)
        return cls(nodes, np.asarray(phases, dtype=np.float64))

    def at(self, frame_index: int, height: int, width: int) -> MapArray:
        """Return the displacement ``(height, width, 2)`` at one frame, in pixels."""
        phase = self.phases[frame_index]
        nodes = np.cos(phase) * self.nodes[0] + np.sin(phase) * self.nodes[1]
        resized = cv2.resize(
            nodes.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        return np.asarray(resized, dtype=np.float32)


def affine_map(
    matrix: FloatArray,
    origin: tuple[int, int],
    size: tuple[int, int],
    displacement: MapArray | None = None,
) -> tuple[MapArray, MapArray]:
    """Build the maps of ``cv2.remap`` for an affine motion with a displacement on top.

    Args:
        matrix: ``(2, 3)``, output pixel ``(x, y)`` to source pixel.
        origin: x and y of the map's first pixel in the output.
        size: Height and width of the map.
        displacement: ``(h, w, 2)`` added to the output position, any coarser size.

    Returns:
        x and y of the source, each float32 ``(height, width)``.
    """
    height, width = size
    xs = (np.arange(width) + origin[0]).astype(np.float32)[None, :]
    ys = (np.arange(height) + origin[1]).astype(np.float32)[:, None]
    m = matrix.astype(np.float32)
    map_x = m[0, 0] * xs + (m[0, 1] * ys + m[0, 2])
    map_y = m[1, 0] * xs + (m[1, 1] * ys + m[1, 2])
    if displacement is not None:
        moved = displacement @ m[:, :2].T
        full = cv2.resize(moved, (width, height), interpolation=cv2.INTER_LINEAR)
        map_x += full[:, :, 0]
        map_y += full[:, :, 1]
    return map_x, map_y
