"""Project folder of an interactive session: masks, scores and prompts, on disk after each frame.

``masks/00012.png`` has the masks of frame 12 as a label map, ``frames/00012.json`` their scores and
prompts, ``project.json`` the video and the objects. Each file appears whole or not at all, so that
a process that is killed loses the frame at work and no more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.io import hold_lock, is_temporary, remove_temporaries, write_json
from vots_hqtrack.refiner import Box, Click
from vots_hqtrack.types import MAX_OBJECTS, LabelArray, ObjectId, Size, Source
from vots_hqtrack.video.label_maps import read_written_map, write_label_map
from vots_hqtrack.video.result_folder import MASKS_FOLDER

PROJECT_NAME = "project.json"
RECORDS_FOLDER = "frames"
LOCK_NAME = ".lock"
FORMAT_VERSION = 1
SIGNATURE_LENGTH = 192
_SCORE_DIGITS = 4
_RECORD_NAME = re.compile(r"\d{5,}")


@dataclass(frozen=True, slots=True)
class GivenPrompt:
    """Prompts by which the user gave an object's mask on a frame.

    Attributes:
        clicks: Points inside and outside of the object.
        box: Box around it, or None.
        is_drawn: The mask itself was given; it includes what clicks and box made before.
    """

    clicks: tuple[Click, ...] = ()
    box: Box | None = None
    is_drawn: bool = False


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One object on one frame; its mask is in the frame's label map.

    Attributes:
        score: Confidence in ``[0, 1]``; 0 where it is not seen.
        source: Origin of the mask.
        from_frame: Frame with the given mask from which this one was tracked; the frame itself
            where it was given.
        distance: Number of frames that were tracked since, 0 where it was given.
        prompt: Prompts that gave the mask; None where it was tracked.
    """

    score: float
    source: Source
    from_frame: int
    distance: int = 0
    prompt: GivenPrompt | None = None

    @property
    def is_given(self) -> bool:
        """Whether the user gave the mask."""
        return self.prompt is not None


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """All objects on one frame.

    Attributes:
        objects: The objects that were given or tracked there.
        edit: Number of the newest edit of the frame, from 1; 0 where nothing is given.
        signature: Appearance of the given objects, see ``references``; empty without them.
    """

    objects: Mapping[ObjectId, ObjectRecord] = field(default_factory=dict)
    edit: int = 0
    signature: tuple[int, ...] = ()

    @property
    def given(self) -> frozenset[ObjectId]:
        """Objects with a mask from the user."""
        return frozenset(number for number, record in self.objects.items() if record.is_given)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Name and visibility of an object.

    Attributes:
        name: Its name.
        is_visible: Whether it is drawn.
    """

    name: str
    is_visible: bool = True


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """Facts of a video that must agree when a project is opened again.

    Attributes:
        location: Path of the video, for the user.
        num_frames: Number of frames.
        size: Size of a frame.
    """

    location: str
    num_frames: int
    size: Size


class Project:
    """A project folder, which one process has open at a time.

    Args:
        folder: A new or empty folder, or that of a project, which goes on.
        video: The video.

    Raises:
        InputError: The folder holds something else, is open in another process, belongs to another
            video, or has a damaged file.
    """

    def __init__(self, folder: Path, video: VideoFacts) -> None:
        self.folder, self.video = folder, video
        self.objects: dict[ObjectId, ObjectInfo] = {}
        self.records: dict[int, FrameRecord] = {}
        self._newest_map: tuple[Path, tuple[int, ...], LabelArray] | None = None
        if folder.exists() and not folder.is_dir():
            raise InputError(f"a project is a folder, got the file {folder}")
        is_known = (folder / PROJECT_NAME).exists()
        names = os.listdir(folder) if folder.is_dir() else []
        if not is_known and not all(name == LOCK_NAME or is_temporary(name) for name in names):
            raise InputError(
                f"the folder {folder} is not empty and holds no {PROJECT_NAME}: give a new folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self._held = contextlib.ExitStack()
        busy = f"the project {folder} is open in another process"
        self._held.enter_context(
            hold_lock(folder / LOCK_NAME, busy=busy, remove=True, error=InputError)
        )
        try:
            remove_temporaries(folder)  # of a process that was killed
            if is_known:
                self._load()
            else:
                self.save()
            for name in (MASKS_FOLDER, RECORDS_FOLDER):
                (folder / name).mkdir(exist_ok=True)
                remove_temporaries(folder / name)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other processes open the project; everything is on disk already."""
        self._held.close()

    def save(self) -> None:
        """Write the objects and the video's facts."""
        content = {
            "format": FORMAT_VERSION,
            "video": dataclasses.asdict(self.video),
            "objects": {str(i): dataclasses.asdict(info) for i, info in self.objects.items()},
        }
        write_json(self.folder / PROJECT_NAME, content, indent=2)

    def mask_path(self, frame_index: int) -> Path:
        """Path of a frame's label map."""
        return self.folder / MASKS_FOLDER / f"{frame_index:05d}.png"

    def read_label_map(self, frame_index: int) -> LabelArray:
        """Read the ``(H, W)`` label map of a frame; all 0 where there is none.

        The newest one is kept, and read again only where its file has changed; it is read-only.

        Raises:
            InputError: The file is damaged or of another size.
        """
        if frame_index not in self.records:
            return np.zeros(self.video.size, np.uint8)
        path = self.mask_path(frame_index)
        version, newest = _version_of(path), self._newest_map
        if newest is not None and newest[:2] == (path, version):
            return newest[2]
        label_map = read_written_map(path)
        if label_map.shape != tuple(self.video.size):
            got = Size(*label_map.shape)
            raise InputError(f"the mask {path} must have the size {self.video.size}, got {got}")
        label_map.setflags(write=False)
        self._newest_map = path, version, label_map
        return label_map

    def write_frame(self, frame_index: int, label_map: LabelArray, record: FrameRecord) -> None:
        """Replace a frame's masks, scores and prompts."""
        path, kept = self.mask_path(frame_index), label_map.copy()
        write_label_map(path, label_map)
        write_json(self._record_path(frame_index), _record_to_json(record))
        self.records[frame_index] = record
        kept.setflags(write=False)
        is_right = kept.shape == tuple(self.video.size)
        self._newest_map = (path, _version_of(path), kept) if is_right else None

    def delete_frame(self, frame_index: int) -> None:
        """Delete a frame's masks, scores and prompts."""
        self.records.pop(frame_index, None)
        for path in (self._record_path(frame_index), self.mask_path(frame_index)):
            path.unlink(missing_ok=True)

    def _record_path(self, frame_index: int) -> Path:
        return self.folder / RECORDS_FOLDER / f"{frame_index:05d}.json"

    def _load(self) -> None:
        path = self.folder / PROJECT_NAME
        content = _read_json(path)
        try:
            stored = content["video"]
            num_frames, size = int(stored["num_frames"]), Size(*stored["size"])
            objects = {
                _object_id(number): ObjectInfo(str(info["name"]), bool(info["is_visible"]))
                for number, info in content["objects"].items()
            }
            version = content["format"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _damaged(path, error) from error
        if version != FORMAT_VERSION:
            raise InputError(f"the project {path} has the format {version}, not {FORMAT_VERSION}")
        if (num_frames, size) != (self.video.num_frames, self.video.size):
            raise InputError(
                f"the project {self.folder} belongs to a video of {num_frames} frames of {size}, "
                f"got one of {self.video.num_frames} frames of {self.video.size}"
            )
        self.objects = objects
        for found in sorted((self.folder / RECORDS_FOLDER).glob("*.json")):
            if _RECORD_NAME.fullmatch(found.stem) and int(found.stem) < num_frames:
                self.records[int(found.stem)] = self._load_record(found)

    def _load_record(self, path: Path) -> FrameRecord:
        content = _read_json(path)
        try:
            record = _record_from_json(content)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise _damaged(path, error) from error
        known = {i: found for i, found in record.objects.items() if i in self.objects}
        return dataclasses.replace(record, objects=known)


def _version_of(path: Path) -> tuple[int, ...]:
    """Return numbers that change with a file's content; none where it cannot be read."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def delete_project(folder: Path) -> None:
    """Delete a project; files that are not of a project stay, with their folders.

    Raises:
        InputError: It is open in another process.
        OSError: A file cannot be deleted.
    """
    if folder.is_symlink() or not folder.is_dir():
        return
    busy = f"the project {folder} is open in another process"
    with hold_lock(folder / LOCK_NAME, busy=busy, remove=True, error=InputError):
        parts = [(MASKS_FOLDER, ".png"), (RECORDS_FOLDER, ".json")]
        for place, suffix in ((folder / name, suffix) for name, suffix in parts):
            for path in place.iterdir() if place.is_dir() and not place.is_symlink() else ():
                is_frame = path.suffix == suffix and _RECORD_NAME.fullmatch(path.stem)
                if is_frame or is_temporary(path.name):
                    path.unlink()
            with contextlib.suppress(OSError):  # it holds more
                place.rmdir()
        remove_temporaries(folder)
        (folder / PROJECT_NAME).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def read_video_facts(folder: Path) -> VideoFacts:
    """Read the video's facts that a project stores, to open it without the video.

    Raises:
        InputError: The project is missing or damaged.
    """
    path = folder / PROJECT_NAME
    try:
        stored = _read_json(path)["video"]
        return VideoFacts(
            str(stored["location"]), int(stored["num_frames"]), Size(*map(int, stored["size"]))
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _record_to_json(record: FrameRecord) -> dict[str, Any]:
    objects: dict[str, Any] = {}
    for number, found in sorted(record.objects.items()):
        objects[str(number)] = {
            "score": round(found.score, _SCORE_DIGITS),
            "source": found.source,
            "from_frame": found.from_frame,
            "distance": found.distance,
        }
        if found.prompt is not None:
            objects[str(number)]["prompt"] = dataclasses.asdict(found.prompt)
    return {"edit": record.edit, "signature": list(record.signature), "objects": objects}


def _record_from_json(content: Any) -> FrameRecord:  # noqa: ANN401 - what JSON holds
    objects = {}
    for number, found in content["objects"].items():
        source, prompt = found["source"], found.get("prompt")
        if source not in get_args(Source):
            raise ValueError(f"unknown source {source!r}")
        given = None
        if prompt is not None:
            clicks = tuple(
                Click(float(x), float(y), bool(inside)) for x, y, inside in prompt["clicks"]
            )
            box = prompt["box"]
            if box is not None:
                x, y, width, height = (float(value) for value in box)
                box = (x, y, width, height)
            given = GivenPrompt(clicks, box, bool(prompt["is_drawn"]))
        score = float(found["score"])
        if not 0 <= score <= 1:
            raise ValueError(f"the score {score}")
        steps = int(found["from_frame"]), int(found["distance"])
        objects[_object_id(number)] = ObjectRecord(score, source, *steps, prompt=given)
    signature = tuple(int(value) for value in content["signature"])
    if len(signature) != (SIGNATURE_LENGTH if content["edit"] else 0):
        raise ValueError("a signature of another length")
    return FrameRecord(objects, int(content["edit"]), signature)


def _object_id(name: str) -> ObjectId:
    number = int(name)
    if not 1 <= number <= MAX_OBJECTS:
        raise ValueError(f"object {number}")
    return ObjectId(number)


def _read_json(path: Path) -> Any:  # noqa: ANN401 - what JSON holds
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return InputError(f"cannot read the project file {path}: {reason}")
