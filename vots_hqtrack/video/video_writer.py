"""Videos of images, written with PyAV: MP4 that browsers play, or WebM with transparency."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, TypeVar

import av
import cv2
import numpy as np
import numpy.typing as npt
from av import VideoStream
from av.container import OutputContainer

from vots_hqtrack.errors import InputError, OutputError
from vots_hqtrack.io import atomic_path
from vots_hqtrack.types import Size

_CODECS = ("libx264", "libopenh264", "libvpx-vp9", "mpeg4")
"""By preference: browsers play all but the last, which every FFmpeg has."""

_OPTIONS = {"libx264": {"preset": "veryfast"}}

_ALPHA_CODEC = "libvpx-vp9"
_ALPHA_OPTIONS = {
    "crf": "24",
    "b": "0",
    "deadline": "realtime",
    "cpu-used": "6",
    "auto-alt-ref": "0",
}

_TICKS = 1000
"""Parts of a frame's time in which the times of frames are stored."""

_MAX_DENOMINATOR = 1001

_Writer = TypeVar("_Writer", bound="VideoWriter")


class _NoFrameError(Exception):
    """A video would be empty."""


class VideoWriter:
    """Writes images into a video file.

    It is a context manager. The file appears under its name at the end, also when an error ends it
    early: it then holds what was written so far. A video without frames leaves no file, and neither
    does one that cannot be finished.

    Args:
        path: The video to write; a file there is replaced.
        fps: Frames per second.
        size: Size of an image. In an MP4, odd sides get one more row or column, a copy of the last.
        has_alpha: Write a WebM with transparency in place of an MP4.

    Raises:
        InputError: The frame rate is not positive, or FFmpeg cannot write such a video.
        OutputError: The file cannot be written.
    """

    def __init__(self, path: Path, fps: float, size: Size, *, has_alpha: bool = False) -> None:
        """Open the video for writing."""
        if not 0 < fps < math.inf:
            raise InputError(f"a video's frame rate must be above 0, got {fps}")
        self.path = path
        self.size = size
        self._has_alpha = has_alpha
        self._fps = fps
        self._last_tick = -1
        with self._reported(), contextlib.ExitStack() as stack:
            # FFmpeg writes into an open file, the name of which may hold any bytes.
            self._temporary = stack.enter_context(atomic_path(path))
            file = stack.enter_context(self._temporary.open("wb"))
            self._container, self._stream = self._open(file)
            self._open_files = stack.pop_all()

    def __enter__(self: _Writer) -> _Writer:
        """Return the writer."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Finish the file and give it its name."""
        with self._reported(), contextlib.suppress(_NoFrameError), self._open_files:
            if self._last_tick < 0:
                raise _NoFrameError
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def append(self, image: npt.NDArray[np.uint8], *, seconds: float | None = None) -> None:
        """Append a uint8 image, ``(H, W, 3)`` RGB, or ``(H, W, 4)`` RGBA with transparency.

        Args:
            image: The image.
            seconds: Time at which it is shown; by default one frame after the last.

        Raises:
            OutputError: The file cannot be written.
        """
        height, width = image.shape[:2]
        if not self._has_alpha and (height % 2 or width % 2):
            edge = cv2.BORDER_REPLICATE
            padded = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, edge)
            image = np.asarray(padded, dtype=np.uint8)
        picture = av.VideoFrame.from_ndarray(image, format="rgba" if self._has_alpha else "rgb24")
        tick = self._last_tick + _TICKS if self._last_tick >= 0 else 0
        if seconds is not None:
            tick = max(round(seconds * self._fps * _TICKS), self._last_tick + 1)
        picture.pts, picture.time_base = tick, self._stream.codec_context.time_base
        with self._reported():
            self._container.mux(self._stream.encode(picture))
        self._last_tick = tick

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"cannot write the video {self.path}: {reason}") from error

    def _open(self, file: IO[bytes]) -> tuple[OutputContainer, VideoStream]:
        padding = 0 if self._has_alpha else 1
        height, width = (side + side % 2 * padding for side in self.size)
        rate = Fraction(self._fps).limit_denominator(_MAX_DENOMINATOR)
        codec = next((name for name in _CODECS if name in av.codecs_available), _CODECS[-1])
        options = _OPTIONS.get(codec, {})
        if self._has_alpha:
            codec, options = _ALPHA_CODEC, _ALPHA_OPTIONS
        try:
            container = av.open(file, "w", format="webm" if self._has_alpha else "mp4")
            stream = container.add_stream(codec, rate=rate)
            if not isinstance(stream, VideoStream):
                raise ValueError(f"{codec} is not a video codec")
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuva420p" if self._has_alpha else "yuv420p"
            stream.codec_context.time_base = 1 / (rate * _TICKS)
            stream.codec_context.thread_count = 1
            stream.codec_context.options = options
            container.start_encoding()
        except (ValueError, ZeroDivisionError, OverflowError, av.FFmpegError) as error:
            raise InputError(
                f"FFmpeg cannot write the video {self.path} ({self.size}, {self._fps} frames/s): "
                f"{error}"
            ) from error
        return container, stream
