"""Videos of MOTS: KITTI's label maps, or the run lengths of MOTSChallenge.

An object's number is ``1000 * class + instance``; 10000 marks regions that belong to none.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.files import IdArray
from vots_hqtrack.formats.mots import find_lists, read_challenge, read_label_image
from vots_hqtrack.training.adapters.files import find_frames, require_folder
from vots_hqtrack.training.adapters.segmentations import paint_frame
from vots_hqtrack.training.adapters.videos import FrameFiles, Video, VideoClips
from vots_hqtrack.video.reader import IMAGE_SUFFIXES, natural_key

KIND = "mots"


class Mots(VideoClips):
    """MOTS, in either layout.

    - KITTI MOTS: ``instances/<video>/*.png`` (16 bits) with the frames under ``image_02``,
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
        """List the files of every video; MOTSChallenge's masks are read at once."""
        require_folder(KIND, root)
        if (root / "instances").is_dir():
            found = _kitti_videos(root)
        else:
            lists = find_lists(root)
            if not lists:
                raise InputError(
                    f"a {KIND} data set needs the folder {root / 'instances'} or the files "
                    f"{root}/*/gt/gt.txt, found neither"
                )
            found = [_challenge_video(path) for path in lists]
        names = [video.name for video in found]
        missing = [name for name in videos if name not in names]
        if missing:
            raise InputError(f"{root} has no video {missing[0]}; it has {', '.join(names[:8])}")
        super().__init__(KIND, [video for video in found if not videos or video.name in videos])


def _kitti_videos(root: Path) -> list[Video]:
    choices = ("image_02", "training/image_02", "images", "train/images")
    images = require_folder(KIND, *(root / choice for choice in choices))
    videos = []
    for folder in sorted(path for path in (root / "instances").iterdir() if path.is_dir()):
        paths = tuple(sorted(folder.glob("*.png"), key=lambda path: natural_key(path.name)))
        frames = find_frames(KIND, images / folder.name, (path.stem for path in paths))
        videos.append(Video(folder.name, FrameFiles(frames), partial(_read_map, paths)))
    return videos


def _read_map(paths: tuple[Path, ...], position: int) -> IdArray:
    return read_label_image(paths[position])


def _challenge_video(list_path: Path) -> Video:
    folder = list_path.parent.parent
    images = require_folder(KIND, folder / "img1")
    frames = {
        int(path.stem): path
        for path in images.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and path.stem.isdecimal()
    }
    content = read_challenge(list_path)
    for number, line in content.lines.items():
        if number not in frames:
            raise InputError(f"{list_path}, line {line}: no frame {number} in {images}")
    packed = [content.frames.get(number, {}) for number in sorted(frames)]
    files = FrameFiles(tuple(frames[number] for number in sorted(frames)))
    return Video(folder.name, files, partial(paint_frame, folder.name, content.size, packed))
