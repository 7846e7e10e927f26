"""Masks drawn over frames, and videos of them, for people to look at."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import cv2
import numpy as np
from av import VideoStream
from av.container import OutputContainer

from vots_hqtrack.errors import InputError, OutputError, ShapeError
from vots_hqtrack.io import atomic_path
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId, Size, check_frame
from vots_hqtrack.video.label_maps import mask_box, palette

_CODECS = ("libx264", "libopenh264", "libvpx-vp9", "mpeg4")
"""By preference: browsers play all but the last, which every FFmpeg has."""

_TICKS = 1000
"""Parts of a frame's time in which the times of frames are stored."""

_MAX_DENOMINATOR = 1001

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINES_PER_STROKE = 360
"""Frame height in pixels for each pixel of line width."""


def draw_overlay(
    frame: FrameArray, masks: Mapping[ObjectId, MaskArray], *, alpha: float = 0.5
) -> FrameArray:
    """Draw masks over a frame: a tint, an outline and the id of every object.

    Args:
        frame: ``(H, W, 3)`` uint8 RGB; it stays as it is.
        masks: Bool ``(H, W)`` by object id; empty ones leave no trace.
        alpha: Strength of the tint, 0 to 1.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        InputError: ``alpha`` is outside 0 to 1.
        ShapeError: The frame or a mask has another shape or dtype.
    """
    size = check_frame(frame)
    if not 0.0 <= alpha <= 1.0:
        raise InputError(f"alpha must be a number from 0 to 1, got {alpha}")
    image = frame.copy()
    stroke = max(1, round(size.height / _LINES_PER_STROKE))
    tags: list[tuple[ObjectId, tuple[int, int]]] = []
    for object_id in sorted(masks):
        mask = masks[object_id]
        if mask.dtype != np.bool_ or mask.shape != tuple(size):
            raise ShapeError(
                f"the mask of object {object_id} must be bool {size}, got {mask.dtype} {mask.shape}"
            )
        if (box := mask_box(mask)) is not None:
            x, y, width, height = box
            window = slice(y, y + height), slice(x, x + width)
            _tint(image[window], mask[window], object_id, alpha, stroke)
            tags.append((object_id, (x, y)))
    for object_id, corner in tags:  # last, so that no tint covers them
        _draw_tag(image, object_id, corner, stroke)
    return image


class _NoFrameError(Exception):
    """A video would be empty."""


class OverlayWriter:
    """Writes frames with their masks into an MP4 file that browsers play.

    It is a context manager. The file appears under its name at the end, also when an error ends it
    early: it then holds what was written so far. A video without frames leaves no file, and neither
    does one that cannot be finished.

    Args:
        path: The video to write, ``*.mp4``; a file there is replaced.
        fps: Frames per second.
        size: Frame size. Odd sides get one more row or column, a copy of the last.

    Raises:
        InputError: The frame rate is not positive, or FFmpeg cannot write such a video.
        OutputError: The file cannot be written.
    """

    def __init__(self, path: Path, fps: float, size: Size) -> None:
        """Open the video for writing."""
        if not 0 < fps < math.inf:
            raise InputError(f"a video's frame rate must be above 0, got {fps}")
        self.path = path
        self.size = size
        self._fps = fps
        self._last_tick = -1
        with self._reported(), contextlib.ExitStack() as stack:
            # FFmpeg writes into an open file, whose name may hold any bytes.
            self._temporary = stack.enter_context(atomic_path(path))
            file = stack.enter_context(self._temporary.open("wb"))
            self._container, self._stream = self._open(file)
            self._open_files = stack.pop_all()

    def __enter__(self) -> OverlayWriter:
        """Return the writer."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Finish the file and give it its name."""
        with self._reported(), contextlib.suppress(_NoFrameError), self._open_files:
            if self._last_tick < 0:
                raise _NoFrameError
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def write(
        self,
        frame: FrameArray,
        masks: Mapping[ObjectId, MaskArray],
        *,
        seconds: float | None = None,
    ) -> None:
        """Append a uint8 ``(H, W, 3)`` RGB frame with its objects' bool ``(H, W)`` masks.

        Args:
            frame: The frame.
            masks: Its masks.
            seconds: Time at which it is shown; by default one frame after the last.

        Raises:
            OutputError: The file cannot be written.
            ShapeError: The frame or a mask has another size.
        """
        height, width = check_frame(frame, expected=self.size)
        image = draw_overlay(frame, masks)
        if height % 2 or width % 2:
            edge = cv2.BORDER_REPLICATE
            padded = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, edge)
            image = np.asarray(padded, dtype=np.uint8)
        picture = av.VideoFrame.from_ndarray(image, format="rgb24")
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
        height, width = (side + side % 2 for side in self.size)
        rate = Fraction(self._fps).limit_denominator(_MAX_DENOMINATOR)
        codec = next((name for name in _CODECS if name in av.codecs_available), _CODECS[-1])
        try:
            container = av.open(file, "w", format="mp4")
            stream = container.add_stream(codec, rate=rate)
            if not isinstance(stream, VideoStream):
                raise ValueError(f"{codec} is not a video codec")
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = 1 / (rate * _TICKS)
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"preset": "veryfast"} if codec == "libx264" else {}
            container.start_encoding()
        except (ValueError, ZeroDivisionError, OverflowError, av.FFmpegError) as error:
            raise InputError(
                f"FFmpeg cannot write the video {self.path} ({self.size}, {self._fps} frames/s): "
                f"{error}"
            ) from error
        return container, stream


def _tint(
    window: FrameArray, mask: MaskArray, object_id: ObjectId, alpha: float, stroke: int
) -> None:
    """Tint the mask's pixels of a window of the image in place, and outline them."""
    colour = palette()[object_id].astype(np.float32)
    window[mask] = np.rint(window[mask] * (1.0 - alpha) + colour * alpha).astype(np.uint8)
    kernel = np.ones((2 * stroke + 1, 2 * stroke + 1), dtype=np.uint8)
    # Beyond the window counts as nothing: an object cut by the frame's edge is outlined there too.
    inner = cv2.erode(mask.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    window[mask & (inner == 0)] = _outline_colour(object_id)


def _outline_colour(object_id: ObjectId) -> tuple[int, int, int]:
    """Return the object's colour, lightened so that it stands out on its own tint."""
    red, green, blue = (int(level) for level in palette()[object_id])
    return (red + 255) // 2, (green + 255) // 2, (blue + 255) // 2


def _draw_tag(image: FrameArray, object_id: ObjectId, corner: tuple[int, int], stroke: int) -> None:
    """Write the id in a box at the top left corner of its mask, inside the image."""
    text, scale, pad = str(object_id), 0.4 * stroke, 2 * stroke
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, stroke)
    left = min(corner[0], max(0, image.shape[1] - width - 2 * pad))
    top = max(0, corner[1] - height - 2 * pad)
    right, bottom = left + width + 2 * pad, top + height + 2 * pad
    cv2.rectangle(image, (left, top), (right, bottom), _outline_colour(object_id), cv2.FILLED)
    origin = (left + pad, bottom - pad)
    cv2.putText(image, text, origin, _FONT, scale, (0, 0, 0), stroke, cv2.LINE_AA)
