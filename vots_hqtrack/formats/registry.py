"""List of all formats: what each reads, writes and can hold.

A new format is a file with a reader or a writer, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vots_hqtrack.errors import InputError, did_you_mean
from vots_hqtrack.formats.coco import (
    is_coco,
    is_youtube_vis,
    read_coco,
    read_youtube_vis,
    write_coco,
    write_sa_co,
    write_youtube_vis,
)
from vots_hqtrack.formats.cvat import is_cvat, read_cvat, write_cvat, write_cvat_polygons
from vots_hqtrack.formats.mots import (
    PER_CLASS,
    is_mots_png,
    is_mots_text,
    read_mots_png,
    read_mots_text,
    write_mots_png,
    write_mots_text,
)
from vots_hqtrack.formats.prompts import write_prompts
from vots_hqtrack.formats.results import (
    is_session,
    is_track,
    is_vot_results,
    read_session,
    read_track,
    read_vot_results,
)
from vots_hqtrack.formats.stream import MaskVideo, Overlaps
from vots_hqtrack.formats.vos import is_vos, read_vos, write_davis, write_youtube_vos
from vots_hqtrack.formats.vot import is_vot, read_vot, write_vot
from vots_hqtrack.types import MAX_OBJECTS, VOID_LABEL

Reader = Callable[[Path], list[MaskVideo]]
Writer = Callable[[Sequence[MaskVideo], Path, Overlaps], None]
LAST_LABEL = 254
"""Highest id in 8-bit label maps, where 255 marks pixels without a label."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format of masks over time.

    Attributes:
        title: Description in a line.
        read: Reads all videos at a path; None if the format is only written.
        detect: Whether a path has the format.
        write: Writes videos to a new path; None if the format is only read.
        suffix: Suffix of the file that it is; empty if it is a folder.
        last_id: Highest object id that it holds; None without a limit.
        void_id: Id that it does not hold, because it marks pixels without a label; None without.
        has_scores: Whether it holds scores.
        has_names: Whether it holds names of objects.
        is_single: Whether it holds one video.
        frames: Whether it holds the video's frames: never, if they are given, or always.
    """

    title: str
    read: Reader | None = None
    detect: Callable[[Path], bool] = lambda path: False
    write: Writer | None = None
    suffix: str = ""
    last_id: int | None = None
    void_id: int | None = None
    has_scores: bool = False
    has_names: bool = False
    is_single: bool = False
    frames: str = "never"


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "track": Format("results of `hqtrack track`", read_track, is_track),
        "session": Format("project of `hqtrack ui` and of a session", read_session, is_session),
        "vot-results": Format("results in a VOT workspace", read_vot_results, is_vot_results),
        "youtube-vis": Format(
            "YouTube-VIS: JSON, tracks as run lengths in numbers",
            read_youtube_vis,
            is_youtube_vis,
            write_youtube_vis,
            suffix=".json",
            has_scores=True,
            has_names=True,
        ),
        "sa-co": Format(
            "SA-Co (SAM 3): JSON, tracks as packed run lengths",
            read_youtube_vis,
            is_youtube_vis,
            write_sa_co,
            suffix=".json",
            has_scores=True,
            has_names=True,
        ),
        "coco": Format(
            "COCO: JSON, masks by image, with track ids",
            read_coco,
            is_coco,
            write_coco,
            suffix=".json",
            has_scores=True,
            has_names=True,
        ),
        "davis": Format(
            "DAVIS 2017: folders of indexed PNGs",
            read_vos,
            is_vos,
            write_davis,
            last_id=LAST_LABEL,
            frames="given",
        ),
        "youtube-vos": Format(
            "YouTube-VOS: folders of indexed PNGs, meta.json",
            read_vos,
            is_vos,
            write_youtube_vos,
            last_id=LAST_LABEL,
            has_names=True,
            frames="given",
        ),
        "mots-png": Format(
            "KITTI MOTS: 16-bit PNGs",
            read_mots_png,
            is_mots_png,
            write_mots_png,
            last_id=PER_CLASS - 1,
        ),
        "mots": Format(
            "MOTSChallenge: text files of run lengths",
            read_mots_text,
            is_mots_text,
            write_mots_text,
            last_id=PER_CLASS - 1,
        ),
        "cvat": Format(
            "CVAT for video 1.1: an XML file, tracks of masks",
            read_cvat,
            is_cvat,
            write_cvat,
            suffix=".xml",
            has_names=True,
            is_single=True,
        ),
        "cvat-polygons": Format(
            "CVAT for video 1.1: an XML file, tracks of polygons",
            read_cvat,
            is_cvat,
            write_cvat_polygons,
            suffix=".xml",
            has_names=True,
            is_single=True,
        ),
        "vot": Format(
            "VOTS sequences with their frames", read_vot, is_vot, write_vot, frames="always"
        ),
        "prompts": Format(
            "prompts for `hqtrack track`: first masks of objects",
            write=write_prompts,
            last_id=MAX_OBJECTS,
            void_id=VOID_LABEL,
            is_single=True,
        ),
    }
)
"""All formats by name, in the order in which a path is compared with them."""

READABLE = tuple(name for name, found in FORMATS.items() if found.read is not None)
WRITABLE = tuple(name for name, found in FORMATS.items() if found.write is not None)


def detect_format(path: Path) -> str:
    """Return the name of the format at a path.

    Raises:
        InputError: Nothing is there, or no format is recognised.
    """
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    for name in READABLE:
        if FORMATS[name].detect(path):
            return name
    raise InputError(f"{path} has none of the formats {', '.join(READABLE)}; name it")


def read_masks(path: str | Path, kind: str | None = None) -> list[MaskVideo]:
    """Read the masks of all videos at a path.

    Args:
        path: File or folder.
        kind: Name of its format, one of `READABLE`; None recognises it.

    Returns:
        The videos, the frames of which are read when they are asked for; at least one.

    Raises:
        InputError: The format is not known, or the content is damaged.
    """
    path = Path(path)
    name = kind or detect_format(path)
    found = FORMATS.get(name)
    if found is None or found.read is None:
        known = ", ".join(READABLE)
        meant = did_you_mean(name, READABLE)
        raise InputError(f"the format to read must be one of {known}, got {name!r}{meant}")
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    try:
        videos = found.read(path)
    except (NotADirectoryError, IsADirectoryError) as error:
        raise InputError(f"{path} is not of the format {name}: {error.strerror}") from error
    if not videos:
        raise InputError(f"{path} has no video of the format {name}")
    return videos
