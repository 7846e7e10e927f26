"""Track live: key n adds the object in the middle of the image, q ends."""

import argparse
import tkinter

from PIL import Image, ImageTk

from vots_hqtrack import HQTracker, HQTrackError
from vots_hqtrack.video.overlay import draw_overlay
from vots_hqtrack.video.reader import open_source

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("source", nargs="?", default="0", help="number of a camera, or a video")
parser.add_argument("--keys", help="a key for each frame, as n..n.q, in place of a window")
parser.add_argument("--set", action="append", default=[], help="option of the tracker")
options = parser.parse_args()
keys = list(options.keys or "")  # typed and not yet read
if options.keys is None:
    label = tkinter.Label()
    label.pack()
    label.bind_all("<Key>", lambda event: keys.append(event.char))
tracker, state = HQTracker.from_preset("lite", settings=options.set), None
for _, frame, _ in open_source(options.source):
    masks = {} if state is None else tracker.track(frame, state).masks
    if (key := keys.pop(0) if keys else "") == "q":
        break
    if key == "n":
        height, width = (side / 3 for side in frame.shape[:2])
        try:
            new = {len(masks) + 1: tracker.mask_from_box(frame, (width, height, width, height))}
            if state is None:
                state = tracker.initialize(frame, new)
            else:  # those that are tracked already keep their memory
                tracker.add_objects(frame, new, state)
        except HQTrackError as error:
            print(error)
    print({number: int(mask.sum()) for number, mask in masks.items()}, flush=True)
    if options.keys is None:
        label["image"] = image = ImageTk.PhotoImage(Image.fromarray(draw_overlay(frame, masks)))
        label.update()
