"""Folder of results: files that this program wrote, and those that a run that was cut left there.

A folder belongs to one run. Its ``tracks.json`` lists the files of the run; while the run goes on,
a journal lists each label map before it is written. Nothing else is ever removed or replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vots_hqtrack.errors import InputError
from vots_hqtrack.io import (
    atomic_path,
    hold_lock,
    is_temporary,
    remove_new_folders,
    remove_temporaries,
    to_json,
)
from vots_hqtrack.video.losses import Losses

MASKS_FOLDER = "masks"
CUTOUT_FOLDER = "cutout"
OVERLAY_NAME = "overlay.mp4"
CUTOUT_VIDEOS = ("cutout.webm", "cutout.mp4")
TRACKS_NAME = "tracks.json"
CHECKPOINT_NAME = "checkpoint.safetensors"
JOURNAL_NAME = ".hqtrack.journal"
SESSION_NAME = "session.hqtrack"
PASSES_NAME = ".hqtrack.passes"
LOCK_NAME = ".hqtrack.lock"
FORMAT_VERSION = 1

Earlier = Literal["refuse", "overwrite", "resume"]
"""What to do with results that are in the folder."""


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """Results that an earlier run left.

    Attributes:
        head: Content of ``tracks.json`` without its frames.
        frames: Record of each frame, in order.
    """

    head: Mapping[str, object]
    frames: tuple[Mapping[str, object], ...]

    @property
    def status(self) -> str:
        """Status at its end; ``running`` if it was killed."""
        return str(self.head.get("status"))

    @property
    def has_ended(self) -> bool:
        """Whether it tracked everything that its source had."""
        return self.status in ("complete", "partial")

    @property
    def losses(self) -> Losses:
        """Losses of its source, as far as it was read."""
        return Losses.from_dict(self.head.get("losses"))

    def files(self, folder: Path) -> list[Path]:
        """Return all files that it may have written."""
        listed = _strings(self.head.get("files"))
        own = [name for name in (OVERLAY_NAME, *CUTOUT_VIDEOS, CHECKPOINT_NAME) if name in listed]
        folders = [MASKS_FOLDER, *([CUTOUT_FOLDER] if CUTOUT_FOLDER in listed else [])]
        images = [
            folder / name / f"{frame['name']}.png" for name in folders for frame in self.frames
        ]
        return [*images, *(folder / name for name in (*own, JOURNAL_NAME, TRACKS_NAME))]


def check_output(folder: Path, *, earlier: Earlier, inputs: Iterable[Path] = ()) -> None:
    """Check that results may be written into a folder, before any work is done.

    Args:
        folder: Output folder; it need not exist.
        earlier: Treatment of results that are there.
        inputs: Files and folders that the run reads.

    Raises:
        InputError: It is not a folder, holds something that no run wrote or that may not be
            replaced, or an input is inside.
    """
    try:
        if os.path.lexists(folder) and not folder.is_dir():
            raise InputError(f"the output folder must be a folder, got the file {folder}")
        if not folder.exists():
            return
        for path in inputs:
            _refuse_inside(path, folder)
        _refuse_foreign(folder, _check_content(folder, earlier))
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot use the output folder {folder}: {reason}") from error


@contextlib.contextmanager
def claim_output(folder: Path, *, earlier: Earlier) -> Iterator[EarlierRun | None]:
    """Make a folder, lock it, check it again, and remove what killed processes left.

    Folders that were made and are still empty at the end are removed.

    Args:
        folder: Output folder.
        earlier: Treatment of results that are there.

    Yields:
        What an earlier run left, or None.

    Raises:
        InputError: As :func:`check_output`; or another process writes into the folder.
    """
    with remove_new_folders(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"cannot make the output folder {folder}: {reason}") from error
        busy = f"another run writes into {folder}; wait for it, or give another --out"
        with hold_lock(folder / LOCK_NAME, busy=busy, remove=True):
            check_output(folder, earlier=earlier)
            remove_temporaries(folder)
            for name in (MASKS_FOLDER, CUTOUT_FOLDER):
                if (folder / name).is_dir():
                    remove_temporaries(folder / name)
            yield read_earlier(folder)


def read_earlier(folder: Path) -> EarlierRun | None:
    """Read what an earlier run left in a folder; None if there was none.

    Raises:
        InputError: ``tracks.json`` is not one of ours, or a link.
    """
    path = folder / TRACKS_NAME
    if not os.path.lexists(path):
        return None
    try:
        if not _is_plain(path):
            raise ValueError("not a regular file")
        head = json.loads(path.read_bytes())
        frames = head.pop("frames")
        if head["format"] != FORMAT_VERSION:
            raise ValueError(f"format {head['format']!r}")
        # A killed run has more in its journal, unless it was killed while it copied the journal.
        frames = max(frames, read_journal(folder / JOURNAL_NAME), key=len)
        if not all(_is_name(frame["name"]) for frame in frames):
            raise ValueError("a frame name that is not a file name")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} was not written by this program: {error}") from error
    return EarlierRun(head, tuple(frames))


def remove_earlier(folder: Path, run: EarlierRun, *, keep_frames: int = 0) -> None:
    """Remove the files of an earlier run, ``tracks.json`` last, which lists the others.

    If the run was cut, ``tracks.json`` stays until it is replaced: a session needs its fingerprint.

    Args:
        folder: Folder that is locked.
        run: The run.
        keep_frames: Number of first frames of which the label maps stay; then ``tracks.json`` and
            the checkpoint stay too.
    """
    kept = {folder / MASKS_FOLDER / f"{frame['name']}.png" for frame in run.frames[:keep_frames]}
    if keep_frames:
        kept |= {folder / JOURNAL_NAME, folder / CHECKPOINT_NAME}
    if not run.has_ended:
        kept.add(folder / TRACKS_NAME)
    for path in run.files(folder):
        if path not in kept:
            path.unlink(missing_ok=True)
    if CUTOUT_FOLDER in _strings(run.head.get("files")):
        with contextlib.suppress(OSError):  # it is missing, or holds more
            (folder / CUTOUT_FOLDER).rmdir()


def remove_leftovers(folder: Path, run: EarlierRun) -> None:
    """Remove what a run that came to its end would have removed, had it not been killed."""
    listed = CHECKPOINT_NAME in _strings(run.head.get("files"))
    for name in (JOURNAL_NAME, *([CHECKPOINT_NAME] if listed else [])):
        (folder / name).unlink(missing_ok=True)


class Journal:
    """Steps of a run so far, such as its frames, one JSON line each, which a killed run leaves.

    Args:
        path: The file; a new one is made.
        steps: Steps that are done already.
    """

    def __init__(self, path: Path, steps: Iterable[Mapping[str, object]] = ()) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("".join(to_json(step) + "\n" for step in steps), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")
        self.path = path

    def add(self, step: Mapping[str, object]) -> None:
        """Add a step; a frame before its label map is written."""
        self._file.write(to_json(step) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Flush it to the disk."""
        os.fsync(self._file.fileno())

    def close(self, *, remove: bool) -> None:
        """Close the file, and remove it if it is not needed any more."""
        with contextlib.suppress(OSError):  # of a full disk, which was reported when it was met
            self._file.close()
        if remove:
            self.path.unlink(missing_ok=True)


