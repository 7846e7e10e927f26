"""Composed clips as training data: workers plan clips, the device renders their frames."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.synthetic.choice import FootageChooser
from vots_hqtrack.synthetic.footage import Footage, LabelledFrames, Source, load_footage
from vots_hqtrack.synthetic.kinds import DEFAULT_WEIGHTS, KINDS
from vots_hqtrack.synthetic.plan import ClipPlan
from vots_hqtrack.synthetic.planner import plan_clips
from vots_hqtrack.synthetic.render import render
from vots_hqtrack.synthetic.scene import Scene
from vots_hqtrack.training.adapters.photos import PhotoClips
from vots_hqtrack.training.adapters.videos import Video, VideoClips
from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.training.datasets import Clip, ClipDataset, keep_visible, parse_sequence
from vots_hqtrack.training.recipe_data import PhaseOptions
from vots_hqtrack.types import SLOTS_PER_GROUP

MIN_PIXELS = 24
"""Label pixels that an object needs in the first frame; a smaller one becomes background."""
MIN_CLIP_PIXELS = 100
"""The same in clips at the size of the frames."""
ATTEMPTS = 20
"""Clips composed until the first frame of one shows an object."""
LONG_VIDEO = 24
"""Frames of a video from which its weight counts in full."""
MAX_NUMBER = 254
"""Largest object number that footage can hold."""
CPU = torch.device("cpu")


class ComposedClips:
    """Endless clips, each of them new.

    A clip depends on the seed, the step and its index in the batch alone.

    Args:
        footage: Footage that clips are composed of.
        pixels: ``(P,)`` int32 pixels of the footage, on the device that renders.
        seed: Seed of the run.
        stride: Frame pixels for each label pixel.
        weights: Frequency of each kind of clip, by its name; None takes the default.
        shuffle_slots: Objects of every clip take random slots.

    Raises:
        ConfigError: A kind is unknown, or no weight is above 0.
    """

    def __init__(
        self,
        footage: Sequence[Footage],
        pixels: Tensor,
        *,
        seed: int,
        stride: int,
        weights: Mapping[str, float] | None = None,
        shuffle_slots: bool = True,
    ) -> None:
        weights = dict(weights or DEFAULT_WEIGHTS)
        unknown = sorted(set(weights) - set(KINDS))
        if unknown or min(weights.values()) < 0 or sum(weights.values()) <= 0:
            got = unknown[0] if unknown else weights
            raise ConfigError(
                f"kinds of composed clips must be weights of {', '.join(KINDS)}, got {got!r}"
            )
        self.kinds = tuple(weights)
        self.odds = np.array(list(weights.values())) / sum(weights.values())
        self.chooser = FootageChooser(footage)
        self.pixels: Tensor | None = pixels
        self.seed = seed
        self.stride = stride
        self.shuffle_slots = shuffle_slots

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pixels behind: workers only plan."""
        return {**self.__dict__, "pixels": None}

    def draw(self, step: int, places: Sequence[int], phase: PhaseOptions) -> ClipPlan:
        """Plan a part of a step's batch; see `vots_hqtrack.training.batch.ClipSource`."""
        size = (phase.crop[0] * self.stride, phase.crop[1] * self.stride)
        clips = []
        for index in places:
            generator = np.random.default_rng((self.seed, step, index))
            kind = KINDS[self.kinds[int(generator.choice(len(self.kinds), p=self.odds))]]
            scene = Scene(self.chooser, generator, phase.num_frames, size, kind)
            clips.append((scene.layers(), generator))
        return plan_clips(
            clips, phase.num_frames, size, self.stride, shuffle_slots=self.shuffle_slots
        )

    def finish(self, batch: ClipPlan, device: torch.device) -> ClipBatch:
        """Render planned clips on the device, without waiting for it."""
        plan = batch.to(device)
        frames, labels = self.render(plan)
        return ClipBatch(labels, plan.slots, frames=frames, num_objects=SLOTS_PER_GROUP)

    def render(self, plan: ClipPlan) -> tuple[Tensor, Tensor]:
        """Render planned clips.

        Args:
            plan: From :meth:`draw`, on the pixels' device.

        Returns:
            ``(B, T, 3, H, W)`` uint8 frames and ``(B, T, H', W')`` uint8 labels at network size,
            objects numbered from 1 in the first frame.
        """
        if self.pixels is None:
            raise RuntimeError("clips are rendered in the process that holds the pixels")
        frames, labels = render(self.pixels, plan)
        first = plan.stride // 2
        return frames, number_labels(labels[:, :, first :: plan.stride, first :: plan.stride])

    def only(self, kind: str) -> ComposedClips:
        """Return the same source with one kind of clip."""
        chosen = copy.copy(self)
        chosen.pixels = self.pixels  # which pickling, and so copying, leaves behind
        chosen.kinds, chosen.odds = (kind,), np.ones(1)
        return chosen


