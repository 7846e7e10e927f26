"""Count tracked objects in the left half of a video, by supervision's zones."""

import argparse

import numpy as np
import supervision as sv

from vots_hqtrack import HQTracker
from vots_hqtrack.masks import split_label_map
from vots_hqtrack.video.label_maps import read_label_map
from vots_hqtrack.video.reader import open_source

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("video", help="video file, or folder of frames")
parser.add_argument("--mask", required=True, help="mask image of the first frame")
parser.add_argument("--set", action="append", default=[], help="option of the tracker")
options = parser.parse_args()
tracker, state = HQTracker.from_preset("lite", settings=options.set), None
for name, frame, _ in open_source(options.video):
    if state is None:
        state = tracker.initialize(frame, split_label_map(read_label_map(options.mask)))
        height, width = frame.shape[:2]
        corners = np.array([(0, 0), (width // 2, 0), (width // 2, height), (0, height)])
        zone = sv.PolygonZone(corners, triggering_anchors=[sv.Position.CENTER])
        continue
    found = tracker.track(frame, state).to_supervision()
    is_inside = zone.trigger(found)
    ids = [] if found.tracker_id is None else found.tracker_id[is_inside].tolist()
    print(f"frame {name}: {zone.current_count} inside, objects {ids}")
