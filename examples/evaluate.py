"""Measure J and F on data in DAVIS's layout: JPEGImages/480p/<video>, Annotations/480p/<video>."""

import argparse
from collections import defaultdict

import numpy as np

from vots_hqtrack import HQTracker
from vots_hqtrack.formats.registry import read_masks
from vots_hqtrack.measures import mean_measures, measure_object
from vots_hqtrack.video.reader import read_frame

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("root", help="folder of the data")
parser.add_argument("--preset", default="lite")
parser.add_argument("--set", action="append", default=[], help="option of the tracker")
options = parser.parse_args()
tracker, measures = HQTracker.from_preset(options.preset, settings=options.set), []
for video in read_masks(options.root):
    annotated = {frame.index: position for position, frame in enumerate(video.frames)}
    found, truth, state = defaultdict(list), defaultdict(list), None
    for index, path in enumerate(video.images):
        frame, is_annotated = read_frame(path), index in annotated
        masks = {} if state is None else tracker.track(frame, state).masks
        given = video.read(annotated[index]).masks if is_annotated else {}
        new = {number: mask for number, mask in given.items() if number not in masks}
        if new and state is None:
            state = tracker.initialize(frame, new)
        elif new:
            tracker.add_objects(frame, new, state)
        for number in masks.keys() | new.keys():
            found[number].append(masks.get(number))
            empty = np.zeros(video.size, bool)
            truth[number].append(given.get(number, empty) if is_annotated else None)
    for number in sorted(truth):
        measures.append(measure_object(found[number], truth[number]))
        print(video.name, number, measures[-1])
print("mean", mean_measures(measures))
