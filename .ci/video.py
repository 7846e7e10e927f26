"""Make a small video of two moving discs, or check the masks that were tracked in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH, FRAMES = 180, 320, 6
COLOURS = {1: (40, 60, 220), 2: (220, 180, 30)}
LOWEST_IOU = 0.5


def label_map(index: int) -> np.ndarray:
    """Where the discs are in a frame: value = object id."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(labels, (80 + 6 * index, 60), 26, 1, cv2.FILLED)
    cv2.circle(labels, (230 - 5 * index, 120), 30, 2, cv2.FILLED)
    return labels


def make(folder: Path) -> None:
    """Write ``frames/*.png`` and ``first.png``."""
    (folder / "frames").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(90, 150, (HEIGHT // 10, WIDTH // 10, 3), np.uint8)
    background = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for index in range(FRAMES):
        labels, frame = label_map(index), background.copy()
        for number, colour in COLOURS.items():
            frame[labels == number] = colour
        cv2.imwrite(str(folder / "frames" / f"{index:05d}.png"), frame)
    cv2.imwrite(str(folder / "first.png"), label_map(0))


def check(tracked: Path) -> None:
    """Compare the masks with the truth; the exit code tells."""
    names = sorted(path.name for path in (tracked / "masks").iterdir())
    if names != [f"{index:05d}.png" for index in range(FRAMES)]:
        sys.exit(f"wanted {FRAMES} masks, found {names}")
    for index, name in enumerate(names):
        found, truth = read_indices(tracked / "masks" / name), label_map(index)
        for number in COLOURS:
            mine, true = found == number, truth == number
            iou = (mine & true).sum() / (mine | true).sum()
            sys.stdout.write(f"frame {index} object {number}: IoU {iou:.3f}\n")
            if iou < LOWEST_IOU:
                sys.exit(f"wanted an IoU of {LOWEST_IOU} at least")
    json.loads((tracked / "tracks.json").read_text(encoding="utf-8"))
    if (tracked / "overlay.mp4").stat().st_size == 0:
        sys.exit("overlay.mp4 is empty")


def read_indices(path: Path) -> np.ndarray:
    """Read the indices of a palette picture, not its colours."""
    from PIL import Image

    return np.array(Image.open(path))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        check(Path(sys.argv[3]))
