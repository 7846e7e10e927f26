"""Options of a training run: one for every item of the paper's recipe (section 3).

The defaults are those of the paper's first stage; ``configs/`` holds the shipped recipes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from vots_hqtrack.config import require
from vots_hqtrack.training.recipe_data import (
    AugmentOptions,
    BelowOne,
    Bounds,
    CacheOptions,
    ComposerOptions,
    Count,
    DataOptions,
    DevOptions,
    Natural,
    NotNegative,
    PhaseOptions,
    Positive,
    Share,
    check_options,
)

Processes = Annotated[int, Bounds(0, 1024, "a number from 0 to 1024")]


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

    steps: Count = 100_000
    max_minutes: NotNegative = 0.0
    seed: Natural = 1
    accumulate: Count = 1
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: Processes = 0
    workers: Processes = 0
    checkpoint_every: Count = 2000
    keep_checkpoints: Count = 30
    log_every: Count = 10
    image_every: Natural = 500
    export_every_seconds: NotNegative = 60.0
    keep_exports: bool = False
    graph: Literal["auto", "off"] = "auto"
    compile_encoder: bool = False


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
    warm_up: Share = 0.05
    warm_up_steps: Natural = 0
    hold: BelowOne = 0.0
    encoder_factor: float = 0.1
    weight_decay: float = 0.03
    no_decay: tuple[str, ...] = ("vmos.decoder.*",)
    clip_norm: Positive = 5.0
    average_fraction: Share = 0.1
    average_steps: Natural = 0
    average_warm_up: bool = True

    def __post_init__(self) -> None:
        """Check the values against one another."""
        low, high = self.min_learning_rate, self.learning_rate
        require(0 <= low <= high, "optimizer.min_learning_rate", "0..learning_rate", low)


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

    merge_probability: Share = 1.0
    min_pixels: Count = 100
    shuffle_slots: bool = True
    memory_gap: int = 2
    memory_capacity: int = 9
    short_term_delay: int = 1
    predicted_masks_from: Share = 1.0


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
    hardest_fraction: Annotated[float, Bounds(math.ulp(0.0), 1, "above 0 and at most 1")] = 0.15
    hardest_until: Share = 0.5
    auxiliary_until: Share = 0.1


@dataclass(frozen=True, slots=True)
class RegularisationOptions:
    """Random drops while training.

    Attributes:
        drop_path: Self-attention updates of the blocks at 1/16, whole clips at a time.
        dropout: Channels after each 5 x 5 depth-wise convolution of the attentions.
        encoder_drop_path: Updates of the encoder's last block; it grows from 0 at the first.
    """

    drop_path: BelowOne = 0.1
    dropout: BelowOne = 0.1
    encoder_drop_path: BelowOne = 0.2


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
        """Check the values, also against one another."""
        check_options(self)
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
