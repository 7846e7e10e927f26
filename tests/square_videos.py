"""Small videos of one object each, in DAVIS's layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 60, 100


def colour_of(video: int) -> tuple[int, int, int]:
    """Colour of a video's object; its background has a tenth of it."""
    return ((250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10), (10, 250, 250))[video % 5]


def write_videos(
    root: Path, count: int = 5, num_frames: int = 8, *, empty: tuple[int, ...] = ()
) -> Path:
    """Write videos in each of which a bright square wanders; it is gone in the ``empty`` frames."""
    for video in range(count):
        for place in range(num_frames):
            mask = np.zeros((HEIGHT, WIDTH), bool)
            if place not in empty:
                left = 10 + 4 * place + 3 * video
                mask[20:40, left : left + 16 + video] = True
            colour = np.array(colour_of(video))
            frame = np.where(mask[..., None], colour, colour // 10).astype(np.uint8)
            folder = root / "JPEGImages" / "480p" / f"v{video}"
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{place:05d}.png"), frame[:, :, ::-1])
            folder = root / "Annotations" / "480p" / f"v{video}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(folder / f"{place:05d}.png")
    return root
