"""How pasted objects of a synthesised clip enter, move, leave and hide one another."""

from __future__ import annotations

import numpy as np

from vots_hqtrack.training.synthesis.motion import (
    ElasticMotion,
    FloatArray,
    draw_drift,
    draw_path,
    draw_step,
    fold,
)
from vots_hqtrack.training.synthesis.scene import Scene
from vots_hqtrack.training.synthesis.sprites import Sprite, SpriteMotion
from vots_hqtrack.types import LabelArray, MaskArray

LEAVE_PROBABILITY = 0.2
RETURN_PROBABILITY = 0.7
VANISH_PROBABILITY = 0.05
MAX_HIDDEN_FRAMES = 2
FOLLOW_PROBABILITY = 0.5
START_TRIES = 4
START_MARGIN = 0.08
MAX_PASSING_STEP = 0.35
SCALE_RATE, MAX_SCALE_CHANGE = 0.05, 0.4
TILT, ANGLE_RATE = 0.15, 0.08
SHEAR_RATE, MAX_SHEAR = 0.04, 0.25
MAX_BEND = 0.035
HALF_EXTENT = 0.55
"""Somewhat more than half of a sprite's longer side: so far from the edge it is out of sight."""


def draw_motion(
    sprite: Sprite,
    scene: Scene,
    labels: LabelArray,
    rng: np.random.Generator,
    *,
    can_hide: bool,
) -> SpriteMotion:
    """Draw the motion of an object on its own.

    Args:
        sprite: The object.
        scene: Camera that half of the objects follow.
        labels: ``(T, H, W)`` of what is painted already; the object starts beside it if it can.
        rng: Source of chance.
        can_hide: Whether the object may leave the frame or vanish for a while.
    """
    num_frames = len(labels)
    start = _draw_start(sprite, labels[0], rng)
    if can_hide and num_frames > 1 and rng.random() < LEAVE_PROBABILITY:
        path = _leave(start, sprite, scene, num_frames, rng)
    else:
        side = min(scene.height, scene.width)
        path = start + side * draw_path(rng, num_frames, draw_step(rng))
        if rng.random() < FOLLOW_PROBABILITY:
            path = path + scene.follow(start) - start
        sides = (scene.width, scene.height)
        path = np.stack([fold(path[:, axis], 0.0, sides[axis]) for axis in (0, 1)], axis=1)
    is_shown = np.ones(num_frames, dtype=np.bool_)
    if can_hide and num_frames > 1 and rng.random() < VANISH_PROBABILITY:
        first = int(rng.integers(1, num_frames))
        is_shown[first : first + int(rng.integers(1, MAX_HIDDEN_FRAMES + 1))] = False
    return _deform(sprite, path, is_shown, rng)


def draw_passing(
    sprite: Sprite, labels: LabelArray, rng: np.random.Generator
) -> SpriteMotion | None:
    """Draw the motion of an object that passes over a tracked one after the first frame.

    Args:
        sprite: The object that hides.
        labels: ``(T, H, W)``, T at least 2.
        rng: Source of chance.

    Returns:
        The motion, or None where no tracked object is in sight at the time.
    """
    num_frames, height, width = labels.shape
    meeting = int(rng.integers(1, num_frames))
    visible = np.unique(labels[meeting][labels[meeting] > 0])
    if len(visible) == 0:
        return None
    ys, xs = np.nonzero(labels[meeting] == rng.choice(visible))
    target = np.array([xs.mean(), ys.mean()])
    # Far enough apart in the first frame for the object to be seen there.
    reach = 0.5 * max(sprite.alpha.shape) + 0.5 * max(int(np.ptp(xs)), int(np.ptp(ys)))
    speed = min(reach / meeting, MAX_PASSING_STEP * min(height, width)) * rng.uniform(0.8, 1.2)
    heading = rng.uniform(0.0, 2.0 * np.pi)
    velocity = speed * np.array([np.cos(heading), np.sin(heading)])
    path = target + (np.arange(num_frames) - meeting)[:, None] * velocity
    return _deform(sprite, path, np.ones(num_frames, dtype=np.bool_), rng)


def _deform(
    sprite: Sprite, path: FloatArray, is_shown: MaskArray, rng: np.random.Generator
) -> SpriteMotion:
    num_frames = len(path)
    bend = rng.uniform(0.0, MAX_BEND) * min(sprite.alpha.shape)
    growth = np.clip(draw_drift(rng, num_frames, SCALE_RATE), -MAX_SCALE_CHANGE, MAX_SCALE_CHANGE)
    return SpriteMotion(
        positions=path,
        scales=np.exp(growth),
        angles=rng.normal(0.0, TILT) + draw_drift(rng, num_frames, ANGLE_RATE),
        shears=np.clip(draw_drift(rng, num_frames, SHEAR_RATE), -MAX_SHEAR, MAX_SHEAR),
        elastic=ElasticMotion.draw(rng, num_frames, bend),
        is_shown=is_shown,
    )


def _draw_start(sprite: Sprite, labels: LabelArray, rng: np.random.Generator) -> FloatArray:
    # Of a few places, the one that hides least of the tracked objects.
    height, width = labels.shape
    half_h, half_w = sprite.alpha.shape[0] // 3, sprite.alpha.shape[1] // 3
    best, least = np.array([width / 2.0, height / 2.0]), np.inf
    for _ in range(START_TRIES):
        x, y = rng.uniform(START_MARGIN, 1.0 - START_MARGIN, 2) * (width, height)
        rows = slice(max(0, int(y) - half_h), int(y) + half_h + 1)
        columns = slice(max(0, int(x) - half_w), int(x) + half_w + 1)
        covered = float(np.mean(labels[rows, columns] > 0))
        if covered < least:
            best, least = np.array([x, y]), covered
    return best


def _leave(
    start: FloatArray,
    sprite: Sprite,
    scene: Scene,
    num_frames: int,
    rng: np.random.Generator,
) -> FloatArray:
    # From beside the nearest edge straight out; in most clips also back in.
    half = HALF_EXTENT * max(sprite.alpha.shape)
    gaps = {
        (-1.0, 0.0): start[0],
        (1.0, 0.0): scene.width - start[0],
        (0.0, -1.0): start[1],
        (0.0, 1.0): scene.height - start[1],
    }
    direction, gap = min(gaps.items(), key=lambda item: item[1])
    outward = np.array(direction)
    near = min(gap, half)
    turn = int(rng.integers(1, num_frames))
    progress = np.arange(num_frames) / turn
    if rng.random() < RETURN_PROBABILITY:
        progress = 1.0 - np.abs(1.0 - progress)
    travelled = np.clip(progress, 0.0, 1.0)[:, None] * (near + half)
    return np.asarray(start + (gap - near + travelled) * outward)
