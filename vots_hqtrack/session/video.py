"""Frames at random access, as a session reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import FrameArray
from vots_hqtrack.video.reader import open_source, read_frame


class Video(Protocol):
    """Frames at random access: uint8 ``(H, W, 3)`` RGB of one size."""

    def __len__(self) -> int:
        """Return the number of frames."""

    def __getitem__(self, index: int, /) -> FrameArray:
        """Return a frame, counted from 0."""


class FolderVideo:
    """Image files in order, each read when it is asked for.

    Args:
        paths: The files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._paths)

    def __getitem__(self, index: int, /) -> FrameArray:
        """Read a frame."""
        return read_frame(self._paths[index])


def open_video(source: str | Path) -> Video:
    """Open a folder of frames.

    Raises:
        InputError: It is none, or holds no frame.
    """
    opened = open_source(source)
    if opened.kind != "folder":
        raise InputError(f"a session needs a folder of frames, got {source}")
    return FolderVideo(opened.paths)
