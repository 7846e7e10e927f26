"""Clips drawn from videos with object numbers per pixel, whatever the files look like.

An adapter lists its videos and says how the numbers of one frame are read; everything else is here.
The way frames are drawn follows the released training code: random gaps, random direction,
reflection at the ends, and a few tries for a reference frame that shows all objects of the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.synthetic.motion import reflect
from vots_hqtrack.training.adapters.files import IdArray, number_objects, numbers_in
from vots_hqtrack.training.datasets import Clip, Photo
from vots_hqtrack.types import MAX_OBJECTS, SLOTS_PER_GROUP, FrameArray
from vots_hqtrack.video.reader import read_frame

ATTEMPTS = 5
"""How often frames are drawn until the first shows all objects of the others."""


class FrameSequence(Protocol):
    """The frames of a video, wherever they are stored."""

    def __len__(self) -> int:
        """Return the number of frames."""

    def label(self, place: int) -> str:
        """Say where a frame is from, for messages."""

    def read(self, place: int) -> FrameArray:
        """Read one frame, uint8 ``(H, W, 3)`` RGB."""

    def read_all(self) -> FrameArray:
        """Read all frames in order, uint8 ``(T, H, W, 3)`` RGB."""


@dataclass(frozen=True, slots=True)
class FrameFiles:
    """Frames that are image files.

    Attributes:
        paths: The files, in order.
    """

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.paths)

    def label(self, place: int) -> str:
        """Say where a frame is from, for messages."""
        return str(self.paths[place])

    def read(self, place: int) -> FrameArray:
        """Read one frame, uint8 ``(H, W, 3)`` RGB.

        Raises:
            InputError: The file is missing or damaged.
        """
        return read_frame(self.paths[place])

    def read_all(self) -> FrameArray:
        """Read all frames in order, uint8 ``(T, H, W, 3)`` RGB.

        Raises:
            InputError: A file is missing or damaged, or the frames differ in size.
        """
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
        name: What messages call it.
        frames: The annotated frames, in order.
        read_ids: Gives the object numbers ``(H, W)`` of a frame by its place.
    """

    name: str
    frames: FrameSequence
    read_ids: Callable[[int], IdArray]

    def __len__(self) -> int:
        """Return the number of annotated frames."""
        return len(self.frames)

    def load(self, place: int) -> Photo:
        """Read one frame with its object numbers as they are.

        Raises:
            InputError: Its files are missing or damaged, or a number is above 255.
        """
        ids = self.read_ids(place)
        if ids.size and int(ids.max()) > MAX_OBJECTS:
            raise InputError(
                f"the object numbers of video {self.name} must be 0..{MAX_OBJECTS} to be read as "
                f"they are, got {int(ids.max())}"
            )
        return Photo(self.frame(place, ids), ids.astype(np.uint8))

    def frame(self, place: int, ids: IdArray) -> FrameArray:
        """Read the picture of one frame.

        Args:
            place: Number of the frame.
            ids: Its object numbers, whose size must be the picture's.

        Raises:
            InputError: The picture is missing or damaged, or the sizes differ.
        """
        frame = self.frames.read(place)
        self._check_size(place, frame.shape[:2], ids)
        return frame

    def read_all(self) -> tuple[FrameArray, IdArray]:
        """Read all annotated frames in order; a packed video is decoded once.

        Returns:
            Frames uint8 ``(T, H, W, 3)`` RGB and their object numbers int32 ``(T, H, W)``.

        Raises:
            InputError: A file is missing or damaged, or sizes differ.
        """
        frames = self.frames.read_all()
        ids = np.empty(frames.shape[:3], np.int32)
        for place in range(len(self)):
            one = self.read_ids(place)
            self._check_size(place, frames.shape[1:3], one)
            ids[place] = one
        return frames, ids

    def _check_size(self, place: int, size: tuple[int, ...], ids: IdArray) -> None:
        if size != ids.shape:
            raise InputError(
                f"{self.frames.label(place)}: wanted object numbers of the picture's size "
                f"{size}, got {ids.shape}"
            )


