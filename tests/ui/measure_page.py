"""Measure the page in a real browser: time from a click to the mask, memory over a long run.

``make page PAGE_ARGS=clicks`` prints the time from the press of the mouse button to the image with
the mask, by the page's own clock; ``memory`` tracks a long video and prints the memory of server
and browser; ``--help`` lists the options.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from served_page import WAIT_MS, Page, serve, start_browser
from two_discs import draw_video

TINY = ["frame.long_edge=256", "frame.min_short_edge=16", "refiner.enabled=false"]
_CLOCK = """() => {
    const image = document.querySelector(".frame img");
    const revision = () => Number(new URL(image.src).searchParams.get("at"));
    window.addEventListener("mousedown", () => {
        window.click = {start: performance.now(), before: revision(), first: null, last: null};
    }, true);
    image.addEventListener("load", () => {
        const click = window.click;
        if (!click || revision() <= click.before) return;
        click.last = performance.now();
        click.first ??= click.last;
    });
}"""
"""A click ends with an image of a later revision: the first with a preview or the mask, the last
with the mask."""
REST_MS = 4000
"""For so long the user looks at a frame before he clicks it; the frame is encoded meanwhile."""


def measure_clicks(frames: Path | None, clicks: int, settings: Sequence[str]) -> None:
    """Click on the first frame, then on new ones; print the medians in a Markdown table.

    Args:
        frames: Folder of frames; None makes some.
        clicks: Number of new frames.
        settings: Options of the tracker.
    """
    with tempfile.TemporaryDirectory() as folder:
        size, num_frames = _copy_frames(frames, Path(folder, "clip"), clicks + 1)
        with serve(Path(folder), "clip", settings) as server, start_browser() as browser:
            page = Page.open(browser, server, size, num_frames - 1)
            page.tab.evaluate(_CLOCK)
            place = (size[1] * 0.5, size[0] * 0.5)
            new, rested, encoded = [], [], []
            for index in range(num_frames):
                page.go_to(index)
                is_rested = index % 2 == 0
                if is_rested:
                    page.tab.wait_for_timeout(REST_MS)
                (rested if is_rested else new).append(_click(page, place))
                encoded += [_click(page, (place[0] + 4 * step, place[1])) for step in (1, 2)]
            assert not page.errors, page.errors
    _say(f"{size[1]} x {size[0]}, {num_frames - 1} frames, the first left out\n")
    _say("| click on | first mask, s | longest | final mask, s | longest |\n|---|---|---|---|---|")
    rows = {
        "a frame that was clicked before": encoded[2:],
        f"a new frame, looked at for {REST_MS / 1000:.0f} s": rested[1:],
        "a new frame, at once": new,
    }
    for label, found in rows.items():
        first, last = zip(*found, strict=True)
        numbers = [
            value for part in (first, last) for value in (statistics.median(part), max(part))
        ]
        _say(f"| {label} | {' | '.join(f'{value:.2f}' for value in numbers)} |")


def _click(page: Page, point: tuple[float, float]) -> tuple[float, float]:
    """Click; return the seconds to the first image that shows a mask, and to the final one."""
    number = page.server.num_edits()
    page.tab.mouse.click(*page.point(*point))
    deadline = time.monotonic() + WAIT_MS / 1000
    while page.server.num_edits() == number:
        if time.monotonic() > deadline:
            raise TimeoutError("no mask came after the click")
        page.tab.wait_for_timeout(50)
    page.tab.wait_for_timeout(600)  # until the last image is loaded
    click = page.tab.evaluate("window.click")
    return (click["first"] - click["start"]) / 1000, (click["last"] - click["start"]) / 1000


def measure_memory(num_frames: int, step: int, settings: Sequence[str]) -> None:
    """Track a long video of small frames; print resident memory of server and browser."""
    with tempfile.TemporaryDirectory() as folder:
        size = _write_long_video(Path(folder, "long.mp4"), num_frames)
        started = time.perf_counter()
        with serve(Path(folder), "long.mp4", settings) as server, start_browser() as browser:
            page = Page.open(browser, server, size, num_frames - 1)
            _say(f"{num_frames} frames open after {time.perf_counter() - started:.1f} s")
            page.tool("brush")
            page.drag((120, 80), (124, 84))
            page.wait_until_given()
            page.run("Track forward")
            _say("| frame | server, MiB | tab's scripts, MiB |\n|---|---|---|")
            for frame in range(step, num_frames, step):
                while frame not in server.known_frames():
                    page.tab.wait_for_timeout(200)
                heap = page.tab.evaluate("performance.memory.usedJSHeapSize") / 2**20
                _say(f"| {frame} | {_resident(server.process.pid):.0f} | {heap:.0f} |")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _resident(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return float(status.split("VmRSS:")[1].split()[0]) / 1024


def _copy_frames(frames: Path | None, folder: Path, count: int) -> tuple[tuple[int, int], int]:
    """Write the first frames of a folder, or noise of 854 x 480; return their size and number."""
    folder.mkdir()
    paths = [] if frames is None else sorted(frames.iterdir())[:count]
    noise = np.random.default_rng(0).integers(0, 255, (60, 107, 3), dtype=np.uint8)
    images: list[Any] = [cv2.imread(str(path)) for path in paths]
    images = images or [
        np.roll(cv2.resize(noise, (854, 480)), 8 * index, axis=1) for index in range(count)
    ]
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index:05d}.jpg"), image)
    return images[0].shape[:2], len(images)


def _write_long_video(path: Path, num_frames: int) -> tuple[int, int]:
    """Write a video whose frames fill the session's cache of frames after some 900."""
    drawn = [cv2.resize(frame, None, fx=2, fy=2) for frame, _ in draw_video(16)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = drawn[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(drawn[abs(index % 30 - 15)], format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return drawn[0].shape[:2]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["clicks", "memory"])
    parser.add_argument("--source", type=Path, help="folder of frames to click on")
    parser.add_argument("--clicks", type=int, default=8, help="frames to click on")
    parser.add_argument("--frames", type=int, default=3000, help="length of the long video")
    parser.add_argument("--step", type=int, default=300, help="frames between two lines")
    parser.add_argument("--set", action="append", default=[], help="option of the tracker")
    given = parser.parse_args()
    if given.what == "clicks":
        measure_clicks(given.source, given.clicks, given.set)
    else:
        measure_memory(given.frames, given.step, given.set or TINY)


if __name__ == "__main__":
    main()
