"""Sources of frames: image files, folders of them, video files and cameras.

The first stage of every run. Whatever is stored, a frame leaves this module as uint8
``(H, W, 3)`` RGB.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.types import FrameArray, Size, check_frame

_logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
DEFAULT_FPS = 25.0
"""Frame rate of a source that has none of its own."""

SourceKind = Literal["folder", "video", "camera"]


class NamedFrame(NamedTuple):
    """A frame with the name that its results carry: its file's stem, or its number in a video."""

    name: str
    frame: FrameArray


@dataclass(frozen=True, slots=True)
class FrameSource:
    """A video in whatever form; each iteration yields its frames from the first one.

    Attributes:
        location: Folder, video file, or the number of a camera, as a string.
        kind: Folder, video or camera.
        fps: Frames per second.
        length: Number of frames, of a video file by its header; None if unknown.
        paths: The frames' files in order; empty unless it is a folder.
    """

    location: str
    kind: SourceKind
    fps: float
    length: int | None
    paths: tuple[Path, ...] = ()

    def __iter__(self) -> Generator[NamedFrame, None, None]:
        """Yield the frames in order.

        Raises:
            InputError: A frame cannot be read.
            ShapeError: Frames differ in size.
        """
        expected: Size | None = None
        frames = self._read_files() if self.kind == "folder" else self._read_capture()
        for named in frames:
            try:
                expected = check_frame(named.frame, expected=expected)
            except ShapeError as error:
                raise ShapeError(f"frame {named.name} of {self.location}: {error}") from error
            yield named

    def first(self) -> NamedFrame:
        """Return the first frame, for which a camera is opened and closed.

        Raises:
            InputError: The source has no frame, or it cannot be read.
        """
        for named in self:
            return named
        raise InputError(f"no frame could be read from {self.location}")

    def _read_files(self) -> Iterator[NamedFrame]:
        for path in self.paths:
            yield NamedFrame(path.stem, read_frame(path))

    def _read_capture(self) -> Iterator[NamedFrame]:
        index = 0
        with _open_capture(self.location, self.kind) as capture:
            while (read := capture.read())[0]:
                frame = _to_rgb8(read[1], f"frame {index} of {self.location}")
                yield NamedFrame(f"{index:05d}", frame)
                index += 1
        if self.length is not None and index < self.length:
            # Headers of sound files may be a frame off, so this is not an error.
            _logger.warning(
                "%s announces %d frames, but %d could be read", self.location, self.length, index
            )


def read_frame(path: Path) -> FrameArray:
    """Read an image file as a frame.

    Grey and indexed images become RGB, 16-bit ones are scaled to 8 bits (65535 becomes 255), and
    alpha is dropped. The EXIF orientation is ignored, because masks and annotations are stored
    unrotated.

    Args:
        path: Image file; its name may hold any characters.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        InputError: The file is missing, damaged, cut short, or not an 8- or 16-bit image.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
        if _is_cut_jpeg(data.tobytes()):
            raise InputError(f"cannot read the frame {path}: the JPEG file is cut short")
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except (OSError, cv2.error) as error:
        reason = getattr(error, "err", "") or getattr(error, "strerror", "") or error
        raise InputError(f"cannot read the frame {path}: {reason}") from error
    if image is None:
        raise InputError(f"cannot read the frame {path}: not an image, or a damaged one")
    return _to_rgb8(image, f"the frame {path}")


def open_source(source: str | Path, *, fps: float | None = None) -> FrameSource:
    """Open a folder of frames, a video file or a camera.

    Args:
        source: A folder of frames (sorted so that ``9.jpg`` comes before ``10.jpg``), a video file,
            or the number of a camera. A video file's rotation is applied, as players do.
        fps: Frame rate; by default the source's own, or 25 if it has none.

    Returns:
        The source. Its frames are read only when they are asked for.

    Raises:
        InputError: The source is missing, or has no frame.
    """
    path = Path(source)
    if path.is_dir():
        paths = _list_frames(path)
        return FrameSource(str(path), "folder", fps or DEFAULT_FPS, len(paths), paths)
    kind: SourceKind = "video"
    if not path.exists():
        if not str(source).isdecimal():
            raise InputError(
                f"no such source: wanted a folder, a video file or a camera, got {path}"
            )
        kind = "camera"
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"{path} is a single image: give the folder that holds the frames")
    with _open_capture(str(source), kind) as capture:
        own_rate = float(capture.get(cv2.CAP_PROP_FPS))
        length = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if kind == "video" else 0
    rate = fps or (own_rate if np.isfinite(own_rate) and own_rate > 0 else DEFAULT_FPS)
    return FrameSource(str(source), kind, rate, length if length > 0 else None)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sorting key by which numbers inside names count as numbers.

    Example:
        >>> sorted(["10.jpg", "9.jpg", "1.jpg"], key=natural_key)
        ['1.jpg', '9.jpg', '10.jpg']
    """
    parts = re.split(r"([0-9]+)", name.lower())
    return [int(part) if part.isdecimal() else part for part in parts], name


def list_images(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Image files of a folder in natural order, hidden ones left out."""
    # A leading dot marks other systems' side files, such as "._00000.jpg".
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    ]
    return sorted(found, key=lambda path: natural_key(path.name))


def _list_frames(folder: Path) -> tuple[Path, ...]:
    """Image files of a folder, at least one, with names that differ without their suffixes."""
    found = list_images(folder)
    if not found:
        wanted = ", ".join(IMAGE_SUFFIXES)
        raise InputError(f"no frame in the folder {folder}: wanted files that end in {wanted}")
    by_stem: dict[str, Path] = {}
    for path in found:
        twin = by_stem.setdefault(path.stem.lower(), path)
        if twin is not path:
            raise InputError(
                f"frame names must differ in {folder}, got both {twin.name} and {path.name}"
            )
    return tuple(found)


@contextmanager
def _open_capture(location: str, kind: SourceKind) -> Iterator[Any]:
    capture = cv2.VideoCapture(int(location) if kind == "camera" else location)
    try:
        if not capture.isOpened():
            what = "camera" if kind == "camera" else "video file"
            raise InputError(f"cannot open the {what} {location}")
        yield capture
    finally:
        capture.release()


def _to_rgb8(image: npt.NDArray[Any], what: str) -> FrameArray:
    """Turn what OpenCV read, ``(H, W)`` or ``(H, W, 1 | 3 | 4)`` BGR(A), into a frame."""
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise InputError(f"{what} must have 8 or 16 bits a channel, got {image.dtype}")
    channels = 1 if image.ndim == 2 else image.shape[2]
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    if channels not in codes:
        raise InputError(f"{what} must have 1, 3 or 4 channels, got {channels}")
    return np.ascontiguousarray(cv2.cvtColor(image, codes[channels]), dtype=np.uint8)


def _is_cut_jpeg(data: bytes) -> bool:
    """Check whether JPEG data lack their end, which OpenCV 4 pads with grey without a word.

    Segments before the scan are skipped by their length, since a thumbnail in them has an end
    of its own.
    """
    if not data.startswith(b"\xff\xd8"):
        return False
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        is_padding = data[position + 1] == 0xFF
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        position += 1 if is_padding else 2 + length
    # From the back, where a sound file has it: searching all of it takes a tenth of the decoding.
    return data.rfind(b"\xff\xd9", position) < 0
