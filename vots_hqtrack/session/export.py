"""Exports of a session: its masks as files for other programs, in the project folder.

:data:`EXPORTS` is the one list of formats, which the page shows; a new one is one more entry.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vots_hqtrack.errors import InputError, printable
from vots_hqtrack.io import atomic_path
from vots_hqtrack.session.state import SessionState
from vots_hqtrack.session.video import losses_of
from vots_hqtrack.video.cutout import Cutout, CutoutKind
from vots_hqtrack.video.result_folder import (
    CUTOUT_FOLDER,
    MASKS_FOLDER,
    OVERLAY_NAME,
    TRACKS_NAME,
)
from vots_hqtrack.video.results import ResultWriter

EXPORTS_FOLDER = "exports"


class Export(NamedTuple):
    """A format.

    Attributes:
        label: Its description.
        file_name: Name of the file.
        write: Writes the file, given the session and the path.
    """

    label: str
    file_name: str
    write: Callable[[SessionState, Path], None]


def export(state: SessionState, name: str) -> Path:
    """Write the masks of all known frames into the project folder, over an earlier export.

    Args:
        state: The session.
        name: A key of :data:`EXPORTS`.

    Returns:
        Path of the file.

    Raises:
        InputError: The format is unknown, no frame has a mask, or a frame cannot be read.
        OutputError: The file cannot be written.
    """
    if name not in EXPORTS:
        raise InputError(f"wanted one of the formats {', '.join(EXPORTS)}, got {name!r}")
    if not state.records:
        raise InputError("nothing to export: give an object first")
    folder = state.project.folder / EXPORTS_FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / EXPORTS[name].file_name
    with atomic_path(path, suffix=path.suffix) as temporary:
        EXPORTS[name].write(state, temporary)
    return path


def write_results(
    state: SessionState,
    folder: Path,
    *,
    use_overlay: bool = False,
    cutout: CutoutKind | None = None,
) -> None:
    """Write a folder of results, as ``hqtrack track`` does.

    Args:
        state: The session; it may be edited meanwhile.
        folder: A new folder.
        use_overlay: Whether to write the overlay video.
        cutout: Form of the objects without their background; None writes none.
    """
    height, width = state.size
    facts = {
        "source": {
            "location": state.project.video.location,
            "fps": state.fps,
            "height": height,
            "width": width,
        },
        "prompt": {"project": str(state.project.folder)},
    }
    writer = ResultWriter(
        folder,
        facts,
        overlay_fps=state.fps if use_overlay else None,
        cutout=None if cutout is None else Cutout(cutout, state.fps),
        get_losses=lambda: losses_of(state.video),
    )
    with writer:
        for index in sorted(state.records):
            name, frame, shown_at = state.named_frame(index)
            writer.write(name, frame, state.result(index), seconds=math.nan, shown_at=shown_at)


def _write_part(
    state: SessionState,
    path: Path,
    *,
    part: str,
    use_overlay: bool = False,
    cutout: CutoutKind | None = None,
) -> None:
    """Write a file, or a folder as a ZIP, of a folder of results."""
    with tempfile.TemporaryDirectory(prefix="hqtrack-") as folder:
        write_results(state, Path(folder), use_overlay=use_overlay, cutout=cutout)
        found = Path(folder, part)
        if found.is_file():
            shutil.copyfile(found, path)
            return
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for image in sorted(found.iterdir()):
                # A ZIP holds UTF-8 names only.
                archive.write(image, f"{part}/{printable(image.name)}")


EXPORTS: dict[str, Export] = {
    "masks": Export("Masks as indexed PNGs", "masks.zip", partial(_write_part, part=MASKS_FOLDER)),
    "overlay": Export(
        "Video with masks", OVERLAY_NAME, partial(_write_part, part=OVERLAY_NAME, use_overlay=True)
    ),
    "cutout-png": Export(
        "Objects as transparent images",
        "cutout.zip",
        partial(_write_part, part=CUTOUT_FOLDER, cutout="png"),
    ),
    "cutout-webm": Export(
        "Objects as a transparent video",
        "cutout.webm",
        partial(_write_part, part="cutout.webm", cutout="webm"),
    ),
    "cutout-mp4": Export(
        "Objects as a video on black",
        "cutout.mp4",
        partial(_write_part, part="cutout.mp4", cutout="mp4"),
    ),
    "tracks": Export(
        "Boxes and scores as JSON", TRACKS_NAME, partial(_write_part, part=TRACKS_NAME)
    ),
}
