"""Videos of BURST: one JSON file a split, masks as run lengths for every track."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.files import read_json, take
from vots_hqtrack.training.adapters.files import require_folder
from vots_hqtrack.training.adapters.segmentations import paint_frame
from vots_hqtrack.training.adapters.videos import FrameFiles, Video, VideoClips
from vots_hqtrack.types import Size

KIND = "burst"


class Burst(VideoClips):
    """BURST: ``annotations/<split>/<split>.json`` and ``frames/<split>/<source>/<video>/*.jpg``.

    Only annotated frames count (about one a second), so a gap of 1 is a second of the film.

    Args:
        root: Folder that holds the two.
        split: ``train``, ``val`` or ``test``.
        annotations: JSON file below ``root`` in place of that.
        frames: Folder below ``root`` that holds the sources' folders, in place of that.

    Raises:
        InputError: A file or folder is missing, or the JSON has another form.
    """

    def __init__(
        self,
        root: Path,
        *,
        split: str = "train",
        annotations: str | None = None,
        frames: str | None = None,
    ) -> None:
        """Read the JSON file."""
        path = root / (annotations or f"annotations/{split}/{split}.json")
        table = read_json(path, KIND)
        default = (root / "frames" / split, root / "frames")
        folder = require_folder(KIND, *((root / frames,) if frames else default))
        videos = [
            _read_video(entry, folder, path) for entry in take(table, "sequences", list, path)
        ]
        super().__init__(f"{KIND} {split}", videos)


def _read_video(entry: object, folder: Path, where: Path) -> Video:
    source = take(entry, "dataset", str, where)
    name = f"{source}/{take(entry, 'seq_name', str, where)}"
    frames = take(entry, "annotated_image_paths", list, where)
    packed = take(entry, "segmentations", list, where)
    if len(frames) != len(packed):
        raise InputError(
            f"{where}: wanted segmentations for the {len(frames)} frames of {name}, "
            f"got {len(packed)}"
        )
    size = Size(take(entry, "height", int, where), take(entry, "width", int, where))
    if not (folder / name).is_dir():
        raise InputError(f"{where}: the video {name} needs the folder {folder / name}, found none")
    files = FrameFiles(tuple(folder / name / frame for frame in frames))
    maps = [_read_tracks(tracks, where) for tracks in packed]
    return Video(name, files, partial(paint_frame, name, size, maps))


def _read_tracks(tracks: object, where: Path) -> dict[int, object]:
    if not isinstance(tracks, dict) or not all(key.isdecimal() for key in tracks):
        raise InputError(f"{where}: wanted masks by the tracks' numbers, got {str(tracks)[:60]}")
    return {
        int(number): {"counts": take(track, "rle", str, where)} for number, track in tracks.items()
    }
