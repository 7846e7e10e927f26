"""Stress-test clips: short clips on which a tracker fails often enough to calibrate its scores.

At full frame rate a tracker of DAVIS is nearly always right. So videos of one object are thinned
until objects jump, pasted over one another until they hide, and interrupted until the object is
absent; videos of several objects are thinned, and clips of many objects are composed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.synthetic.composites import Composite, make_crossing
from vots_hqtrack.synthetic.footage import Source, load_footage
from vots_hqtrack.synthetic.video_clips import ObjectVideo, VideoClip, resize, sample_clip
from vots_hqtrack.training.adapters.videos import SingleObject, Video, VideoClips
from vots_hqtrack.training.composer import ComposedClips, list_sources
from vots_hqtrack.training.datasets import ClipDataset, parse_sequence
from vots_hqtrack.training.dev import DevVideo
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.recipe_data import PhaseOptions
from vots_hqtrack.training.sources import open_source
from vots_hqtrack.types import FrameArray, MaskArray, Size

StressKind = Literal["fast", "crossing", "occlusion", "shot-change"]
ClipKind = Literal["fast", "crossing", "occlusion", "shot-change", "real", "composed"]
KINDS: tuple[StressKind, ...] = ("fast", "crossing", "occlusion", "shot-change")
STEPS = {"fast": (5, 11), "crossing": (2, 5), "occlusion": (2, 5), "shot-change": (1, 5)}
"""Video frames from one frame of the clip to the next: minimum, and maximum + 1."""
OBJECTS = {"fast": (1, 2), "crossing": (3, 6), "occlusion": (2, 4), "shot-change": (2, 4)}
"""Objects, each of a video of its own: minimum, and maximum + 1."""
MIN_VIDEOS = max(stop for _, stop in OBJECTS.values())
ABSENCE = (0.3, 0.7)
"""Start and end of the object's absence, relative to the clip's length."""
FOLDS = 3
"""Parts of the footage of composed clips, to be left out one by one in checks."""
FOOTAGE_SIDE = 640
"""Long side to which footage is reduced before clips are composed."""
OCCLUDER_MARGIN = 0.15
"""Margin of an occluder around the object's box, relative to the box."""


@dataclass(frozen=True, slots=True)
class StressClip:
    """A short clip with its ground truth.

    Attributes:
        kind: Kind of difficulty; ``real`` is an unchanged video.
        origin: Videos of the clip; checks leave out together the clips that share the word before
            the first colon.
        frames: uint8 ``(H, W, 3)`` RGB.
        masks: For each object, bool ``(H, W)``, frame by frame; none is empty in the first.
    """

    kind: ClipKind
    origin: str
    frames: Sequence[FrameArray]
    masks: Sequence[Sequence[MaskArray]]


def stress_clips(
    videos: Sequence[ObjectVideo], num_frames: int, size: Size, *, seed: int
) -> Iterator[StressClip]:
    """Make one clip of every kind about every video; neighbours differ in kind.

    Args:
        videos: At least six, of one object each.
        num_frames: Maximum length of a clip; thinned short videos give shorter clips.
        size: Size of the frames.
        seed: Seed of the random generators.

    Raises:
        InputError: There are too few videos, one is too short, or a file is damaged.
    """
    if len(videos) < MIN_VIDEOS:
        raise InputError(f"clips of one object need {MIN_VIDEOS} videos, got {len(videos)}")
    for turn, index in itertools.product(range(len(KINDS)), range(len(videos))):
        generator = np.random.default_rng([seed, turn, index])
        kind = KINDS[(turn + index) % len(KINDS)]
        yield _make_clip(kind, videos, index, num_frames, size, generator)


