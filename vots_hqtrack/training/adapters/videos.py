"""Clips drawn from videos with object numbers per pixel, whatever the files look like.

An adapter lists its videos and says how the numbers of one frame are read; everything else is here.
The way frames are sampled follows the released training code: random gaps, random direction,
reflection at the ends, and a few tries for a reference frame that shows all objects of the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.files import IdArray
from vots_hqtrack.training.adapters.files import MAX_LABELS, number_objects, numbers_in
from vots_hqtrack.training.datasets import Clip, Photo
from vots_hqtrack.types import SLOTS_PER_GROUP, FrameArray, MaskArray
from vots_hqtrack.video.reader import read_frame

ATTEMPTS = 5
"""How often frames are sampled until the first shows all objects of the others."""


class FrameSequence(Protocol):
    """The frames of a video, wherever they are stored."""

    def __len__(self) -> int:
        """Return the number of frames."""

    def label(self, position: int) -> str:
        """Return a frame's origin, for messages."""

    def read(self, position: int) -> FrameArray:
        """Read one frame, uint8 ``(H, W, 3)`` RGB."""

    def read_all(self) -> FrameArray:
        """Read all frames in order, uint8 ``(T, H, W, 3)`` RGB."""


@dataclass(frozen=True, slots=True)
class FrameFiles:
    """Frames that are image files, in order."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.paths)

    def label(self, position: int) -> str:
        """Return a frame's path."""
        return str(self.paths[position])

    def read(self, position: int) -> FrameArray:
        """Read one frame; `InputError` if the file is missing or damaged."""
        return read_frame(self.paths[position])

    def read_all(self) -> FrameArray:
        """Read all frames; `InputError` also if they differ in size."""
        frames = [read_frame(path) for path in self.paths]
        sizes = sorted({frame.shape[:2] for frame in frames})
        if len(sizes) != 1:
            where = self.paths[0].parent if self.paths else "a video without frames"
            raise InputError(f"{where}: wanted frames of one size, got {sizes}")
        return np.stack(frames)


@dataclass(frozen=True, slots=True)
class Video:
    """The annotated frames of one video.

    Attributes:
        name: Name for messages.
        frames: The annotated frames, in order.
        read_ids: Reads the object numbers ``(H, W)`` of a frame by its position.
    """

    name: str
    frames: FrameSequence
    read_ids: Callable[[int], IdArray]

    def __len__(self) -> int:
        """Return the number of annotated frames."""
        return len(self.frames)

    def load(self, position: int) -> Photo:
        """Read one frame with its object numbers as they are.

        Raises:
            InputError: Its files are missing or damaged, or a number is above 255.
        """
        ids = self.read_ids(position)
        if ids.size and int(ids.max()) > MAX_LABELS:
            raise InputError(
                f"the object numbers of video {self.name} must be 0..{MAX_LABELS} to be read as "
                f"they are, got {int(ids.max())}"
            )
        return Photo(self.frame(position, ids), ids.astype(np.uint8))

    def frame(self, position: int, ids: IdArray) -> FrameArray:
        """Read one frame, which must have the size of its object numbers.

        Raises:
            InputError: The frame is missing or damaged, or the sizes differ.
        """
        frame = self.frames.read(position)
        self._check_size(position, frame.shape[:2], ids)
        return frame

    def read_all(self) -> tuple[FrameArray, IdArray]:
        """Read all annotated frames in order; a packed video is decoded once.

        Returns:
            Frames uint8 ``(T, H, W, 3)`` RGB and their object numbers int32 ``(T, H, W)``.

        Raises:
            InputError: A file is missing or damaged, or sizes differ.
        """
        frames = self.frames.read_all()
        all_ids = np.empty(frames.shape[:3], np.int32)
        for position in range(len(self)):
            ids = self.read_ids(position)
            self._check_size(position, frames.shape[1:3], ids)
            all_ids[position] = ids
        return frames, all_ids

    def _check_size(self, position: int, size: tuple[int, ...], ids: IdArray) -> None:
        if size != ids.shape:
            raise InputError(
                f"{self.frames.label(position)}: wanted object numbers of the frame's size "
                f"{size}, got {ids.shape}"
            )


