"""Sources of frames: folders of image files, video files and cameras.

The first stage of every run. Whatever is stored, a frame leaves this module as uint8
``(H, W, 3)`` RGB.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import cv2

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.types import FrameArray, Size, check_frame
from vots_hqtrack.video.images import (
    IMAGE_SUFFIXES,
    ExifRule,
    describe_lost,
    find_images,
    leave_out_masks,
    list_images,
    natural_key,
    open_image,
    read_frame,
    to_rgb8,
)
from vots_hqtrack.video.losses import Losses
from vots_hqtrack.video.video_file import DEFAULT_FPS, VideoFile

__all__ = [
    "DEFAULT_FPS",
    "IMAGE_SUFFIXES",
    "FrameSource",
    "NamedFrame",
    "list_images",
    "natural_key",
    "open_source",
    "read_frame",
]

_logger = logging.getLogger(__name__)

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

SourceKind = Literal["folder", "video", "camera"]


class NamedFrame(NamedTuple):
    """A frame of a source.

    Attributes:
        name: Name that its results carry: its file's stem, or its number in a video.
        frame: ``(H, W, 3)`` uint8 RGB.
        seconds: Its time from the first frame on.
    """

    name: str
    frame: FrameArray
    seconds: float


class FrameSource(ABC):
    """A video in whatever form; each iteration yields its frames from the first one.

    Attributes:
        location: Folder, video file, or the number of a camera, as a string.
        kind: Folder, video or camera.
        fps: Frames per second; of a video with a variable rate the mean.
        length: Number of frames; None if unknown.
        paths: The frames' files in order; empty unless it is a folder.
    """

    kind: SourceKind
    paths: tuple[Path, ...] = ()

    def __init__(self, location: str, fps: float, length: int | None) -> None:
        self.location = location
        self.fps = fps
        self.length = length
        self._losses = Losses()

    @property
    def losses(self) -> Losses:
        """Losses of the newest iteration; before any, of what random access read."""
        return self._losses

    def __iter__(self) -> Generator[NamedFrame, None, None]:
        """Yield the frames in order; errors as :meth:`read`."""
        return self.read()

    def read(self, start: int = 0) -> Generator[NamedFrame, None, None]:
        """Yield the frames in order.

        Args:
            start: Index of the first one.

        Raises:
            InputError: A frame cannot be read.
            ShapeError: Frames differ in size.
        """
        expected: Size | None = None
        for named in self._read(start):
            expected = self._check(named, expected)
            yield named

    def __getitem__(self, index: int) -> NamedFrame:
        """Return any frame, the same as iterating gives at that index.

        Raises:
            IndexError: The source has fewer frames.
            InputError: The frame cannot be read, or the source is a camera.
        """
        raise InputError(f"wanted a frame by its index, but {self.location} is a camera")

    def name_of(self, index: int) -> str:
        """Name of a frame: its file's stem, or its index in five digits."""
        return self.paths[index].stem if self.paths else f"{index:05d}"

    def first(self) -> NamedFrame:
        """Return the first frame, for which a camera is opened and closed.

        Raises:
            InputError: The source has no frame, or it cannot be read.
        """
        for named in self:
            return named
        raise InputError(f"no frame could be read from {self.location}")

    def close(self) -> None:  # noqa: B027 - only some sources hold anything open
        """Close what random access holds open."""

    @abstractmethod
    def _read(self, start: int) -> Iterator[NamedFrame]:
        """Yield the frames in order from an index on, whatever their size."""

    def _check(self, named: NamedFrame, expected: Size | None) -> Size:
        try:
            return check_frame(named.frame, expected=expected)
        except ShapeError as error:
            raise ShapeError(f"frame {named.name} of {self.location}: {error}") from error


class FolderSource(FrameSource):
    """A folder of image files.

    Args:
        location: The folder.
        fps: Frames per second.
        paths: The frames' files in order.
        lost: Names of files that were left out because they cannot be read.
        exif: Whether frames are turned as their EXIF orientation says.
        skip_missing: Whether files that cannot be read are left out, and noted in `losses`.
    """

    kind: SourceKind = "folder"

    def __init__(
        self,
        location: str,
        fps: float,
        paths: tuple[Path, ...],
        *,
        lost: tuple[str, ...] = (),
        exif: ExifRule = "apply",
        skip_missing: bool = False,
    ) -> None:
        super().__init__(location, fps, len(paths))
        self.paths = paths
        self._lost = lost
        self._exif = exif
        self._skip_missing = skip_missing
        self._losses = self._no_losses()
        self._noted: set[int] = set()

    def __getitem__(self, index: int) -> NamedFrame:
        """Return any frame by its index, -1 being the last."""
        number = range(len(self.paths))[index]
        path = self.paths[number]
        losses = Losses() if number in self._noted else self._losses
        self._noted.add(number)
        frame = read_frame(path, exif=self._exif, losses=losses)
        return NamedFrame(path.stem, frame, number / self.fps)

    def _no_losses(self) -> Losses:
        return Losses(len(self.paths) + len(self._lost), skipped=list(self._lost))

    def _read(self, start: int) -> Iterator[NamedFrame]:
        self._losses = losses = self._no_losses()
        self._noted.clear()
        for number, path in enumerate(self.paths[start:], start):
            self._noted.add(number)
            try:
                frame = read_frame(path, exif=self._exif, losses=losses)
            except InputError as error:
                if not self._skip_missing:
                    raise
                _logger.warning("skipped: %s", error)
                losses.skipped.append(path.name)
                continue
            yield NamedFrame(path.stem, frame, number / self.fps)


