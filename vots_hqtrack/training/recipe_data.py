"""Options of a recipe that concern data: sources of clips, their shapes, augmentation."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

from vots_hqtrack.config import require
from vots_hqtrack.training.datasets import DEV_SPLIT


class Bounds(NamedTuple):
    """Range of an option, in the annotation of its field.

    Attributes:
        low: Smallest value.
        high: Largest value.
        wanted: The range in words, for errors.
    """

    low: float
    high: float
    wanted: str


Share = Annotated[float, Bounds(0, 1, "a number from 0 to 1")]
BelowOne = Annotated[float, Bounds(0, math.nextafter(1, 0), "0 or more, below 1")]
Positive = Annotated[float, Bounds(math.ulp(0.0), math.inf, "above 0")]
NotNegative = Annotated[float, Bounds(0, math.inf, "0 or more")]
Count = Annotated[int, Bounds(1, math.inf, "at least 1")]
Natural = Annotated[int, Bounds(0, math.inf, "0 or more")]


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """Augmentation of frames: probabilities and ranges.

    The first group holds for all data, the second for still images (every frame is a copy of one
    image, moved by itself), the third for videos.

    Attributes:
        flip: Mirroring of a whole clip.
        jitter: Colour jitter of a frame.
        brightness: Its strength.
        contrast: Its strength.
        saturation: Its strength.
        hue: Its strength.
        grey: Loss of colour.
        blur: Gaussian blur.
        blur_sigma: Its width in pixels, minimum and maximum.
        fill: Colour outside an image.
        frame_flip: Images: mirroring of a later frame.
        degrees: Images: largest rotation of a later frame.
        translate: Images: largest shift of a later frame, relative to the image.
        scale: Images: minimum and maximum scale of a later frame.
        shear: Images: largest shear of a later frame in degrees.
        crop_scale: Images: area of the crop, relative to the image.
        crop_ratio: Images: width to height of the crop.
        short_edge: Videos: short side that frames are resized to, times ``resize``.
        resize: Videos: minimum and maximum scale of it.
        crop_attempts: Videos: crops tried for one that shows an object in the first frame.
    """

    flip: Share = 0.5
    jitter: Share = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grey: Share = 0.2
    blur: Share = 0.3
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    fill: tuple[int, int, int] = (124, 116, 104)
    frame_flip: Share = 0.3
    degrees: float = 20.0
    translate: float = 0.1
    scale: tuple[float, float] = (0.9, 1.1)
    shear: float = 10.0
    crop_scale: tuple[float, float] = (0.8, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    short_edge: Annotated[int, Bounds(16, math.inf, "at least 16")] = 480
    resize: tuple[float, float] = (0.7, 1.3)
    crop_attempts: Count = 5


@dataclass(frozen=True, slots=True)
class DevOptions:
    """Sequences that are tracked at intervals with the averaged weights, to choose the best.

    Attributes:
        root: DAVIS folder; a relative one is looked up in the data folder. Empty: none.
        options: ``name=value`` options of the davis adapter, as ``frames=../davis2016-train``.
        sequences: Names of the sequences, or from a frame on, as ``street:61``.
        every: Steps between two evaluations; one more is made at the end.
        max_frames: Frames tracked of each sequence; 0 is all.
        frame_step: Step between tracked frames of the video.
    """

    root: str = ""
    options: tuple[str, ...] = ()
    sequences: tuple[str, ...] = DEV_SPLIT
    every: Count = 2000
    max_frames: int = 0
    frame_step: Count = 1


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Features on disk (``model.features = "cached"``).

    Attributes:
        folder: Folder shared between runs; empty is in the run's folder.
        num_frames: Frames of a cached clip, except of whole videos.
        clip_size: Height and width of synthetic clips in the encoder's pixels.
        frame_step: Step between kept frames of a whole video.
    """

    folder: str = ""
    num_frames: Annotated[int, Bounds(2, math.inf, "at least 2")] = 4
    clip_size: tuple[int, int] = (448, 672)
    frame_step: Count = 2


@dataclass(frozen=True, slots=True)
class DataOptions:
    """One data set of the mixture.

    Attributes:
        kind: Layout of the folder, an adapter's name, or ``synthetic``, ``composites`` or
            ``crossings``.
        root: Folder; a relative one is looked up in the data folder.
        weight: Sampling weight, relative to the other sets.
        max_gap: Largest number of video frames from one frame of a clip to the next.
        augment: Augmentation for still images or for videos.
        options: ``name=value`` options of the adapter.
        rounds: Cached features: clips made of each image, or of each video of ``composites``
            and ``crossings``.
    """

    kind: str = ""
    root: str = ""
    weight: Positive = 1.0
    max_gap: Count = 3
    augment: Literal["photo", "video"] = "video"
    options: tuple[str, ...] = ()
    rounds: Count = 1

    def __post_init__(self) -> None:
        """Check the names."""
        require(bool(self.kind), "data.kind", "the name of an adapter", self.kind)
        require(bool(self.root), "data.root", "a folder", self.root)


@dataclass(frozen=True, slots=True)
class ComposerOptions:
    """Clips composed on the device from the footage of all data sets, every clip new.

    The data sets' ``weight`` is then the sampling weight of their images or videos; their other
    options for clips have no effect, nor have ``[augment]``, ``clip.min_pixels`` and
    ``clip.merge_probability``: the composer augments clips by itself.

    Attributes:
        enabled: Compose clips instead of sampling them from the data sets.
        kinds: Sampling weight of each kind of clip, as ``meetings=0.2``; empty takes the
            default. The kinds are those of ``synthetic.kinds``.
        held_out: Names of videos that are not used, or from a frame on, as ``street:61``.
        max_side: Larger footage is scaled down to this long side.
        threads: Threads that read files.
    """

    enabled: bool = False
    kinds: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    max_side: Annotated[int, Bounds(64, math.inf, "at least 64")] = 960
    threads: Count = 8


@dataclass(frozen=True, slots=True)
class PhaseOptions:
    """A phase of the training with one batch shape.

    Attributes:
        until: Fraction of all steps at which it ends.
        batch_size: Clips a step, over all devices and micro-batches.
        num_frames: Frames a clip, the reference frame counted.
        crop: Height and width of the network image.
    """

    until: Share = 1.0
    batch_size: Count = 16
    num_frames: Annotated[int, Bounds(2, math.inf, "at least 2")] = 5
    crop: tuple[int, int] = (465, 465)

    def __post_init__(self) -> None:
        """Check the shape of the clips."""
        require(min(self.crop) >= 16, "phases.crop", "sides of at least 16", self.crop)


def check_options(recipe: Any) -> None:  # noqa: ANN401 - a dataclass of dataclasses
    """Check every option of a recipe that has bounds.

    Raises:
        ConfigError: A value is out of its bounds.
    """
    for field in dataclasses.fields(recipe):
        section = getattr(recipe, field.name)
        for options in section if isinstance(section, tuple) else (section,):
            for name, hint in get_type_hints(type(options), include_extras=True).items():
                for bounds in getattr(hint, "__metadata__", ()):
                    value = getattr(options, name)
                    is_within = bounds.low <= value <= bounds.high
                    require(is_within, f"{field.name}.{name}", bounds.wanted, value)