class VideoClips:
    """A data set of videos.

    Args:
        name: What captions and logs call it.
        videos: Its videos; those without any frame do not count.

    Raises:
        InputError: There is no video.
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
        """Draw a clip; see `vots_hqtrack.training.datasets.ClipDataset`.

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
            places = draw_places(start, len(video), num_frames, max_gap, generator)
            maps = _read_maps(video, places)
            given = set(numbers_in(maps[0]))
            if given:
                chosen = places, maps
                if all(given.issuperset(numbers_in(ids)) for ids in maps[1:]):
                    break
        if chosen is None:
            start = _find_start(video, generator)
            places = draw_places(start, len(video), num_frames, max_gap, generator)
            chosen = places, _read_maps(video, places)
        return self._make_clip(video, *chosen, generator)

    def load(self, index: int, places: Sequence[int], generator: np.random.Generator) -> Clip:
        """Read given frames of one video as a clip.

        Args:
            index: Number of the video.
            places: Frames, in the clip's order.
            generator: Chooses ten objects where the first frame shows more.

        Returns:
            The clip; without objects if the first frame shows none.

        Raises:
            InputError: A file is missing or damaged, or the frames differ in size.
        """
        video = self.videos[index]
        return self._make_clip(video, list(places), _read_maps(video, places), generator)

    def _make_clip(
        self,
        video: Video,
        places: list[int],
        maps: list[IdArray],
        generator: np.random.Generator,
    ) -> Clip:
        frames = [video.frame(place, ids) for place, ids in zip(places, maps, strict=True)]
        if len({frame.shape for frame in frames}) > 1:
            sizes = sorted({frame.shape[:2] for frame in frames})
            raise InputError(f"the frames of video {video.name} differ in size: {sizes}")
        objects = choose_objects(maps[0], generator)
        return Clip(
            frames=np.stack(frames),
            labels=np.stack([number_objects(ids, objects) for ids in maps]),
            origin=f"{self.name} {video.name}: {' '.join(map(str, places))}",
        )


def choose_objects(ids: IdArray, generator: np.random.Generator) -> list[int]:
    """Return the numbers of at most ten objects, ascending.

    Args:
        ids: ``(H, W)`` of the reference frame.
        generator: Chooses where there are more than ten.
    """
    numbers = numbers_in(ids)
    if len(numbers) > SLOTS_PER_GROUP:
        places = generator.choice(len(numbers), SLOTS_PER_GROUP, replace=False)
        numbers = sorted(numbers[int(place)] for place in places)
    return numbers


def draw_places(
    start: int, length: int, num_frames: int, max_gap: int, generator: np.random.Generator
) -> list[int]:
    """Draw the frames of a clip, forwards or backwards, turning round at the video's ends.

    Args:
        start: The reference frame.
        length: Frames of the video.
        num_frames: Frames of the clip.
        max_gap: Largest gap between two of them; each is drawn from ``1..max_gap``.
        generator: Source of chance.
    """
    direction = 1 if generator.random() < 0.5 else -1
    steps = generator.integers(1, max_gap + 1, num_frames - 1)
    offsets = np.concatenate([[0], direction * np.cumsum(steps)]).astype(np.float64)
    return [int(place) for place in reflect(start + offsets, 0.0, length - 1.0)]


def _read_maps(video: Video, places: Iterable[int]) -> list[IdArray]:
    return [video.read_ids(place) for place in places]


def _find_start(video: Video, generator: np.random.Generator) -> int:
    # Objects are rare in this video: every frame is looked at, from a random one on.
    first = int(generator.integers(len(video)))
    for step in range(len(video)):
        place = (first + step) % len(video)
        if numbers_in(video.read_ids(place)):
            return place
    raise InputError(f"no annotated frame of video {video.name} shows an object")
