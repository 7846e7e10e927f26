"""Clips of videos of one object, and the object cut out of them as an image with alpha."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import FrameArray, LabelArray, MaskArray, Size

MIN_FRACTION = 0.002
"""Minimum area of an object in the first frame of a clip, relative to the frame."""
OPAQUE = 255


class ObjectVideo(Protocol):
    """A video with one object, however it is stored."""

    @property
    def name(self) -> str:
        """Name of the video."""

    def __len__(self) -> int:
        """Return the number of frames."""

    def frame(self, index: int) -> FrameArray:
        """Read a frame, uint8 ``(H, W, 3)`` RGB."""

    def mask(self, index: int) -> MaskArray:
        """Read the object's mask in a frame, bool ``(H, W)``."""

    def thin(self, step: int) -> ObjectVideo:
        """Keep one frame in ``step``."""


@dataclass(frozen=True, slots=True)
class VideoClip:
    """A piece of a video.

    Attributes:
        video: The video.
        start: First frame.
        num_frames: Number of frames.
    """

    video: ObjectVideo
    start: int
    num_frames: int

    def read(self, index: int, size: Size) -> tuple[FrameArray, MaskArray]:
        """Read a frame and the object's mask at a size.

        Args:
            index: Number of the frame in the clip.
            size: Size wanted.

        Raises:
            InputError: A file is missing or damaged, or frame and mask differ in size.
        """
        frame = self.video.frame(self.start + index)
        mask = self.video.mask(self.start + index)
        if frame.shape[:2] != mask.shape:
            raise InputError(
                f"video {self.video.name}, frame {self.start + index}: wanted a mask of the "
                f"frame's size {frame.shape[:2]}, got {mask.shape}"
            )
        if mask.shape == tuple(size):
            return frame, mask
        return resize(frame, size), resize(_opaque(mask), size) > OPAQUE // 2


@dataclass(frozen=True, slots=True)
class Cutout:
    """An object cut out of a frame.

    Attributes:
        image: uint8 ``(h, w, 3)`` RGB.
        alpha: uint8 ``(h, w)``; 255 is the object. ``(0, 0)`` where the object is absent.
        anchor: Its centre of mass ``(x, y)`` in the cut-out.
    """

    image: FrameArray
    alpha: LabelArray
    anchor: tuple[float, float]

    def paste(self, frame: FrameArray, centre: npt.NDArray[np.float64]) -> None:
        """Paste the object into a frame, in place, with its anchor at ``x, y``."""
        target, source = self._overlap(centre, Size(*frame.shape[:2]))
        below, alpha = frame[target], self.alpha[source].astype(np.float32) / OPAQUE
        mixed = below + (self.image[source].astype(np.float32) - below) * alpha[..., None]
        frame[target] = np.rint(mixed).astype(np.uint8)

    def mask(self, centre: npt.NDArray[np.float64], size: Size) -> MaskArray:
        """Return the object's mask in a frame of a size, bool ``(H, W)``."""
        mask = np.zeros(size, dtype=np.bool_)
        target, source = self._overlap(centre, size)
        mask[target] = self.alpha[source] > OPAQUE // 2
        return mask

    def _overlap(
        self, centre: npt.NDArray[np.float64], size: Size
    ) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the window of the frame that the cut-out covers, and that of the cut-out."""
        windows = []
        for axis in (0, 1):
            first = round(float(centre[1 - axis]) - self.anchor[1 - axis])
            start, stop = max(first, 0), min(first + self.alpha.shape[axis], size[axis])
            stop = max(start, stop)
            windows.append((slice(start, stop), slice(start - first, stop - first)))
        (rows, source_rows), (columns, source_columns) = windows
        return (rows, columns), (source_rows, source_columns)


def sample_clip(video: ObjectVideo, num_frames: int, generator: np.random.Generator) -> VideoClip:
    """Sample a piece of a video that begins with its object in sight.

    Args:
        video: The video.
        num_frames: Number of frames, at most that of the video.
        generator: Random generator.

    Raises:
        InputError: The video is too short, or its object is too small in all first frames.
    """
    last = len(video) - num_frames
    if last < 0:
        raise InputError(f"video {video.name}: wanted {num_frames} frames, got {len(video)}")
    for start in generator.permutation(last + 1):
        if float(video.mask(int(start)).mean()) >= MIN_FRACTION:
            return VideoClip(video, int(start), num_frames)
    raise InputError(
        f"video {video.name}: in none of the first {last + 1} frames does the object cover "
        f"{MIN_FRACTION:.1%} of the frame"
    )


def cut_out(clip: VideoClip, area: float, max_area: float, size: Size) -> list[Cutout]:
    """Cut the object out of every frame of a clip, scaled by one factor.

    Args:
        clip: The clip.
        area: Median area of the object over the frames, in pixels.
        max_area: Maximum area of the object in a frame, in pixels.
        size: Size to which the clip's frames are resized first.
    """
    frames = [clip.read(index, size) for index in range(clip.num_frames)]
    areas = np.array([mask.sum() for _, mask in frames], dtype=np.float64)
    scale = np.sqrt(min(area / np.median(areas[areas > 0]), max_area / areas.max()))
    return [_cut(frame, mask, float(scale)) for frame, mask in frames]


def visible_masks(layers: Sequence[MaskArray]) -> list[MaskArray]:
    """Return the visible part of each layer under the later ones.

    Args:
        layers: Bool ``(H, W)``, the lowest first.

    Example:
        >>> layers = [np.array([True, True]), np.array([False, True])]
        >>> [mask.tolist() for mask in visible_masks(layers)]
        [[True, False], [False, True]]
    """
    above = np.zeros_like(layers[0])
    visible: list[MaskArray] = []
    for layer in reversed(layers):
        visible.append(layer & ~above)
        above |= layer
    return visible[::-1]


def resize(image: FrameArray | LabelArray, size: Size) -> FrameArray:
    """Resize an image or alpha map, averaging where it shrinks."""
    shrinks = image.shape[0] > size.height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(image, (size.width, size.height), interpolation=method)
    return np.asarray(resized, dtype=np.uint8)


def _cut(frame: FrameArray, mask: MaskArray, scale: float) -> Cutout:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    if not width:
        return Cutout(frame[:0, :0], np.zeros((0, 0), np.uint8), (0.0, 0.0))
    window = slice(y, y + height), slice(x, x + width)
    size = Size(max(1, round(height * scale)), max(1, round(width * scale)))
    alpha = resize(_opaque(mask[window]), size)
    ys, xs = np.nonzero(alpha)
    return Cutout(resize(frame[window], size), alpha, (float(xs.mean()), float(ys.mean())))


def _opaque(mask: MaskArray) -> LabelArray:
    return np.where(mask, OPAQUE, 0).astype(np.uint8)