class VideoSource(FrameSource):
    """A video file.

    Args:
        video: The file.
        fps: Frames per second in place of the file's own times; None keeps these.
    """

    kind: SourceKind = "video"

    def __init__(self, video: VideoFile, *, fps: float | None = None) -> None:
        super().__init__(str(video.path), fps or video.fps, len(video))
        self._video = video
        self._has_own_times = fps is None

    def __getitem__(self, index: int) -> NamedFrame:
        """Return any frame by its index, -1 being the last."""
        number = range(len(self._video))[index]
        return self._name(number, self._video[number])

    @property
    def losses(self) -> Losses:
        """Losses of the newest iteration; before any, of what random access read."""
        return self._video.losses

    def close(self) -> None:
        """Close the file that random access holds open."""
        self._video.close()

    def _read(self, start: int) -> Iterator[NamedFrame]:
        for number, frame in enumerate(self._video):
            if number >= start:  # those before are decoded too, so that no damage goes unseen
                yield self._name(number, frame)

    def _name(self, number: int, frame: FrameArray) -> NamedFrame:
        times = self._video.times
        is_known = self._has_own_times and number < len(times)
        time = times[number] if is_known else number / self.fps
        return NamedFrame(self.name_of(number), frame, time)


class CameraSource(FrameSource):
    """A camera, read with OpenCV, which knows cameras by number on every system."""

    kind: SourceKind = "camera"

    def _read(self, start: int) -> Iterator[NamedFrame]:
        capture = cv2.VideoCapture(int(self.location))
        try:
            if not capture.isOpened():
                raise InputError(f"cannot open the camera {self.location}")
            index = 0
            while (read := capture.read())[0]:
                frame = to_rgb8(read[1], f"frame {index} of the camera {self.location}")
                if index >= start:
                    yield NamedFrame(f"{index:05d}", frame, index / self.fps)
                index += 1
        finally:
            capture.release()


def open_source(
    source: str | Path,
    *,
    fps: float | None = None,
    exif: ExifRule = "apply",
    skip_missing: bool = False,
    mask_path: Path | None = None,
) -> FrameSource:
    """Open a folder of frames, a video file or a camera.

    Args:
        source: A folder of frames (sorted so that ``9.jpg`` comes before ``10.jpg``), a video file,
            or the number of a camera. A video file's rotation is applied, as players do.
        fps: Frame rate; by default the source's own, or 25 if it has none.
        exif: Whether image files are turned as their EXIF orientation says, as viewers do.
        skip_missing: Whether files of a folder that cannot be read are left out; the source's
            `losses` then names them.
        mask_path: Mask of the first frame; it is left out if it is among the frames.

    Returns:
        The source. Its frames are read only when they are asked for.

    Raises:
        InputError: The source is missing, has no frame, or has lost some.
    """
    path = Path(source)
    if path.is_dir():
        return _open_folder(path, fps or DEFAULT_FPS, exif, skip_missing, mask_path)
    if not path.exists() and str(source).isdecimal():
        return _open_camera(str(source), fps)
    if _URL.match(str(source)):
        raise InputError(
            f"{source} is an address: download the video first, and give the file as source"
        )
    if not path.exists():
        raise InputError(f"no such source: wanted a folder, a video file or a camera, got {path}")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"{path} is a single image: give the folder that holds the frames")
    return VideoSource(VideoFile(path), fps=fps)


def _open_camera(number: str, fps: float | None) -> CameraSource:
    capture = cv2.VideoCapture(int(number))
    try:
        if not capture.isOpened():
            raise InputError(f"cannot open the camera {number}")
        own_rate = float(capture.get(cv2.CAP_PROP_FPS))
    finally:
        capture.release()
    return CameraSource(number, fps or (own_rate if 0 < own_rate < 1e6 else DEFAULT_FPS), None)


def _open_folder(
    folder: Path, fps: float, exif: ExifRule, skip_missing: bool, mask_path: Path | None
) -> FolderSource:
    """List a folder's frames, at least one, with names that differ without their suffixes."""
    found = find_images(folder)
    if found.lost and not skip_missing:
        message = describe_lost(folder, found.lost)
        raise InputError(f"{message}; skip_missing (--skip-missing) goes on without them")
    paths = leave_out_masks(found.paths, mask_path)
    if not paths:
        wanted = ", ".join(IMAGE_SUFFIXES)
        raise InputError(f"no frame in the folder {folder}: wanted files that end in {wanted}")
    by_stem: dict[str, Path] = {}
    for path in paths:
        twin = by_stem.setdefault(path.stem.lower(), path)
        if twin is not path:
            raise InputError(
                f"frame names must differ in {folder}, got both {twin.name} and {path.name}"
            )
    _report_orientation(paths[0], exif)
    return FolderSource(
        str(folder),
        fps,
        tuple(paths),
        lost=tuple(found.lost),
        exif=exif,
        skip_missing=skip_missing,
    )


def _report_orientation(path: Path, exif: ExifRule) -> None:
    """Say once what happens to the frames' EXIF orientation, by the first frame's."""
    try:
        stored = open_image(path.read_bytes(), path)
    except (InputError, OSError):
        return  # reading the frame will say it
    orientation = 1 if stored is None else stored.orientation
    if orientation != 1 and exif == "apply":
        _logger.warning(
            "%s is turned as its EXIF orientation (%d) says, as viewers show it: masks and boxes "
            "must fit that; exif=ignore (--exif ignore) takes the pixels as stored",
            path,
            orientation,
        )
    elif orientation != 1:
        _logger.warning(
            "%s has the EXIF orientation %d, which is ignored: viewers show it otherwise",
            path,
            orientation,
        )
