"""Videos of DAVIS (2016, 2017) and YouTube-VOS: folders of frames and of label maps."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.training.adapters.files import (
    IdArray,
    read_ids,
    read_json,
    require_file,
    require_folder,
    take,
)
from vots_hqtrack.training.adapters.videos import Video, VideoClips
from vots_hqtrack.training.datasets import DEV_SPLIT
from vots_hqtrack.vot.import_vos import find_sequences, read_vos_sequence

DAVIS_YEARS = (2016, 2017)


class Davis(VideoClips):
    """DAVIS: ``JPEGImages/480p/<video>/*.jpg`` and ``Annotations/480p/<video>/*.png``.

    Args:
        root: Folder that holds the two, and ``ImageSets`` with the splits' lists. Without that
            folder all videos count.
        split: Name of the list.
        year: 2017 keeps the objects apart; 2016 makes them one, as that year's masks have it.
        resolution: Folder below the two.
        exclude: Videos left out; by default those that this project measures itself by.

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
        resolution: str = "480p",
        exclude: Iterable[str] = DEV_SPLIT,
    ) -> None:
        """List the files of every video."""
        if year not in DAVIS_YEARS:
            raise ConfigError(f"the year of DAVIS must be one of {DAVIS_YEARS}, got {year}")
        for name in ("JPEGImages", "Annotations"):
            require_folder(root / name / resolution, "davis")
        folders = find_sequences(root, resolution)
        names: Iterable[str] = folders
        if (root / "ImageSets").is_dir():
            names = _read_split(root / "ImageSets", split, year)
        excluded = frozenset(exclude)
        chosen = [name for name in names if name not in excluded]
        missing = [name for name in chosen if name not in folders]
        if missing:
            wanted = root / "Annotations" / resolution / missing[0]
            raise InputError(
                f"the davis list {split} names {missing[0]}, but {wanted} is not there"
            )
        is_single = year == DAVIS_YEARS[0]
        super().__init__(
            f"davis{year}",
            [_pair_files(name, *folders[name], is_single=is_single) for name in chosen],
        )


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
            known = {path.stem for path in video.frame_paths}
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
        tuple(files.frames[place] for place in places),
        partial(_read_map, paths, is_single=is_single),
    )


def _read_map(paths: tuple[Path, ...], place: int, *, is_single: bool) -> IdArray:
    ids = read_ids(paths[place])
    return (ids > 0).astype(np.int32) if is_single else ids


def _read_split(folder: Path, split: str, year: int) -> list[str]:
    """Return the videos that a list names, in its order.

    A list of 2017 has a name a line; one of 2016 also comes as pairs of files, frame by frame.
    """
    candidates = [folder / str(year) / f"{split}.txt", folder / "480p" / f"{split}.txt"]
    found = [path for path in candidates if path.is_file()]
    path = found[0] if found else require_file(candidates[0], "davis")
    words = (line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line)
    names = (word.rstrip("/").split("/") for word in words)
    return list(dict.fromkeys(parts[-2] if len(parts) > 1 else parts[0] for parts in names))
