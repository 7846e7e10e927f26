"""Clips for training: synthesised from photographs, or composed of real ones.

The paper pre-trains on clips made of static images (section 3.1); here the photograph becomes a
scene under a moving camera, and objects cut out of other photographs move in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.training.datasets import Clip, Photo
from vots_hqtrack.training.synthesis.actors import draw_motion, draw_passing
from vots_hqtrack.training.synthesis.appearance import (
    apply_colour,
    degrade,
    draw_colour,
    jitter_colour,
    match_tone,
)
from vots_hqtrack.training.synthesis.motion import FloatArray
from vots_hqtrack.training.synthesis.scene import MIN_PIXELS, Scene, draw_scene
from vots_hqtrack.training.synthesis.sprites import (
    OPAQUE,
    Sprite,
    SpriteMotion,
    blend,
    cut_out,
    paint,
)
from vots_hqtrack.types import SLOTS_PER_GROUP, FrameArray, LabelArray, check_frame

__all__ = ["degrade", "flip_clip", "jitter_colour", "keep_visible", "paste_clip", "synthesize_clip"]

MAX_TRACKED = 5
MIN_SIDE = 32
ATTEMPTS = 6
NUM_SPRITES = (0, 1, 2, 3, 4)
NUM_SPRITES_ODDS = (0.2, 0.25, 0.25, 0.2, 0.1)
NUM_OCCLUDERS = (0, 1, 2)
NUM_OCCLUDERS_ODDS = (0.5, 0.35, 0.15)
TRACKED_AREAS = (0.01, 0.2)
OCCLUDER_AREAS = (0.02, 0.12)
TRACKED_PROBABILITY = 0.7
TWIN_PROBABILITY = 0.25
FLIP_PROBABILITY = 0.5
COLOUR_PROBABILITY = 0.8
RECOLOUR_PROBABILITY = 0.3
MAX_TONE_MATCH = 0.8
PASTED_SCALES = (0.6, 1.0)
PLACEMENT_TRIES, MAX_HIDDEN = 5, 0.5


def synthesize_clip(
    base: Photo | tuple[FrameArray, LabelArray],
    others: Sequence[Photo | tuple[FrameArray, LabelArray]],
    rng: np.random.Generator,
    *,
    num_frames: int,
    size: tuple[int, int],
) -> Clip:
    """Make a clip of one photograph, seen by a moving camera, with objects of others moving in it.

    Some instances of the photograph and some pasted objects are tracked; the rest belongs to the
    background and acts as distractors and occluders. Objects may be hidden, leave and come back.
    Every tracked object has at least 100 pixels in the first frame. The clip depends on the
    arguments alone.

    Args:
        base: Photograph uint8 ``(H, W, 3)`` RGB with its label map uint8 ``(H, W)``.
        others: The same, from which objects are cut; may be empty.
        rng: Source of chance.
        num_frames: ``T``, at least 1.
        size: Height and width of the clip in pixels.

    Raises:
        InputError: There is no frame to make, or no object of the photographs is large enough.
        ShapeError: A photograph and its label map do not fit, or ``size`` is too small.
    """
    if num_frames < 1:
        raise InputError(f"a clip needs at least 1 frame, got {num_frames}")
    if min(size) < MIN_SIDE:
        raise ShapeError(f"a clip must be at least {MIN_SIDE} pixels a side, got {size}")
    photo = _check_photo(base)
    pool = [_check_photo(other) for other in others]
    for _ in range(ATTEMPTS):
        clip = _compose(photo, pool, rng, num_frames, size)
        if clip.num_objects > 0:
            break
    else:
        raise InputError(
            f"no object of the photographs has {MIN_PIXELS} pixels in a frame of {size}"
        )
    if rng.random() < FLIP_PROBABILITY:
        clip = flip_clip(clip)
    if rng.random() < COLOUR_PROBABILITY:
        clip = jitter_colour(clip, rng)
    return degrade(clip, rng)


def flip_clip(clip: Clip) -> Clip:
    """Return the clip mirrored left to right."""
    return Clip(
        frames=np.ascontiguousarray(clip.frames[:, :, ::-1]),
        labels=np.ascontiguousarray(clip.labels[:, :, ::-1]),
        origin=clip.origin,
    )


def paste_clip(base: Clip, top: Clip, rng: np.random.Generator) -> Clip:
    """Paste the objects of one clip over another, frame by frame, with their exact masks.

    The upper clip is mirrored, scaled and shifted by chance, the same for all its frames. The
    objects of ``base`` come first in the new numbering; of those of ``top``, as many as fit are
    taken.

    Args:
        base: Clip below.
        top: Clip above, of the same shape.
        rng: Source of chance.

    Returns:
        A clip with at most 10 objects, each with at least 100 pixels in the first frame.

    Raises:
        ShapeError: The two differ in shape.
    """
    if base.frames.shape != top.frames.shape:
        raise ShapeError(
            f"both clips must have one shape, got {base.frames.shape} and {top.frames.shape}"
        )
    if rng.random() < FLIP_PROBABILITY:
        top = flip_clip(top)
    matrix = _draw_placement(base, top, rng)
    height, width = top.labels.shape[1:]
    num_base = base.num_objects
    chosen = rng.permutation(np.arange(1, top.num_objects + 1))[: SLOTS_PER_GROUP - num_base]
    table = np.zeros(256, np.uint8)
    table[np.sort(chosen)] = np.arange(num_base + 1, num_base + 1 + len(chosen))
    frames, labels = base.frames.copy(), base.labels.copy()
    for index in range(len(frames)):
        moved = cv2.warpAffine(
            top.frames[index], matrix, (width, height), borderMode=cv2.BORDER_REPLICATE
        )
        values = cv2.warpAffine(
            table[top.labels[index]], matrix, (width, height), flags=cv2.INTER_NEAREST
        )
        values = np.asarray(values, dtype=np.uint8)
        alpha = cv2.GaussianBlur(np.where(values > 0, OPAQUE, 0).astype(np.uint8), (3, 3), 0)
        frames[index] = blend(frames[index], np.asarray(moved, dtype=np.uint8), np.asarray(alpha))
        labels[index][values > 0] = values[values > 0]
    origin = " under ".join(part for part in (base.origin, top.origin) if part)
    return Clip(frames, keep_visible(labels), origin)


def keep_visible(labels: LabelArray) -> LabelArray:
    """Drop objects with less than 100 pixels in the first frame, and number the rest from 1.

    Args:
        labels: uint8 ``(T, H, W)``.
    """
    areas = np.bincount(labels[0].ravel(), minlength=256)
    areas[0] = 0
    values = np.flatnonzero(areas >= MIN_PIXELS)
    table = np.zeros(256, np.uint8)
    table[values] = np.arange(1, len(values) + 1)
    return table[labels]


def _check_photo(photo: Photo | tuple[FrameArray, LabelArray]) -> Photo:
    image, label_map = photo
    size = check_frame(image)
    if label_map.shape != tuple(size) or label_map.dtype != np.uint8:
        got = f"{label_map.dtype} {label_map.shape}"
        raise ShapeError(f"the label map of a photograph must be uint8 {tuple(size)}, got {got}")
    return Photo(image, label_map)


def _draw_placement(base: Clip, top: Clip, rng: np.random.Generator) -> FloatArray:
    """Draw where the upper clip goes, ``(2, 3)``: its pixel to the lower clip's.

    The objects' box of the first frame stays inside the frame. Of a few places, the first one that
    leaves at least half of every lower object in sight is taken: a sliver names no object.
    """
    height, width = top.labels.shape[1:]
    ys, xs = np.nonzero(top.labels[0])
    matrix = np.eye(2, 3)
    if len(xs) == 0:
        return matrix
    areas = np.bincount(base.labels[0].ravel(), minlength=256)
    for _ in range(PLACEMENT_TRIES):
        scale = rng.uniform(*PASTED_SCALES)
        matrix = np.diag([scale, scale, 1.0])[:2]
        for axis, (places, side) in enumerate(((xs, width), (ys, height))):
            low, high = scale * places.min(), scale * places.max()
            matrix[axis, 2] = rng.uniform(-low, max(side - 1 - high, -low))
        placed = cv2.warpAffine(top.labels[0], matrix, (width, height), flags=cv2.INTER_NEAREST)
        hidden = np.bincount(base.labels[0][np.asarray(placed) > 0], minlength=256)
        if np.all(hidden[1:] <= MAX_HIDDEN * areas[1:]):
            break
    return matrix


def _compose(
    photo: Photo,
    pool: Sequence[Photo],
    rng: np.random.Generator,
    num_frames: int,
    size: tuple[int, int],
) -> Clip:
    scene = draw_scene(photo, rng, num_frames, size)
    frames, labels = scene.render()
    for sprite, label in _draw_cast(pool, rng, scene, frames[0]):
        motion = draw_motion(sprite, scene, labels, rng, can_hide=label > 0)
        _paint_all(frames, labels, sprite, motion, label)
    num_occluders = int(rng.choice(NUM_OCCLUDERS, p=NUM_OCCLUDERS_ODDS)) if num_frames > 1 else 0
    for _ in range(num_occluders):
        occluder = _draw_sprite(pool, rng, OCCLUDER_AREAS, frames[0])
        passing = draw_passing(occluder, labels, rng) if occluder else None
        if occluder and passing:
            _paint_all(frames, labels, occluder, passing, 0)
    return Clip(frames=frames, labels=keep_visible(labels))


def _draw_cast(
    pool: Sequence[Photo], rng: np.random.Generator, scene: Scene, frame: FrameArray
) -> list[tuple[Sprite, int]]:
    """Draw the pasted objects, lowest first, with their labels; 0 is for those not tracked."""
    cast: list[tuple[Sprite, int]] = []
    next_label = scene.num_tracked + 1
    least = 1 if scene.num_tracked == 0 else 0
    for _ in range(max(least, int(rng.choice(NUM_SPRITES, p=NUM_SPRITES_ODDS)))):
        sprite = _draw_sprite(pool, rng, TRACKED_AREAS, frame)
        if sprite is None:
            continue
        is_first = next_label == 1
        is_tracked = next_label <= MAX_TRACKED and (is_first or rng.random() < TRACKED_PROBABILITY)
        if is_tracked and rng.random() < TWIN_PROBABILITY:
            cast.append((sprite, 0))
        cast.append((sprite, next_label if is_tracked else 0))
        next_label += int(is_tracked)
    return cast


def _draw_sprite(
    pool: Sequence[Photo],
    rng: np.random.Generator,
    areas: tuple[float, float],
    frame: FrameArray,
) -> Sprite | None:
    sprite = cut_out(pool[int(rng.integers(len(pool)))], rng) if pool else None
    if sprite is None:
        return None
    share = float(np.exp(rng.uniform(np.log(areas[0]), np.log(areas[1]))))
    sprite = sprite.resized(share * frame.shape[0] * frame.shape[1])
    image = match_tone(sprite.image, sprite.alpha > 0, frame, rng.uniform(0.0, MAX_TONE_MATCH))
    if rng.random() < RECOLOUR_PROBABILITY:
        image = apply_colour(image, draw_colour(rng, 1.0))
    return Sprite(image, sprite.alpha)


def _paint_all(
    frames: FrameArray, labels: LabelArray, sprite: Sprite, motion: SpriteMotion, label: int
) -> None:
    for index in range(len(frames)):
        paint(frames[index], labels[index], sprite, motion, frame_index=index, label=label)
