"""Clips on which a tracker fails often enough to learn when it does.

At full frame rate a tracker of DAVIS is nearly always right, which teaches nothing about doubt. So
videos of one object are thinned until objects leap, pasted over one another until they hide, and
cut until the object is not there at all; videos of several objects are thinned, and clips of many
objects are composed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from vots_hqtrack.composites.collage import Collage, make_crossing
from vots_hqtrack.composites.shots import ObjectVideo, Shot, draw_shot, resize
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.training.adapters.videos import Video, VideoClips
from vots_hqtrack.training.datasets import ClipDataset
from vots_hqtrack.training.dev import DevVideo, parse_sequence
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.recipe_data import PhaseOptions
from vots_hqtrack.training.sources import SingleObject, open_source
from vots_hqtrack.training.synthetic.footage import Source, load_footage
from vots_hqtrack.training.synthetic.open import list_sources
from vots_hqtrack.training.synthetic.source import ComposedClips
from vots_hqtrack.types import FrameArray, MaskArray, Size

StressKind = Literal["fast", "crossing", "covered", "cutaway"]
TrialKind = Literal["fast", "crossing", "covered", "cutaway", "real", "composed"]
KINDS: tuple[StressKind, ...] = ("fast", "crossing", "covered", "cutaway")
STEPS = {"fast": (5, 11), "crossing": (2, 5), "covered": (2, 5), "cutaway": (1, 5)}
"""Frames of the video from one of the clip to the next: least, and one more than most."""
OBJECTS = {"fast": (1, 2), "crossing": (3, 6), "covered": (2, 4), "cutaway": (2, 4)}
"""Objects, each of a video of its own, pasted over the first: least, and one more than most."""
LEAST_VIDEOS = max(most for _, most in OBJECTS.values())
ABSENCE = (0.3, 0.7)
"""Where in a clip the object is not there, in its length."""
FOLDS = 3
"""Composed clips are made of so many parts of the footage, to be left out one by one in checks."""
FOOTAGE_SIDE = 640
"""Long side to which footage is reduced before it is composed."""
COVER_MARGIN = 0.15
"""How far a cover reaches beyond the object's box, in the box's sides."""


@dataclass(frozen=True, slots=True)
class TrialClip:
    """A short clip with the truth.

    Attributes:
        kind: What makes it hard; ``real`` is a video as it is.
        origin: The videos that it is made of; the word before the first colon is what checks leave
            out together.
        frames: uint8 ``(H, W, 3)`` RGB.
        masks: For each object, bool ``(H, W)``, frame by frame; none is empty in the first.
    """

    kind: TrialKind
    origin: str
    frames: Sequence[FrameArray]
    masks: Sequence[Sequence[MaskArray]]


def stress_clips(
    videos: Sequence[ObjectVideo], num_frames: int, size: Size, *, seed: int
) -> Iterator[TrialClip]:
    """Make one clip of every kind about every video; neighbours differ in kind.

    Args:
        videos: At least six, of one object each.
        num_frames: Most frames of a clip; short videos give fewer where they are thinned.
        size: Size of the frames.
        seed: Seed of the random generators.

    Raises:
        InputError: There are too few videos, one is too short, or a file is damaged.
    """
    if len(videos) < LEAST_VIDEOS:
        raise InputError(f"clips of one object need {LEAST_VIDEOS} videos, got {len(videos)}")
    for turn in range(len(KINDS)):
        for place in range(len(videos)):
            generator = np.random.default_rng([seed, turn, place])
            kind = KINDS[(turn + place) % len(KINDS)]
            yield draw_stress_clip(kind, videos, place, num_frames, size, generator)


def real_clips(parts: Sequence[DevVideo], num_frames: int) -> Iterator[TrialClip]:
    """Make clips of the first and the last frames of videos, with all objects of the first frame.

    Args:
        parts: Videos, and the frames of them to take.
        num_frames: Most frames of a clip; 0 makes one clip of all. The last frames are left out
            where they would show mostly what the first ones do.

    Raises:
        InputError: A file is missing or damaged.
    """
    for part in parts:
        places = part.places
        length = min(num_frames or len(places), len(places))
        starts = [0] if 2 * (len(places) - length) < length else [0, len(places) - length]
        for start in starts:
            clip = _read_clip(part, places[start : start + length])
            if clip.masks:
                yield clip


def composed_clips(
    sources: Sequence[Source], count: int, num_frames: int, size: Size, *, seed: int
) -> Iterator[TrialClip]:
    """Compose clips of several objects out of footage, one part of the footage after the other.

    Args:
        sources: Photographs and videos.
        count: Number of clips.
        num_frames: Frames of a clip.
        size: Size of the frames.
        seed: Seed of the random generators.

    Raises:
        InputError: A file is damaged, or no footage shows an object.
    """
    cpu = torch.device("cpu")
    phase = PhaseOptions(crop=(size.height, size.width), num_frames=num_frames)
    for fold in range(min(FOLDS, len(sources))):
        chosen = sources[fold::FOLDS]
        footage, pixels = load_footage(chosen, cpu, max_side=FOOTAGE_SIDE, threads=1)
        composer = ComposedClips(footage, pixels, seed=seed, stride=1, shuffle_slots=False)
        wanted = len(range(fold, count, FOLDS))
        for index in itertools.count():
            if not wanted:
                break
            frames, labels = composer.render(composer.draw(fold, [index], phase))
            label_maps = labels[0].numpy()
            masks = [list(label_maps == value) for value in np.unique(label_maps[0]) if value]
            if masks:
                images = list(frames[0].permute(0, 2, 3, 1).contiguous().numpy())
                yield TrialClip("composed", f"composed-{fold}:{index}", images, masks)
                wanted -= 1


@dataclass(frozen=True, slots=True)
class TrialData:
    """Data sets that clips are made of.

    Attributes:
        datasets: Photographs and videos.
        weights: How often the composer takes from each.
        sequences: Names of the videos to take, or ``name:first_frame``; if there is none, all but
            the held-out ones.
        held_out: Names of videos that are left out, or ``name:frame`` to leave out all from a frame
            on.
    """

    datasets: tuple[ClipDataset, ...]
    weights: tuple[float, ...]
    sequences: tuple[str, ...]
    held_out: tuple[str, ...]

    def parts(self, step: int) -> list[DevVideo]:
        """Return the videos and their frames, one in so many.

        Raises:
            ConfigError: An entry is malformed.
            InputError: There is no video of that name.
        """
        videos = self._videos()
        if not self.sequences:
            limits = dict(parse_sequence(entry) for entry in self.held_out)
            ends = [min(limits.get(video.name, len(video)), len(video)) for video in videos]
            pairs = zip(videos, ends, strict=True)
            parts = [DevVideo(one.name, one, range(0, end, step)) for one, end in pairs]
            return [part for part in parts if len(part.places) > 1]
        known = {video.name: video for video in reversed(videos)}
        parts = []
        for entry in self.sequences:
            name, first = parse_sequence(entry)
            if name not in known:
                raise InputError(f"no video {name!r}; there are {', '.join(sorted(known)[:8])}")
            parts.append(DevVideo(name, known[name], range(first, len(known[name]), step)))
        return parts

    def single_objects(self) -> list[SingleObject]:
        """Return the videos whose frames are all to be taken, all objects of each as one."""
        parts = self.parts(1)
        return [SingleObject(one.video) for one in parts if len(one.places) == len(one.video)]

    def sources(self) -> list[Source]:
        """Return all that clips can be composed of, without what is held out."""
        names = {video.name for video in self._videos()}
        held_out = [entry for entry in self.held_out if parse_sequence(entry)[0] in names]
        return list(list_sources(self.datasets, self.weights, held_out))

    def _videos(self) -> list[Video]:
        datasets = [one for one in self.datasets if isinstance(one, VideoClips)]
        return [video for one in datasets for video in one.videos]


def open_trial_data(
    recipe: Recipe, base: Path, sets: Sequence[str] = (), sequences: Sequence[str] = ()
) -> TrialData:
    """Open data sets of a training recipe; what it holds out of training is held out here.

    Args:
        recipe: Says how each data set is read.
        base: Folder that holds them.
        sets: Roots of those to open; if there is none, all.
        sequences: See `TrialData`.

    Raises:
        ConfigError: The recipe has no such data set.
        InputError: A folder does not have its layout.
    """
    tables = [one for one in recipe.data if not sets or one.root in sets]
    if unknown := set(sets) - {one.root for one in tables}:
        known = ", ".join(one.root for one in recipe.data)
        raise ConfigError(f"the recipe's data sets are {known}, got {min(unknown)!r}")
    datasets = []
    for table in tables:
        if sequences and table.kind == "davis":  # which by itself leaves out what is held out
            table = replace(table, options=(*table.options, "exclude=[]"))
        datasets.append(open_source(table, base, recipe.cache.clip_size))
    weights = tuple(one.weight for one in tables)
    return TrialData(tuple(datasets), weights, tuple(sequences), recipe.composer.held_out)


def _read_clip(part: DevVideo, places: range) -> TrialClip:
    loaded = [part.video.load(place) for place in places]
    numbers = [value for value in np.unique(loaded[0].label_map) if value]
    masks = [[photo.label_map == value for photo in loaded] for value in numbers]
    origin = f"{part.name}:{places.start}/{places.step}"
    return TrialClip("real", origin, [photo.image for photo in loaded], masks)


def draw_stress_clip(
    kind: StressKind,
    videos: Sequence[ObjectVideo],
    place: int,
    num_frames: int,
    size: Size,
    generator: np.random.Generator,
) -> TrialClip:
    """Make one clip.

    Args:
        kind: What shall make it hard.
        videos: At least six, of one object each.
        place: Which of them it is about; the others are drawn.
        num_frames: Most frames.
        size: Size of the frames.
        generator: Random generator.

    Raises:
        InputError: A video is too short, or a file is damaged.
    """
    step = int(generator.integers(*STEPS[kind]))
    count = int(generator.integers(*OBJECTS[kind]))
    others = [int(n) for n in generator.permutation(len(videos)) if n != place]
    cast = [videos[number].thin(step) for number in (place, *others[:count])]
    length = min(num_frames, *(len(video) for video in cast))
    # The last one shows no object: it is what hides the others.
    *shots, veil = [draw_shot(video, length, generator) for video in cast]
    origin = " ".join(f"{shot.video.name}:{shot.start * step}/{step}" for shot in shots)
    if count == 1:
        pairs = [shots[0].read(index, size) for index in range(length)]
        collage = Collage([frame for frame, _ in pairs], [[mask for _, mask in pairs]])
    else:
        collage = make_crossing(shots, size, generator)
    if kind == "covered":
        collage = _cover(collage, veil, size)
    elif kind == "cutaway":
        collage = _cut_away(collage, veil, size)
    return TrialClip(kind, origin, collage.frames, collage.masks)


def _absent(num_frames: int) -> range:
    return range(*(max(1, round(part * num_frames)) for part in ABSENCE))


def _cover(collage: Collage, veil: Shot, size: Size) -> Collage:
    """Lay a piece of another video over the first object's box for some frames."""
    frames, masks = list(collage.frames), [list(track) for track in collage.masks]
    for index in _absent(len(frames)):
        window = _wide_box(masks[0][index])
        patch = Size(*(one.stop - one.start for one in window))
        frames[index] = frames[index].copy()
        frames[index][window] = resize(veil.read(index, size)[0], patch)
        for track in masks:
            track[index] = track[index].copy()
            track[index][window] = False
    return Collage(frames, masks)


def _cut_away(collage: Collage, veil: Shot, size: Size) -> Collage:
    """Show another video for some frames."""
    frames, masks = list(collage.frames), [list(track) for track in collage.masks]
    for index in _absent(len(frames)):
        frames[index] = veil.read(index, size)[0]
        for track in masks:
            track[index] = np.zeros_like(track[index])
    return Collage(frames, masks)


def _wide_box(mask: MaskArray) -> tuple[slice, slice]:
    """Return the window around a mask, with a margin; one pixel if the mask is empty."""
    windows = []
    for axis in (1, 0):
        held = np.flatnonzero(mask.any(axis=axis))
        start, stop = (int(held[0]), int(held[-1]) + 1) if len(held) else (0, 1)
        margin = round(COVER_MARGIN * (stop - start))
        windows.append(slice(max(start - margin, 0), min(stop + margin, mask.shape[1 - axis])))
    return windows[0], windows[1]
