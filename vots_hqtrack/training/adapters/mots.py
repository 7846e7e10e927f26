"""Videos of MOTS: KITTI's label maps, or the run lengths of MOTSChallenge.

An object's number is ``1000 * class + instance``; 10000 marks regions that belong to none.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.adapters.files import (
    IdArray,
    first_folder,
    read_wide,
    require_file,
    require_folder,
)
from vots_hqtrack.training.adapters.packed import PackedMaps
from vots_hqtrack.training.adapters.videos import FrameFiles, Video, VideoClips
from vots_hqtrack.types import Size
from vots_hqtrack.video.reader import IMAGE_SUFFIXES, natural_key

KIND = "mots"
IGNORED = 10_000
_COLUMNS = 6


class Mots(VideoClips):
    """MOTS, in either layout.

    - KITTI MOTS: ``instances/<video>/*.png`` (16 bits) with the pictures under ``image_02``,
      ``training/image_02``, ``images`` or ``train/images``;
    - MOTSChallenge: ``<video>/gt/gt.txt`` (lines ``frame object class height width runs``) with
      ``<video>/img1/*.jpg``, right here or under ``train``.

    Args:
        root: Folder of the data set.
        videos: Names of those to take; all if it is empty.

    Raises:
        InputError: Neither layout is there, a file is missing or damaged, or a name is not known.
    """

    def __init__(self, root: Path, *, videos: tuple[str, ...] | list[str] = ()) -> None:
        """List the files of every video; MOTSChallenge's texts are read at once."""
        require_folder(root, KIND)
        if (root / "instances").is_dir():
            found = _kitti_videos(root)
        else:
            texts = sorted([*root.glob("*/gt/gt.txt"), *root.glob("train/*/gt/gt.txt")])
            if not texts:
                raise InputError(
                    f"a {KIND} data set needs the folder {root / 'instances'} or the files "
                    f"{root}/*/gt/gt.txt, found neither"
                )
            found = [_challenge_video(text) for text in texts]
        names = [video.name for video in found]
        missing = [name for name in videos if name not in names]
        if missing:
            raise InputError(f"{root} has no video {missing[0]}; it has {', '.join(names[:8])}")
        super().__init__(KIND, [video for video in found if not videos or video.name in videos])


def _kitti_videos(root: Path) -> list[Video]:
    choices = ("image_02", "training/image_02", "images", "train/images")
    images = first_folder((root / choice for choice in choices), KIND)
    videos = []
    for folder in sorted(path for path in (root / "instances").iterdir() if path.is_dir()):
        paths = tuple(sorted(folder.glob("*.png"), key=lambda path: natural_key(path.name)))
        frames = _frames_by_stem(images / folder.name)
        missing = [path.stem for path in paths if path.stem not in frames]
        if missing:
            raise InputError(
                f"a {KIND} data set needs the frame {images / folder.name / missing[0]}.png, "
                "found none"
            )
        ordered = tuple(frames[path.stem] for path in paths)
        videos.append(Video(folder.name, FrameFiles(ordered), partial(_read_map, paths)))
    return videos


def _read_map(paths: tuple[Path, ...], place: int) -> IdArray:
    ids = read_wide(paths[place])
    return np.where(ids == IGNORED, 0, ids).astype(np.int32)


def _challenge_video(text_path: Path) -> Video:
    folder = text_path.parent.parent
    frames = _frames_by_stem(folder / "img1")
    by_number = {int(stem): path for stem, path in frames.items() if stem.isdecimal()}
    sizes: set[Size] = set()
    packed: dict[int, dict[int, object]] = {number: {} for number in by_number}
    lines = require_file(text_path, KIND).read_text(encoding="ascii").splitlines()
    for count, line in enumerate(lines, start=1):
        words = line.split()
        if len(words) != _COLUMNS or not all(word.isdecimal() for word in words[:-1]):
            raise InputError(
                f"{text_path}, line {count}: wanted 'frame object class height width runs', "
                f"got {line[:60]!r}"
            )
        frame, number, _, height, width = (int(word) for word in words[:-1])
        if frame not in packed:
            raise InputError(f"{text_path}, line {count}: no frame {frame} in {folder / 'img1'}")
        sizes.add(Size(height, width))
        if number != IGNORED:
            packed[frame][number] = {"counts": words[-1]}
    if len(sizes) != 1:
        raise InputError(f"{text_path}: wanted masks of one size, got {sorted(sizes)}")
    order = sorted(by_number)
    maps = PackedMaps(folder.name, sizes.pop(), [packed[number] for number in order])
    return Video(folder.name, FrameFiles(tuple(by_number[number] for number in order)), maps.read)


def _frames_by_stem(folder: Path) -> dict[str, Path]:
    require_folder(folder, KIND)
    return {path.stem: path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
