"""Options of a training run of the HQ head; sections ``train`` and ``optimizer`` are VMOS's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from vots_hqtrack.config import require
from vots_hqtrack.training.recipe import OptimizerOptions, RunOptions
from vots_hqtrack.training.recipe_data import Count, PhaseOptions, Share, check_options

HQPrompt = Literal["box", "box+mask", "box+mask+point", "points"]


@dataclass(frozen=True, slots=True)
class HQSource:
    """A folder of cached images.

    Attributes:
        folder: The folder, below the cache.
        weight: Sampling weight, relative to the other sources.
        excluded: Beginnings of the names of images that are left out.
        joined: Fraction of the images with all instances taken as one object.
        pattern: Shell-style pattern of the images that are taken.
    """

    folder: str
    weight: float
    excluded: tuple[str, ...] = ()
    joined: float = 0.0
    pattern: str = "*.safetensors"


@dataclass(frozen=True, slots=True)
class HQSampleOptions:
    """Sampling of batches.

    Attributes:
        batch_size: Images a step, one object each.
        window: Side of the windows in tokens of the embedding.
        prompts: Kinds of prompts; one kind a step.
        prompt_weights: Sampling weight of each kind.
        near_object: Fraction of the windows that are on the object's box.
        tracked_masks: Fraction of the tracked frames with VMOS's mask as the initial mask.
        degrade_tracked: Fraction of those that are degraded further.
    """

    batch_size: int = 8
    window: int = 34
    prompts: tuple[HQPrompt, ...] = ("box+mask+point", "box+mask", "box", "points")
    prompt_weights: tuple[float, ...] = (0.65, 0.1, 0.15, 0.1)
    near_object: float = 0.8
    tracked_masks: float = 0.5
    degrade_tracked: float = 0.4

    def __post_init__(self) -> None:
        """Check the values."""
        same = len(self.prompts) == len(self.prompt_weights)
        wanted = f"as many as samples.prompts ({len(self.prompts)})"
        require(same, "samples.prompt_weights", wanted, len(self.prompt_weights))


@dataclass(frozen=True, slots=True)
class DegradeOptions:
    """Errors of synthetic initial masks.

    Attributes:
        noise: Maximum amplitude of smooth noise, as a fraction of a pixel's coverage.
        bias: Maximum shift of the threshold on the coverage, which shrinks or grows the mask.
        move_probability: Probability of a small movement and scaling.
        move: Maximum movement, as a fraction of the object's box; scales change by as much.
        blob_probability: Probability of holes, and of stray parts.
        cut_probability: Probability of a side that is cut off.
        min_iou: Minimum IoU with the ground truth; a worse mask is replaced by noise alone.
    """

    noise: float = 0.6
    bias: float = 0.25
    move_probability: float = 0.4
    move: float = 0.05
    blob_probability: float = 0.25
    cut_probability: float = 0.1
    min_iou: float = 0.4


@dataclass(frozen=True, slots=True)
class HQCacheOptions:
    """Content of the cache, and the frozen networks.

    Attributes:
        seed: Seed of all random generators.
        folder: The cache; empty for a folder of the run.
        photos: Folder of images with instances below the data folder; empty for none.
        videos: DAVIS folder below the data folder; empty for none.
        sam_weights: Weights of the frozen SAM, which gets the head.
        preset: Preset of the VMOS that tracks the videos; it shares SAM's encoder, its refiner is
            not used.
        frame_step: Frames of a video from one that is tracked to the next.
        video_crops: Enlarged crops of each video.
        max_photos: Images that are taken, at random.
        crop_probability: Probability of cropping an image.
        min_crop: Side of the smallest crop, as a fraction of the image's.
    """

    seed: int = 1
    folder: str = ""
    photos: str = "static-instances"
    videos: str = "davis2016-train"
    sam_weights: str = "sam-vit-tiny"
    preset: str = "lite-vmos"
    frame_step: int = 3
    video_crops: int = 5
    max_photos: int = 800
    crop_probability: float = 0.4
    min_crop: float = 0.4


@dataclass(frozen=True, slots=True)
class HQLossOptions:
    """Point loss of a window.

    Attributes:
        points: Points of a window in the loss.
        sum_weight: Weight of the loss of the sum with SAM's mask; that of the HQ token's mask has
            the rest.
    """

    points: Count = 8192
    sum_weight: Share = 0.5


def _run_options() -> RunOptions:
    return RunOptions(steps=900, workers=1, checkpoint_every=100, keep_checkpoints=3)


def _optimizer_options() -> OptimizerOptions:
    return OptimizerOptions(
        min_learning_rate=4e-6,
        decay="cosine",
        warm_up=0.03,
        weight_decay=0.01,
        no_decay=("hf_token.*",),
        clip_norm=1.0,
        average_fraction=0.05,
    )


@dataclass(frozen=True, slots=True)
class HQRecipe:
    """One training run of the HQ head."""

    KIND: ClassVar[str] = "hq-head"

    train: RunOptions = field(default_factory=_run_options)
    optimizer: OptimizerOptions = field(default_factory=_optimizer_options)
    loss: HQLossOptions = field(default_factory=HQLossOptions)
    samples: HQSampleOptions = field(default_factory=HQSampleOptions)
    degrade: DegradeOptions = field(default_factory=DegradeOptions)
    cache: HQCacheOptions = field(default_factory=HQCacheOptions)
    sources: tuple[HQSource, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        check_options(self)
        require(bool(self.sources), "sources", "at least one [[sources]] table", "none")

    @property
    def phases(self) -> tuple[PhaseOptions, ...]:
        """The only phase, with the batch size."""
        return (PhaseOptions(batch_size=self.samples.batch_size),)

    def phase(self, progress: float) -> PhaseOptions:
        """Return the phase at any progress."""
        return self.phases[0]
