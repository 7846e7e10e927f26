"""Frames at random access, as a session reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import FrameArray
from vots_hqtrack.video.reader import FrameSource, open_source


class Video(Protocol):
    """Frames at random access: uint8 ``(H, W, 3)`` RGB of one size."""

    def __len__(self) -> int:
        """Return the number of frames."""

    def __getitem__(self, index: int, /) -> FrameArray:
        """Return a frame, counted from 0."""


class SourceVideo:
    """A folder of frames or a video file, each frame read when it is asked for.

    Args:
        source: The source; not a camera.
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source

    def __len__(self) -> int:
        """Return the number of frames."""
        return self._source.length or 0

    def __getitem__(self, index: int, /) -> FrameArray:
        """Read a frame."""
        return self._source[index].frame


def open_video(source: str | Path) -> Video:
    """Open a folder of frames or a video file.

    Raises:
        InputError: It is neither, or holds no frame.
    """
    opened = open_source(source)
    if opened.kind == "camera":
        raise InputError(f"a session needs a folder of frames or a video file, got camera {source}")
    return SourceVideo(opened)
