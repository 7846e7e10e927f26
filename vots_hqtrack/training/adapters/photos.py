"""Clips of still images: the paper's first stage learns from them.

An image becomes a clip of equal frames, which the training's augmentation then moves apart.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.files import IdArray
from vots_hqtrack.training.adapters.files import (
    MAX_LABELS,
    number_objects,
    numbers_in,
    require_folder,
)
from vots_hqtrack.training.adapters.packs.reader import open_packed
from vots_hqtrack.training.adapters.videos import choose_objects
from vots_hqtrack.training.datasets import Clip, Photo
from vots_hqtrack.types import FrameArray
from vots_hqtrack.video.label_maps import LabelMaps
from vots_hqtrack.video.reader import IMAGE_SUFFIXES, natural_key, read_frame

KIND: Final = "folder"
INDEX_COLUMNS = ("name", "file")
"""Columns of an ``index.csv`` that may hold the images' names, without suffix."""


PhotoReader = Callable[[], tuple[FrameArray, IdArray]]
"""Reads an image, uint8 ``(H, W, 3)`` RGB, and its object numbers, int32 ``(H, W)``."""


class PhotoClips:
    """A data set of still images.

    Args:
        name: Name for captions and logs.
        photos: Names and readers of its images.

    Attributes:
        names: Names of the images, in order.

    Raises:
        InputError: There is none.
    """

    def __init__(self, name: str, photos: Iterable[tuple[str, PhotoReader]]) -> None:
        """Keep the images."""
        self.name = name
        self._photos = tuple(photos)
        self.names = [photo for photo, _ in self._photos]
        if not self._photos:
            raise InputError(f"the {name} data set has no image with an object")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._photos)

    def load(self, index: int) -> Photo:
        """Read one image with all its objects, numbered from 1; 255 at most.

        Raises:
            InputError: Its files are missing or damaged.
        """
        _, read = self._photos[index]
        image, ids = read()
        return Photo(image, number_objects(ids, numbers_in(ids)[:MAX_LABELS]))

    def sample(
        self, index: int, num_frames: int, max_gap: int, generator: np.random.Generator
    ) -> Clip:
        """Repeat one image; ``max_gap`` has no effect. See `training.datasets.ClipDataset`.

        Raises:
            InputError: Its files are missing or damaged, or it shows no object.
        """
        if num_frames < 1:
            raise InputError(f"a clip needs 1 frame or more, got {num_frames}")
        name, read = self._photos[index]
        image, ids = read()
        objects = choose_objects(ids, generator)
        if not objects:
            raise InputError(f"the image {name} of {self.name} shows no object")
        labels = number_objects(ids, objects)
        return Clip(
            frames=np.repeat(image[None], num_frames, axis=0),
            labels=np.repeat(labels[None], num_frames, axis=0),
            origin=f"{self.name} {name}",
        )


class StaticInstances(PhotoClips):
    """Images with label maps: ``JPEGImages/**/NAME.jpg`` and ``Annotations/**/NAME.png``.

    A palette or grey label map numbers the objects, a black-and-white one shows a single object. An
    ``index.csv`` with a column ``name`` or ``file`` chooses and orders the images; else every label
    map counts.

    Args:
        root: Folder that holds the two folders, or ``PACKS/NAME`` of a pack.

    Raises:
        InputError: A folder or image is missing, or there is none.
    """

    def __init__(self, root: Path) -> None:
        """List the images."""
        packed = open_packed(root, KIND)
        if packed is not None:
            super().__init__(root.name, packed.photos.items())
        else:
            files = list_photos(root).items()
            photos = [(name, partial(_read_photo, *paths)) for name, paths in files]
            super().__init__(root.resolve().name, photos)


def list_photos(root: Path) -> dict[str, tuple[Path, Path]]:
    """List a folder's images and label maps by name, in order; see `StaticInstances`."""
    images = require_folder(KIND, root / "JPEGImages")
    labels = require_folder(KIND, root / "Annotations")
    index_path = root / "index.csv"
    found, maps = _by_name(images, *IMAGE_SUFFIXES), _by_name(labels, ".png")
    names = _read_index(index_path) if index_path.is_file() else list(maps)
    for name in names:
        if name not in found:
            raise InputError(f"wanted the image {images / name}.jpg, found none")
    return {name: (found[name], maps.get(name, labels / f"{name}.png")) for name in names}


def _read_photo(image_path: Path, labels_path: Path) -> tuple[FrameArray, IdArray]:
    image = read_frame(image_path)
    ids = LabelMaps([labels_path]).read(labels_path).astype(np.int32)
    if ids.shape != image.shape[:2]:
        raise InputError(
            f"{labels_path}: wanted one number per pixel and the image's size {image.shape[:2]}, "
            f"got {ids.shape}"
        )
    return image, ids


def _read_index(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        column = next((name for name in INDEX_COLUMNS if name in (rows.fieldnames or ())), "")
        names = [row[column] for row in rows if row.get(column)]
    if not names:
        wanted = " or ".join(map(repr, INDEX_COLUMNS))
        raise InputError(f"{path} names no image (wanted a column called {wanted})")
    return names


def _by_name(folder: Path, *suffixes: str) -> dict[str, Path]:
    """List the files below a folder by relative path without suffix, in natural order."""
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    visible = (path for path in paths if path.name[0] != ".")
    named = {str(path.relative_to(folder).with_suffix("")): path for path in visible}
    return {name: named[name] for name in sorted(named, key=natural_key)}