def compose_clip(
    sources: Sequence[Source],
    generator: np.random.Generator,
    *,
    num_frames: int,
    size: tuple[int, int],
    kind: str | None = None,
) -> Clip:
    """Compose one clip of still images or short videos.

    Args:
        sources: Footage of the clip.
        generator: Random generator; nothing else decides.
        num_frames: ``T``, at least 1.
        size: Height and width of the frames.
        kind: Kind of clip; None samples it.

    Returns:
        A clip with at most 10 objects, each of at least 100 pixels in the first frame.

    Raises:
        InputError: No object was visible in any attempt.
    """
    footage, pixels = load_footage(sources, CPU, max_side=2 * max(size), threads=1)
    composer = ComposedClips(
        footage,
        pixels,
        seed=int(generator.integers(2**63)),
        stride=1,
        weights={kind: 1.0} if kind else None,
        shuffle_slots=False,
    )
    phase = PhaseOptions(num_frames=max(num_frames, 2), crop=size)
    for attempt in range(ATTEMPTS):
        frames, labels = composer.render(composer.draw(0, [attempt], phase))
        label_maps = keep_visible(labels[0, :num_frames].numpy(), MIN_CLIP_PIXELS)
        if label_maps.any():
            images = frames[0, :num_frames].permute(0, 2, 3, 1).contiguous().numpy()
            return Clip(images, label_maps, " + ".join(source.name for source in sources))
    raise InputError(
        f"no object of {MIN_CLIP_PIXELS} pixels in any of {ATTEMPTS} clips of {size} composed of "
        f"{', '.join(source.name for source in sources)}"
    )


def number_labels(labels: Tensor) -> Tensor:
    """Number the objects that a clip's first frame shows from 1; others become background.

    Args:
        labels: ``(B, T, H', W')`` uint8, at most 10 objects in a first frame.

    Returns:
        The same shape and dtype.
    """
    first = labels[:, 0].flatten(1).long()
    counts = torch.zeros(len(labels), 256, dtype=torch.int64, device=labels.device)
    counts.scatter_add_(1, first, torch.ones_like(first))
    is_kept = counts >= MIN_PIXELS
    is_kept[:, 0] = False
    numbers = is_kept.cumsum(1)
    is_kept &= numbers <= SLOTS_PER_GROUP
    table = (numbers * is_kept).to(torch.uint8)
    return table.gather(1, labels.flatten(1).long()).view_as(labels)


def list_sources(
    datasets: Sequence[ClipDataset], weights: Sequence[float], held_out: Sequence[str]
) -> Iterator[Source]:
    """List all still images and videos of data sets.

    Args:
        datasets: Still images or videos.
        weights: Weight of each data set.
        held_out: Names of videos left out, or ``name:frame`` to leave out all from a frame on.

    Raises:
        ConfigError: A data set has neither images nor videos, or an entry is malformed.
        InputError: No data set has a video of that name.
    """
    limits = dict(map(parse_sequence, held_out))
    unseen = set(limits)
    for dataset, weight in zip(datasets, weights, strict=True):
        if isinstance(dataset, PhotoClips):
            for index, name in enumerate(dataset.names):
                yield Source(f"{dataset.name} {name}", partial(_read_photo, dataset, index), weight)
        elif isinstance(dataset, VideoClips):
            for video in dataset.videos:
                length = min(len(video), limits.get(video.name, len(video)))
                unseen.discard(video.name)
                if length:
                    fraction = min(1.0, length / LONG_VIDEO)
                    read = partial(_read_video, video, length)
                    yield Source(f"{dataset.name} {video.name}", read, weight * fraction)
        else:
            raise ConfigError(f"the composer takes images and videos, got {dataset.name}")
    if unseen:
        raise InputError(f"composer.held_out names the video {min(unseen)}, found none")


def parse_kinds(entries: Sequence[str]) -> dict[str, float] | None:
    """Read ``name=weight`` entries; None if there are none.

    Example:
        >>> parse_kinds(("plain=1", "real=0.5"))
        {'plain': 1.0, 'real': 0.5}
    """
    kinds: dict[str, float] = {}
    for entry in entries:
        name, _, weight = entry.partition("=")
        try:
            kinds[name.strip()] = float(weight)
        except ValueError as error:
            raise ConfigError(
                f"composer.kinds must be strings such as plain=0.3, got {entry!r}"
            ) from error
    return kinds or None


def _read_photo(dataset: PhotoClips, index: int) -> LabelledFrames:
    photo = dataset.load(index)
    return photo.image[None], photo.label_map[None]


def _read_video(video: Video, length: int) -> LabelledFrames:
    frames, ids = video.read_all()
    frames, ids = frames[:length], ids[:length]
    if ids.max() > MAX_NUMBER:
        numbers, positions = np.unique(ids, return_inverse=True)
        if len(numbers) > MAX_NUMBER:
            raise InputError(f"video {video.name} has more than {MAX_NUMBER} objects")
        first = 0 if numbers[0] == 0 else 1
        return frames, (positions.reshape(ids.shape) + first).astype(np.uint8)
    return frames, ids.astype(np.uint8)
