"""Images with instances in COCO's JSON (polygons or run lengths)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.files import IdArray, read_json, take
from vots_hqtrack.training.adapters.files import require_folder
from vots_hqtrack.training.adapters.photos import PhotoClips, PhotoReader
from vots_hqtrack.training.adapters.segmentations import paint_segmentations
from vots_hqtrack.types import FrameArray, Size
from vots_hqtrack.video.reader import read_frame

KIND = "coco"


class CocoInstances(PhotoClips):
    """COCO's layout: images in one folder, instances in a JSON file.

    Crowds (``iscrowd``) are not objects. Images without objects do not count.

    Args:
        root: Folder of the data set.
        split: Picks ``annotations/instances_<split>.json`` and the images' folder ``<split>``.
        annotations: JSON file below ``root`` in place of that.
        images: Folder of images below ``root`` in place of that.

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
        folder = require_folder(KIND, root / (images or split))
        path = root / (annotations or f"annotations/instances_{split}.json")
        table = read_json(path, KIND)
        by_image = group_annotations(table, "image_id", "segmentation", object, path)
        found: list[tuple[str, PhotoReader]] = []
        for entry in take(table, "images", list, path):
            segmentations = by_image.pop(take(entry, "id", int, path), None)
            if segmentations is not None:
                size = Size(take(entry, "height", int, path), take(entry, "width", int, path))
                name = take(entry, "file_name", str, path)
                read = partial(_read_photo, folder / name, size, segmentations)
                found.append((name, read))
        if by_image:
            raise InputError(f"{path}: wanted an image of id {min(by_image)}, found none")
        super().__init__(f"{root.resolve().name} {split}", found)


def _read_photo(path: Path, size: Size, segmentations: list[object]) -> tuple[FrameArray, IdArray]:
    image = read_frame(path)
    if image.shape[:2] != tuple(size):
        raise InputError(
            f"{path}: wanted the size of its annotations {size}, "
            f"got {image.shape[1]}x{image.shape[0]}"
        )
    return image, paint_segmentations(dict(enumerate(segmentations, start=1)), size, path)


def group_annotations(
    table: object, group_key: str, key: str, kind: type[object], where: object
) -> dict[int, list[object]]:
    """Collect one entry of each of the ``annotations``, by image or video; crowds are left out.

    Args:
        table: Content of the JSON file.
        group_key: Entry with the id of the image or video.
        key: Entry to be collected.
        kind: Type of its value.
        where: The file, for messages.

    Raises:
        InputError: The JSON has another form.
    """
    groups: dict[int, list[object]] = {}
    for entry in take(table, "annotations", list, where):
        if not isinstance(entry, dict):
            raise InputError(f"{where}: wanted a table for each annotation, got {str(entry)[:60]}")
        if not entry.get("iscrowd", 0):
            value = take(entry, key, kind, where)
            groups.setdefault(take(entry, group_key, int, where), []).append(value)
    return groups
