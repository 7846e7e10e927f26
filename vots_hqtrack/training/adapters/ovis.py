"""Videos of OVIS, and of others that share its form: COCO's JSON, one segmentation a frame."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.files import read_json, take
from vots_hqtrack.training.adapters.coco import group_annotations
from vots_hqtrack.training.adapters.files import require_folder
from vots_hqtrack.training.adapters.segmentations import paint_frame
from vots_hqtrack.training.adapters.videos import FrameFiles, Video, VideoClips
from vots_hqtrack.types import Size

KIND = "ovis"


class Ovis(VideoClips):
    """OVIS: ``annotations_<split>.json`` and ``<split>/<video>/*.jpg``.

    Args:
        root: Folder that holds the two.
        split: Name of the split.
        annotations: JSON file below ``root`` in place of that.
        images: Folder of the videos' folders below ``root``, in place of that.

    Raises:
        InputError: A file or folder is missing, or the JSON has another form.
    """

    def __init__(
        self,
        root: Path,
        *,
        split: str = "train",
        annotations: str | None = None,
        images: str | None = None,
    ) -> None:
        """Read the JSON file."""
        path = root / (annotations or f"annotations_{split}.json")
        table = read_json(path, KIND)
        folder = require_folder(KIND, root / (images or split))
        tracks = group_annotations(table, "video_id", "segmentations", list, path)
        videos = []
        for entry in take(table, "videos", list, path):
            found = tracks.pop(take(entry, "id", int, path), [])
            if found:
                videos.append(_read_video(entry, found, folder, path))
        if tracks:
            raise InputError(f"{path}: wanted a video of id {min(tracks)}, found none")
        super().__init__(f"{KIND} {split}", videos)


def _read_video(entry: object, tracks: list[object], folder: Path, where: Path) -> Video:
    frames = take(entry, "file_names", list, where)
    name = str(Path(frames[0]).parent) if frames else f"of id {take(entry, 'id', int, where)}"
    packed: list[dict[int, object]] = [{} for _ in frames]
    for number, masks in enumerate(tracks, start=1):
        assert isinstance(masks, list)  # noqa: S101 - checked when the JSON was read
        if len(masks) != len(frames):
            raise InputError(
                f"{where}: wanted a segmentation or null for the {len(frames)} frames of {name}, "
                f"got {len(masks)}"
            )
        for objects, mask in zip(packed, masks, strict=True):
            if mask:
                objects[number] = mask
    size = Size(take(entry, "height", int, where), take(entry, "width", int, where))
    files = FrameFiles(tuple(folder / frame for frame in frames))
    return Video(name, files, partial(paint_frame, name, size, packed))
