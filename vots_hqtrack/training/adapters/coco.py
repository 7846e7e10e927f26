"""Photographs with instances in COCO's JSON (polygons or run lengths)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.adapters.files import IdArray, read_json, require_folder, take
from vots_hqtrack.training.adapters.photos import PhotoClips
from vots_hqtrack.training.adapters.rle import decode_rle, fill_polygons
from vots_hqtrack.types import FrameArray, MaskArray, Size
from vots_hqtrack.video.reader import read_frame

KIND = "coco"


@dataclass(frozen=True, slots=True)
class _CocoPhoto:
    """A picture and the segmentations of its objects, still packed."""

    name: str
    image_path: Path
    size: Size
    segmentations: tuple[object, ...]

    def read(self) -> tuple[FrameArray, IdArray]:
        image = read_frame(self.image_path)
        if image.shape[:2] != tuple(self.size):
            raise InputError(
                f"{self.image_path}: wanted the size of its annotations {self.size}, "
                f"got {image.shape[0]}x{image.shape[1]}"
            )
        masks = [decode_segmentation(item, self.size, self.name) for item in self.segmentations]
        ids = np.zeros(self.size, dtype=np.int32)
        # The larger lies below: where a cup and a table share pixels, they are the cup's.
        for place in sorted(range(len(masks)), key=lambda place: -int(masks[place].sum())):
            ids[masks[place]] = place + 1
        return image, ids


class CocoInstances(PhotoClips):
    """COCO's layout: pictures in one folder, instances in a JSON file.

    Crowds (``iscrowd``) are no objects. Photographs without objects do not count.

    Args:
        root: Folder of the data set.
        split: Picks ``annotations/instances_<split>.json`` and the pictures' folder ``<split>``.
        annotations: JSON file below ``root`` in place of that.
        images: Folder of pictures below ``root`` in place of that.

    Raises:
        InputError: A file or folder is missing, or the JSON has another form.
    """

    def __init__(
        self,
        root: Path,
        *,
        split: str = "train2017",
        annotations: str | None = None,
        images: str | None = None,
    ) -> None:
        """Read the JSON file."""
        folder = require_folder(root / (images or split), KIND)
        path = root / (annotations or f"annotations/instances_{split}.json")
        table = read_json(path, KIND)
        by_image: dict[int, list[object]] = {}
        for entry in take(table, "annotations", list, path):
            if not is_crowd(entry, path):
                segmentation = take(entry, "segmentation", object, path)
                by_image.setdefault(take(entry, "image_id", int, path), []).append(segmentation)
        photos = []
        for entry in take(table, "images", list, path):
            segmentations = by_image.pop(take(entry, "id", int, path), None)
            if segmentations is None:
                continue
            size = Size(take(entry, "height", int, path), take(entry, "width", int, path))
            name = take(entry, "file_name", str, path)
            photos.append(_CocoPhoto(name, folder / name, size, tuple(segmentations)))
        if by_image:
            raise InputError(f"{path}: wanted an image of id {min(by_image)}, found none")
        super().__init__(f"{root.resolve().name} {split}", photos)


def is_crowd(entry: object, where: object) -> bool:
    """Tell whether an annotation of COCO's JSON marks a crowd and not an object.

    Args:
        entry: One of the ``annotations``.
        where: Where it is from, for the message.

    Raises:
        InputError: It is no table.
    """
    if not isinstance(entry, dict):
        raise InputError(f"{where}: wanted a table for each annotation, got {str(entry)[:60]}")
    return bool(entry.get("iscrowd", 0))


def decode_segmentation(segmentation: object, size: Size, where: object) -> MaskArray:
    """Unpack one ``segmentation`` of COCO's JSON, or of a format that descends from it.

    Args:
        segmentation: List of polygons, or a table with ``counts`` and perhaps ``size``.
        size: Size of the frame.
        where: Where it is from, for the message.

    Returns:
        Bool ``(H, W)``.

    Raises:
        InputError: It is neither, or does not fit the frame.
    """
    if isinstance(segmentation, list):
        return fill_polygons(segmentation, size)
    counts = take(segmentation, "counts", object, where)
    told = segmentation.get("size", list(size)) if isinstance(segmentation, dict) else None
    if told != list(size):
        raise InputError(f"{where}: wanted a mask of {size}, got one of {told}")
    if not isinstance(counts, str | Sequence):
        raise InputError(f"{where}: wanted run lengths, got {type(counts).__name__}")
    return decode_rle(counts, size)
