"""Files of prompts for ``hqtrack track``: of each object the first mask, as an image beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.stream import MaskVideo, Overlaps
from vots_hqtrack.io import write_json
from vots_hqtrack.types import MaskArray, label_dtype
from vots_hqtrack.video.label_maps import write_label_map

PROMPTS_NAME = "prompts.json"
MASKS = "masks"
_FORMAT_VERSION = 1


def write_prompts(videos: Sequence[MaskVideo], out: Path, overlaps: Overlaps) -> None:
    """Write ``prompts.json`` and the masks that it names.

    Raises:
        InputError: No frame shows an object.
    """
    (video,) = videos
    frames: dict[str, object] = {}
    given: set[int] = set()
    (out / MASKS).mkdir()
    for frame, found in video:
        new: dict[int, MaskArray] = {i: mask for i, mask in found.masks.items() if i not in given}
        if not new:
            continue
        ids = overlaps.paint(new, video.size)
        name = f"{MASKS}/{frame.index:05d}.png"
        write_label_map(out / name, ids.astype(label_dtype(max(video.objects))))
        shown = [int(number) for number in np.unique(ids) if number]
        frames[str(frame.index)] = {str(number): {"mask": name} for number in shown}
        given |= set(shown)
        if given == set(video.objects):
            break
    if not frames:
        raise InputError(f"no frame of {video.name} shows an object")
    write_json(out / PROMPTS_NAME, {"format": _FORMAT_VERSION, "frames": frames}, indent=2)
