"""Videos of VIPSeg: panoptic label maps, things and stuff."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.adapters.files import (
    IdArray,
    first_folder,
    read_json,
    read_wide,
    require_file,
    require_folder,
    take,
)
from vots_hqtrack.training.adapters.videos import FrameFiles, Video, VideoClips
from vots_hqtrack.video.reader import IMAGE_SUFFIXES, natural_key

KIND = "vipseg"


class VIPSeg(VideoClips):
    """VIPSeg: ``images`` (or ``imgs``), ``panomasksRGB`` and ``panoptic_gt_VIPSeg_<split>.json``.

    The colour of a pixel is ``id = R + 256 G + 65536 B``. The JSON file lists, for each video and
    frame, the ids with their categories (``segments_info``), and which categories are things.

    Args:
        root: Folder that holds the three.
        split: ``train``, ``val`` or ``test``.
        stuff: Whether sky, road and the like count as objects.

    Raises:
        InputError: A file or folder is missing, or the JSON has another form.
    """

    def __init__(self, root: Path, *, split: str = "train", stuff: bool = True) -> None:
        """Read the JSON file and list the files of every video."""
        masks = require_folder(root / "panomasksRGB", KIND)
        images = first_folder((root / "images", root / "imgs"), KIND)
        path = root / f"panoptic_gt_VIPSeg_{split}.json"
        table = read_json(path, KIND)
        things = {
            take(category, "id", int, path)
            for category in take(table, "categories", list, path)
            if stuff or take(category, "isthing", int, path)
        }
        videos = [
            _read_video(entry, things, (images, masks), path)
            for entry in take(table, "annotations", list, path)
        ]
        super().__init__(f"{KIND} {split}", videos)


def _read_video(entry: object, wanted: set[int], folders: tuple[Path, Path], where: Path) -> Video:
    images, masks = folders
    name = str(take(entry, "video_id", object, where))
    listed: dict[str, frozenset[int]] = {}
    for frame in take(entry, "annotations", list, where):
        segments = take(frame, "segments_info", list, where)
        listed[take(frame, "file_name", str, where)] = frozenset(
            take(segment, "id", int, where)
            for segment in segments
            if take(segment, "category_id", int, where) in wanted
        )
    names = sorted(listed, key=natural_key)
    label_paths = tuple(require_file(masks / name / file, KIND) for file in names)
    return Video(
        name,
        FrameFiles(tuple(_find_frame(images / name / Path(file).stem) for file in names)),
        partial(_read_map, label_paths, tuple(listed[file] for file in names)),
    )


def _find_frame(stem: Path) -> Path:
    for suffix in IMAGE_SUFFIXES:
        path = stem.with_name(stem.name + suffix)
        if path.is_file():
            return path
    raise InputError(f"a {KIND} data set needs the frame {stem}.jpg, found none")


def _read_map(paths: tuple[Path, ...], listed: tuple[frozenset[int], ...], place: int) -> IdArray:
    ids = read_wide(paths[place])
    return np.where(np.isin(ids, list(listed[place])), ids, 0).astype(np.int32)