def real_clips(parts: Sequence[DevVideo], num_frames: int) -> Iterator[StressClip]:
    """Make clips of the first and the last frames of videos, with all objects of the first frame.

    Args:
        parts: Videos, and the frames of them to take.
        num_frames: Maximum length of a clip; 0 makes one clip of all. The last frames are left out
            where they would show mostly the same as the first.

    Raises:
        InputError: A file is missing or damaged.
    """
    for part in parts:
        indices = part.places
        length = min(num_frames or len(indices), len(indices))
        last = len(indices) - length
        for start in [0] if 2 * last < length else [0, last]:
            chosen = indices[start : start + length]
            loaded = [part.video.load(index) for index in chosen]
            numbers = [value for value in np.unique(loaded[0].label_map) if value]
            masks = [[photo.label_map == value for photo in loaded] for value in numbers]
            origin = f"{part.name}:{chosen.start}/{chosen.step}"
            if masks:
                yield StressClip("real", origin, [photo.image for photo in loaded], masks)


def composed_clips(
    sources: Sequence[Source], count: int, num_frames: int, size: Size, *, seed: int
) -> Iterator[StressClip]:
    """Compose clips of several objects out of footage, one part of the footage after the other.

    Args:
        sources: Still images and videos.
        count: Number of clips.
        num_frames: Frames of a clip.
        size: Size of the frames.
        seed: Seed of the random generators.

    Raises:
        InputError: A file is damaged, or no footage shows an object.
    """
    phase = PhaseOptions(crop=(size.height, size.width), num_frames=num_frames)
    for fold in range(min(FOLDS, len(sources))):
        footage, pixels = load_footage(
            sources[fold::FOLDS], torch.device("cpu"), max_side=FOOTAGE_SIDE, threads=1
        )
        composer = ComposedClips(footage, pixels, seed=seed, stride=1, shuffle_slots=False)
        clips = (_compose(composer, fold, index, phase) for index in itertools.count())
        wanted = len(range(fold, count, FOLDS))
        yield from itertools.islice((clip for clip in clips if clip.masks), wanted)


@dataclass(frozen=True, slots=True)
class StressData:
    """Data sets of stress-test clips.

    Attributes:
        datasets: Still images and videos.
        weights: Weight of each in the composer.
        sequences: Names of the videos to take, or ``name:first_frame``; empty takes all but the
            held-out ones.
        held_out: Names of videos that are left out, or ``name:frame`` to leave out all from a frame
            on.
    """

    datasets: tuple[ClipDataset, ...]
    weights: tuple[float, ...]
    sequences: tuple[str, ...]
    held_out: tuple[str, ...]

    def parts(self, step: int) -> list[DevVideo]:
        """Return the videos with one frame in ``step``.

        Raises:
            ConfigError: An entry is malformed.
            InputError: No video has that name.
        """
        videos = self._videos()
        if not self.sequences:
            limits = dict(map(parse_sequence, self.held_out))
            ends = [min(limits.get(video.name, len(video)), len(video)) for video in videos]
            pairs = zip(videos, ends, strict=True)
            parts = [DevVideo(video.name, video, range(0, end, step)) for video, end in pairs]
            return [part for part in parts if len(part.places) > 1]
        known = {video.name: video for video in reversed(videos)}
        parts = []
        for name, first in map(parse_sequence, self.sequences):
            if name not in known:
                raise InputError(f"no video {name!r}; there are {', '.join(sorted(known)[:8])}")
            parts.append(DevVideo(name, known[name], range(first, len(known[name]), step)))
        return parts

    def single_objects(self) -> list[SingleObject]:
        """Return the videos of which all frames are taken, all objects of each as one object."""
        parts = self.parts(1)
        return [SingleObject(part.video) for part in parts if len(part.places) == len(part.video)]

    def sources(self) -> list[Source]:
        """Return the footage of composed clips, without the held-out videos."""
        names = {video.name for video in self._videos()}
        held_out = [entry for entry in self.held_out if parse_sequence(entry)[0] in names]
        return list(list_sources(self.datasets, self.weights, held_out))

    def _videos(self) -> list[Video]:
        datasets = [dataset for dataset in self.datasets if isinstance(dataset, VideoClips)]
        return [video for dataset in datasets for video in dataset.videos]


