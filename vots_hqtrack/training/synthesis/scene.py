"""A photograph as a scene under a moving camera: the background of a synthesised clip."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vots_hqtrack.training.datasets import Photo
from vots_hqtrack.training.synthesis.motion import (
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
from vots_hqtrack.training.synthesis.sprites import join_touching
from vots_hqtrack.types import FrameArray, LabelArray, MaskArray

MIN_SHARE, MAX_SHARE = 0.002, 0.6
MIN_PIXELS = 100
MAX_TRACKED = 3
WANTED_AREAS = (0.02, 0.3)
MIN_VIEW = 0.5
JOIN_PROBABILITY = 0.4
SLACK = 0.04
"""Share of the view that may lie outside of the photograph, where it is mirrored."""
MAX_OFF_CENTRE = 0.25
SHAKE = 0.003
ZOOM_RATE, ZOOM_LIMITS = 0.03, (-0.3, 0.1)
"""Logarithms; the view shrinks more than it grows, for no picture is around the photograph."""
TILT, ANGLE_RATE, MAX_ANGLE = 0.06, 0.02, 0.3
SHEAR_RATE, MAX_SHEAR = 0.01, 0.1
MAX_BEND = 0.015
NUDGE_PROBABILITY = 0.6
MIN_REACH, MAX_REACH = 0.05, 0.3
MAX_NUDGE = 0.6
"""In units of the reach; beyond 1.6 the picture would fold over itself."""


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
        height, width = max(2, self.height // WARP_CELL), max(2, self.width // WARP_CELL)
        total = self.elastic.at(frame_index, height, width)
        xs = ((np.arange(width, dtype=np.float32) + 0.5) * (self.width / width))[None, :]
        ys = ((np.arange(height, dtype=np.float32) + 0.5) * (self.height / height))[:, None]
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
    least = max(MIN_PIXELS, MIN_SHARE * height * width)
    is_usable = (areas >= least) & (areas <= MAX_SHARE * height * width)
    values = rng.permutation(np.flatnonzero(is_usable))
    values = values[: int(rng.integers(1, MAX_TRACKED + 1))]
    table = np.zeros(256, np.uint8)
    table[values] = np.arange(1, len(values) + 1)
    tracked = Photo(photo.image, table[photo.label_map])
    nudges = [
        _draw_nudge(tracked.label_map == label, matrices, rng, side)
        for label in range(1, len(values) + 1)
        if rng.random() < NUDGE_PROBABILITY
    ]
    elastic = ElasticMotion.draw(rng, num_frames, rng.uniform(0.0, MAX_BEND) * side)
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
    path += rng.normal(0.0, SHAKE, path.shape) * min(view)
    centres = focus + rng.uniform(-MAX_OFF_CENTRE, MAX_OFF_CENTRE, 2) * view + path
    for axis, side in enumerate((photo_width, photo_height)):
        low = (0.5 - SLACK) * view[axis]
        centres[:, axis] = fold(centres[:, axis], low, side - low)
    scales = pixel * np.exp(np.clip(draw_drift(rng, num_frames, ZOOM_RATE), *ZOOM_LIMITS))
    turns = np.clip(draw_drift(rng, num_frames, ANGLE_RATE), -MAX_ANGLE, MAX_ANGLE)
    angles = rng.normal(0.0, TILT) + turns
    shears = np.clip(draw_drift(rng, num_frames, SHEAR_RATE), -MAX_SHEAR, MAX_SHEAR)
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
    mask: MaskArray, matrices: FloatArray, rng: np.random.Generator, side: int
) -> Nudge:
    ys, xs = np.nonzero(mask)
    scale = float(np.sqrt(abs(np.linalg.det(matrices[0][:, :2]))))
    extent = float(np.hypot(np.ptp(xs), np.ptp(ys))) / scale
    reach = float(np.clip(0.5 * extent, MIN_REACH * side, MAX_REACH * side))
    offsets = side * draw_path(rng, len(matrices), draw_step(rng))
    limit = MAX_NUDGE * reach / np.sqrt(2.0)
    offsets = np.stack([fold(offsets[:, axis], -limit, limit) for axis in (0, 1)], axis=1)
    centres = seen_at(matrices, np.array([xs.mean(), ys.mean()]))
    return Nudge(centres, offsets, reach)
