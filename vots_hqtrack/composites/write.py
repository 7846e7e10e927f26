"""Writes composites as VOTS sequences, so that the toolkit measures how several objects fare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vots_hqtrack.composites.collage import GRIDS, NUM_OBJECTS, Collage, make_crossing, make_panels
from vots_hqtrack.composites.shots import MaskedVideo, draw_shot, open_videos
from vots_hqtrack.errors import InputError
from vots_hqtrack.types import Size
from vots_hqtrack.vot.sequences import write_sequence, write_sequence_list
from vots_hqtrack.vot.workspace import check_toolkit_path

Kind = Literal["panels", "crossing"]
KINDS: tuple[Kind, ...] = ("panels", "crossing")
NUM_FRAMES = 40
FPS = 24.0


@dataclass(frozen=True, slots=True)
class Composite:
    """What one sequence is made of.

    Attributes:
        name: Its name.
        kind: ``panels`` (videos side by side) or ``crossing`` (objects pasted over a video).
        videos: Names of the videos whose objects are tracked, in the order of the object ids.
        num_frames: Its length.
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
    on_sequence: Callable[[Composite], None] | None = None,
) -> list[Composite]:
    """Make sequences of two to five objects out of videos of one object.

    The kinds take turns, and so do the numbers of objects: eight sequences have all of both. Each
    sequence depends on the seed, its own number and the videos alone.

    Args:
        root: Folder of videos in the layout of DAVIS or YouTube-VOS.
        out: Folder to be made; it must not exist or be empty.
        count: Sequences to make.
        seed: Of all chance.
        names: Videos to take; all if it is empty.
        part: Split or resolution to take, where there are several.
        num_frames: Length of a sequence; shorter where one of its videos is.
        on_sequence: Told about each sequence that is done.

    Returns:
        What was written.

    Raises:
        InputError: The layout is another one, there are too few videos, a video or file is not
            usable, or the toolkit cannot use a path.
    """
    if count < 1 or num_frames < 2:
        raise InputError(f"wanted 1 sequence of 2 frames or more, got {count} of {num_frames}")
    check_toolkit_path(out.absolute())
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"cannot write composites into {out}: it exists and is not an empty folder"
        )
    videos = open_videos(root, names, part)
    done: list[Composite] = []
    for number in range(count):
        composite, collage = _make(number, videos, num_frames, seed)
        masks = dict(enumerate(collage.masks, start=1))
        write_sequence(out / composite.name, collage.frames, masks, fps=FPS)
        done.append(composite)
        if on_sequence is not None:
            on_sequence(composite)
    write_sequence_list(out, [composite.name for composite in done])
    return done


def _make(
    number: int, videos: Sequence[MaskedVideo], num_frames: int, seed: int
) -> tuple[Composite, Collage]:
    kind = KINDS[number % len(KINDS)]
    num_objects = NUM_OBJECTS[number // len(KINDS) % len(NUM_OBJECTS)]
    generator = np.random.default_rng((seed, number))
    rows, columns = GRIDS[num_objects] if kind == "panels" else (1, num_objects)
    needed = rows * columns
    if len(videos) < needed:
        raise InputError(
            f"a sequence of {num_objects} objects ({kind}) needs {needed} videos, got {len(videos)}"
        )
    chosen = [videos[int(place)] for place in generator.permutation(len(videos))[:needed]]
    length = min(num_frames, *(len(video) for video in chosen))
    shots = [draw_shot(video, length, generator) for video in chosen]
    size = Size(*chosen[0].frame(0).shape[:2])
    if kind == "panels":
        tracked = [int(place) for place in generator.permutation(needed)[:num_objects]]
        collage = make_panels(shots, tracked, size)
        shown = tuple(chosen[place].name for place in tracked)
    else:
        collage = make_crossing(shots, size, generator)
        shown = tuple(video.name for video in chosen)
    name = f"{kind}-{num_objects}-{number:02d}"
    return Composite(name, kind, shown, length), collage
