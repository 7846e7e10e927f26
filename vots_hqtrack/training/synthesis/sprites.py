"""Objects cut out of photographs with their masks, and how they are painted into moving frames."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.training.datasets import Photo
from vots_hqtrack.training.synthesis.motion import (
    WARP_CELL,
    ElasticMotion,
    FloatArray,
    affine_map,
    similarity,
)
from vots_hqtrack.types import FrameArray, LabelArray, MaskArray

MIN_CUTOUT_SHARE = 0.004
MAX_BORDER_SHARE = 0.1
MAX_ENLARGEMENT = 2.5
EDGE_SOFTNESS = 0.8
OPAQUE = 255
HALF_OPAQUE = 128
TRIES = 4
CROP_MARGIN = 4
JOIN_PROBABILITY = 0.5
"""Garments are cut out as a dressed person, riders with what they ride, as often as alone."""


@dataclass(frozen=True, slots=True)
class Sprite:
    """An object cut out of a photograph.

    Attributes:
        image: uint8 ``(h, w, 3)`` RGB, with some of the photograph around the object so that
            resampling at its edge mixes in no black.
        alpha: uint8 ``(h, w)``; 255 inside the object, 0 outside.
    """

    image: FrameArray
    alpha: npt.NDArray[np.uint8]

    def flip(self) -> Sprite:
        """Return the mirror image."""
        return Sprite(self.image[:, ::-1].copy(), self.alpha[:, ::-1].copy())

    def resized(self, area: float) -> Sprite:
        """Return the sprite with about ``area`` opaque pixels; it grows at most 2.5-fold a side."""
        current = max(1.0, float(np.count_nonzero(self.alpha >= HALF_OPAQUE)))
        factor = min(MAX_ENLARGEMENT, float(np.sqrt(area / current)))
        height, width = (max(4, round(side * factor)) for side in self.alpha.shape)
        method = cv2.INTER_AREA if factor < 1.0 else cv2.INTER_CUBIC
        image = cv2.resize(self.image, (width, height), interpolation=method)
        alpha = cv2.resize(self.alpha, (width, height), interpolation=cv2.INTER_LINEAR)
        alpha = cv2.GaussianBlur(alpha, (0, 0), EDGE_SOFTNESS)
        return Sprite(np.asarray(image, dtype=np.uint8), np.asarray(alpha, dtype=np.uint8))


@dataclass(frozen=True, slots=True)
class SpriteMotion:
    """Where a sprite is in every frame of a clip.

    Attributes:
        positions: ``(T, 2)`` x and y of its centre in frame pixels.
        scales: ``(T,)`` size relative to the sprite's own.
        angles: ``(T,)`` radians.
        shears: ``(T,)``.
        elastic: Deformation in frame pixels.
        is_shown: ``(T,)`` bool; where False it is not painted at all.
    """

    positions: FloatArray
    scales: FloatArray
    angles: FloatArray
    shears: FloatArray
    elastic: ElasticMotion
    is_shown: MaskArray


def touching_groups(label_map: LabelArray) -> dict[int, int]:
    """Join instances that touch each other, such as a rider and the horse.

    Args:
        label_map: uint8 ``(H, W)``, 0 = background.

    Returns:
        For every instance the lowest number of its group.

    Example:
        >>> touching_groups(np.array([[1, 1, 3, 0, 0, 0, 2]], dtype=np.uint8))
        {1: 1, 2: 2, 3: 1}
    """
    group = {int(value): int(value) for value in np.unique(label_map) if value}
    pairs: set[tuple[int, int]] = set()
    for left, right in (
        (label_map[:, :-2], label_map[:, 2:]),
        (label_map[:, :-1], label_map[:, 1:]),
        (label_map[:-2], label_map[2:]),
        (label_map[:-1], label_map[1:]),
    ):
        differs = (left != right) & (left > 0) & (right > 0)
        found = np.unique(np.stack([left[differs], right[differs]], axis=1), axis=0)
        pairs.update((int(a), int(b)) for a, b in found)
    for first, second in sorted(pairs):
        low, high = sorted((group[first], group[second]))
        group = {value: low if root == high else root for value, root in group.items()}
    return group


def join_touching(label_map: LabelArray) -> LabelArray:
    """Return the label map with instances that touch each other as one; see ``touching_groups``."""
    table = np.zeros(256, np.uint8)
    for value, root in touching_groups(label_map).items():
        table[value] = root
    return table[label_map]


def cut_out(photo: Photo, rng: np.random.Generator) -> Sprite | None:
    """Cut one object out of a photograph.

    Args:
        photo: Photograph with its instances.
        rng: Source of chance: which instance, alone or with those that touch it, mirrored or not.

    Returns:
        The object at the photograph's own scale, or None where no instance is large and whole.
    """
    is_joined = rng.random() < JOIN_PROBABILITY
    label_map = join_touching(photo.label_map) if is_joined else photo.label_map
    areas = np.bincount(label_map.ravel(), minlength=1)
    areas[0] = 0
    values = np.flatnonzero(areas >= MIN_CUTOUT_SHARE * label_map.size)
    for value in rng.permutation(values)[:TRIES]:
        mask = label_map == value
        if _is_whole(mask):
            sprite = _crop(photo.image, mask)
            return sprite.flip() if rng.random() < 0.5 else sprite
    return None


def _is_whole(mask: MaskArray) -> bool:
    # A mask that runs along the photograph's border is cut there: pasted elsewhere, it would show a
    # straight edge that no object has.
    on_border = mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum()
    perimeter = 4.0 * np.sqrt(mask.sum())
    return bool(on_border <= MAX_BORDER_SHARE * perimeter)


def _crop(image: FrameArray, mask: MaskArray) -> Sprite:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = max(0, rows[0] - CROP_MARGIN), max(0, columns[0] - CROP_MARGIN)
    window = np.s_[top : rows[-1] + CROP_MARGIN + 1, left : columns[-1] + CROP_MARGIN + 1]
    alpha = mask[window].astype(np.uint8) * OPAQUE
    # The outermost pixels of a mask are half background; without them the object has no halo.
    alpha = np.asarray(cv2.erode(alpha, np.ones((3, 3), np.uint8)), dtype=np.uint8)
    padding = ((CROP_MARGIN, CROP_MARGIN), (CROP_MARGIN, CROP_MARGIN))
    return Sprite(
        image=np.pad(image[window], (*padding, (0, 0)), mode="edge"), alpha=np.pad(alpha, padding)
    )


def paint(
    frame: FrameArray,
    label_map: LabelArray,
    sprite: Sprite,
    motion: SpriteMotion,
    *,
    frame_index: int,
    label: int,
) -> None:
    """Paint a sprite into a frame and its label map, both changed in place.

    Args:
        frame: uint8 ``(H, W, 3)``.
        label_map: uint8 ``(H, W)``.
        sprite: Object to paint.
        motion: Where it is.
        frame_index: Which frame of the clip this is.
        label: Value for the label map; 0 hides what lies below, as an untracked object does.
    """
    if not motion.is_shown[frame_index]:
        return
    forward = _placement(sprite, motion, frame_index)
    left, top, right, bottom = _bounds(sprite, forward)
    rows = slice(max(0, top), min(frame.shape[0], bottom))
    columns = slice(max(0, left), min(frame.shape[1], right))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    height, width = bottom - top, right - left
    displacement = motion.elastic.at(
        frame_index, max(2, height // WARP_CELL), max(2, width // WARP_CELL)
    )
    backward = np.asarray(cv2.invertAffineTransform(forward), dtype=np.float64)
    maps = affine_map(backward, (left, top), (height, width), displacement)
    inner = np.s_[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    map_x, map_y = (np.ascontiguousarray(part[inner]) for part in maps)
    image = cv2.remap(sprite.image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.remap(sprite.alpha, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    opacity = np.asarray(alpha, dtype=np.uint8)
    above = np.asarray(image, dtype=np.uint8)
    frame[rows, columns] = blend(frame[rows, columns], above, opacity)
    label_map[rows, columns][opacity >= HALF_OPAQUE] = label


def blend(below: FrameArray, above: FrameArray, alpha: npt.NDArray[np.uint8]) -> FrameArray:
    """Mix two pictures: ``above`` where alpha is 255, ``below`` where it is 0."""
    weight = np.repeat((alpha.astype(np.float32) / OPAQUE)[:, :, None], 3, axis=2)
    mixed = below + (above.astype(np.float32) - below) * weight
    return np.rint(mixed).astype(np.uint8)


def _placement(sprite: Sprite, motion: SpriteMotion, frame_index: int) -> FloatArray:
    height, width = sprite.alpha.shape
    matrix = similarity(
        float(motion.scales[frame_index]),
        float(motion.angles[frame_index]),
        shear=float(motion.shears[frame_index]),
    )
    centre = np.array([(width - 1) / 2.0, (height - 1) / 2.0])
    shift = motion.positions[frame_index] - matrix @ centre
    return np.hstack([matrix, shift[:, None]])


def _bounds(sprite: Sprite, forward: FloatArray) -> tuple[int, int, int, int]:
    height, width = sprite.alpha.shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=np.float64)
    placed = corners @ forward[:, :2].T + forward[:, 2]
    low, high = np.floor(placed.min(axis=0)), np.ceil(placed.max(axis=0))
    return int(low[0]), int(low[1]), int(high[0]) + 1, int(high[1]) + 1
