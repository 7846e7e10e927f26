"""Write a small video of two moving discs, or check the masks that were tracked in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from vots_hqtrack.masks import combine_masks
from vots_hqtrack.synthetic.discs import SyntheticVideo
from vots_hqtrack.types import Size

NUM_FRAMES = 6
MIN_IOU = 0.5


def make(video: SyntheticVideo, folder: Path) -> None:
    """Write ``frames/*.png`` and ``first.png``."""
    (folder / "frames").mkdir(parents=True)
    for index in range(NUM_FRAMES):
        Image.fromarray(video.frame(index)).save(folder / "frames" / f"{index:05d}.png")
    Image.fromarray(combine_masks(video.masks(0))).save(folder / "first.png")


def check(video: SyntheticVideo, tracked: Path) -> None:
    """Compare the masks with the truth, and exit with an error where they differ."""
    names = sorted(path.name for path in (tracked / "masks").iterdir())
    if names != [f"{index:05d}.png" for index in range(NUM_FRAMES)]:
        sys.exit(f"wanted {NUM_FRAMES} masks, found {names}")
    for index, name in enumerate(names):
        found = np.array(Image.open(tracked / "masks" / name))
        for number, truth in video.masks(index).items():
            mask = found == number
            iou = (mask & truth).sum() / (mask | truth).sum()
            sys.stdout.write(f"frame {index} object {number}: IoU {iou:.3f}\n")
            if iou < MIN_IOU:
                sys.exit(f"wanted an IoU of {MIN_IOU} at least")
    json.loads((tracked / "tracks.json").read_text(encoding="utf-8"))
    if (tracked / "overlay.mp4").stat().st_size == 0:
        sys.exit("overlay.mp4 is empty")


if __name__ == "__main__":
    action = make if sys.argv[1] == "make" else check
    action(SyntheticVideo(Size(180, 320), 2), Path(sys.argv[2]))
