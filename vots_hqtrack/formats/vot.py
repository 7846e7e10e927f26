"""VOTS sequences: frames and a file of ground truth for each object, below a ``list.txt``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.stream import (
    DEFAULT_NAME,
    FrameMasks,
    FrameName,
    MaskVideo,
    Overlaps,
    file_name,
)
from vots_hqtrack.types import MaskArray, Size
from vots_hqtrack.vot.region_text import EncodedMask, Region
from vots_hqtrack.vot.sequences import (
    find_truth,
    read_sequence_info,
    read_sequence_list,
    read_truth,
    write_sequence,
    write_sequence_list,
)


def write_vot(videos: Sequence[MaskVideo], out: Path, overlaps: Overlaps) -> None:
    """Write a sequence for each video, from the first frame that shows an object.

    Before its first mask nothing is known of an object; later it is absent from annotated frames
    that do not show it.
    """
    del overlaps
    for video in videos:
        start, tracks = _read_tracks(video)
        frames = (frame for _, frame in video.pixels(start))
        fps = video.fps or 30.0
        write_sequence(out / file_name(video.name), frames, tracks, fps=fps)
    write_sequence_list(out, [video.name for video in videos])


def is_vot(path: Path) -> bool:
    """Whether a folder is a sequence, or lists some."""
    return any((path / name).is_file() for name in ("list.txt", "sequence", "groundtruth.txt"))


def read_vot(path: Path) -> list[MaskVideo]:
    """Read the sequences of a folder, or one sequence.

    Raises:
        InputError: A sequence is missing or damaged.
    """
    folders = read_sequence_list(path) if (path / "list.txt").is_file() else [path]
    return [_read_sequence(folder.resolve()) for folder in folders]


def _read_tracks(video: MaskVideo) -> tuple[int, dict[int, list[MaskArray | EncodedMask | None]]]:
    """Read the masks of all objects from the first frame that shows one, and its index."""
    tracks: dict[int, list[MaskArray | EncodedMask | None]] = {}
    start = None
    empty = EncodedMask.encode(np.zeros(video.size, np.bool_))
    for frame, found in video:
        if start is None:
            if not found.masks:
                continue
            start = frame.index
        for number in {*tracks, *found.masks} - found.unknown:
            track = tracks.setdefault(number, [])
            track += [None] * (frame.index - start - len(track))
            mask = found.masks.get(number)
            track.append(empty if mask is None else EncodedMask.encode(mask))
    if start is None:
        raise InputError(f"no frame of {video.name} shows an object")
    return start, tracks


def _read_sequence(folder: Path) -> MaskVideo:
    info = read_sequence_info(folder)
    truth = {number: list(read_truth(file.path)) for number, file in find_truth(folder).items()}
    longest = max(map(len, truth.values()))
    if longest > len(info.frame_paths):
        raise InputError(f"{folder} has {longest} lines of truth, {len(info.frame_paths)} frames")
    tracks = {
        int(number): [regions[i] if i < len(regions) else Region("unknown") for i in range(longest)]
        for number, regions in truth.items()
    }
    known = [i for i in range(longest) if any(t[i].kind != "unknown" for t in tracks.values())]
    return MaskVideo(
        folder.name,
        info.size,
        tuple(FrameName(index, info.frame_paths[index].stem) for index in known),
        dict.fromkeys(tracks, DEFAULT_NAME),
        partial(read_regions_at, tracks, info.size, known),
        info.frame_paths,
        fps=info.fps,
    )


def read_regions_at(
    tracks: dict[int, list[Region]], size: Size, indices: Sequence[int], position: int
) -> FrameMasks:
    """Read the masks of a frame from the regions of all objects."""
    masks: dict[int, MaskArray] = {}
    unknown: set[int] = set()
    for number, regions in tracks.items():
        mask = regions[indices[position]].to_mask(size)
        if mask is None:
            unknown.add(number)
        elif mask.any():
            masks[number] = mask
    return FrameMasks(masks, unknown=frozenset(unknown))
