"""Shows what the composer makes: a contact sheet of each kind of clip, and counts over many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.recipe_data import PhaseOptions
from vots_hqtrack.training.synthetic.open import open_composer
from vots_hqtrack.training.synthetic.source import ComposedClips
from vots_hqtrack.training.synthetic.statistics import ClipCounts, count_clips
from vots_hqtrack.video.sheet import SheetRow, draw_thumbnail, write_sheet

CELL_HEIGHT = 72
QUALITY = 55
COUNTED_CROP = (64, 96)
"""Network size at which clips are counted: areas and meetings need no more."""

CPU = torch.device("cpu")


def inspect_composer(
    recipe: Recipe, data: Path, folder: Path, *, num_shown: int, num_counted: int
) -> tuple[list[Path], ClipCounts]:
    """Write a contact sheet of every kind of clip, and count over clips as a run composes them.

    Args:
        recipe: Recipe with ``composer.enabled``; its first phase says the shapes.
        data: Folder that relative roots are looked up in.
        folder: Where the sheets go, as ``KIND.webp``; it is made.
        num_shown: Clips of each kind on its sheet.
        num_counted: Clips that are counted.

    Returns:
        The sheets' paths, and the counts.

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
        rows = list(_rows(composer.only(kind), phase, num_shown))
        write_sheet(paths[-1], rows, quality=QUALITY)
    small = PhaseOptions(num_frames=phase.num_frames, crop=COUNTED_CROP)
    return paths, count_clips(_label_maps(composer, small, num_counted))


def _rows(composer: ComposedClips, phase: PhaseOptions, count: int) -> Iterator[SheetRow]:
    for index in range(count):
        frames, labels = composer.render(composer.draw(0, [index], phase).to(CPU))
        labels = labels.repeat_interleave(composer.stride, 2)
        labels = labels.repeat_interleave(composer.stride, 3)
        cells = [
            draw_thumbnail(frame.permute(1, 2, 0).numpy(), label.numpy(), height=CELL_HEIGHT)
            for frame, label in zip(frames[0], labels[0], strict=True)
        ]
        number = int(labels.max())
        yield SheetRow(f"{number} object" + "s" * (number != 1), cells)


def _label_maps(composer: ComposedClips, phase: PhaseOptions, count: int) -> Iterator[Tensor]:
    for index in range(count):
        yield composer.finish(composer.draw(1, [index], phase), CPU).labels[0]
