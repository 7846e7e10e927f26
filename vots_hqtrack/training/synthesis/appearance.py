"""Changes of colour and picture quality; the label maps stay as they are."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.training.datasets import Clip
from vots_hqtrack.types import FrameArray, MaskArray

RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
GREY_LEVEL = 128.0
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.3, 0.3, 0.4, 0.25
GREY_PROBABILITY = 0.05
MAX_GAIN = 2.0
"""Largest change of an object's contrast that still looks like light and not like paint."""
SOFT_PROBABILITY, SOFT_SIGMAS = 0.25, (0.5, 1.8)
SHAKE_PROBABILITY, MAX_BLUR_LENGTH = 0.25, 15
FRAME_PROBABILITY = 0.6
NOISE_PROBABILITY, NOISE_LEVELS = 0.3, (2.0, 9.0)
JPEG_PROBABILITY, JPEG_QUALITIES = 0.5, (30, 90)


def draw_colour(rng: np.random.Generator, strength: float) -> npt.NDArray[np.float64]:
    """Draw a change of brightness, contrast, saturation and hue.

    Args:
        rng: Source of chance.
        strength: 1 is the usual amount, 0 none.

    Returns:
        ``(3, 4)`` matrix on RGB with a constant column, for ``cv2.transform``.
    """
    brightness = 1.0 + BRIGHTNESS * strength * rng.uniform(-1.0, 1.0)
    contrast = 1.0 + CONTRAST * strength * rng.uniform(-1.0, 1.0)
    saturation = 1.0 + SATURATION * strength * rng.uniform(-1.0, 1.0)
    hue = HUE * strength * rng.uniform(-1.0, 1.0)
    turned = saturation * np.array([[np.cos(hue), -np.sin(hue)], [np.sin(hue), np.cos(hue)]])
    chroma = np.eye(3)
    chroma[1:, 1:] = turned
    mix = np.linalg.solve(RGB_TO_YIQ, chroma @ RGB_TO_YIQ) * (brightness * contrast)
    offset = np.full((3, 1), GREY_LEVEL * (1.0 - contrast))
    return np.hstack([mix, offset])


def apply_colour(frame: FrameArray, matrix: npt.NDArray[np.float64]) -> FrameArray:
    """Apply a ``(3, 4)`` colour matrix to uint8 ``(H, W, 3)``, clipping to 0..255."""
    return np.asarray(cv2.transform(frame, matrix), dtype=np.uint8)


def match_tone(image: FrameArray, mask: MaskArray, scene: FrameArray, weight: float) -> FrameArray:
    """Bring mean and contrast of an object's colours near those of the scene it is pasted into.

    Args:
        image: uint8 ``(h, w, 3)``.
        mask: bool ``(h, w)``, the object.
        scene: uint8 ``(H, W, 3)``.
        weight: 0 leaves the object as it is, 1 gives it the scene's mean and contrast.
    """
    mean, spread = (part.ravel() for part in cv2.meanStdDev(image, mask=mask.astype(np.uint8)))
    wanted_mean, wanted_spread = (part.ravel() for part in cv2.meanStdDev(scene))
    ratio = np.clip((wanted_spread + 1.0) / (spread + 1.0), 1.0 / MAX_GAIN, MAX_GAIN)
    gain = ratio**weight
    offset = mean + weight * (wanted_mean - mean) - gain * mean
    return apply_colour(image, np.hstack([np.diag(gain), offset[:, None]]))


def jitter_colour(
    clip: Clip, rng: np.random.Generator, *, strength: float = 1.0, flicker: float = 0.12
) -> Clip:
    """Change the colours of a clip, and those of each frame a little on their own.

    Args:
        clip: Clip of any size.
        rng: Source of chance.
        strength: Amount of the change that all frames share; 1 is the usual one.
        flicker: Amount of each frame's own change.
    """
    shared = np.vstack([draw_colour(rng, strength), [0.0, 0.0, 0.0, 1.0]])
    if rng.random() < GREY_PROBABILITY * strength:
        luma = np.repeat(RGB_TO_YIQ[:1], 3, axis=0)
        shared[:3] = luma @ shared[:3]
    frames = [apply_colour(frame, draw_colour(rng, flicker) @ shared) for frame in clip.frames]
    return Clip(np.stack(frames), clip.labels, clip.origin)


def degrade(clip: Clip, rng: np.random.Generator) -> Clip:
    """Give a clip, sometimes, the faults of real video: soft or shaken frames, noise, JPEG."""
    frames = [np.asarray(frame) for frame in clip.frames]
    if rng.random() < SOFT_PROBABILITY:
        frames = [
            _soften(frame, rng) if rng.random() < FRAME_PROBABILITY else frame for frame in frames
        ]
    if rng.random() < SHAKE_PROBABILITY:
        frames = [
            _shake(frame, rng) if rng.random() < FRAME_PROBABILITY else frame for frame in frames
        ]
    if rng.random() < NOISE_PROBABILITY:
        frames = _add_noise(frames, rng)
    if rng.random() < JPEG_PROBABILITY:
        quality = int(rng.integers(*JPEG_QUALITIES))
        frames = [_compress(frame, quality) for frame in frames]
    return Clip(np.stack(frames), clip.labels, clip.origin)


def _soften(frame: FrameArray, rng: np.random.Generator) -> FrameArray:
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), rng.uniform(*SOFT_SIGMAS)), dtype=np.uint8)


def _shake(frame: FrameArray, rng: np.random.Generator) -> FrameArray:
    length = int(rng.integers(3, MAX_BLUR_LENGTH + 1)) | 1
    angle = rng.uniform(0.0, np.pi)
    kernel = np.zeros((length, length), np.float32)
    middle = length // 2
    reach = middle * np.array([np.cos(angle), np.sin(angle)])
    start = (round(middle - reach[0]), round(middle - reach[1]))
    end = (round(middle + reach[0]), round(middle + reach[1]))
    cv2.line(kernel, start, end, 1.0)
    return np.asarray(cv2.filter2D(frame, -1, kernel / kernel.sum()), dtype=np.uint8)


def _add_noise(frames: list[FrameArray], rng: np.random.Generator) -> list[FrameArray]:
    # One sheet of noise is moved about: drawing a fresh one per frame costs more than all the rest.
    spread = rng.uniform(*NOISE_LEVELS)
    sheet = np.rint(spread * rng.standard_normal(frames[0].shape, dtype=np.float32))
    noisy = []
    for frame in frames:
        height, width = frame.shape[:2]
        shift = (int(rng.integers(height)), int(rng.integers(width)))
        moved = np.roll(sheet, shift, axis=(0, 1)).astype(np.int16)
        noisy.append(np.clip(frame + moved, 0, 255).astype(np.uint8))
    return noisy


def _compress(frame: FrameArray, quality: int) -> FrameArray:
    # JPEG keeps less of blue than of green, and OpenCV reads the channels as blue, green, red.
    _, data = cv2.imencode(".jpg", frame[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(np.asarray(decoded, dtype=np.uint8)[:, :, ::-1])
