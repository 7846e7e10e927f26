"""Clips for training: synthesised from photographs, or composed of real ones.

The paper pre-trains on clips made of static images (section 3.1); here the photograph becomes a scene
under a moving camera, and objects cut out of other photographs move in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.training.appearance import degrade, jitter_colour
from vots_hqtrack.training.datasets import Clip, Photo
from vots_hqtrack.training.motion import ElasticMotion, draw_drift, draw_path, draw_step, fold
from vots_hqtrack.training.scene import Scene, draw_scene
from vots_hqtrack.training.sprites import (
    OPAQUE,
    Sprite,
    SpriteMotion,
    blend,
    cut_out,
    paint,
)
from vots_hqtrack.types import SLOTS_PER_GROUP, LabelArray

__all__ = ["degrade", "flip_clip", "jitter_colour", "paste_clip", "synthesize_clip"]

MIN_PIXELS = 100
MAX_TRACKED = 5
ATTEMPTS = 6
NUM_SPRITES = (0, 1, 2, 3, 4)
NUM_SPRITES_ODDS = (0.2, 0.25, 0.25, 0.2, 0.1)
TRACKED_AREAS = (0.01, 0.2)
OCCLUDER_AREAS = (0.02, 0.12)
TWIN_PROBABILITY = 0.25
LEAVE_PROBABILITY = 0.2
VANISH_PROBABILITY = 0.05


@dataclass(frozen=True, slots=True)
class _Cast:
    """The pasted objects of a clip, lowest first: tracked ones have a label above 0."""

    sprites: list[Sprite]
    labels: list[int]


def synthesize_clip(
    base: Photo | tuple[np.ndarray, np.ndarray],
    others: Sequence[Photo | tuple[np.ndarray, np.ndarray]],
    rng: np.random.Generator,
    *,
    num_frames: int,
    size: tuple[int, int],
) -> Clip:
    """Make a clip of one photograph, seen by a moving camera, with objects of others moving in it.

    Some instances of the photograph and some pasted objects are tracked; the rest belongs to the
    background and acts as distractors and occluders. Objects may be hidden, leave and come back. Every
    tracked object has at least 100 pixels in the first frame. The clip depends on the arguments alone.

    Args:
        base: Photograph uint8 ``(H, W, 3)`` RGB with its label map uint8 ``(H, W)``.
        others: The same, from which objects are cut; may be empty.
        rng: Source of chance.
        num_frames: ``T``, at least 1.
        size: Height and width of the clip in pixels.

    Raises:
        InputError: No object of any photograph is large enough.
    """
    if num_frames < 1:
        raise InputError(f"a clip needs at least 1 frame, got {num_frames}")
    photo = Photo(*base)
    pool = [Photo(*other) for other in others]
    for _ in range(ATTEMPTS):
        clip = _compose(photo, pool, rng, num_frames, size)
        if clip.num_objects > 0:
            break
    else:
        raise InputError(
            f"no object of the photographs has {MIN_PIXELS} pixels in a frame of {size}"
        )
    if rng.random() < 0.5:
        clip = flip_clip(clip)
    if rng.random() < 0.8:
        clip = jitter_colour(clip, rng)
    return degrade(clip, rng)


def flip_clip(clip: Clip) -> Clip:
    """Return the clip mirrored left to right."""
    return Clip(
        frames=np.ascontiguousarray(clip.frames[:, :, ::-1]),
        labels=np.ascontiguousarray(clip.labels[:, :, ::-1]),
    )


def paste_clip(base: Clip, top: Clip, rng: np.random.Generator) -> Clip:
    """Paste the objects of one clip over another, frame by frame, with their exact masks.

    The upper clip is mirrored, scaled and shifted by chance, the same for all its frames. The objects of
    ``base`` come first in the new numbering; of those of ``top``, as many as fit are taken.

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
    if rng.random() < 0.5:
        top = flip_clip(top)
    matrix = _draw_placement(top, rng)
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
    return Clip(frames=frames, labels=keep_visible(labels))


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


def _draw_placement(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    # The objects' box of the first frame stays inside the frame, so that they can be pasted whole.
    height, width = clip.labels.shape[1:]
    scale = rng.uniform(0.6, 1.0)
    ys, xs = np.nonzero(clip.labels[0])
    if len(xs) == 0:
        return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    shift = []
    for low, high, side in ((xs.min(), xs.max(), width), (ys.min(), ys.max(), height)):
        shift.append(rng.uniform(-scale * low, max(side - 1 - scale * high, -scale * low)))
    return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])


def _compose(
    photo: Photo,
    pool: Sequence[Photo],
    rng: np.random.Generator,
    num_frames: int,
    size: tuple[int, int],
) -> Clip:
    scene = draw_scene(photo, rng, num_frames, size)
    frames, labels = scene.render()
    cast = _draw_cast(pool, rng, scene)
    for sprite, label in zip(cast.sprites, cast.labels, strict=True):
        motion = _draw_motion(sprite, scene, labels, rng, can_leave=label > 0)
        for index in range(num_frames):
            paint(frames[index], labels[index], sprite, motion, frame_index=index, label=label)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))):
        _add_occluder(pool, rng, frames, labels)
    return Clip(frames=frames, labels=keep_visible(labels))


