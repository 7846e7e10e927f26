"""What a data folder holds, as far as it can be packed: photographs and videos with label maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.adapters.photos import PhotoFiles, StaticInstances
from vots_hqtrack.training.adapters.vos import (
    DEFAULT_RESOLUTION,
    LISTS,
    find_videos,
    read_lists,
)
from vots_hqtrack.video.reader import natural_key
from vots_hqtrack.vot.import_vos import ANNOTATIONS, IMAGES, read_vos_sequence

Layout = Literal["folder", "davis"]
NOTE_PATTERNS = ("README*", "LICENSE*", "LICENCE*", "NOTICE*")


@dataclass(frozen=True, slots=True)
class VideoFiles:
    """The annotated frames of a video.

    Attributes:
        name: Its name.
        frame_paths: Its frames; empty if another video has them.
        mask_paths: Their label maps, each named like its frame.
        frames_of: Data set and video that have the frames.
    """

    name: str
    frame_paths: tuple[Path, ...]
    mask_paths: tuple[Path, ...]
    frames_of: tuple[str, str] | None = None

    @property
    def frame_names(self) -> list[str]:
        """Names of the frames without suffix, in order."""
        return [path.stem for path in self.mask_paths]


@dataclass(frozen=True, slots=True)
class SourceSet:
    """A data set to be packed.

    Attributes:
        name: Its folder, relative to the data folder.
        root: Its folder.
        layout: How it is read.
        photos: Its photographs.
        videos: Its videos.
        lists: Lists of videos by their path below ``ImageSets``; None without that.
        has_frames: False if its label maps belong to frames of another data set.
    """

    name: str
    root: Path
    layout: Layout
    photos: tuple[PhotoFiles, ...] = ()
    videos: tuple[VideoFiles, ...] = ()
    lists: dict[str, str] | None = None
    has_frames: bool = True


def list_sets(data: Path, names: Sequence[str]) -> list[SourceSet]:
    """List data sets of a folder.

    Args:
        data: The folder.
        names: Folders in it; none takes all that it has.

    Raises:
        InputError: A folder is missing, has another layout, or lacks frames.
    """
    if not data.is_dir():
        raise InputError(f"wanted a folder of data sets, found no folder {data}")
    folders = [path.name for path in data.iterdir() if path.is_dir() and path.name[0] != "."]
    there = sorted(folders, key=natural_key)
    chosen = [Path(name).as_posix() for name in names] or there
    unknown = [name for name in chosen if not (data / name).is_dir()]
    if unknown or not chosen:
        what = f"the data set {unknown[0]}" if unknown else "data sets"
        raise InputError(f"wanted {what} in {data}; it has {', '.join(there) or 'no folder'}")
    sets = [_open(data, name) for name in dict.fromkeys(chosen)]
    return [one if one.has_frames else _find_frames(one, sets) for one in sets]


def read_notes(data: Path, sets: Sequence[SourceSet]) -> dict[str, str]:
    """Return what the folders say of origin and licence: README, LICENSE and NOTICE files.

    Returns:
        Texts by the files' paths in the data folder.
    """
    notes = {}
    for folder in (data, *(one.root for one in sets)):
        for pattern in NOTE_PATTERNS:
            for path in sorted(folder.glob(pattern)):
                if path.is_file():
                    text = path.read_text(encoding="utf-8", errors="replace")
                    notes[path.relative_to(data).as_posix()] = text
    return notes


def _open(data: Path, name: str) -> SourceSet:
    root = data / name
    labels = root / ANNOTATIONS
    if not labels.is_dir():
        raise InputError(
            f"{root} cannot be packed: wanted {ANNOTATIONS} and {IMAGES} in it (the layouts folder "
            f"and davis), found no folder {ANNOTATIONS}"
        )
    is_flat = any(path.suffix == ".png" for path in labels.iterdir())
    if is_flat or (root / "index.csv").is_file():
        return SourceSet(name, root, "folder", photos=StaticInstances(root).files)
    has_frames = (root / IMAGES).is_dir()
    return SourceSet(
        name,
        root,
        "davis",
        videos=_list_videos(root, has_frames=has_frames),
        lists=read_lists(root / LISTS),
        has_frames=has_frames,
    )


def _list_videos(root: Path, *, has_frames: bool) -> tuple[VideoFiles, ...]:
    videos = []
    # Where the label maps stand alone, they are their own frames for the moment.
    folders = find_videos(root) if has_frames else find_labels(root)
    for name, (frames, labels) in folders.items():
        files = read_vos_sequence(name, frames, labels)
        places = sorted(files.annotations)
        masks = tuple(files.annotations[place] for place in places)
        paths = tuple(files.frames[place] for place in places) if has_frames else ()
        videos.append(VideoFiles(name, paths, masks))
    return tuple(videos)


def find_labels(root: Path) -> dict[str, tuple[Path, Path]]:
    """Find the folders of label maps of a data set that has no frames of its own."""
    below = root / ANNOTATIONS / DEFAULT_RESOLUTION
    folder = below if below.is_dir() else root / ANNOTATIONS
    paths = (path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    return {path.name: (path, path) for path in sorted(paths, key=lambda p: natural_key(p.name))}


def _find_frames(wanting: SourceSet, sets: Sequence[SourceSet]) -> SourceSet:
    """Say which data set has the frames: the one that has all of them by their names."""
    fitting = [one for one in sets if one.has_frames and _has_all(one, wanting)]
    if len(fitting) != 1:
        found = ", ".join(one.name for one in fitting) or "none"
        raise InputError(
            f"{wanting.root} has no {IMAGES}: wanted one data set to be packed with it that has "
            f"all its frames by their names, found {found}"
        )
    videos = tuple(replace(one, frames_of=(fitting[0].name, one.name)) for one in wanting.videos)
    return replace(wanting, videos=videos)


def _has_all(having: SourceSet, wanting: SourceSet) -> bool:
    frames = {video.name: set(video.frame_names) for video in having.videos}
    return all(frames.get(one.name, set()).issuperset(one.frame_names) for one in wanting.videos)
