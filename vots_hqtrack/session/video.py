"""Frames at random access, as a session reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import FrameArray
from vots_hqtrack.video.losses import Losses
from vots_hqtrack.video.reader import DEFAULT_FPS, FrameSource, NamedFrame, open_source


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

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self._source.fps

    @property
    def losses(self) -> Losses:
        """Lost frames and damage of what was read."""
        return self._source.losses

    def named(self, index: int) -> NamedFrame:
        """Read a frame with its name and time."""
        return self._source[index]


def fps_of(video: Video) -> float:
    """Return the frame rate of a video; frames without a source have the default one."""
    return video.fps if isinstance(video, SourceVideo) else DEFAULT_FPS


def losses_of(video: Video) -> Losses:
    """Return what a video lost of what was read."""
    return video.losses if isinstance(video, SourceVideo) else Losses()


def named_frame(video: Video, index: int) -> NamedFrame:
    """Read a frame with its name, the index where there is none, and its time."""
    if isinstance(video, SourceVideo):
        return video.named(index)
    return NamedFrame(f"{index:05d}", video[index], index / DEFAULT_FPS)


def open_video(source: str | Path) -> Video:
    """Open a folder of frames or a video file.

    Raises:
        InputError: It is neither, or holds no frame.
    """
    opened = open_source(source)
    if opened.kind == "camera":
        raise InputError(f"a session needs a folder of frames or a video file, got camera {source}")
    return SourceVideo(opened)
