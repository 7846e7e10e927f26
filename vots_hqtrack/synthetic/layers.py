"""Background and foreground layers of a clip."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vots_hqtrack.synthetic.footage import NUM_LEVELS, Footage
from vots_hqtrack.synthetic.motion import Track
from vots_hqtrack.synthetic.plan import NUM_WAVES

Array = npt.NDArray[np.float64]
BOX_MARGIN = 3.0
"""Pixels around a layer's box, for its soft edge."""
HALVE_FROM = 1.6
"""Source pixels for each output pixel from which a halved image is read."""


@dataclass(slots=True)
class Layer:
    """A plane of a clip.

    Attributes:
        footage: Source of its pixels.
        frames: ``(T,)`` frames of the footage.
        labels: Label by position of an object in the footage; 0 is unlabelled. A foreground layer
            shows only these objects.
        centre: ``(T, 2)`` output position of ``source_centre``.
        source_centre: ``(T, 2)`` point of the footage.
        scale: ``(T,)`` output pixels for each source pixel.
        angle: ``(T,)`` radians.
        mirror: -1 if mirrored, else 1.
        half: ``(T, 2)`` half the width and height of the visible part, in source pixels.
        is_visible: ``(T,)`` bool.
        waves: ``(T, 2, 5)``, as in the plan.
        colour: ``(6,)`` gains and shifts.
        depth: Layers with larger ones cover others.
        split: Normal ``nx, ny`` and offset of a line through the layer in source pixels.
        second_label: Label beyond that line; -1 for none.
        area: Relative to the frame, in the first frame.
    """

    footage: Footage
    frames: npt.NDArray[np.int64]
    labels: dict[int, int]
    centre: Track
    source_centre: Track
    scale: Array
    angle: Array
    mirror: float
    half: Array
    is_visible: npt.NDArray[np.bool_]
    waves: Array
    colour: Array = field(default_factory=lambda: np.array([1.0, 1, 1, 0, 0, 0]))
    depth: float = 0.0
    split: tuple[float, float, float] = (0.0, 0.0, 0.0)
    second_label: int = -1
    area: float = 1.0

    @property
    def side(self) -> float:
        """Longer side in the first frame, in output pixels."""
        return float(2 * self.half[0].max() * self.scale[0])

    def linear(self) -> Array:
        """Return ``(T, 2, 2)`` matrices from output to source coordinates."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        rows = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)
        matrices: Array = rows / self.scale[:, None, None]
        matrices[:, 0] *= self.mirror
        return matrices

    def to_output(self, points: Array) -> Track:
        """Map ``(T, 2)`` source points to output coordinates."""
        moved: Track = np.einsum(
            "tij,tj->ti", np.linalg.inv(self.linear()), points - self.source_centre
        )
        return moved + self.centre

    def level(self) -> npt.NDArray[np.int64]:
        """Return ``(T,)`` the number of halvings of the stored image to read."""
        halvings = np.floor(np.log2(np.maximum(1 / self.scale, 1e-6) / HALVE_FROM)) + 1
        levels: npt.NDArray[np.int64] = np.clip(halvings, 0, NUM_LEVELS - 1).astype(np.int64)
        return levels

    def output_boxes(self, size: tuple[int, int]) -> npt.NDArray[np.int64]:
        """Return ``(T, 4)`` boxes around the visible part; empty where hidden."""
        cos, sin = np.abs(np.cos(self.angle)), np.abs(np.sin(self.angle))
        half = self.half * self.scale[:, None]
        extent = np.stack(
            [cos * half[:, 0] + sin * half[:, 1], sin * half[:, 0] + cos * half[:, 1]], -1
        )
        extent += np.abs(self.waves[..., 3:]).sum(1) + BOX_MARGIN
        low = np.clip(np.floor(self.centre - extent), 0, [size[1], size[0]])
        high = np.clip(np.ceil(self.centre + extent), 0, [size[1], size[0]])
        boxes = np.concatenate([low, high], -1).astype(np.int64)
        boxes[~self.is_visible] = 0
        return boxes


def no_waves(num_frames: int) -> Array:
    """Return waves of amplitude 0."""
    return np.zeros((num_frames, NUM_WAVES, 5))


def sample_waves(
    generator: np.random.Generator, centre: Track, side: float, amplitude: float
) -> Array:
    """Sample two waves that travel with a layer.

    Args:
        generator: Random generator.
        centre: ``(T, 2)`` positions of the layer.
        side: Its longer side in pixels.
        amplitude: Shift relative to ``side``.
    """
    waves = no_waves(len(centre))
    times = np.arange(len(centre))
    for number in range(NUM_WAVES):
        heading = generator.uniform(0, 2 * np.pi)
        length = side * generator.uniform(0.5, 1.6)
        k = 2 * np.pi / length * np.array([np.cos(heading), np.sin(heading)])
        phase = generator.uniform(0, 2 * np.pi) + generator.uniform(0.1, 0.8) * times
        waves[:, number, :2] = k
        waves[:, number, 2] = phase - centre @ k
        waves[:, number, 3:] = generator.normal(0, amplitude * side, 2)
    return waves
