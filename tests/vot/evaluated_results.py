"""A small workspace with results of three trackers, written by hand, for tests of reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from result_files import write_result

from vots_hqtrack.vot.sequences import write_sequence, write_sequence_list
from vots_hqtrack.vot.workspace import Workspace

SIZE = (40, 60)
NUM_FRAMES = 16
TRACKERS = ("Good", "Late_1", "Copy")


def square(left: int, *, top: int = 10, side: int = 12) -> np.ndarray:
    """A square; its way out of the frame is cut."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[top : top + side, max(left, 0) : left + side] = True
    return mask


EMPTY = np.zeros(SIZE, dtype=bool)
TRUTH: dict[str, dict[int, list[np.ndarray | None]]] = {
    # Object 2 is absent on 12 frames, so that ADQ is measured; object 3 starts on frame 4.
    "two & more": {
        1: [square(index) for index in range(NUM_FRAMES)],
        2: [square(30) if index < 4 else EMPTY for index in range(NUM_FRAMES)],
        3: [None if index < 4 else square(40, top=20) for index in range(NUM_FRAMES)],
    },
    "alone": {1: [square(2 * index, side=20) for index in range(NUM_FRAMES)]},
    "hidden": {1: [square(5)], 2: [square(30)]},
}


def _good(index: int, masks: list[np.ndarray | None], start: int) -> np.ndarray:
    known = masks[index] if index < len(masks) else masks[start]
    return EMPTY if known is None else known


def _late(index: int, masks: list[np.ndarray | None], start: int) -> np.ndarray:
    """Object where it was a frame ago, and lost after ten frames."""
    return _good(index - 1, masks, start) if index < 10 else EMPTY


def _copy(index: int, masks: list[np.ndarray | None], start: int) -> np.ndarray:
    return _good(start, masks, start)


ANSWERS: dict[str, Callable[[int, list[np.ndarray | None], int], np.ndarray]] = dict(
    zip(TRACKERS, (_good, _late, _copy), strict=True)
)


def make_evaluated(root: Path, truth: dict[str, dict[int, list[np.ndarray | None]]]) -> Workspace:
    """Write sequences with a truth, and the results of all trackers on them."""
    space = Workspace(root / "space", root / "sequences", root / "space" / "trackers.ini")
    frames = [np.full((*SIZE, 3), 40 + 9 * index, dtype=np.uint8) for index in range(NUM_FRAMES)]
    for name, objects in truth.items():
        write_sequence(space.sequences / name, frames, objects)
        for number, tracker in enumerate(TRACKERS):
            folder = space.results / tracker / "baseline" / name
            for object_id, masks in objects.items():
                stem = f"{name}_object{object_id}_001" if len(objects) > 1 else f"{name}_001"
                start = next(index for index, mask in enumerate(masks) if mask is not None)
                found = [
                    None if index <= start else ANSWERS[tracker](index, masks, start)
                    for index in range(NUM_FRAMES)
                ]
                write_result(folder / f"{stem}.bin", found)
                times = "".join(f"{0.5 * (number + 1)}\n" for _ in range(NUM_FRAMES))
                (folder / f"{stem}_time.value").write_text(times)
    write_sequence_list(space.sequences, list(truth))
    return space
