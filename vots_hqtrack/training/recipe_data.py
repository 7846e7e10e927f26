"""Options of a recipe that concern data: sources of clips, their shapes, augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vots_hqtrack.config import require
from vots_hqtrack.training.datasets import DEV_SPLIT


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

    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grey: float = 0.2
    blur: float = 0.3
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    fill: tuple[int, int, int] = (124, 116, 104)
    frame_flip: float = 0.3
    degrees: float = 20.0
    translate: float = 0.1
    scale: tuple[float, float] = (0.9, 1.1)
    shear: float = 10.0
    crop_scale: tuple[float, float] = (0.8, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    short_edge: int = 480
    resize: tuple[float, float] = (0.7, 1.3)
    crop_attempts: int = 5

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("flip", "jitter", "grey", "blur", "frame_flip"):
            require_share(f"augment.{name}", getattr(self, name))
        require(self.short_edge >= 16, "augment.short_edge", "at least 16", self.short_edge)
        attempts = self.crop_attempts
        require(attempts >= 1, "augment.crop_attempts", "at least 1", attempts)


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
    every: int = 2000
    max_frames: int = 0
    frame_step: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("every", "frame_step"):
            require(getattr(self, name) >= 1, f"dev.{name}", "at least 1", getattr(self, name))


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
    num_frames: int = 4
    clip_size: tuple[int, int] = (448, 672)
    frame_step: int = 2

    def __post_init__(self) -> None:
        """Check the values."""
        require(self.num_frames >= 2, "cache.num_frames", "at least 2", self.num_frames)
        require(self.frame_step >= 1, "cache.frame_step", "at least 1", self.frame_step)


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
    weight: float = 1.0
    max_gap: int = 3
    augment: Literal["photo", "video"] = "video"
    options: tuple[str, ...] = ()
    rounds: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        require(bool(self.kind), "data.kind", "the name of an adapter", self.kind)
        require(bool(self.root), "data.root", "a folder", self.root)
        require(self.weight > 0, "data.weight", "above 0", self.weight)
        for name in ("max_gap", "rounds"):
            require(getattr(self, name) >= 1, f"data.{name}", "at least 1", getattr(self, name))


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
    max_side: int = 960
    threads: int = 8

    def __post_init__(self) -> None:
        """Check the values."""
        require(self.max_side >= 64, "composer.max_side", "at least 64", self.max_side)
        require(self.threads >= 1, "composer.threads", "at least 1", self.threads)


@dataclass(frozen=True, slots=True)
class PhaseOptions:
    """A phase of the training with one batch shape.

    Attributes:
        until: Fraction of all steps at which it ends.
        batch_size: Clips a step, over all devices and micro-batches.
        num_frames: Frames a clip, the reference frame counted.
        crop: Height and width of the network image.
    """

    until: float = 1.0
    batch_size: int = 16
    num_frames: int = 5
    crop: tuple[int, int] = (465, 465)

    def __post_init__(self) -> None:
        """Check the values."""
        require_share("phases.until", self.until)
        require(self.batch_size >= 1, "phases.batch_size", "at least 1", self.batch_size)
        require(self.num_frames >= 2, "phases.num_frames", "at least 2", self.num_frames)
        require(min(self.crop) >= 16, "phases.crop", "sides of at least 16", self.crop)


def require_share(name: str, value: float) -> None:
    """Demand a number from 0 to 1."""
    require(0 <= value <= 1, name, "a number from 0 to 1", value)
