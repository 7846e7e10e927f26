"""Tracking of the dev sequences, which are never trained on, by the tracker of inference."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from vots_hqtrack.config import RefinerConfig, TrackerConfig
from vots_hqtrack.devices import pick_dtype
from vots_hqtrack.encoder.frames import FrameEncoder
from vots_hqtrack.errors import InputError
from vots_hqtrack.measures import SegmentationMeasures, mean_measures, measure_mask
from vots_hqtrack.precision import cast_to_low_precision
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.training.adapters import open_dataset
from vots_hqtrack.training.adapters.videos import Video
from vots_hqtrack.training.adapters.vos import Davis
from vots_hqtrack.training.datasets import parse_sequence
from vots_hqtrack.training.recipe_data import DevOptions
from vots_hqtrack.training.sources import adapter_options
from vots_hqtrack.types import ObjectId
from vots_hqtrack.vmos import VMOS

ONE_OBJECT, SEVERAL_OBJECTS = "one object", "several objects"

DEV_SETS: Mapping[str, tuple[DevOptions, ...]] = MappingProxyType(
    {
        ONE_OBJECT: (DevOptions(root="davis2016-train"),),
        SEVERAL_OBJECTS: (
            DevOptions(
                root="davis16-split",
                options=("frames=../davis2016-train",),
                sequences=("stroller", "hike"),
            ),
            DevOptions(root="cdnet-highway", sequences=("highway-5",)),
            DevOptions(root="camvid-15hz", sequences=("0016E5_07959:61",)),
        ),
    }
)
"""The sequences that this project measures its weights by, below its data folder."""


@dataclass(frozen=True, slots=True)
class SequenceScore:
    """Scores of a sequence.

    Attributes:
        objects: Means over the frames after the first, for each object of the first frame.
        num_frames: Frames tracked, the first one not counted.
        seconds: Time of the tracker alone, all frames together.
    """

    objects: Mapping[ObjectId, SegmentationMeasures]
    num_frames: int
    seconds: float

    @property
    def mean(self) -> SegmentationMeasures:
        """Mean over the objects."""
        found = mean_measures(self.objects.values())
        assert found is not None  # noqa: S101 - a sequence without objects is refused
        return found


@dataclass(frozen=True, slots=True)
class DevVideo:
    """A video of the dev split and the frames of it that are tracked.

    Attributes:
        name: As in `DevOptions.sequences`.
        video: The video itself.
        places: Their indices; the first one is the reference frame.
    """

    name: str
    video: Video
    places: range


class DevSplit:
    """Some sequences and how they are measured.

    Attributes:
        videos: The sequences.
        every: Steps between two evaluations.

    Args:
        options: Sequences and frames.
        base: Folder that a relative root is looked up in.

    Raises:
        ConfigError: An option is unknown, or the name of a sequence is malformed.
        InputError: The folder is not a DAVIS folder, lacks a sequence, or one is too short.
    """

    def __init__(self, options: DevOptions, base: Path) -> None:
        adapted = {"exclude": [], **adapter_options(options.options)}
        dataset = open_dataset("davis", base / options.root, **adapted)
        assert isinstance(dataset, Davis)  # noqa: S101 - the kind asked for
        known = {video.name: video for video in dataset.videos}
        if not options.sequences:
            raise InputError("the dev split needs at least one name in dev.sequences, got none")
        videos = []
        for entry in options.sequences:
            name, first = parse_sequence(entry)
            if name not in known:
                raise InputError(
                    f"the dev split needs {name} in {base / options.root}, found none; others are "
                    "named by dev.sequences=A,B, none by dev.root="
                )
            places = range(first, len(known[name]), options.frame_step)
            places = places[: options.max_frames] if options.max_frames else places
            if len(places) < 2:
                raise InputError(f"the dev sequence {entry} needs two frames, got {len(places)}")
            videos.append(DevVideo(entry, known[name], places))
        self.videos = tuple(videos)
        self.every = options.every

    def measure(
        self, tracker: HQTracker, videos: Sequence[DevVideo]
    ) -> Iterator[tuple[str, SequenceScore]]:
        """Track some of the sequences, and yield name and score of each as it is done.

        Raises:
            InputError: The first frame of a sequence shows no object, or a file is damaged.
        """
        for video in videos:
            yield video.name, measure_video(tracker, video)


def measure_video(tracker: HQTracker, dev: DevVideo) -> SequenceScore:
    """Track the objects of a video's first frame, and measure every later frame.

    Args:
        tracker: Any tracker; its state is not changed.
        dev: The video and its frames.

    Raises:
        InputError: The first frame shows no object, or a file is damaged.
    """
    frame, truth = dev.video.load(dev.places[0])
    objects = [ObjectId(int(value)) for value in np.unique(truth) if value]
    if not objects:
        raise InputError(f"the first frame of the dev sequence {dev.name} shows no object")
    state = tracker.initialize(frame, {value: truth == value for value in objects})
    found: dict[ObjectId, list[SegmentationMeasures]] = {value: [] for value in objects}
    seconds = 0.0
    for place in dev.places[1:]:
        frame, truth = dev.video.load(place)
        began = time.perf_counter()
        masks = tracker.track(frame, state).masks
        seconds += time.perf_counter() - began
        for value, measures in found.items():
            measures.append(measure_mask(masks[value], truth == value))
    means = {value: mean_measures(measures) for value, measures in found.items()}
    known = {value: mean for value, mean in means.items() if mean is not None}
    return SequenceScore(known, len(dev.places) - 1, seconds)


def dev_tracker(
    config: TrackerConfig, encoder: FrameEncoder, vmos: VMOS, device: torch.device
) -> HQTracker:
    """Wrap trained modules as a tracker without refiner, which reports every mask.

    The preset's scores were fitted to other weights: they decide nothing here.
    """
    tracking = dataclasses.replace(config.tracking, absence_score=0.0)
    plain = dataclasses.replace(config, refiner=RefinerConfig(enabled=False), tracking=tracking)
    # What is trained stays in float32.
    vmos = copy.deepcopy(vmos)
    dtype = pick_dtype(config.runtime.dtype, device)
    cast_to_low_precision(vmos, dtype, config.runtime.low_precision)
    return HQTracker(plain, encoder, vmos, None, device)
