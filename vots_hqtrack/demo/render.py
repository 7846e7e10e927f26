"""Scenes drawn frame by frame, with the exact mask of what is seen of every tracked object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.demo.scenes import Actor, Pose, Scene
from vots_hqtrack.demo.sprites import FloatImage, Sprite, cut_sprite, make_backdrop
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId, Size

FRAME_SIZE = Size(360, 640)
NUM_FRAMES = 45
FPS = 15.0

HAND_SHAKE_PX = 1.5
POSE_JITTER_PX = 4.0
NOISE = 2.0
SHADOW_BLUR_PX = 7.0
SHADOW_SHIFT_PX = (8.0, 12.0)

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RenderedFrame:
    """A frame and its truth.

    Attributes:
        frame: uint8 ``(H, W, 3)`` RGB.
        masks: Bool ``(H, W)`` of the visible part of every tracked object.
    """

    frame: FrameArray
    masks: dict[ObjectId, MaskArray]


def render(
    scene: Scene, *, num_frames: int = NUM_FRAMES, size: Size = FRAME_SIZE, seed: int = 0
) -> Iterator[RenderedFrame]:
    """Draw a scene.

    Args:
        scene: What is seen.
        num_frames: Frames to draw, at least 2.
        size: Size of the frames; another than the default shows more or less of the scene.
        seed: Chooses the small differences of ways, hand shake and noise.

    Yields:
        The frames in order; the same arguments give the same ones.
    """
    random = np.random.default_rng([seed, *scene.name.encode()])
    backdrop = make_backdrop(scene.picture, scale=scene.scale, tint=scene.tint)
    ways = [_jitter(actor.poses, random) for actor in scene.actors]
    sprites = [cut_sprite(actor.sprite, max(p.size for p in actor.poses)) for actor in scene.actors]
    shake = _smooth_noise(random, num_frames, HAND_SHAKE_PX)
    for place in range(num_frames):
        time = place / max(num_frames - 1, 1)
        to_frame = _camera_matrix(pose_at(scene.camera, time), shake[place], size)
        canvas = _warp(backdrop, to_frame, size)
        masks: dict[ObjectId, MaskArray] = {}
        for actor, way, sprite in zip(scene.actors, ways, sprites, strict=True):
            matrix = to_frame @ _sprite_matrix(actor, pose_at(way, time), sprite)
            layer = _warp(sprite.pixels, matrix, size)
            canvas = _draw(canvas, layer, shadow=actor.shadow)
            covered = layer[..., 3] >= 0.5
            masks = {object_id: mask & ~covered for object_id, mask in masks.items()}
            if actor.object_id is not None:
                masks[actor.object_id] = covered
        gain = 1 + scene.light * np.sin(2 * np.pi * (time + 0.2))
        noise = random.normal(0, NOISE, (*size, 3))
        frame = np.clip(np.round(canvas * gain + noise), 0, 255).astype(np.uint8)
        yield RenderedFrame(frame, dict(sorted(masks.items())))


def pose_at(poses: Sequence[Pose], time: float) -> Pose:
    """Return where something is at a time, on a smooth way through its poses.

    Args:
        poses: At least two, by ascending time.
        time: 0..1.

    Example:
        >>> pose_at([Pose(0, 0, 0, 10), Pose(0.5, 10, 5, 10), Pose(1, 20, 10, 10)], 0.25)
        Pose(time=0.25, x=5.0, y=2.5, size=10.0, angle=0.0)
    """
    times = np.array([pose.time for pose in poses])
    values = np.array([(pose.x, pose.y, pose.size, pose.angle) for pose in poses])
    # Cubic Hermite: the speed at a pose is that between its neighbours.
    speeds = np.gradient(values, times, axis=0)
    place = int(np.clip(np.searchsorted(times, time, side="right") - 1, 0, len(times) - 2))
    span = times[place + 1] - times[place]
    u = (time - times[place]) / span
    weights = (
        (1 + 2 * u) * (1 - u) ** 2,
        u * (1 - u) ** 2 * span,
        u**2 * (3 - 2 * u),
        u**2 * (u - 1) * span,
    )
    parts = (values[place], speeds[place], values[place + 1], speeds[place + 1])
    x, y, size, angle = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    return Pose(time, float(x), float(y), float(size), float(angle))


def _jitter(poses: Sequence[Pose], random: np.random.Generator) -> list[Pose]:
    shifts = random.normal(0, POSE_JITTER_PX, (len(poses), 2))
    return [
        Pose(pose.time, pose.x + dx, pose.y + dy, pose.size, pose.angle)
        for pose, (dx, dy) in zip(poses, shifts, strict=True)
    ]


def _smooth_noise(random: np.random.Generator, count: int, strength: float) -> Matrix:
    """Draw ``(count, 2)`` shifts that change slowly from frame to frame."""
    kernel = np.hanning(9)[1:-1]
    raw = random.normal(0, strength, (count + len(kernel) - 1, 2))
    columns = [
        np.convolve(raw[:, axis], kernel / np.linalg.norm(kernel), "valid") for axis in (0, 1)
    ]
    return np.stack(columns, axis=1)


def _camera_matrix(pose: Pose, shake: Matrix, size: Size) -> Matrix:
    """Map pixels of the background to the frame."""
    middle = (size.width / 2 + shake[0], size.height / 2 + shake[1])
    return _shift(*middle) @ _turn(-pose.angle) @ _scale(pose.size) @ _shift(-pose.x, -pose.y)


def _sprite_matrix(actor: Actor, pose: Pose, sprite: Sprite) -> Matrix:
    """Map pixels of a sprite to the background."""
    lean = np.eye(3)
    lean[0, 1] = actor.sway * np.sin(2 * np.pi * 2 * pose.time)
    scale = _scale(pose.size / max(sprite.width, sprite.height))
    centre = _shift(-sprite.width / 2, -sprite.height / 2)
    return _shift(pose.x, pose.y) @ _turn(pose.angle) @ scale @ lean @ centre


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=np.float64)


def _scale(factor: float) -> Matrix:
    return np.diag([factor, factor, 1.0])


def _turn(degrees: float) -> Matrix:
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], dtype=np.float64)


def _warp(layer: npt.NDArray[Any], matrix: Matrix, size: Size) -> FloatImage:
    # OpenCV counts from pixel centres, the matrices from the picture's outer corner.
    centred = _shift(-0.5, -0.5) @ matrix @ _shift(0.5, 0.5)
    width_height = (size.width, size.height)
    warped = cv2.warpAffine(layer, centred[:2], width_height, flags=cv2.INTER_LINEAR)
    return warped.astype(np.float32)


def _draw(canvas: FloatImage, layer: FloatImage, *, shadow: float) -> FloatImage:
    alpha = layer[..., 3]
    if shadow > 0:
        moved = cv2.warpAffine(alpha, _shift(*SHADOW_SHIFT_PX)[:2], alpha.shape[::-1])
        cast = cv2.GaussianBlur(moved, (0, 0), SHADOW_BLUR_PX)
        canvas = canvas * (1 - shadow * cast[..., None])
    return canvas * (1 - alpha[..., None]) + layer[..., :3]
