"""Rendering of the demo's scenes, with the exact mask of the visible part of every object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.demo.images import FloatImage, cut_out, make_background
from vots_hqtrack.demo.scenes import Pose, Scene, SceneLayer
from vots_hqtrack.synthetic.video_clips import visible_masks
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
    """A frame and its ground truth.

    Attributes:
        frame: uint8 ``(H, W, 3)`` RGB.
        masks: Bool ``(H, W)`` of the visible part of every tracked object.
    """

    frame: FrameArray
    masks: dict[ObjectId, MaskArray]


def render(
    scene: Scene, *, num_frames: int = NUM_FRAMES, size: Size = FRAME_SIZE, seed: int = 0
) -> Iterator[RenderedFrame]:
    """Render a scene.

    Args:
        scene: The scene.
        num_frames: Number of frames, at least 2.
        size: Size of the frames; another than the default shows more or less of the scene.
        seed: Seed of the small differences of paths, hand shake and noise.

    Yields:
        The frames in order; the same arguments give the same frames.
    """
    random = np.random.default_rng([seed, *scene.name.encode()])
    background = make_background(scene.image, scale=scene.scale, tint=scene.tint)
    paths = [_jitter(layer.poses, random) for layer in scene.layers]
    cutouts = [
        cut_out(layer.outline, max(pose.size for pose in layer.poses)) for layer in scene.layers
    ]
    shake = _smooth_noise(random, num_frames, HAND_SHAKE_PX)
    for index in range(num_frames):
        time = index / max(num_frames - 1, 1)
        to_frame = _camera_matrix(pose_at(scene.camera, time), shake[index], size)
        output = _warp(background, to_frame, size)
        covered: list[MaskArray] = []
        for layer, path, cutout in zip(scene.layers, paths, cutouts, strict=True):
            matrix = to_frame @ _layer_matrix(layer, pose_at(path, time), cutout.shape)
            warped = _warp(cutout, matrix, size)
            output = _paste(output, warped, shadow=layer.shadow)
            covered.append(warped[..., 3] >= 0.5)
        visible = zip(scene.layers, visible_masks(covered), strict=True)
        masks = {layer.object_id: mask for layer, mask in visible if layer.object_id is not None}
        gain = 1 + scene.light * np.sin(2 * np.pi * (time + 0.2))
        noise = random.normal(0, NOISE, (*size, 3))
        frame = np.clip(np.round(output * gain + noise), 0, 255).astype(np.uint8)
        yield RenderedFrame(frame, dict(sorted(masks.items())))


def pose_at(poses: Sequence[Pose], time: float) -> Pose:
    """Interpolate a smooth path.

    Args:
        poses: At least two, by ascending time.
        time: 0..1.

    Example:
        >>> pose_at([Pose(0, 0, 0, 10), Pose(0.5, 10, 5, 10), Pose(1, 20, 10, 10)], 0.25)
        Pose(time=0.25, x=5.0, y=2.5, size=10.0, angle=0.0)
    """
    times, values = np.array(poses)[:, 0], np.array(poses)[:, 1:]
    # Cubic Hermite: the speed at a pose is that between its neighbours.
    speeds = np.gradient(values, times, axis=0)
    index = int(np.clip(np.searchsorted(times, time, side="right") - 1, 0, len(times) - 2))
    span = times[index + 1] - times[index]
    u = (time - times[index]) / span
    value = (1 + 2 * u) * (1 - u) ** 2 * values[index]
    value = value + u * (1 - u) ** 2 * span * speeds[index]
    value = value + u**2 * (3 - 2 * u) * values[index + 1]
    value = value + u**2 * (u - 1) * span * speeds[index + 1]
    return Pose(time, *value.tolist())


def _jitter(poses: Sequence[Pose], random: np.random.Generator) -> list[Pose]:
    shifts = random.normal(0, POSE_JITTER_PX, (len(poses), 2))
    pairs = zip(poses, shifts, strict=True)
    return [pose._replace(x=pose.x + dx, y=pose.y + dy) for pose, (dx, dy) in pairs]


def _smooth_noise(random: np.random.Generator, count: int, strength: float) -> Matrix:
    """Sample ``(count, 2)`` shifts that change slowly from frame to frame."""
    kernel = np.hanning(9)[1:-1]
    raw = random.normal(0, strength, (count + len(kernel) - 1, 2))
    columns = [
        np.convolve(raw[:, axis], kernel / np.linalg.norm(kernel), "valid") for axis in (0, 1)
    ]
    return np.stack(columns, axis=1)


def _camera_matrix(pose: Pose, shake: Matrix, size: Size) -> Matrix:
    """Map pixels of the background to the frame."""
    middle = (size.width / 2 + shake[0], size.height / 2 + shake[1])
    return _shift(*middle) @ _rotate(-pose.angle) @ _scale(pose.size) @ _shift(-pose.x, -pose.y)


def _layer_matrix(layer: SceneLayer, pose: Pose, shape: tuple[int, ...]) -> Matrix:
    """Map pixels of a cut-out to the background."""
    shear = np.eye(3)
    shear[0, 1] = layer.shear * np.sin(2 * np.pi * 2 * pose.time)
    scale = _scale(pose.size / max(shape[:2]))
    centre = _shift(-shape[1] / 2, -shape[0] / 2)
    return _shift(pose.x, pose.y) @ _rotate(pose.angle) @ scale @ shear @ centre


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=np.float64)


def _scale(factor: float) -> Matrix:
    return np.diag([factor, factor, 1.0])


def _rotate(degrees: float) -> Matrix:
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], dtype=np.float64)


def _warp(image: npt.NDArray[Any], matrix: Matrix, size: Size) -> FloatImage:
    # OpenCV counts from pixel centres, the matrices from the image's outer corner.
    centred = _shift(-0.5, -0.5) @ matrix @ _shift(0.5, 0.5)
    warped = cv2.warpAffine(image, centred[:2], (size.width, size.height), flags=cv2.INTER_LINEAR)
    return warped.astype(np.float32)


def _paste(below: FloatImage, layer: FloatImage, *, shadow: float) -> FloatImage:
    """Paste a layer, RGB multiplied by alpha and alpha, and the shadow below it."""
    alpha = layer[..., 3]
    if shadow > 0:
        moved = cv2.warpAffine(alpha, _shift(*SHADOW_SHIFT_PX)[:2], alpha.shape[::-1])
        blurred = cv2.GaussianBlur(moved, (0, 0), SHADOW_BLUR_PX)
        below = below * (1 - shadow * blurred[..., None])
    return below * (1 - alpha[..., None]) + layer[..., :3]
