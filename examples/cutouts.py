"""Cut the object in a box out of a video: a PNG with transparent background for each frame."""

import argparse
from pathlib import Path

from PIL import Image

from vots_hqtrack import HQTracker
from vots_hqtrack.video.cutout import cut_out
from vots_hqtrack.video.reader import open_source

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("video", help="video file, or folder of frames")
parser.add_argument("--box", required=True, help="x,y,width,height on the first frame")
parser.add_argument("--out", type=Path, default=Path("cutouts"), help="new folder")
parser.add_argument("--set", action="append", default=[], help="option of the tracker")


def main() -> None:
    """Track the object, and write its pixels."""
    options = parser.parse_args()
    options.out.mkdir(parents=True)  # a folder that is there already is an error
    tracker = HQTracker.from_preset("lite", settings=options.set)
    x, y, width, height = map(float, options.box.split(","))
    state = None
    for name, frame, _ in open_source(options.video):
        if state is None:
            masks = {1: tracker.mask_from_box(frame, (x, y, width, height))}
            state = tracker.initialize(frame, masks)
        else:
            masks = tracker.track(frame, state).masks
        Image.fromarray(cut_out(frame, masks)).save(options.out / f"{name}.png")


if __name__ == "__main__":
    main()
