"""Videos of DAVIS (2016, 2017) and YouTube-VOS: folders of frames and of label maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.training.adapters.files import (
    IdArray,
    read_ids,
    read_json,
    require_folder,
    take,
)
from vots_hqtrack.training.adapters.packs.opened import PackedLabels, PackedVideo, open_packed
from vots_hqtrack.training.adapters.videos import FrameFiles, Video, VideoClips
from vots_hqtrack.training.datasets import DEV_SPLIT
from vots_hqtrack.video.reader import natural_key
from vots_hqtrack.vot.import_vos import ANNOTATIONS, IMAGES, read_vos_sequence

DAVIS_YEARS = (2016, 2017)
DEFAULT_RESOLUTION = "480p"
LISTS = "ImageSets"


class Davis(VideoClips):
    """DAVIS: ``JPEGImages/480p/<video>/*.jpg`` and ``Annotations/480p/<video>/*.png``.

    A frame without a label map does not count. Read from a pack where ``root`` is no folder.

    Args:
        root: Folder that holds the two, and ``ImageSets`` with the splits' lists. Without that
            folder all videos count.
        split: Name of the list.
        year: 2017 keeps the objects apart; 2016 makes them one, as that year's masks have it.
        resolution: Folder below the two. Where there is none of the default name, the videos may
            be right there.
        exclude: Videos left out; by default those that this project measures itself by.
        frames: Folder of another data set, relative to ``root``, that has the frames where
            ``root`` has label maps alone. A pack knows it by itself.

    Raises:
        ConfigError: There is no such year.
        InputError: A folder or list is missing, no video is left, or frames and masks do not match.
    """

    def __init__(
        self,
        root: Path,
        *,
        split: str = "train",
        year: int = 2017,
        resolution: str = DEFAULT_RESOLUTION,
        exclude: Iterable[str] = DEV_SPLIT,
        frames: str = "",
    ) -> None:
        """List the files of every video."""
        if year not in DAVIS_YEARS:
            raise ConfigError(f"the year of DAVIS must be one of {DAVIS_YEARS}, got {year}")
        is_single = year == DAVIS_YEARS[0]
        packed = open_packed(root, "davis")
        openers: Mapping[str, Callable[[], Video]]
        if packed is not None:
            lists = packed.lists
            openers = {
                name: partial(_from_pack, video, is_single=is_single)
                for name, video in packed.videos.items()
            }
        else:
            lists = read_lists(root / LISTS)
            folders = find_videos(root, resolution, root / frames if frames else None)
            openers = {
                name: partial(_pair_files, name, *paths, is_single=is_single)
                for name, paths in folders.items()
            }
        names = _choose(root, lists, split, year) if lists is not None else list(openers)
        excluded = frozenset(exclude)
        chosen = [name for name in names if name not in excluded]
        missing = [name for name in chosen if name not in openers]
        if missing:
            wanted = root / ANNOTATIONS / resolution / missing[0]
            raise InputError(
                f"the davis list {split} names {missing[0]}, but {wanted} is not there"
            )
        super().__init__(f"davis{year}", [openers[name]() for name in chosen])


def find_videos(
    root: Path, resolution: str = DEFAULT_RESOLUTION, frames_root: Path | None = None
) -> dict[str, tuple[Path, Path]]:
    """Find the videos of a folder in DAVIS's layout.

    Args:
        root: Folder with ``Annotations`` and, unless frames are elsewhere, ``JPEGImages``.
        resolution: Folder below the two; empty if the videos are right there. Where there is no
            folder of the default name, they are looked for right there too.
        frames_root: Another data set's folder whose ``JPEGImages`` are meant.

    Returns:
        By name, in natural order: the folder of frames and the folder of label maps.

    Raises:
        InputError: A folder is missing, or there is no video.
    """
    frames_root = frames_root or root
    images = require_folder(frames_root / IMAGES / _level(frames_root, IMAGES, resolution), "davis")
    labels = require_folder(root / ANNOTATIONS / _level(root, ANNOTATIONS, resolution), "davis")
    names = [path.name for path in labels.iterdir() if path.is_dir() and path.name[0] != "."]
    if not names:
        raise InputError(f"a davis data set needs folders of label maps in {labels}, found none")
    return {name: (images / name, labels / name) for name in sorted(names, key=natural_key)}


def _level(root: Path, part: str, resolution: str) -> str:
    """Return the folder between ``JPEGImages`` or ``Annotations`` and the videos."""
    has = any((root / name / resolution).is_dir() for name in (IMAGES, ANNOTATIONS))
    if has or resolution != DEFAULT_RESOLUTION or not (root / part).is_dir():
        return resolution
    return "" if any(path.is_dir() for path in (root / part).iterdir()) else resolution


class YouTubeVOS(VideoClips):
    """YouTube-VOS: ``meta.json``, ``JPEGImages/<video>`` and ``Annotations/<video>``.

    Only annotated frames count (every fifth one), so a gap of 1 is five frames of the film. An
    object may begin later than the video; its number may be any.

    Args:
        root: Folder that holds ``<split>``, or the three themselves.
        split: Name of the folder.

    Raises:
        InputError: A file is missing, ``meta.json`` has another form, or files do not match.
    """

    def __init__(self, root: Path, *, split: str = "train") -> None:
        """Read ``meta.json`` and list the files of every video."""
        folder = root / split if (root / split).is_dir() else root
        path = folder / "meta.json"
        table = take(read_json(path, "youtube-vos"), "videos", dict, path)
        images = require_folder(folder / "JPEGImages", "youtube-vos")
        labels = require_folder(folder / "Annotations", "youtube-vos")
        videos = []
        for name in sorted(table):
            video = _pair_files(name, images / name, labels / name, is_single=False)
            known = {path.stem for path in (labels / name).glob("*.png")}
            for number, entry in take(table[name], "objects", dict, path).items():
                lost = [frame for frame in take(entry, "frames", list, path) if frame not in known]
                if lost:
                    wanted = labels / name / f"{lost[0]}.png"
                    raise InputError(
                        f"{path}: object {number} of {name} needs {wanted}, found none"
                    )
            videos.append(video)
        super().__init__("youtube-vos", videos)


def _pair_files(name: str, frames: Path, labels: Path, *, is_single: bool) -> Video:
    files = read_vos_sequence(name, frames, labels)
    places = sorted(files.annotations)
    paths = tuple(files.annotations[place] for place in places)
    return Video(
        name,
        FrameFiles(tuple(files.frames[place] for place in places)),
        partial(_read_map, paths, is_single=is_single),
    )


def _read_map(paths: tuple[Path, ...], place: int, *, is_single: bool) -> IdArray:
    ids = read_ids(paths[place])
    return (ids > 0).astype(np.int32) if is_single else ids


def _from_pack(video: PackedVideo, *, is_single: bool) -> Video:
    return Video(video.name, video.frames, partial(_read_packed, video.labels, is_single=is_single))


def _read_packed(labels: PackedLabels, place: int, *, is_single: bool) -> IdArray:
    ids = labels.read(place)
    return (ids > 0).astype(np.int32) if is_single else ids


def read_lists(folder: Path) -> dict[str, str] | None:
    """Return the lists of videos by path below ``ImageSets``; None where there is no such."""
    if not folder.is_dir():
        return None
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*.txt"))
    }


def _choose(root: Path, lists: Mapping[str, str], split: str, year: int) -> list[str]:
    """Return the videos that a list names, in its order.

    A list of 2017 has a name a line; one of 2016 also comes as pairs of files, frame by frame.
    """
    candidates = [f"{year}/{split}.txt", f"480p/{split}.txt"]
    found = [name for name in candidates if name in lists]
    if not found:
        wanted = root / LISTS / candidates[0]
        raise InputError(f"a davis data set needs the file {wanted}, found none")
    words = (line.split()[0] for line in lists[found[0]].splitlines() if line)
    names = (word.rstrip("/").split("/") for word in words)
    return list(dict.fromkeys(parts[-2] if len(parts) > 1 else parts[0] for parts in names))
