"""Videos of VIPSeg: panoptic label maps, things and stuff."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from vots_hqtrack.formats.files import IdArray, read_json, read_wide, require_file, take
from vots_hqtrack.training.adapters.files import find_frames, require_folder
from vots_hqtrack.training.adapters.videos import FrameFiles, Video, VideoClips
from vots_hqtrack.video.reader import natural_key

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
        masks = require_folder(KIND, root / "panomasksRGB")
        images = require_folder(KIND, root / "images", root / "imgs")
        path = root / f"panoptic_gt_VIPSeg_{split}.json"
        table = read_json(path, KIND)
        wanted = {
            take(category, "id", int, path)
            for category in take(table, "categories", list, path)
            if stuff or take(category, "isthing", int, path)
        }
        videos = [
            _read_video(entry, wanted, images, masks, path)
            for entry in take(table, "annotations", list, path)
        ]
        super().__init__(f"{KIND} {split}", videos)


def _read_video(entry: object, wanted: set[int], images: Path, masks: Path, where: Path) -> Video:
    name = str(take(entry, "video_id", object, where))
    listed: dict[str, list[int]] = {}
    for frame in take(entry, "annotations", list, where):
        listed[take(frame, "file_name", str, where)] = [
            take(segment, "id", int, where)
            for segment in take(frame, "segments_info", list, where)
            if take(segment, "category_id", int, where) in wanted
        ]
    names = sorted(listed, key=natural_key)
    maps = tuple((require_file(KIND, masks / name / file), listed[file]) for file in names)
    frames = find_frames(KIND, images / name, (Path(file).stem for file in names))
    return Video(name, FrameFiles(frames), partial(_read_map, maps))


def _read_map(maps: tuple[tuple[Path, list[int]], ...], position: int) -> IdArray:
    path, listed = maps[position]
    ids = read_wide(path)
    return np.where(np.isin(ids, listed), ids, 0).astype(np.int32)