def _check_content(folder: Path, earlier: Earlier) -> EarlierRun:
    """Refuse results that may not be replaced; return the run that left them, or an empty one."""
    is_empty = all(name == LOCK_NAME or is_temporary(name) for name in os.listdir(folder))
    if earlier == "refuse" and not is_empty:
        raise InputError(
            f"the output folder {folder} is not empty; give --overwrite to replace results, or "
            "--resume to go on with a run that was cut"
        )
    run = read_earlier(folder)
    return EarlierRun({}, ()) if run is None else run


def _refuse_foreign(folder: Path, run: EarlierRun) -> None:
    """Refuse files in the way of the results that the earlier run did not write."""
    images, own = [folder / MASKS_FOLDER, folder / CUTOUT_FOLDER], set(run.files(folder))
    for path in (folder, *images):
        if path.is_dir() and not os.access(path, os.W_OK | os.X_OK):
            raise InputError(f"the folder {path} cannot be written: Permission denied")
    ours = (OVERLAY_NAME, *CUTOUT_VIDEOS, CHECKPOINT_NAME, JOURNAL_NAME, TRACKS_NAME)
    found = [folder / name for name in ours if os.path.lexists(folder / name)]
    for place in images:
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise InputError(f"{place} is not a folder that this program made; give another --out")
        if place.is_dir():
            found += [path for path in place.iterdir() if not is_temporary(path.name)]
    foreign = sorted(path for path in found if path not in own or not _is_plain(path))
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise InputError(
            f"{foreign[0]}{more} in the output folder would be replaced or mixed with results, but "
            "no earlier run lists it in tracks.json; move it, or give another --out"
        )


def _refuse_inside(path: Path, folder: Path) -> None:
    """Refuse an input that is the output folder or inside it."""
    place = path.resolve()
    for parent in (place, *place.parents):
        if parent.exists() and parent.samefile(folder):
            raise InputError(
                f"the output folder {folder} holds the input {path}; give another folder as --out"
            )


def read_journal(path: Path) -> list[dict[str, object]]:
    """Read a killed run's journal; a line that was cut is left out.

    Raises:
        ValueError: It is not one of ours.
    """
    if not path.exists():
        return []
    if not _is_plain(path):
        raise ValueError(f"{path.name} is not a regular file")
    whole = path.read_bytes().rpartition(b"\n")[0].splitlines()
    return [json.loads(line) for line in whole]


def _is_plain(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and "/" not in name and "\0" not in name and bool(name)


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(part) for part in value) if isinstance(value, list) else ()
