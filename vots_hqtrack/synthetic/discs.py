"""Video for benchmarks and checks: textured discs over a textured wall, in any size and number."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.types import MAX_OBJECTS, FrameArray, MaskArray, ObjectId, Size

FILL = 0.35
"""Radius of a disc, relative to the grid's pitch."""
GRAINS = (3, 12, 48)
"""Distances of the textures' random values, in pixels."""


class SyntheticVideo:
    """Discs in a grid, each on a small circle; the same for the same arguments.

    Args:
        size: Size of the frames.
        num_objects: Number of discs, 1..1000.
        seed: Seed of the textures.

    Raises:
        ConfigError: There are too few or too many objects, or they do not fit.
    """

    def __init__(self, size: Size, num_objects: int, *, seed: int = 0) -> None:
        if not 1 <= num_objects <= MAX_OBJECTS:
            raise ConfigError(f"objects must be 1..{MAX_OBJECTS}, got {num_objects}")
        columns = math.ceil(math.sqrt(num_objects * size.width / size.height))
        rows = math.ceil(num_objects / columns)
        self._pitch = size.height / rows, size.width / columns
        self._radius = FILL * min(self._pitch)
        if self._radius < 1:
            raise ConfigError(f"{num_objects} objects do not fit into {size} pixels")
        self.size = size
        self._num_columns, self._num_objects = columns, num_objects
        rng = np.random.default_rng(seed)
        self._wall = _texture(rng, size)
        self._cloth = _texture(rng, size)[::-1, ::-1] // 2 + 100

    def masks(self, index: int) -> dict[int, MaskArray]:
        """Return the masks of a frame: bool ``(H, W)`` by object id, from 1."""
        ys, xs = np.ogrid[: self.size.height, : self.size.width]
        found: dict[int, MaskArray] = {}
        for disc in range(self._num_objects):
            y, x = self._centre(disc, index)
            inside = (ys - y) ** 2 + (xs - x) ** 2 <= self._radius**2
            found[ObjectId(disc + 1)] = np.asarray(inside, dtype=np.bool_)
        return found

    def frame(self, index: int) -> FrameArray:
        """Return a frame: uint8 ``(H, W, 3)`` RGB."""
        frame = np.roll(self._wall, index, axis=1)
        for number, mask in self.masks(index).items():
            cloth = np.roll(self._cloth, (7 * number + index, 13 * number), axis=(0, 1))
            frame[mask] = np.roll(cloth, number, axis=2)[mask]
        return frame

    def _centre(self, disc: int, index: int) -> tuple[float, float]:
        row, column = divmod(disc, self._num_columns)
        height, width = self._pitch
        angle = 0.1 * index + disc
        return (
            (row + 0.5) * height + 0.1 * height * math.sin(angle),
            (column + 0.5) * width + 0.1 * width * math.cos(angle),
        )


def _texture(rng: np.random.Generator, size: Size) -> npt.NDArray[np.uint8]:
    """Return noise of several scales: uint8 ``(H, W, 3)``."""
    total = np.zeros((*size, 3), np.float32)
    for grain in GRAINS:
        noise = rng.random((size.height // grain + 2, size.width // grain + 2, 3), np.float32)
        total += cv2.resize(noise, (size.width, size.height), interpolation=cv2.INTER_CUBIC)
    return np.clip(total / len(GRAINS) * 255, 0, 255).astype(np.uint8)
