"""Contact sheets of training clips, and counts over composed clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.errors import InputError
from vots_hqtrack.synthetic.statistics import ClipCounts, count_clips
from vots_hqtrack.training.composer import ComposedClips
from vots_hqtrack.training.datasets import Clip
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.recipe_data import PhaseOptions
from vots_hqtrack.training.vmos_task import open_composer
from vots_hqtrack.video.sheet import SheetRow, draw_thumbnail, write_sheet

ROWS = 6
KIND_HEIGHT, KIND_QUALITY = 72, 55
"""Height of the frames on the sheet of a kind, in pixels, and quality of its WebP file."""
COUNTED_CROP = (64, 96)
"""Network size of the counted clips: areas and meetings need no more."""
CPU = torch.device("cpu")


def write_contact_sheets(clips: Iterable[Clip], folder: Path, *, rows: int = ROWS) -> list[Path]:
    """Write contact sheets of clips: a row for each clip, a column for each frame.

    Objects are tinted, outlined and numbered. The caption of a row is the clip's origin, its size
    in pixels, and the number of its objects.

    Args:
        clips: Clips of any sizes; those of one sheet are read at a time.
        folder: Folder of the sheets; it is made. Sheets of an earlier call are replaced.
        rows: Clips of a sheet.

    Returns:
        Paths of the sheets, ``clips-00.jpg`` and so on.

    Raises:
        InputError: There are no clips, or ``rows`` is not positive.
    """
    if rows < 1:
        raise InputError(f"a contact sheet needs 1 row or more, got {rows}")
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    remaining = iter(clips)
    while chosen := list(islice(remaining, rows)):
        paths.append(folder / f"clips-{len(paths):02d}.jpg")
        write_sheet(paths[-1], [_make_row(clip) for clip in chosen])
    if not paths:
        raise InputError("a contact sheet needs at least one clip, got none")
    return paths


def inspect_composer(
    recipe: Recipe, data: Path, folder: Path, *, num_shown: int, num_counted: int
) -> tuple[list[Path], ClipCounts]:
    """Write a contact sheet of every kind of clip, and count over clips as a run composes them.

    Args:
        recipe: Recipe with ``composer.enabled``; its first phase gives the shapes.
        data: Folder of relative roots.
        folder: Folder of the sheets, ``KIND.webp``; it is made.
        num_shown: Clips of each kind on its sheet.
        num_counted: Number of counted clips.

    Returns:
        Paths of the sheets, and the counts.

    Raises:
        ConfigError: A kind, an option or a crop does not suit.
        InputError: A data folder does not have its layout.
    """
    folder.mkdir(parents=True, exist_ok=True)
    composer = open_composer(recipe, data, CPU)
    phase = recipe.phase(0.0)
    paths = []
    for kind in composer.kinds:
        paths.append(folder / f"{kind}.webp")
        rows = list(_composed_rows(composer.only(kind), phase, num_shown))
        write_sheet(paths[-1], rows, quality=KIND_QUALITY)
    small = PhaseOptions(num_frames=phase.num_frames, crop=COUNTED_CROP)
    return paths, count_clips(_label_maps(composer, small, num_counted))


def _make_row(clip: Clip) -> SheetRow:
    num_frames, height, width = clip.labels.shape
    objects = _count_objects(clip.num_objects)
    caption = f"{clip.origin or 'clip'} | {num_frames} frames of {width} x {height}, {objects}"
    late = set(np.unique(clip.labels)) - set(np.unique(clip.labels[0]))
    if late:
        caption += f", NOT in the first frame: {sorted(map(int, late))}"
    return SheetRow(
        caption, [draw_thumbnail(*pair) for pair in zip(clip.frames, clip.labels, strict=True)]
    )


def _composed_rows(composer: ComposedClips, phase: PhaseOptions, count: int) -> Iterator[SheetRow]:
    for index in range(count):
        frames, labels = composer.render(composer.draw(0, [index], phase))
        images = frames[0].permute(0, 2, 3, 1).numpy()
        label_maps = labels[0].numpy().repeat(composer.stride, 1).repeat(composer.stride, 2)
        yield SheetRow(
            _count_objects(int(labels.max())),
            [
                draw_thumbnail(*pair, height=KIND_HEIGHT)
                for pair in zip(images, label_maps, strict=True)
            ],
        )


def _count_objects(count: int) -> str:
    return f"{count} object" + "s" * (count != 1)


def _label_maps(composer: ComposedClips, phase: PhaseOptions, count: int) -> Iterator[Tensor]:
    for index in range(count):
        yield composer.finish(composer.draw(1, [index], phase), CPU).labels[0]