def _draw_cast(pool: Sequence[Photo], rng: np.random.Generator, scene: Scene) -> _Cast:
    cast = _Cast([], [])
    if not pool:
        return cast
    count = int(rng.choice(NUM_SPRITES, p=NUM_SPRITES_ODDS))
    if scene.num_tracked == 0:
        count = max(1, count)
    next_label = scene.num_tracked + 1
    for _ in range(count):
        sprite = cut_out(pool[int(rng.integers(len(pool)))], rng)
        if sprite is None:
            continue
        sprite = sprite.resized(_draw_area(rng, TRACKED_AREAS) * scene.height * scene.width)
        is_tracked = next_label <= MAX_TRACKED and (rng.random() < 0.7 or next_label == 1)
        if is_tracked and rng.random() < TWIN_PROBABILITY:
            cast.sprites.append(sprite)
            cast.labels.append(0)
        cast.sprites.append(sprite)
        cast.labels.append(next_label if is_tracked else 0)
        next_label += int(is_tracked)
    return cast


def _draw_area(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1]))))


def _draw_motion(
    sprite: Sprite,
    scene: Scene,
    labels: LabelArray,
    rng: np.random.Generator,
    *,
    can_leave: bool,
) -> SpriteMotion:
    num_frames = len(labels)
    side = min(scene.height, scene.width)
    leaves = can_leave and num_frames > 1 and rng.random() < LEAVE_PROBABILITY
    start = _draw_start(sprite, labels[0], rng)
    path = start + side * draw_path(rng, num_frames, draw_step(rng))
    if leaves:
        path = _leave(start, sprite, scene, num_frames, rng)
    elif rng.random() < 0.5:
        path = path + scene.follow(start) - start
    if not leaves:
        path[:, 0] = fold(path[:, 0], 0.0, scene.width)
        path[:, 1] = fold(path[:, 1], 0.0, scene.height)
    return _deform(sprite, path, rng, vanishes=can_leave and rng.random() < VANISH_PROBABILITY)


def _deform(
    sprite: Sprite, path: np.ndarray, rng: np.random.Generator, *, vanishes: bool
) -> SpriteMotion:
    num_frames = len(path)
    is_shown = np.ones(num_frames, dtype=np.bool_)
    if vanishes and num_frames > 1:
        first = int(rng.integers(1, num_frames))
        is_shown[first : first + int(rng.integers(1, 3))] = False
    amplitude = rng.uniform(0.0, 0.035) * min(sprite.alpha.shape)
    return SpriteMotion(
        positions=path,
        scales=np.exp(np.clip(draw_drift(rng, num_frames, 0.05), -0.4, 0.4)),
        angles=rng.normal(0.0, 0.15) + draw_drift(rng, num_frames, 0.08),
        shears=np.clip(draw_drift(rng, num_frames, 0.04), -0.25, 0.25),
        elastic=ElasticMotion.draw(rng, num_frames, amplitude),
        is_shown=is_shown,
    )


def _draw_start(sprite: Sprite, labels: LabelArray, rng: np.random.Generator) -> np.ndarray:
    # Of a few places, the one that hides least of the tracked objects.
    height, width = labels.shape
    half_h, half_w = sprite.alpha.shape[0] // 3, sprite.alpha.shape[1] // 3
    best, least = np.array([width / 2.0, height / 2.0]), np.inf
    for _ in range(4):
        x, y = rng.uniform(0.08, 0.92) * width, rng.uniform(0.08, 0.92) * height
        rows = slice(max(0, int(y) - half_h), int(y) + half_h + 1)
        columns = slice(max(0, int(x) - half_w), int(x) + half_w + 1)
        covered = float(np.mean(labels[rows, columns] > 0))
        if covered < least:
            best, least = np.array([x, y]), covered
    return best


def _leave(
    start: np.ndarray,
    sprite: Sprite,
    scene: Scene,
    num_frames: int,
    rng: np.random.Generator,
) -> np.ndarray:
    # Straight out over the nearest edge; in most clips also back in.
    x, y = start
    half = 0.55 * max(sprite.alpha.shape)
    gaps = {
        (-1.0, 0.0): x,
        (1.0, 0.0): scene.width - x,
        (0.0, -1.0): y,
        (0.0, 1.0): scene.height - y,
    }
    direction, gap = min(gaps.items(), key=lambda item: item[1])
    turn = int(rng.integers(1, num_frames))
    progress = np.arange(num_frames) / turn
    returns = rng.random() < 0.7
    progress = 1.0 - np.abs(1.0 - progress) if returns else np.minimum(progress, 1.0)
    progress = np.clip(progress, 0.0, 1.0)
    return np.asarray(start + progress[:, None] * (gap + half) * np.array(direction))


def _add_occluder(
    pool: Sequence[Photo],
    rng: np.random.Generator,
    frames: np.ndarray,
    labels: LabelArray,
) -> None:
    num_frames, height, width = labels.shape
    sprite = cut_out(pool[int(rng.integers(len(pool)))], rng) if pool else None
    if sprite is None or num_frames < 2:
        return
    sprite = sprite.resized(_draw_area(rng, OCCLUDER_AREAS) * height * width)
    meeting = int(rng.integers(1, num_frames))
    visible = np.unique(labels[meeting][labels[meeting] > 0])
    if len(visible) == 0:
        return
    ys, xs = np.nonzero(labels[meeting] == rng.choice(visible))
    target = np.array([xs.mean(), ys.mean()])
    # Far enough apart in the first frame for the object to be seen there.
    reach = 0.5 * max(sprite.alpha.shape) + 0.5 * max(np.ptp(xs), np.ptp(ys))
    heading = rng.uniform(0.0, 2.0 * np.pi)
    speed = min(reach / meeting, 0.35 * min(height, width)) * rng.uniform(0.8, 1.2)
    velocity = speed * np.array([np.cos(heading), np.sin(heading)])
    path = target + (np.arange(num_frames) - meeting)[:, None] * velocity
    motion = _deform(sprite, path, rng, vanishes=False)
    for index in range(num_frames):
        paint(frames[index], labels[index], sprite, motion, frame_index=index, label=0)
