"""Videos of DAVIS (2016, 2017) and YouTube-VOS: folders of frames and of label maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.formats.files import IdArray, read_json, take
from vots_hqtrack.training.adapters.files import list_folders, require_folder
from vots_hqtrack.training.adapters.packs.reader import open_packed
from vots_hqtrack.training.adapters.videos import FrameFiles, Video, VideoClips
from vots_hqtrack.training.datasets import DEV_SPLIT
from vots_hqtrack.video.label_maps import LabelMaps
from vots_hqtrack.video.reader import natural_key
from vots_hqtrack.vot.import_vos import ANNOTATIONS, IMAGES, read_vos_sequence

DAVIS_YEARS = (2016, 2017)
DEFAULT_RESOLUTION = "480p"
LISTS = "ImageSets"


class Davis(VideoClips):
    """DAVIS: ``JPEGImages/480p/<video>/*.jpg`` and ``Annotations/480p/<video>/*.png``.

    A frame without a label map does not count. Read from a pack where ``root`` is not a folder.

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
        ConfigError: The year is unknown.
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
        packed = open_packed(root, "davis")
        known: Mapping[str, Callable[[], Video]]
        if packed is not None:
            lists = packed.lists
            known = {name: partial(packed.videos.__getitem__, name) for name in packed.videos}
        else:
            lists = read_lists(root / LISTS)
            images = find_videos(root / frames, IMAGES, resolution)
            known = {
                name: partial(open_video, name, images / name, labels)
                for name, labels in list_videos(root, resolution).items()
            }
        names = _choose(root, lists, split, year) if lists is not None else list(known)
        excluded = frozenset(exclude)
        chosen = [name for name in names if name not in excluded]
        for name in chosen:
            if name not in known:
                wanted = root / ANNOTATIONS / resolution / name
                raise InputError(f"the davis list {split} names {name}, but {wanted} is not there")
        videos = [known[name]() for name in chosen]
        if year == DAVIS_YEARS[0]:
            videos = [replace(v, read_ids=partial(_read_as_single, v.read_ids)) for v in videos]
        super().__init__(f"davis{year}", videos)


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
        images = require_folder("youtube-vos", folder / IMAGES)
        labels = require_folder("youtube-vos", folder / ANNOTATIONS)
        videos = []
        for name in sorted(table):
            videos.append(open_video(name, images / name, labels / name))
            known = {path.stem for path in (labels / name).glob("*.png")}
            for number, entry in take(table[name], "objects", dict, path).items():
                for frame in take(entry, "frames", list, path):
                    if frame not in known:
                        wanted = labels / name / f"{frame}.png"
                        raise InputError(
                            f"{path}: object {number} of {name} needs {wanted}, found none"
                        )
        super().__init__("youtube-vos", videos)


def list_videos(root: Path, resolution: str = DEFAULT_RESOLUTION) -> dict[str, Path]:
    """List a DAVIS folder's videos: folders of label maps by name, in natural order.

    Raises:
        InputError: The folder is missing or has no videos.
    """
    folder = find_videos(root, ANNOTATIONS, resolution)
    names = sorted(list_folders(folder), key=natural_key)
    if not names:
        raise InputError(f"a davis data set needs folders of label maps in {folder}, found none")
    return {name: folder / name for name in names}


def find_videos(root: Path, part: str, resolution: str = DEFAULT_RESOLUTION) -> Path:
    """Find the folder that holds the videos' folders.

    Args:
        root: Folder of a data set in DAVIS's layout.
        part: ``JPEGImages`` or ``Annotations``.
        resolution: Folder below that; empty if the videos are right there. Without a folder of
            the default name, they are looked for right there too.

    Raises:
        InputError: The folder is missing.
    """
    has = any((root / name / resolution).is_dir() for name in (IMAGES, ANNOTATIONS))
    if not has and resolution == DEFAULT_RESOLUTION and (root / part).is_dir():
        resolution = "" if list_folders(root / part) else resolution
    return require_folder("davis", root / part / resolution)


def pair_paths(name: str, frames: Path, labels: Path) -> list[tuple[Path, Path]]:
    """List a video's annotated frames and their label maps, in order.

    Raises:
        InputError: There are none, or a label map has no frame.
    """
    files = read_vos_sequence(name, frames, labels)
    annotations = sorted(files.annotations.items())
    return [(files.frames[position], path) for position, path in annotations]


def open_video(name: str, frames: Path, labels: Path) -> Video:
    """Open a video of folders of frames and label maps; errors are those of :func:`pair_paths`."""
    frame_paths, label_paths = zip(*pair_paths(name, frames, labels), strict=True)
    read = partial(_read_ids, LabelMaps(label_paths), label_paths)
    return Video(name, FrameFiles(frame_paths), read)


def _read_ids(maps: LabelMaps, paths: Sequence[Path], position: int) -> IdArray:
    return maps.read(paths[position]).astype(np.int32)


def _read_as_single(read: Callable[[int], IdArray], position: int) -> IdArray:
    return (read(position) > 0).astype(np.int32)


def read_lists(folder: Path) -> dict[str, str] | None:
    """Read the lists of videos by path below ``ImageSets``; None without that folder."""
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
