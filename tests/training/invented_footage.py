"""Small invented footage: discs and boxes on grained walls, as still images and as a video."""

import numpy as np
import torch

from vots_hqtrack.synthetic.footage import Footage, Source, load_footage

HEIGHT, WIDTH = 96, 120


def make_shot(seed: int, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Two objects, a disc (1) and a box (2), that move apart slowly."""
    generator = np.random.default_rng(seed)
    wall = generator.integers(60, 120, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frames, ids = [], []
    for frame in range(num_frames):
        image, numbers = wall.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
        disc = (x - 40 + frame) ** 2 + (y - 45) ** 2 < 18**2
        box = (abs(x - 74 - frame) < 15) & (abs(y - 50) < 14)
        image[disc], numbers[disc] = (250, 30 + seed, 20), 1
        image[box], numbers[box] = (20, 40, 220 - seed), 2
        frames.append(image)
        ids.append(numbers)
    return np.stack(frames), np.stack(ids)


def open_footage() -> tuple[list[Footage], torch.Tensor]:
    sources = [
        Source(f"photo {seed}", lambda seed=seed: make_shot(seed, 1), 1.0) for seed in range(3)
    ]
    sources.append(Source("video", lambda: make_shot(9, 12), 2.0))
    return load_footage(sources, torch.device("cpu"), max_side=480, threads=2)
