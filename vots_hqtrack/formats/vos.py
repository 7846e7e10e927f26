"""DAVIS and YouTube-VOS: folders of indexed PNGs, beside folders of frames.

``Annotations/<video>/<frame>.png``, with a folder for the resolution in between in DAVIS, and
``JPEGImages`` in the same form. A pixel's value is its object's id.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.files import read_json, take
from vots_hqtrack.formats.stream import (
    DEFAULT_NAME,
    FrameMasks,
    FrameName,
    MaskVideo,
    ObjectNames,
    Overlaps,
    file_name,
    split_ids,
)
from vots_hqtrack.io import write_json
from vots_hqtrack.types import Size
from vots_hqtrack.video.label_maps import LabelMaps, write_label_map
from vots_hqtrack.video.reader import list_images
from vots_hqtrack.vot.import_vos import ANNOTATIONS, IMAGES, find_sequences
from vots_hqtrack.vot.sequences import JPEG_QUALITY, write_jpeg

RESOLUTION = "480p"
"""Folder of DAVIS's masks, whatever their size: its tools look there by default."""
SETS = "ImageSets/2017"
META = "meta.json"


def write_davis(videos: Sequence[MaskVideo], out: Path, overlaps: Overlaps) -> None:
    """Write DAVIS 2017's layout, with the list ``val`` of all videos."""
    for video in videos:
        _write_masks(video, out / ANNOTATIONS / RESOLUTION / file_name(video.name), overlaps)
        _write_frames(video, out / IMAGES / RESOLUTION / video.name)
    (out / SETS).mkdir(parents=True)
    names = "".join(f"{video.name}\n" for video in videos)
    (out / SETS / "val.txt").write_text(names, encoding="utf-8", errors="surrogateescape")


def write_youtube_vos(videos: Sequence[MaskVideo], out: Path, overlaps: Overlaps) -> None:
    """Write YouTube-VOS's layout, with ``meta.json``."""
    table: dict[str, object] = {}
    for video in videos:
        shown = _write_masks(video, out / ANNOTATIONS / file_name(video.name), overlaps)
        _write_frames(video, out / IMAGES / video.name)
        table[video.name] = {
            "objects": {
                str(number): {"category": video.objects[number], "frames": frames}
                for number, frames in shown.items()
            }
        }
    write_json(out / META, {"videos": table})


def is_vos(path: Path) -> bool:
    """Whether a folder has the layout."""
    if not path.is_dir():
        return False
    folders = [path, *(part for part in path.iterdir() if part.is_dir())]
    return any((folder / ANNOTATIONS).is_dir() for folder in folders)


def read_vos(root: Path) -> list[MaskVideo]:
    """Read the videos of either layout; all label maps of a video are looked at for its objects.

    Raises:
        InputError: The layout is another one, or a label map cannot be read.
    """
    found = find_sequences(root, needs_frames=False)
    return [_read_video(name, *folders) for name, folders in found.items()]


def _read_video(name: str, frames: Path, annotations: Path) -> MaskVideo:
    images = tuple(list_images(frames)) if frames.is_dir() else ()
    paths = list_images(annotations, (".png",))
    if not paths:
        raise InputError(f"the video {name} has no label map in {annotations}")
    indices = {path.stem: index for index, path in enumerate(images)}
    missing = [path.name for path in paths if images and path.stem not in indices]
    if missing:
        raise InputError(f"the label map {annotations / missing[0]} has no frame in {frames}")
    if not images and all(path.stem.isdecimal() for path in paths):
        indices = {path.stem: int(path.stem) for path in paths}
    elif not images:
        indices = {path.stem: index for index, path in enumerate(paths)}
    maps = LabelMaps(paths)
    return MaskVideo(
        name,
        Size(*maps.read(paths[0]).shape),
        tuple(FrameName(indices[path.stem], path.stem) for path in paths),
        ObjectNames(partial(_find_objects, maps, paths, annotations, name)),
        partial(_read_map, maps, tuple(paths)),
        images,
    )


def _read_map(maps: LabelMaps, paths: Sequence[Path], position: int) -> FrameMasks:
    return FrameMasks(split_ids(maps.read(paths[position]).astype(np.int32)))


def _find_objects(
    maps: LabelMaps, paths: Sequence[Path], annotations: Path, name: str
) -> dict[int, str]:
    """Look at all label maps of a video for its objects."""
    shown = {int(number) for path in paths for number in np.unique(maps.read(path)) if number}
    return dict.fromkeys(sorted(shown), DEFAULT_NAME) | _read_names(annotations, name, shown)


def _read_names(annotations: Path, name: str, objects: set[int]) -> dict[int, str]:
    """Read the categories of a video's objects, which YouTube-VOS has."""
    path = annotations.parent.parent / META
    if not path.is_file():
        return {}
    videos = take(read_json(path, "youtube-vos"), "videos", dict, path)
    entries = take(videos.get(name, {"objects": {}}), "objects", dict, path)
    return {
        number: take(entries[str(number)], "category", str, path)
        for number in sorted(objects)
        if "category" in entries.get(str(number), ())
    }


def _write_masks(video: MaskVideo, folder: Path, overlaps: Overlaps) -> Mapping[int, list[str]]:
    """Write the label maps of a video; returns the frames that show each object."""
    folder.mkdir(parents=True)
    shown: dict[int, list[str]] = {number: [] for number in video.objects}
    for frame, found in video:
        ids = overlaps.paint(found.masks, video.size)
        for number in np.unique(ids[ids > 0]):
            shown[int(number)].append(frame.name)
        write_label_map(folder / f"{file_name(frame.name)}.png", ids.astype(np.uint8))
    return shown


def _write_frames(video: MaskVideo, folder: Path) -> None:
    """Write the frames of a video that was given beside its masks."""
    if video.source is None:
        return
    folder.mkdir(parents=True)
    for name, frame in video.pixels():
        if isinstance(frame, Path):
            shutil.copyfile(frame, folder / frame.name)
        else:
            write_jpeg(folder / f"{name}.jpg", frame, quality=JPEG_QUALITY)
