"""Videos of one object, and the pieces of them that composites are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import FrameArray, LabelArray, MaskArray, Size
from vots_hqtrack.video.label_maps import read_label_map
from vots_hqtrack.video.reader import read_frame
from vots_hqtrack.vot.import_vos import find_sequences, read_vos_sequence

MIN_SHARE = 0.002
"""Smallest part of the frame that an object must fill where a shot begins."""
OPAQUE = 255


class ObjectVideo(Protocol):
    """A video with one object, wherever it is stored."""

    @property
    def name(self) -> str:
        """Its name."""

    def __len__(self) -> int:
        """Return the number of frames."""

    def frame(self, place: int) -> FrameArray:
        """Read one frame."""

    def mask(self, place: int) -> MaskArray:
        """Read the object's mask in one frame."""

    def thin(self, step: int) -> ObjectVideo:
        """Keep one frame in ``step``."""


@dataclass(frozen=True, slots=True)
class MaskedVideo:
    """Image files of one object; what its masks show, however numbered, is that object.

    Attributes:
        name: Its name.
        frame_paths: Its annotated frames, in order.
        mask_paths: Their masks.
    """

    name: str
    frame_paths: tuple[Path, ...]
    mask_paths: tuple[Path, ...]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frame_paths)

    def frame(self, place: int) -> FrameArray:
        """Read one frame."""
        return read_frame(self.frame_paths[place])

    def mask(self, place: int) -> MaskArray:
        """Read the object's mask in one frame."""
        return read_label_map(self.mask_paths[place]) > 0

    def thin(self, step: int) -> MaskedVideo:
        """Keep one frame in ``step``."""
        return dataclasses.replace(
            self, frame_paths=self.frame_paths[::step], mask_paths=self.mask_paths[::step]
        )


@dataclass(frozen=True, slots=True)
class Shot:
    """A piece of a video.

    Attributes:
        video: The video.
        start: Its first frame.
        num_frames: Its length.
    """

    video: ObjectVideo
    start: int
    num_frames: int

    def read(self, place: int, size: Size) -> tuple[FrameArray, MaskArray]:
        """Read a frame and the object's mask, brought to a size.

        Args:
            place: Number of the frame, counted from the shot's start.
            size: Size wanted.

        Raises:
            InputError: A file is missing or damaged, or frame and mask differ in size.
        """
        frame = self.video.frame(self.start + place)
        mask = self.video.mask(self.start + place)
        if frame.shape[:2] != mask.shape:
            raise InputError(
                f"video {self.video.name}, frame {self.start + place}: wanted a mask of the "
                f"frame's size {frame.shape[:2]}, got {mask.shape}"
            )
        if mask.shape == tuple(size):
            return frame, mask
        return resize(frame, size), resize(_opaque(mask), size) > OPAQUE // 2


@dataclass(frozen=True, slots=True)
class Cutout:
    """An object cut out of a frame.

    Attributes:
        picture: uint8 ``(h, w, 3)`` RGB.
        alpha: uint8 ``(h, w)``; 255 is the object. Without any size where the object is absent.
        anchor: Its centre of mass ``(x, y)`` in the cut-out.
    """

    picture: FrameArray
    alpha: LabelArray
    anchor: tuple[float, float]


def open_videos(root: Path, names: Sequence[str], part: str | None = None) -> list[MaskedVideo]:
    """List the videos of a folder in the layout of DAVIS or YouTube-VOS.

    Args:
        root: The folder.
        names: Videos to take; all if it is empty.
        part: Split or resolution to take, where there are several.

    Raises:
        InputError: The layout is another one, or a video is not there.
    """
    found = find_sequences(root, part)
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(f"{root} has no video {missing[0]}; it has {', '.join(list(found)[:8])}")
    videos = []
    for name in names or found:
        files = read_vos_sequence(name, *found[name])
        places = sorted(files.annotations)
        frames = tuple(files.frames[place] for place in places)
        videos.append(MaskedVideo(name, frames, tuple(files.annotations[p] for p in places)))
    return videos


def draw_shot(video: ObjectVideo, num_frames: int, generator: np.random.Generator) -> Shot:
    """Draw a piece of a video that begins with its object in sight.

    Args:
        video: The video.
        num_frames: Length of the piece, at most that of the video.
        generator: Source of chance.

    Raises:
        InputError: The video is too short, or its object is too small wherever a piece may begin.
    """
    last = len(video) - num_frames
    if last < 0:
        raise InputError(f"video {video.name}: wanted {num_frames} frames, got {len(video)}")
    for start in generator.permutation(last + 1):
        if float(video.mask(int(start)).mean()) >= MIN_SHARE:
            return Shot(video, int(start), num_frames)
    raise InputError(
        f"video {video.name}: in none of the first {last + 1} frames does the object fill "
        f"{MIN_SHARE:.1%} of the picture"
    )


def cut_out(shot: Shot, area: float, largest: float, size: Size) -> list[Cutout]:
    """Cut the object out of every frame of a shot, enlarged or shrunk by one factor.

    Args:
        shot: The shot.
        area: Pixels that the object shall have in the middle of all frames.
        largest: Pixels that it may have in any.
        size: Size that the shot's frames are brought to first.
    """
    frames = [shot.read(place, size) for place in range(shot.num_frames)]
    areas = np.array([mask.sum() for _, mask in frames], dtype=np.float64)
    scale = np.sqrt(min(area / np.median(areas[areas > 0]), largest / areas.max()))
    return [_cut(frame, mask, float(scale)) for frame, mask in frames]


def resize(picture: FrameArray | LabelArray, size: Size) -> FrameArray:
    """Resize a picture or alpha map, averaging where it shrinks."""
    shrinks = picture.shape[0] > size.height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(picture, (size.width, size.height), interpolation=method)
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
