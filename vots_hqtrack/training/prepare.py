"""Fills the feature cache: synthetic clips, real videos, real clips pasted over one another.

Each clip depends only on the seed and its own number, so an interrupted run goes on where it
stopped and gives the same files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.encoder.sam import SamEncoder
from vots_hqtrack.refiner.models import build_sam
from vots_hqtrack.training.adapters.photos import StaticInstances
from vots_hqtrack.training.adapters.vos import Davis
from vots_hqtrack.training.augment import paste_clip, synthesize_clip
from vots_hqtrack.training.datasets import DEV_SPLIT, Clip
from vots_hqtrack.training.features import cache_clip

SAM_WEIGHTS = "sam-vit-tiny"
NUM_OTHERS = 3
"""Photographs that a synthetic clip may take objects from, besides its own."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PrepareConfig:
    """What goes into the cache.

    Attributes:
        seed: Of all chance.
        synthetic_rounds: How often each photograph becomes a clip.
        synthetic_frames: Frames of a synthetic clip.
        synthetic_size: Its height and width, which are also the encoder's input.
        frame_step: Every how many frames of a video are kept.
        num_composites: Real clips pasted over one another.
        composite_frames: Frames of such a clip.
        composite_step: Largest number of video frames between two of them.
    """

    seed: int = 1
    synthetic_rounds: int = 1
    synthetic_frames: int = 3
    synthetic_size: tuple[int, int] = (448, 672)
    frame_step: int = 2
    num_composites: int = 120
    composite_frames: int = 4
    composite_step: int = 6


def load_encoder() -> SamEncoder:
    """Build the lite preset's encoder with the shipped weights.

    Raises:
        WeightsError: They are missing or damaged.
    """
    sam = build_sam("vit_tiny")
    load_into(sam, load_weights(SAM_WEIGHTS), source=SAM_WEIGHTS)
    return SamEncoder(sam.image_encoder).eval()


def prepare_synthetic(
    encoder: SamEncoder, root: Path, cache: Path, config: PrepareConfig, progress: Progress
) -> None:
    """Synthesise and encode clips of the photographs under ``root``; existing files are kept."""
    cache.mkdir(parents=True, exist_ok=True)
    photos = StaticInstances(root)
    for turn in range(config.synthetic_rounds):
        for index in range(len(photos)):
            path = cache / f"{turn:02d}-{photos.names[index]}.safetensors"
            if path.exists():
                continue
            rng = np.random.default_rng((config.seed, turn, index))
            chosen = rng.integers(0, len(photos), NUM_OTHERS)
            clip = synthesize_clip(
                photos.load(index),
                [photos.load(int(other)) for other in chosen],
                rng,
                num_frames=config.synthetic_frames,
                size=config.synthetic_size,
            )
            cache_clip(encoder, _pairs(clip), path, long_edge=max(config.synthetic_size))
            progress(path.stem)


def prepare_videos(
    encoder: SamEncoder, root: Path, cache: Path, config: PrepareConfig, progress: Progress
) -> None:
    """Encode the training videos under ``root``; the dev split is left out."""
    cache.mkdir(parents=True, exist_ok=True)
    for video in Davis(root, exclude=DEV_SPLIT).videos:
        path = cache / f"{video.name}.safetensors"
        if path.exists():
            continue
        indices = range(0, len(video), config.frame_step)
        cache_clip(encoder, (video.load(index) for index in indices), path)
        progress(path.stem)


def prepare_composites(
    encoder: SamEncoder, root: Path, cache: Path, config: PrepareConfig, progress: Progress
) -> None:
    """Paste real clips over one another and encode them; the dev split is left out."""
    cache.mkdir(parents=True, exist_ok=True)
    videos = Davis(root, exclude=DEV_SPLIT)
    for number in range(config.num_composites):
        path = cache / f"{number:04d}.safetensors"
        if path.exists():
            continue
        rng = np.random.default_rng((config.seed, 1_000_000, number))
        base, top = (
            _draw_clip(videos, int(i), rng, config) for i in rng.permutation(len(videos))[:2]
        )
        if base.frames.shape != top.frames.shape:
            continue
        clip = paste_clip(base, top, rng)
        if clip.num_objects:
            cache_clip(encoder, _pairs(clip), path)
            progress(path.stem)


def _draw_clip(videos: Davis, index: int, rng: np.random.Generator, config: PrepareConfig) -> Clip:
    steps = rng.integers(1, config.composite_step + 1, config.composite_frames - 1)
    offsets = np.concatenate([[0], np.cumsum(steps)])
    length = len(videos.videos[index])
    offsets = np.minimum(offsets, length - 1)
    frames = offsets + int(rng.integers(0, length - int(offsets[-1])))
    order = frames if rng.random() < 0.5 else frames[::-1]
    return videos.load(index, [int(i) for i in order], rng)


def _pairs(clip: Clip) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return zip(clip.frames, clip.labels, strict=True)
