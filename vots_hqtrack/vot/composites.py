"""Composites of videos of one object as VOTS sequences, to measure the tracking of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.io import atomic_folder
from vots_hqtrack.synthetic.composites import (
    GRIDS,
    NUM_OBJECTS,
    Composite,
    make_crossing,
    make_mosaic,
)
from vots_hqtrack.synthetic.video_clips import sample_clip
from vots_hqtrack.training.adapters.videos import SingleObject
from vots_hqtrack.training.adapters.vos import open_video
from vots_hqtrack.types import Size
from vots_hqtrack.vot.import_vos import find_sequences
from vots_hqtrack.vot.sequences import check_empty, write_sequence, write_sequence_list
from vots_hqtrack.vot.workspace import check_toolkit_path

Kind = Literal["mosaic", "crossing"]
KINDS: tuple[Kind, ...] = ("mosaic", "crossing")
NUM_FRAMES = 40
FPS = 24.0


@dataclass(frozen=True, slots=True)
class CompositeInfo:
    """Description of a sequence.

    Attributes:
        name: Name of the sequence.
        kind: ``mosaic`` (videos side by side) or ``crossing`` (objects pasted over a video).
        videos: Names of the videos with the tracked objects, in the order of the object ids.
        num_frames: Number of frames.
    """

    name: str
    kind: Kind
    videos: tuple[str, ...]
    num_frames: int


def write_composites(
    root: Path,
    out: Path,
    *,
    count: int,
    seed: int = 0,
    names: Sequence[str] = (),
    part: str | None = None,
    num_frames: int = NUM_FRAMES,
    on_sequence: Callable[[CompositeInfo], None] | None = None,
) -> list[CompositeInfo]:
    """Compose sequences of two to five objects of videos of one object.

    The kinds take turns, and so do the numbers of objects: eight sequences have all of both. Each
    sequence depends on the seed, its own number and the videos alone.

    Args:
        root: Folder of videos in the layout of DAVIS or YouTube-VOS.
        out: Folder to be made; it must not exist or be empty.
        count: Number of sequences.
        seed: Seed of the random generators.
        names: Videos to take; all if it is empty.
        part: Split or resolution to take, where there are several.
        num_frames: Frames of a sequence; fewer if one of its videos is shorter.
        on_sequence: Callback for each finished sequence.

    Returns:
        Descriptions of the sequences.

    Raises:
        InputError: The layout is another one, there are too few videos, a video or file is not
            usable, or the toolkit cannot use a path.
    """
    if count < 1 or num_frames < 2:
        raise InputError(f"wanted 1 sequence of 2 frames or more, got {count} of {num_frames}")
    check_toolkit_path(out.absolute())
    check_empty(out, "write composites")
    videos = open_videos(root, names, part)
    written: list[CompositeInfo] = []
    with atomic_folder(out) as folder:
        for number in range(count):
            info, composite = _compose(number, videos, num_frames, seed)
            masks = dict(enumerate(composite.masks, start=1))
            write_sequence(folder / info.name, composite.frames, masks, fps=FPS)
            written.append(info)
            if on_sequence is not None:
                on_sequence(info)
        write_sequence_list(folder, [info.name for info in written])
    return written


def open_videos(root: Path, names: Sequence[str], part: str | None = None) -> list[SingleObject]:
    """List the videos of a folder in the layout of DAVIS or YouTube-VOS.

    Args:
        root: Folder of the videos.
        names: Videos to take; all if it is empty.
        part: Split or resolution to take, where there are several.

    Raises:
        InputError: The layout is another one, or a video is missing.
    """
    found = find_sequences(root, part)
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(f"{root} has no video {missing[0]}; it has {', '.join(list(found)[:8])}")
    return [SingleObject(open_video(name, *found[name])) for name in names or found]


def _compose(
    number: int, videos: Sequence[SingleObject], num_frames: int, seed: int
) -> tuple[CompositeInfo, Composite]:
    kind = KINDS[number % len(KINDS)]
    num_objects = NUM_OBJECTS[number // len(KINDS) % len(NUM_OBJECTS)]
    generator = np.random.default_rng((seed, number))
    rows, columns = GRIDS[num_objects] if kind == "mosaic" else (1, num_objects)
    needed = rows * columns
    if len(videos) < needed:
        raise InputError(
            f"a sequence of {num_objects} objects ({kind}) needs {needed} videos, got {len(videos)}"
        )
    chosen = [videos[int(index)] for index in generator.permutation(len(videos))[:needed]]
    length = min(num_frames, *(len(video) for video in chosen))
    clips = [sample_clip(video, length, generator) for video in chosen]
    size = Size(*chosen[0].frame(0).shape[:2])
    if kind == "mosaic":
        tracked = [int(index) for index in generator.permutation(needed)[:num_objects]]
        composite = make_mosaic(clips, tracked, size)
        chosen = [chosen[index] for index in tracked]
    else:
        composite = make_crossing(clips, size, generator)
    name = f"{kind}-{num_objects}-{number:02d}"
    return CompositeInfo(name, kind, tuple(video.name for video in chosen), length), composite
