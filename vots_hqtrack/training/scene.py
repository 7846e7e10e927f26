"""A photograph as a scene under a moving camera: the background of a synthesised clip."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vots_hqtrack.training.datasets import Photo
from vots_hqtrack.training.motion import (
    WARP_CELL,
    ElasticMotion,
    FloatArray,
    MapArray,
    affine_map,
    draw_drift,
    draw_path,
    draw_step,
    fold,
    similarity,
)
from vots_hqtrack.training.sprites import join_touching
from vots_hqtrack.types import FrameArray, LabelArray

MIN_SHARE = 0.002
MIN_PIXELS = 100
MAX_TRACKED = 3
WANTED_AREAS = (0.02, 0.3)
MIN_VIEW = 0.5
JOIN_PROBABILITY = 0.35
SLACK = 0.04


@dataclass(frozen=True, slots=True)
class Nudge:
    """Own motion of one object of the photograph: its surroundings stretch, so no hole opens.

    Attributes:
        centres: ``(T, 2)`` where the object is, frame pixels.
        offsets: ``(T, 2)`` how far it is moved, frame pixels; at most 0.6 ``reach``.
        reach: Spread of the moved region in frame pixels.
    """

    centres: FloatArray
    offsets: FloatArray
    reach: float

    def at(self, frame_index: int, xs: MapArray, ys: MapArray) -> MapArray:
        """Return the displacement ``(h, w, 2)`` for a grid of frame positions."""
        x, y = self.centres[frame_index] + self.offsets[frame_index]
        weight = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2.0 * self.reach**2))
        moved = -weight[:, :, None] * self.offsets[frame_index]
        return np.asarray(moved, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Scene:
    """What the camera sees of a photograph in every frame.

    Attributes:
        photo: The photograph; its label map holds tracked objects only, as 1..num_tracked.
        matrices: ``(T, 2, 3)`` frame pixel to photograph pixel.
        elastic: Deformation of the whole scene.
        nudges: Own motion of single objects.
        height: Of the frames.
        width: Of the frames.
        num_tracked: Tracked objects of the photograph.
    """

    photo: Photo
    matrices: FloatArray
    elastic: ElasticMotion
    nudges: tuple[Nudge, ...]
    height: int
    width: int
    num_tracked: int

    def render(self) -> tuple[FrameArray, LabelArray]:
        """Return frames uint8 ``(T, H, W, 3)`` and labels uint8 ``(T, H, W)``."""
        shape = (len(self.matrices), self.height, self.width)
        frames, labels = np.empty((*shape, 3), np.uint8), np.empty(shape, np.uint8)
        for index, matrix in enumerate(self.matrices):
            maps = affine_map(matrix, (0, 0), (self.height, self.width), self._displacement(index))
            border = cv2.BORDER_REFLECT_101
            frames[index] = cv2.remap(self.photo.image, *maps, cv2.INTER_LINEAR, borderMode=border)
            labels[index] = cv2.remap(
                self.photo.label_map, *maps, cv2.INTER_NEAREST, borderMode=border
            )
        return frames, labels

    def follow(self, start: FloatArray) -> FloatArray:
        """Return where a point of the first frame is in every frame, ``(T, 2)`` x and y."""
        return seen_at(self.matrices, self.matrices[0] @ np.array([*start, 1.0]))

    def _displacement(self, frame_index: int) -> MapArray:
        height, width = self.height // WARP_CELL, self.width // WARP_CELL
        total = self.elastic.at(frame_index, height, width)
        xs = (np.arange(width, dtype=np.float32) * WARP_CELL + WARP_CELL / 2.0)[None, :]
        ys = (np.arange(height, dtype=np.float32) * WARP_CELL + WARP_CELL / 2.0)[:, None]
        for nudge in self.nudges:
            total = total + nudge.at(frame_index, xs, ys)
        return total


def seen_at(matrices: FloatArray, point: FloatArray) -> FloatArray:
    """Return where a point of the photograph is in every frame, ``(T, 2)`` x and y."""
    inverse = [np.asarray(cv2.invertAffineTransform(matrix)) for matrix in matrices]
    return np.stack([matrix @ np.array([*point, 1.0]) for matrix in inverse])


def draw_scene(
    photo: Photo, rng: np.random.Generator, num_frames: int, size: tuple[int, int]
) -> Scene:
    """Draw a camera path over a photograph and choose which of its instances are tracked.

    Args:
        photo: Photograph with its instances.
        rng: Source of chance.
        num_frames: ``T``.
        size: Height and width of the frames.
    """
    if rng.random() < JOIN_PROBABILITY:
        photo = Photo(photo.image, join_touching(photo.label_map))
    matrices = _draw_camera(photo, rng, num_frames, size)
    height, width = size
    side = min(size)
    first_view = cv2.warpAffine(
        photo.label_map,
        matrices[0],
        (width, height),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
    )
    areas = np.bincount(np.asarray(first_view).ravel(), minlength=256)
    areas[0] = 0
    values = rng.permutation(np.flatnonzero(areas >= max(MIN_PIXELS, MIN_SHARE * height * width)))
    values = values[: int(rng.integers(1, MAX_TRACKED + 1))]
    table = np.zeros(256, np.uint8)
    table[values] = np.arange(1, len(values) + 1)
    tracked = Photo(photo.image, table[photo.label_map])
    nudges = [
        _draw_nudge(tracked.label_map == label, matrices, rng, side)
        for label in range(1, len(values) + 1)
        if rng.random() < 0.6
    ]
    elastic = ElasticMotion.draw(rng, num_frames, rng.uniform(0.0, 0.015) * side)
    return Scene(tracked, matrices, elastic, tuple(nudges), height, width, len(values))


def _draw_camera(
    photo: Photo, rng: np.random.Generator, num_frames: int, size: tuple[int, int]
) -> FloatArray:
    height, width = size
    photo_height, photo_width = photo.label_map.shape
    largest = min(photo_height / height, photo_width / width)
    focus, share = _draw_focus(photo, rng)
    wanted = np.exp(rng.uniform(np.log(WANTED_AREAS[0]), np.log(WANTED_AREAS[1])))
    zoom = np.sqrt(share * photo_height * photo_width / (wanted * height * width)) / largest
    pixel = largest * float(np.clip(zoom, MIN_VIEW, 1.0))
    view = np.array([width, height]) * pixel
    path = draw_path(rng, num_frames, draw_step(rng)) * min(view)
    path += rng.normal(0.0, 0.003, path.shape) * min(view)
    centres = focus + rng.uniform(-0.25, 0.25, 2) * view + path
    for axis, side in enumerate((photo_width, photo_height)):
        low = (0.5 - SLACK) * view[axis]
        centres[:, axis] = fold(centres[:, axis], low, side - low)
    scales = pixel * np.exp(np.clip(draw_drift(rng, num_frames, 0.03), -0.3, 0.1))
    angles = rng.normal(0.0, 0.06) + np.clip(draw_drift(rng, num_frames, 0.02), -0.3, 0.3)
    shears = np.clip(draw_drift(rng, num_frames, 0.01), -0.1, 0.1)
    middle = np.array([(width - 1) / 2.0, (height - 1) / 2.0])
    matrices = []
    for centre, scale, angle, shear in zip(centres, scales, angles, shears, strict=True):
        matrix = similarity(float(scale), float(angle), shear=float(shear))
        matrices.append(np.hstack([matrix, (centre - matrix @ middle)[:, None]]))
    return np.stack(matrices)


def _draw_focus(photo: Photo, rng: np.random.Generator) -> tuple[FloatArray, float]:
    """Choose the instance to look at: its centre in photograph pixels and its share of the area."""
    areas = np.bincount(photo.label_map.ravel(), minlength=2).astype(np.float64)
    areas[0] = 0.0
    if not areas.any():
        height, width = photo.label_map.shape
        return np.array([width / 2.0, height / 2.0]), 1.0
    odds = np.sqrt(areas)
    value = int(rng.choice(len(areas), p=odds / odds.sum()))
    ys, xs = np.nonzero(photo.label_map == value)
    return np.array([xs.mean(), ys.mean()]), float(areas[value] / photo.label_map.size)


def _draw_nudge(
    mask: np.ndarray, matrices: FloatArray, rng: np.random.Generator, side: int
) -> Nudge:
    ys, xs = np.nonzero(mask)
    scale = float(np.sqrt(abs(np.linalg.det(matrices[0][:, :2]))))
    extent = float(np.hypot(np.ptp(xs), np.ptp(ys))) / scale
    reach = float(np.clip(0.5 * extent, 0.05 * side, 0.3 * side))
    offsets = side * draw_path(rng, len(matrices), draw_step(rng))
    limit = 0.6 * reach / np.sqrt(2.0)
    offsets = np.stack([fold(offsets[:, axis], -limit, limit) for axis in (0, 1)], axis=1)
    centres = seen_at(matrices, np.array([xs.mean(), ys.mean()]))
    return Nudge(centres, offsets, reach)