def open_stress_data(
    recipe: Recipe, base: Path, sets: Sequence[str] = (), sequences: Sequence[str] = ()
) -> StressData:
    """Open data sets of a training recipe, without the videos that it holds out of training.

    Args:
        recipe: Recipe with the data sets.
        base: Folder of the data sets.
        sets: Roots of those to open; empty opens all.
        sequences: See `StressData`.

    Raises:
        ConfigError: The recipe has no such data set.
        InputError: A folder does not have its layout.
    """
    tables = [table for table in recipe.data if not sets or table.root in sets]
    if unknown := set(sets) - {table.root for table in tables}:
        known = ", ".join(table.root for table in recipe.data)
        raise ConfigError(f"the recipe's data sets are {known}, got {min(unknown)!r}")
    datasets = []
    for table in tables:
        if sequences and table.kind == "davis":  # which by itself leaves out the dev split
            table = replace(table, options=(*table.options, "exclude=[]"))
        datasets.append(open_source(table, base, recipe.cache.clip_size))
    weights = tuple(table.weight for table in tables)
    return StressData(tuple(datasets), weights, tuple(sequences), recipe.composer.held_out)


def _compose(composer: ComposedClips, fold: int, index: int, phase: PhaseOptions) -> StressClip:
    frames, labels = composer.render(composer.draw(fold, [index], phase))
    label_maps = labels[0].numpy()
    masks = [list(label_maps == value) for value in np.unique(label_maps[0]) if value]
    images = list(frames[0].permute(0, 2, 3, 1).contiguous().numpy())
    return StressClip("composed", f"composed-{fold}:{index}", images, masks)


def _make_clip(
    kind: StressKind,
    videos: Sequence[ObjectVideo],
    index: int,
    num_frames: int,
    size: Size,
    generator: np.random.Generator,
) -> StressClip:
    """Make a clip about the video with an index; the others are sampled."""
    step = int(generator.integers(*STEPS[kind]))
    count = int(generator.integers(*OBJECTS[kind]))
    others = [int(n) for n in generator.permutation(len(videos)) if n != index]
    chosen = [videos[number].thin(step) for number in (index, *others[:count])]
    length = min(num_frames, *(len(video) for video in chosen))
    # The last one shows no object: it hides the others.
    *clips, occluder = [sample_clip(video, length, generator) for video in chosen]
    origin = " ".join(f"{clip.video.name}:{clip.start * step}/{step}" for clip in clips)
    if count == 1:
        pairs = [clips[0].read(frame, size) for frame in range(length)]
        composite = Composite([frame for frame, _ in pairs], [[mask for _, mask in pairs]])
    else:
        composite = make_crossing(clips, size, generator)
    if kind in ("occlusion", "shot-change"):
        _interrupt(composite, occluder, size, whole=kind == "shot-change")
    return StressClip(kind, origin, composite.frames, composite.masks)


def _interrupt(composite: Composite, occluder: VideoClip, size: Size, *, whole: bool) -> None:
    """Show another video for some frames, in place: ``whole``, or over the first object's box."""
    first, last = (max(1, round(part * len(composite.frames))) for part in ABSENCE)
    for index in range(first, last):
        mask = composite.masks[0][index]
        window = (slice(None), slice(None)) if whole else _wide_box(mask)
        frame = composite.frames[index].copy()
        frame[window] = resize(occluder.read(index, size)[0], Size(*frame[window].shape[:2]))
        composite.frames[index] = frame
        for track in composite.masks:
            track[index] = track[index].copy()
            track[index][window] = False


def _wide_box(mask: MaskArray) -> tuple[slice, slice]:
    """Return the window around a mask, with a margin; one pixel if the mask is empty."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    windows = []
    for start, length, side in ((y, height, mask.shape[0]), (x, width, mask.shape[1])):
        margin = round(OCCLUDER_MARGIN * length)
        stop = start + max(length, 1)
        windows.append(slice(max(start - margin, 0), min(stop + margin, side)))
    return windows[0], windows[1]
