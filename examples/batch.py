"""Track all videos of a folder, several at a time: clip.png beside clip.mp4 is its first mask."""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

from vots_hqtrack import HQTracker
from vots_hqtrack.masks import split_label_map
from vots_hqtrack.summary import summarise
from vots_hqtrack.video.label_maps import read_label_map, write_label_map
from vots_hqtrack.video.reader import open_source

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path, help="folder of *.mp4, each with its *.png")
parser.add_argument("--out", type=Path, default=Path("batch"), help="new folder for the masks")
parser.add_argument("--processes", type=int, default=2)
parser.add_argument("--set", action="append", default=["runtime.threads=1"], help="option")
load = cache(HQTracker.from_preset)  # once in each process


def track(video: Path, out: Path, settings: tuple[str, ...]) -> str:
    """Track one video, and return what to look at."""
    tracker, frames, results = load(settings=settings), iter(open_source(video)), []
    first = split_label_map(read_label_map(video.with_suffix(".png")))
    state = tracker.initialize(next(frames).frame, first)
    (out / video.stem).mkdir(parents=True)  # an error where it is there already
    for named in frames:
        results.append(tracker.track(named.frame, state))
        write_label_map(out / video.stem / f"{named.name}.png", results[-1].label_map)
    return "\n".join([video.name, *summarise(results).lines()])


if __name__ == "__main__":
    options = parser.parse_args()
    work = partial(track, out=options.out, settings=tuple(options.set))
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for report in pool.map(work, sorted(options.folder.glob("*.mp4"))):
            print(report)
