"""A small video of two textured discs that move apart and back over a textured wall."""

from __future__ import annotations

import cv2
import numpy as np

from vots_hqtrack.types import FrameArray, MaskArray

SIZE = (96, 256)
RADIUS = 15


def texture(seed: int, height: int, width: int, colour: tuple[int, int, int]) -> FrameArray:
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), 2) * 60
    return np.clip(noise[..., None] + np.array(colour), 0, 255).astype(np.uint8)


def draw_video(
    num_frames: int, seed: int = 0, hidden: tuple[int, ...] = ()
) -> list[tuple[FrameArray, dict[int, MaskArray]]]:
    """Two textured discs that move apart and back over a textured wall; disc 2 may be hidden."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    wall = texture(seed, *SIZE, (90, 110, 90))
    colours = {1: (210, 70, 60), 2: (60, 90, 220)}
    frames = []
    for index in range(num_frames):
        frame, masks = wall.copy(), {}
        for number, (x, y) in {1: (60 + 5 * index, 40), 2: (190 - 5 * index, 60)}.items():
            mask = (rows - y) ** 2 + (columns - x) ** 2 < RADIUS**2
            if number == 2 and index in hidden:
                mask = np.zeros(SIZE, bool)
            cloth = texture(seed + number, *SIZE, colours[number])
            frame[mask] = np.roll(cloth, 5 * index, axis=1)[mask]
            masks[number] = mask
        frames.append((frame, masks))
    return frames
