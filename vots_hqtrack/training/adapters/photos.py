"""Clips of photographs: the paper's first stage learns from still pictures.

A photograph becomes a clip of equal frames, which the training's augmentation then moves apart.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.adapters.files import (
    IdArray,
    number_objects,
    numbers_in,
    read_ids,
    require_folder,
)
from vots_hqtrack.training.adapters.packs.opened import open_packed
from vots_hqtrack.training.adapters.videos import choose_objects
from vots_hqtrack.training.datasets import Clip, Photo
from vots_hqtrack.types import MAX_OBJECTS, FrameArray
from vots_hqtrack.video.reader import IMAGE_SUFFIXES, natural_key, read_frame

MASK_SUFFIX = ".png"
INDEX_COLUMNS = ("name", "file")
"""Columns of an ``index.csv`` that may hold the photographs' names, without suffix."""


class ReadablePhoto(Protocol):
    """One photograph, not read yet."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def read(self) -> tuple[FrameArray, IdArray]:
        """Read the picture and its object numbers, of one size."""


class PhotoClips:
    """A data set of photographs.

    Args:
        name: What captions and logs call it.
        photos: Its photographs.

    Raises:
        InputError: There is none.
    """

    def __init__(self, name: str, photos: Sequence[ReadablePhoto]) -> None:
        """Keep the photographs."""
        self.name = name
        self.photos = tuple(photos)
        if not photos:
            raise InputError(f"the {name} data set has no photograph with an object")

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.photos)

    @property
    def names(self) -> list[str]:
        """What the photographs are called, in order."""
        return [photo.name for photo in self.photos]

    def load(self, index: int) -> Photo:
        """Read one photograph with all its objects, numbered from 1; 255 at most.

        Raises:
            InputError: Its files are missing or damaged.
        """
        image, ids = self.photos[index].read()
        return Photo(image, number_objects(ids, numbers_in(ids)[:MAX_OBJECTS]))

    def sample(
        self, index: int, num_frames: int, max_gap: int, generator: np.random.Generator
    ) -> Clip:
        """Repeat one photograph; see `vots_hqtrack.training.datasets.ClipDataset`.

        Args:
            index: Number of the photograph.
            num_frames: Frames of the clip.
            max_gap: Without meaning here.
            generator: Chooses ten objects where there are more.

        Raises:
            InputError: Its files are missing or damaged, or it shows no object.
        """
        if num_frames < 1:
            raise InputError(f"a clip needs 1 frame or more, got {num_frames}")
        photo = self.photos[index]
        image, ids = photo.read()
        objects = choose_objects(ids, generator)
        if not objects:
            raise InputError(f"the photograph {photo.name} of {self.name} shows no object")
        labels = number_objects(ids, objects)
        return Clip(
            frames=np.repeat(image[None], num_frames, axis=0),
            labels=np.repeat(labels[None], num_frames, axis=0),
            origin=f"{self.name} {photo.name}",
        )


@dataclass(frozen=True, slots=True)
class PhotoFiles:
    """A photograph's image file and its label map.

    Attributes:
        name: What messages call it.
        image_path: The image.
        labels_path: Its label map.
    """

    name: str
    image_path: Path
    labels_path: Path

    def read(self) -> tuple[FrameArray, IdArray]:
        """Read both.

        Raises:
            InputError: A file is missing or damaged, or they differ in size.
        """
        image, ids = read_frame(self.image_path), read_ids(self.labels_path)
        if ids.shape != image.shape[:2]:
            raise InputError(
                f"{self.labels_path}: wanted one number per pixel and the picture's size "
                f"{image.shape[:2]}, got {ids.shape}"
            )
        return image, ids


class StaticInstances(PhotoClips):
    """Photographs with label maps: ``JPEGImages/**/NAME.jpg`` and ``Annotations/**/NAME.png``.

    A palette or grey label map numbers the objects, a black-and-white one shows a single object. An
    ``index.csv`` with a column ``name`` or ``file`` chooses and orders the photographs; else every
    label map counts.

    Args:
        root: Folder that holds the two folders, or ``PACKS/NAME`` of a pack.

    Attributes:
        files: Files of the photographs; none of a pack.

    Raises:
        InputError: A folder or picture is missing, or there is no photograph.
    """

    def __init__(self, root: Path) -> None:
        """List the photographs."""
        self.files: tuple[PhotoFiles, ...] = ()
        packed = open_packed(root, "folder")
        if packed is not None:
            super().__init__(Path(packed.name).name, packed.photos)
            return
        self.files = _list_files(root)
        super().__init__(root.resolve().name, self.files)


def _list_files(root: Path) -> tuple[PhotoFiles, ...]:
    images = require_folder(root / "JPEGImages", "folder")
    labels = require_folder(root / "Annotations", "folder")
    index_path = root / "index.csv"
    names = _read_index(index_path) if index_path.is_file() else _list_names(labels)
    found = {
        str(path.relative_to(images).with_suffix("")): path
        for path in images.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    }
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(f"wanted the picture {images / missing[0]}.jpg, found none")
    return tuple(PhotoFiles(name, found[name], labels / f"{name}{MASK_SUFFIX}") for name in names)


def _read_index(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        column = next((name for name in INDEX_COLUMNS if name in (rows.fieldnames or ())), "")
        names = [row[column] for row in rows if row.get(column)]
    if not names:
        wanted = " or ".join(map(repr, INDEX_COLUMNS))
        raise InputError(f"{path} names no photograph (wanted a column called {wanted})")
    return names


def _list_names(labels: Path) -> list[str]:
    paths = (path for path in labels.rglob(f"*{MASK_SUFFIX}") if not path.name.startswith("."))
    names = [str(path.relative_to(labels).with_suffix("")) for path in paths]
    return sorted(names, key=natural_key)
