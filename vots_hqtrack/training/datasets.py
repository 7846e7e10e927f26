"""Types of training data: images with instance masks, clips, and data sets of either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from vots_hqtrack.errors import ConfigError, ShapeError
from vots_hqtrack.types import SLOTS_PER_GROUP, FrameArray, LabelArray

DEV_SPLIT = (
    "bmx-bumps",
    "breakdance-flare",
    "drift-turn",
    "hockey",
    "kite-walk",
    "lucia",
    "soccerball",
    "train",
)
"""DAVIS training sequences that are measured and therefore never trained on."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Some frames of a video with the label maps of its objects.

    Attributes:
        frames: uint8 ``(T, H, W, 3)`` RGB.
        labels: uint8 ``(T, H, W)``; 0 is the background, 1..N are objects, N <= 10.
        origin: Data set, video and frames that it comes from, for people to read.
    """

    frames: FrameArray
    labels: LabelArray
    origin: str = ""

    def __post_init__(self) -> None:
        """Check shapes, dtypes and the range of the labels."""
        frames, labels = self.frames, self.labels
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            got = f"{frames.dtype} {frames.shape}"
            raise ShapeError(f"clip frames must be uint8 (T, H, W, 3), got {got}")
        if labels.shape != frames.shape[:3] or labels.dtype != np.uint8:
            got = f"{labels.dtype} {labels.shape}"
            raise ShapeError(f"clip labels must be uint8 {frames.shape[:3]}, got {got}")
        if labels.size == 0:
            raise ShapeError(f"a clip must not be empty, got frames of shape {frames.shape}")
        if int(labels.max()) > SLOTS_PER_GROUP:
            raise ShapeError(f"clip labels must be 0..{SLOTS_PER_GROUP}, got {int(labels.max())}")

    @property
    def num_objects(self) -> int:
        """Highest label of the clip: objects are numbered without gaps in the first frame."""
        return int(self.labels.max())


def keep_visible(
    labels: LabelArray, min_pixels: int, generator: np.random.Generator | None = None
) -> LabelArray:
    """Number the objects that the first frame shows from 1, at most ten; others are background.

    Args:
        labels: uint8 ``(T, H, W)``.
        min_pixels: Pixels from which an object counts as shown.
        generator: Chooses among more than ten; None takes the lowest labels.
    """
    areas = np.bincount(labels[0].ravel(), minlength=256)
    areas[0] = 0
    shown = np.flatnonzero(areas >= min_pixels)
    if generator is not None:
        shown = generator.permutation(shown)
    kept = np.sort(shown[:SLOTS_PER_GROUP])
    table = np.zeros(256, np.uint8)
    table[kept] = np.arange(1, len(kept) + 1)
    return table[labels]


class ClipDataset(Protocol):
    """A data set that clips are sampled from; `vots_hqtrack.training.adapters` opens them."""

    name: str
    """Name for captions and logs."""

    def __len__(self) -> int:
        """Return the number of videos or images."""

    def sample(
        self, index: int, num_frames: int, max_gap: int, generator: np.random.Generator
    ) -> Clip:
        """Sample a clip of one video, or repeat an image ``num_frames`` times.

        Args:
            index: Video or image, ``0 <= index < len(self)``.
            num_frames: ``T``, at least 1; the first frame is the reference.
            max_gap: Largest number of annotated frames from one frame of the clip to the next.
            generator: Random generator; nothing else decides.

        Returns:
            A clip of 1 to 10 objects, all shown by its first frame, numbered from 1 without gaps.

        Raises:
            InputError: A file is missing or damaged, or no frame shows an object.
        """


class Photo(NamedTuple):
    """An image with its instances, or one frame of a video.

    Attributes:
        image: uint8 ``(H, W, 3)`` RGB.
        label_map: uint8 ``(H, W)``; 0 is the background, other values are instance numbers.
    """

    image: FrameArray
    label_map: LabelArray


def parse_sequence(entry: str) -> tuple[str, int]:
    """Read ``name`` or ``name:first_frame``.

    Raises:
        ConfigError: It is neither.

    Example:
        >>> parse_sequence("street:61")
        ('street', 61)
    """
    name, separator, first = entry.rpartition(":")
    if not separator:
        return entry, 0
    if not name or not first.isdecimal():
        raise ConfigError(f"sequences must be names or name:first_frame, got {entry!r}")
    return name, int(first)
