"""Objects without their background: transparent images or video, or a video on black."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.errors import OutputError, ShapeError
from vots_hqtrack.io import atomic_path
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId, Size, check_frame
from vots_hqtrack.video.video_writer import VideoWriter

CutoutKind = Literal["png", "webm", "mp4"]
"""Images with alpha, a video with alpha, or a video with a black background."""

_OPAQUE = 255


class Cutout(NamedTuple):
    """Form and frame rate of a cutout."""

    kind: CutoutKind
    fps: float

    @property
    def file_name(self) -> str:
        """Name of the video, or of the folder with images."""
        return "cutout" if self.kind == "png" else f"cutout.{self.kind}"


def cut_out(frame: FrameArray, masks: Mapping[ObjectId, MaskArray]) -> npt.NDArray[np.uint8]:
    """Cut objects out of a frame.

    Args:
        frame: ``(H, W, 3)`` uint8 RGB; it stays as it is.
        masks: Bool ``(H, W)`` by object id.

    Returns:
        ``(H, W, 4)`` uint8 RGBA: alpha is 255 on the objects; all else is 0.

    Raises:
        ShapeError: The frame or a mask has another shape or dtype.

    Example:
        >>> frame = np.full((1, 2, 3), 9, np.uint8)
        >>> cut_out(frame, {ObjectId(1): np.array([[True, False]])}).tolist()
        [[[9, 9, 9, 255], [0, 0, 0, 0]]]
    """
    size = check_frame(frame)
    inside = np.zeros(size, np.bool_)
    for object_id, mask in masks.items():
        if mask.dtype != np.bool_ or mask.shape != tuple(size):
            raise ShapeError(
                f"the mask of object {object_id} must be bool {size}, got {mask.dtype} {mask.shape}"
            )
        inside |= mask
    image = np.zeros((*size, 4), np.uint8)
    image[inside, :3] = frame[inside]
    image[inside, 3] = _OPAQUE
    return image


class CutoutWriter:
    """Writes the objects of a video without their background.

    It is a context manager; a video appears at its end.

    Args:
        folder: Folder of the results; images get a folder of their own in it.
        cutout: Form of the output.
        size: Size of a frame.

    Raises:
        InputError: FFmpeg cannot write such a video.
        OutputError: The file cannot be written.
    """

    def __init__(self, folder: Path, cutout: Cutout, size: Size) -> None:
        """Open the video for writing, or make the folder."""
        self._path, self._kind, self._size = folder / cutout.file_name, cutout.kind, size
        self._video = None
        if cutout.kind == "png":
            self._path.mkdir(exist_ok=True)
        else:
            has_alpha = cutout.kind == "webm"
            self._video = VideoWriter(self._path, cutout.fps, size, has_alpha=has_alpha)

    def __enter__(self) -> CutoutWriter:
        """Return the writer."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Finish the video."""
        if self._video is not None:
            self._video.__exit__(kind, error, traceback)

    def write(
        self,
        name: str,
        frame: FrameArray,
        masks: Mapping[ObjectId, MaskArray],
        *,
        seconds: float | None = None,
    ) -> None:
        """Write a frame.

        Args:
            name: Name of an image, without suffix.
            frame: ``(H, W, 3)`` uint8 RGB.
            masks: Bool ``(H, W)`` by object id.
            seconds: Time at which a video shows it; by default one frame after the last.

        Raises:
            OutputError: It cannot be written.
            ShapeError: The frame or a mask has another size.
        """
        check_frame(frame, expected=self._size)
        image = cut_out(frame, masks)
        if self._video is not None:
            has_alpha = self._kind == "webm"
            self._video.append(image if has_alpha else image[..., :3], seconds=seconds)
            return
        is_encoded, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA))
        if not is_encoded:
            raise OutputError(f"cannot encode the image {self._path / name}.png")
        with atomic_path(self._path / f"{name}.png") as temporary:
            temporary.write_bytes(data.tobytes())
