"""Options of a training run: one for every item of the paper's recipe (section 3).

The defaults are those of the paper's first stage; ``configs/`` holds the shipped recipes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from vots_hqtrack.config import require, require_within
from vots_hqtrack.training.recipe_data import (
    AugmentOptions,
    CacheOptions,
    ComposerOptions,
    DataOptions,
    DevOptions,
    PhaseOptions,
    require_share,
)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The run as a whole.

    Attributes:
        steps: Optimiser steps in all, unless the clock decides.
        max_minutes: Length of the run by the clock, from its first step on; phases, rates and
            losses then follow the time. 0 counts steps instead.
        seed: Seed of all random generators.
        accumulate: Micro-batches of a step, computed one after the other; saves memory.
        precision: Dtype of matrix multiplications and convolutions; ``auto`` takes bfloat16 where
            the device multiplies it natively.
        threads: CPU threads; 0 leaves PyTorch's choice.
        workers: Processes that prepare clips, for each training process; 0 prepares in it.
        checkpoint_every: Steps between two checkpoints.
        keep_checkpoints: Number of checkpoints that stay.
        log_every: Steps between two scalars.
        image_every: Steps between two images of labels and predictions; 0 draws none.
        export_every_seconds: Seconds between two writings of the averaged weights and of the
            compact state; 0 writes them with the checkpoints alone.
        keep_exports: Keep a copy of the averaged weights of each minute.
        graph: ``auto`` replays forward and backward pass as one CUDA graph where shapes stay the
            same, ``off`` never does.
        compile_encoder: Compile a frozen encoder by ``torch.compile``.
    """

    steps: int = 100_000
    max_minutes: float = 0.0
    seed: int = 1
    accumulate: int = 1
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: int = 0
    workers: int = 0
    checkpoint_every: int = 2000
    keep_checkpoints: int = 30
    log_every: int = 10
    image_every: int = 500
    export_every_seconds: float = 60.0
    keep_exports: bool = False
    graph: Literal["auto", "off"] = "auto"
    compile_encoder: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("steps", "accumulate", "checkpoint_every", "keep_checkpoints", "log_every"):
            require(getattr(self, name) >= 1, f"train.{name}", "at least 1", getattr(self, name))
        more = ("max_minutes", "export_every_seconds")
        for name in ("seed", "threads", "workers", "image_every", *more):
            require(getattr(self, name) >= 0, f"train.{name}", "0 or more", getattr(self, name))
        for name in ("threads", "workers"):
            require_within(f"train.{name}", getattr(self, name), 0, 1024)


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The network and what it starts from.

    Attributes:
        preset: Preset of the tracker with the encoder and the VMOS that are trained.
        settings: ``section.option=value`` changes of that preset.
        weights: Weights that all starts from, by name or file: for the second stage, what the first
            left. Empty: fresh ones.
        encoder_weights: Weights of the encoder alone, by name or file; not beside ``weights``.
        train_encoder: The encoder learns too; off, it is frozen.
        recompute_encoder: Recompute the encoder in the backward pass, one frame at a time: far less
            memory for about a third more time.
        features: ``computed`` by the encoder in every step, or ``cached`` once on disk, which needs
            a frozen encoder of SAM's kind.
        similarity_start: Fresh query and key projections begin as plain feature similarity.
    """

    preset: str = "vmos"
    settings: tuple[str, ...] = ()
    weights: str = ""
    encoder_weights: str = ""
    train_encoder: bool = True
    recompute_encoder: bool = False
    features: Literal["computed", "cached"] = "computed"
    similarity_start: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        both = bool(self.weights and self.encoder_weights)
        require(not both, "model.encoder_weights", "empty beside model.weights", "both")


@dataclass(frozen=True, slots=True)
class OptimizerOptions:
    """AdamW, its schedule, and the moving average of the weights.

    Attributes:
        learning_rate: At the end of the warm-up.
        min_learning_rate: At the very start and at the end.
        decay: Fall of the rate: ``power`` of what is left of the run, or half a ``cosine``.
        power: Exponent of the former.
        warm_up: Fraction of the run over which the rate rises.
        warm_up_steps: Steps over which it rises instead, whatever the length of the run; 0 goes by
            ``warm_up``.
        hold: Fraction of the run for which it stays at the top before it falls.
        encoder_factor: The encoder's rate above the minimum, relative to the others'.
        weight_decay: Decay of the weights.
        no_decay: Shell-style patterns of parameters without it, besides all biases and the vectors
            outside the encoder.
        clip_norm: Maximum norm of all gradients together.
        average_fraction: Time constant of the moving average, as a fraction of the steps.
        average_steps: The same in steps; 0 goes by ``average_fraction``, which a run by the clock
            does not allow: its number of steps is not known beforehand.
        average_warm_up: Shorter averages at the start.
    """

    learning_rate: float = 4e-4
    min_learning_rate: float = 2e-5
    decay: Literal["power", "cosine"] = "power"
    power: float = 0.9
    warm_up: float = 0.05
    warm_up_steps: int = 0
    hold: float = 0.0
    encoder_factor: float = 0.1
    weight_decay: float = 0.03
    no_decay: tuple[str, ...] = ("vmos.decoder.*",)
    clip_norm: float = 5.0
    average_fraction: float = 0.1
    average_steps: int = 0
    average_warm_up: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        low, high = self.min_learning_rate, self.learning_rate
        require(0 <= low <= high, "optimizer.min_learning_rate", "0..learning_rate", low)
        require(self.clip_norm > 0, "optimizer.clip_norm", "above 0", self.clip_norm)
        require_share("optimizer.warm_up", self.warm_up)
        require_share("optimizer.average_fraction", self.average_fraction)
        require(0 <= self.hold < 1, "optimizer.hold", "0 or more, below 1", self.hold)
        for name in ("warm_up_steps", "average_steps"):
            require(getattr(self, name) >= 0, f"optimizer.{name}", "0 or more", getattr(self, name))


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """Composition and unrolling of clips.

    Attributes:
        merge_probability: Probability of pasting the objects of a second clip over the first.
        min_pixels: An object with fewer pixels in the first frame becomes background.
        shuffle_slots: Objects take random slots, others in every clip.
        memory_gap: Frames between two entries of the long-term memory.
        memory_capacity: Long-term frames, the reference frame counted.
        short_term_delay: Age of the short-term memory in frames.
        predicted_masks_from: Fraction of the run after which predicted masks go to the memory
            instead of the true ones (no teacher forcing), without gradient, and the identity bank's
            learning rate is 0; 1.0 is never.
    """

    merge_probability: float = 1.0
    min_pixels: int = 100
    shuffle_slots: bool = True
    memory_gap: int = 2
    memory_capacity: int = 9
    short_term_delay: int = 1
    predicted_masks_from: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        require_share("clip.merge_probability", self.merge_probability)
        require_share("clip.predicted_masks_from", self.predicted_masks_from)
        require(self.min_pixels >= 1, "clip.min_pixels", "at least 1", self.min_pixels)


@dataclass(frozen=True, slots=True)
class LossOptions:
    """Losses of a frame, and weights of frames.

    Attributes:
        cross_entropy: Weight of the bootstrapped cross-entropy.
        jaccard: Weight of the soft Jaccard loss.
        hardest_fraction: Fraction of the pixels, the hardest ones, in the cross-entropy at the end.
        hardest_until: Fraction of the run over which it falls there from 1.
        auxiliary_until: Fraction of the run over which the reference frame's loss fades; 0 leaves
            it out.
    """

    cross_entropy: float = 0.5
    jaccard: float = 0.5
    hardest_fraction: float = 0.15
    hardest_until: float = 0.5
    auxiliary_until: float = 0.1

    def __post_init__(self) -> None:
        """Check the values."""
        require_share("loss.hardest_until", self.hardest_until)
        require_share("loss.auxiliary_until", self.auxiliary_until)
        within = 0 < self.hardest_fraction <= 1
        require(within, "loss.hardest_fraction", "above 0 and at most 1", self.hardest_fraction)


@dataclass(frozen=True, slots=True)
class RegularisationOptions:
    """Random drops while training.

    Attributes:
        drop_path: Self-attention updates of the blocks at 1/16, whole clips at a time.
        dropout: Channels after each 5 x 5 depth-wise convolution of the attentions.
        encoder_drop_path: Updates of the encoder's last block; it grows from 0 at the first.
    """

    drop_path: float = 0.1
    dropout: float = 0.1
    encoder_drop_path: float = 0.2

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("drop_path", "dropout", "encoder_drop_path"):
            value = getattr(self, name)
            require(0 <= value < 1, f"regularisation.{name}", "0 or more, below 1", value)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run of VMOS."""

    KIND: ClassVar[str] = "vmos"
    train: RunOptions = field(default_factory=RunOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    clip: ClipOptions = field(default_factory=ClipOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    regularisation: RegularisationOptions = field(default_factory=RegularisationOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    dev: DevOptions = field(default_factory=DevOptions)
    cache: CacheOptions = field(default_factory=CacheOptions)
    composer: ComposerOptions = field(default_factory=ComposerOptions)
    data: tuple[DataOptions, ...] = ()
    phases: tuple[PhaseOptions, ...] = (PhaseOptions(),)

    def __post_init__(self) -> None:
        """Check the values against one another."""
        require(bool(self.data), "data", "at least one [[data]] table", "none")
        ends = [phase.until for phase in self.phases]
        ok = bool(ends) and ends == sorted(set(ends)) and ends[-1] == 1.0
        require(ok, "phases.until", "rising, the last 1.0", ends)
        frozen = not self.model.train_encoder
        cached = self.model.features == "cached"
        require(frozen or not cached, "model.train_encoder", "false with cached features", True)
        composes = self.composer.enabled
        require(not (composes and cached), "model.features", "computed with the composer", "cached")
        if self.train.max_minutes:
            reach = self.optimizer.average_steps
            require(reach > 0, "optimizer.average_steps", "above 0 with train.max_minutes", reach)

    def phase(self, progress: float) -> PhaseOptions:
        """Return the phase of a run that is so far, from 0 to 1."""
        return next((phase for phase in self.phases if progress < phase.until), self.phases[-1])