@dataclass(frozen=True, slots=True)
class SingleObject:
    """Video with all its objects taken as one; an `ObjectVideo`.

    Attributes:
        video: The video.
        step: One frame in so many is taken.
    """

    video: Video
    step: int = 1

    @property
    def name(self) -> str:
        """Its name."""
        return self.video.name

    def __len__(self) -> int:
        """Return the number of frames."""
        return -(-len(self.video) // self.step)

    def frame(self, place: int) -> FrameArray:
        """Read one frame, uint8 ``(H, W, 3)`` RGB."""
        return self.video.frames.read(place * self.step)

    def mask(self, place: int) -> MaskArray:
        """Read the object's mask in one frame, bool ``(H, W)``."""
        return self.video.read_ids(place * self.step) > 0

    def thin(self, step: int) -> SingleObject:
        """Keep one frame in ``step``."""
        return replace(self, step=self.step * step)


class VideoClips:
    """A data set of videos.

    Args:
        name: Name for captions and logs.
        videos: Its videos; those without any frame do not count.

    Raises:
        InputError: There is none.
    """

    def __init__(self, name: str, videos: Iterable[Video]) -> None:
        """Keep the videos that have frames."""
        self.name = name
        self.videos = tuple(video for video in videos if len(video))
        if not self.videos:
            raise InputError(f"the {name} data set has no video with an annotated frame")

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.videos)

    def sample(
        self, index: int, num_frames: int, max_gap: int, generator: np.random.Generator
    ) -> Clip:
        """Sample a clip; see `vots_hqtrack.training.datasets.ClipDataset`.

        Objects that only later frames show are background there, should five tries give no better
        clip.
        """
        if num_frames < 1 or max_gap < 1:
            raise InputError(
                f"a clip needs 1 frame and a gap of 1 or more, got {num_frames} and {max_gap}"
            )
        video = self.videos[index]
        chosen: tuple[list[int], list[IdArray]] | None = None
        for _ in range(ATTEMPTS):
            start = int(generator.integers(len(video)))
            positions = sample_positions(start, len(video), num_frames, max_gap, generator)
            maps = [video.read_ids(position) for position in positions]
            shown = [set(numbers_in(ids)) for ids in maps]
            if shown[0]:
                chosen = positions, maps
                if shown[0] == set.union(*shown):
                    break
        if chosen is None:
            start = _find_start(video, generator)
            positions = sample_positions(start, len(video), num_frames, max_gap, generator)
            return self.load(index, positions, generator)
        return self._make_clip(video, *chosen, generator)

    def load(self, index: int, positions: Sequence[int], generator: np.random.Generator) -> Clip:
        """Read given frames of one video as a clip.

        Args:
            index: Number of the video.
            positions: Frames, in the clip's order.
            generator: Chooses ten objects where the first frame shows more.

        Returns:
            The clip; without objects if the first frame shows none.

        Raises:
            InputError: A file is missing or damaged, or the frames differ in size.
        """
        video = self.videos[index]
        maps = [video.read_ids(position) for position in positions]
        return self._make_clip(video, positions, maps, generator)

    def _make_clip(
        self,
        video: Video,
        positions: Sequence[int],
        maps: list[IdArray],
        generator: np.random.Generator,
    ) -> Clip:
        frames = [video.frame(*pair) for pair in zip(positions, maps, strict=True)]
        sizes = sorted({frame.shape[:2] for frame in frames})
        if len(sizes) > 1:
            raise InputError(f"the frames of video {video.name} differ in size: {sizes}")
        objects = choose_objects(maps[0], generator)
        return Clip(
            frames=np.stack(frames),
            labels=np.stack([number_objects(ids, objects) for ids in maps]),
            origin=f"{self.name} {video.name}: {' '.join(map(str, positions))}",
        )


def choose_objects(ids: IdArray, generator: np.random.Generator) -> list[int]:
    """Return the numbers of at most ten objects of a reference frame, ascending.

    Args:
        ids: ``(H, W)`` object numbers of the frame.
        generator: Chooses where there are more than ten.
    """
    numbers = numbers_in(ids)
    if len(numbers) > SLOTS_PER_GROUP:
        kept = generator.choice(len(numbers), SLOTS_PER_GROUP, replace=False)
        numbers = sorted(numbers[int(position)] for position in kept)
    return numbers


def sample_positions(
    start: int, length: int, num_frames: int, max_gap: int, generator: np.random.Generator
) -> list[int]:
    """Sample the frames of a clip, forwards or backwards, reflected at the video's ends.

    Args:
        start: The reference frame.
        length: Frames of the video.
        num_frames: Frames of the clip.
        max_gap: Largest gap between two of them; each is drawn from ``1..max_gap``.
        generator: Random generator.

    Returns:
        ``num_frames`` frame numbers, the reference frame first.
    """
    direction = 1 if generator.random() < 0.5 else -1
    steps = generator.integers(1, max_gap + 1, num_frames - 1)
    positions = start + np.concatenate([[0], direction * np.cumsum(steps)])
    phases = np.mod(positions, max(2 * (length - 1), 1))
    return [int(phase) for phase in np.minimum(phases, 2 * (length - 1) - phases)]


def _find_start(video: Video, generator: np.random.Generator) -> int:
    # Objects are rare in this video: every frame is looked at, from a random one on.
    first = int(generator.integers(len(video)))
    for step in range(len(video)):
        position = (first + step) % len(video)
        if numbers_in(video.read_ids(position)):
            return position
    raise InputError(f"no annotated frame of video {video.name} shows an object")
