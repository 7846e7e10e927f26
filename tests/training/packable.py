"""Small data sets that can be packed, and how they are packed here."""

from __future__ import annotations

from pathlib import Path

import layouts
import numpy as np

from vots_hqtrack.training.adapters.packs.codecs import CodecOptions
from vots_hqtrack.training.adapters.packs.writer import PackReport, pack_data
from vots_hqtrack.training.adapters.videos import Video

FAST = CodecOptions(crf=18, speed="ultrafast", image_quality=80)
WORST_PSNR = 27.0
"""Flat colours with sharp borders, the worst for half the chroma; measured: 29 to 38 decibels."""
ODD = 45, 63
LIMIT = 10 * 1024
KINDS = {"davis": "davis", "odd": "davis", "photos": "folder", "split": "davis"}


def write_odd(root: Path) -> None:
    """A video of odd sides right in the two folders; its third frame has no label map."""
    rng = np.random.default_rng(3)
    for place in range(5):
        rows, columns = np.mgrid[: ODD[0], : ODD[1]]
        frame = np.stack([4 * rows, 3 * columns, np.full(ODD, 40 * place)], axis=2).astype(np.uint8)
        layouts.write_picture(root / "JPEGImages" / "odd one" / f"{place:05d}.jpg", frame)
        ids = rng.integers(0, 4, ODD, dtype=np.uint8)
        if place != 2:
            path = root / "Annotations" / "odd one" / f"{place:05d}.png"
            layouts.write_picture(path, ids)


def write_split(root: Path) -> None:
    """Other label maps for some frames of the ``davis`` set's video ``bee``."""
    for place in (1, 2, 4):
        ids = layouts.paint(1, place)[1]
        path = root / "Annotations" / "bee" / f"{place:05d}.png"
        layouts.write_picture(path, np.where(ids, 4 - ids, 0).astype(np.uint8))


def write_photos(root: Path) -> None:
    """Two images, which a table puts into another order than their names."""
    layouts.write_folder(root)
    (root / "index.csv").write_text("name\nset/bee\nset/ant\n", encoding="utf-8")
    (root / "LICENSE.txt").write_text("Whatever you like.", encoding="utf-8")


def write_all(folder: Path) -> Path:
    """Write four data sets and a note."""
    layouts.write_davis(folder / "davis")
    write_odd(folder / "odd")
    write_photos(folder / "photos")
    write_split(folder / "split")
    (folder / "README.md").write_text("Written by tests.", encoding="utf-8")
    return folder


def pack_all(data: Path, out: Path) -> PackReport:
    """Pack them into small parts."""
    return pack_data(data, out, options=FAST, max_mib=LIMIT / (1 << 20))


def sum_of(video: Video) -> int:
    """Sum up a frame and its label map; here, so that a spawned process imports little."""
    return int(video.load(1).image.sum()) + int(video.read_ids(1).sum())
