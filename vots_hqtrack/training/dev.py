"""Tracks the dev sequences with the averaged weights, by the tracker of inference."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vots_hqtrack.config import RefinerConfig, TrackerConfig
from vots_hqtrack.encoder.frames import FrameEncoder
from vots_hqtrack.errors import InputError
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.training.adapters import open_dataset
from vots_hqtrack.training.adapters.videos import Video
from vots_hqtrack.training.adapters.vos import Davis
from vots_hqtrack.training.network import ClipNetwork, frame_encoder, tracker_config
from vots_hqtrack.training.recipe import ModelOptions
from vots_hqtrack.training.recipe_data import DevOptions
from vots_hqtrack.training.sources import adapter_options
from vots_hqtrack.types import FrameResult, LabelArray
from vots_hqtrack.vmos import VMOS


class DevSplit:
    """Some sequences and how they are measured.

    Args:
        options: Which, and how much of them.
        base: Folder that a relative root is looked up in.

    Raises:
        ConfigError: An option is unknown.
        InputError: The folder is no DAVIS folder, or lacks a sequence.
    """

    def __init__(self, options: DevOptions, base: Path) -> None:
        self.options = options
        adapted = {"exclude": [], **adapter_options(options.options)}
        dataset = open_dataset("davis", base / options.root, **adapted)
        assert isinstance(dataset, Davis)  # noqa: S101 - the kind asked for
        videos = {video.name: video for video in dataset.videos}
        missing = [name for name in options.sequences if name not in videos]
        if missing or not options.sequences:
            wanted = missing[0] if missing else "at least one name in dev.sequences"
            raise InputError(f"the dev split needs {wanted} in {base / options.root}, found none")
        self.videos = tuple(videos[name] for name in options.sequences)

    def measure(self, tracker: HQTracker, videos: Sequence[Video]) -> dict[str, float]:
        """Return the region similarity J of some of the sequences by name.

        Mean over the frames after the first, then over the objects of the first frame.
        """
        return {video.name: self._measure_one(tracker, video) for video in videos}

    def _measure_one(self, tracker: HQTracker, video: Video) -> float:
        places = list(range(0, len(video), self.options.frame_step))
        if self.options.max_frames:
            places = places[: self.options.max_frames]
        frame, truth = video.load(places[0])
        objects = [int(value) for value in np.unique(truth) if value]
        if not objects or len(places) < 2:
            raise InputError(f"the dev sequence {video.name} needs an object and two frames")
        state = tracker.initialize(frame, {value: truth == value for value in objects})
        scores = []
        for place in places[1:]:
            frame, truth = video.load(place)
            scores.append(_jaccards(tracker.track(frame, state), truth, objects))
        return float(np.mean(scores))


def dev_tracker(
    config: TrackerConfig, encoder: FrameEncoder, vmos: VMOS, device: torch.device
) -> HQTracker:
    """Wrap trained modules as a tracker without refiner, which reports every mask.

    The preset's scores were fitted to other weights, so that they decide nothing here.
    """
    tracking = dataclasses.replace(config.tracking, absence_score=0.0)
    plain = dataclasses.replace(config, refiner=RefinerConfig(enabled=False), tracking=tracking)
    return HQTracker(plain, encoder, vmos, None, device)


def average_tracker(average: ClipNetwork, model: ModelOptions) -> HQTracker:
    """Wrap averaged weights as the tracker of :func:`dev_tracker`.

    Args:
        average: On its device.
        model: Of the recipe.
    """
    config = tracker_config(model)
    device = next(average.vmos.parameters()).device
    return dev_tracker(config, frame_encoder(average, config), average.vmos, device)


def _jaccards(result: FrameResult, truth: LabelArray, objects: Sequence[int]) -> list[float]:
    found = {int(object_id): mask for object_id, mask in result.masks.items()}
    scores = []
    for value in objects:
        wanted = truth == value
        union = int((found[value] | wanted).sum())
        scores.append(float((found[value] & wanted).sum() / union) if union else 1.0)
    return scores
