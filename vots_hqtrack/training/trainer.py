"""Trains VMOS on cached features while the encoder is frozen (paper section 3).

Losses, schedule, identity shuffling, the auxiliary loss on the reference frame and the exponential
moving average are the paper's; sizes are small enough for a laptop.
"""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.checkpoints.load import save_tensors
from vots_hqtrack.config import MemoryConfig, VMOSConfig
from vots_hqtrack.errors import WeightsError
from vots_hqtrack.propagation.block import GatedPropagationBlock
from vots_hqtrack.propagation.pyramid import ResidualBlock
from vots_hqtrack.training.clip import resize_logits, shuffle_table, unroll_clip
from vots_hqtrack.training.losses import (
    bootstrap_fraction,
    bootstrapped_cross_entropy,
    soft_jaccard,
)
from vots_hqtrack.training.sampler import Batch, ClipSampler, Source
from vots_hqtrack.vmos import VMOS, build_vmos


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the training with one batch shape.

    Attributes:
        until: Share of all steps at which the phase ends.
        batch_size: Clips a step.
        num_frames: Frames a clip.
        window: Height and width in cells of 1/8.
    """

    until: float
    batch_size: int
    num_frames: int
    window: tuple[int, int]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run.

    Attributes:
        sources: Cached clips.
        vmos: Sizes of the network.
        dims: Encoder channels at strides 4, 8 and 16.
        memory: Memory rules while training.
        phases: Batch shapes, small windows first.
        steps: Optimiser steps in all.
        learning_rate: At the end of the warm-up.
        min_learning_rate: At the start and at the end.
        weight_decay: Of matrices and kernels; biases and norms have none.
        own_labels_from: Share of the steps after which VMOS's own labels go to the memory.
        auxiliary_until: Share of the steps over which the loss on the reference frame fades.
        seed: Of all chance.
    """

    sources: tuple[Source, ...]
    vmos: VMOSConfig = field(default_factory=VMOSConfig)
    dims: tuple[int, int, int] = (128, 576, 256)
    memory: MemoryConfig = field(
        default_factory=lambda: MemoryConfig(capacity=3, gap=2, short_term_delay=1)
    )
    phases: tuple[Phase, ...] = (Phase(0.55, 4, 3, (24, 24)), Phase(1.0, 2, 3, (36, 64)))
    steps: int = 4000
    learning_rate: float = 6e-4
    min_learning_rate: float = 2e-5
    weight_decay: float = 0.03
    own_labels_from: float = 0.5
    auxiliary_until: float = 0.1
    seed: int = 1


WARM_UP = 0.05
DECAY_POWER = 0.9
CLIP_NORM = 5.0

Report = Callable[[int, float], None]


class Trainer:
    """Network, its moving average, optimiser and step counter of one run.

    Args:
        config: What to train.
    """

    def __init__(self, config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.vmos = build_vmos(config.vmos, config.dims)
        start_as_similarity(self.vmos)
        self.average = copy.deepcopy(self.vmos).eval()
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.vmos, config.weight_decay))
        self.sampler = ClipSampler(config.sources, config.seed)
        self.step = 0

    def run(self, checkpoint: Path, *, save_every: int = 100, report: Report | None = None) -> None:
        """Train to the end, or on from the checkpoint if there is one.

        Args:
            checkpoint: Written every ``save_every`` steps and at the end.
            save_every: Steps between two checkpoints.
            report: Called with the step and its loss.
        """
        if checkpoint.exists():
            self.load(checkpoint)
        with ThreadPoolExecutor(1) as reader:
            self._run(reader, checkpoint, save_every, report)

    def _run(
        self, reader: ThreadPoolExecutor, checkpoint: Path, save_every: int, report: Report | None
    ) -> None:
        coming = reader.submit(self.draw, self.step)
        while self.step < self.config.steps:
            batch = coming.result()
            coming = reader.submit(self.draw, self.step + 1)
            loss = self.train_step(batch)
            if report is not None:
                report(self.step, loss)
            if self.step % save_every == 0 or self.step == self.config.steps:
                self.save(checkpoint)

    def draw(self, step: int) -> Batch:
        """Draw the batch of a step."""
        share = min(step / self.config.steps, 1.0)
        phases = self.config.phases
        phase = next((phase for phase in phases if share < phase.until), phases[-1])
        return self.sampler.draw(step, phase.batch_size, phase.num_frames, phase.window)

    def train_step(self, batch: Batch) -> float:
        """Make one optimiser step and return its loss."""
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        self.vmos.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        loss = self._loss(batch, generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.vmos.parameters(), CLIP_NORM)
        self.optimizer.step()
        self._update_average()
        self.step += 1
        return float(loss.detach())

    def _loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        config, share = self.config, self.step / self.config.steps
        slots = shuffle_table(len(batch.labels), generator)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unroll_clip(
                self.vmos,
                batch.features,
                batch.labels,
                slots,
                config.memory,
                use_own_labels=share >= config.own_labels_from,
            )
        fraction = bootstrap_fraction(self.step, config.steps)
        losses = [
            frame_loss(logits, batch.labels[:, index], fraction)
            for index, logits in enumerate(predicted)
        ]
        auxiliary = max(1 - share / config.auxiliary_until, 0.0)
        return torch.stack(losses[1:]).mean() + auxiliary * losses[0]

    @torch.no_grad()
    def _update_average(self) -> None:
        limit = 1 - 1 / (0.1 * self.config.steps)
        decay = min(limit, (1 + self.step) / (10 + self.step))
        pairs = zip(self.average.parameters(), self.vmos.parameters(), strict=True)
        for kept, fresh in pairs:
            kept.lerp_(fresh, 1 - decay)

    def save(self, path: Path) -> None:
        """Write everything that a later run needs to go on exactly here."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        content = {
            "step": self.step,
            "vmos": self.vmos.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(content, temporary)
        os.replace(temporary, path)

    def load(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote.

        Raises:
            WeightsError: The file is damaged or belongs to another network.
        """
        content = _read_checkpoint(path)
        try:
            self.vmos.load_state_dict(content["vmos"])
            self.average.load_state_dict(content["average"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.step = int(content["step"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise WeightsError(f"cannot go on from the checkpoint {path}: {error}") from error


def default_config(cache: Path, *, steps: int, seed: int = 1) -> TrainConfig:
    """Return the recipe of the shipped weights.

    Args:
        cache: Folder that ``hqtrack train prepare`` filled.
        steps: Optimiser steps in all.
        seed: Of all chance.
    """
    sources = (
        Source(cache / "synthetic", 1.0, 1),
        Source(cache / "videos", 1.0, 4),
        Source(cache / "composites", 0.5, 1),
    )
    return TrainConfig(sources=sources, steps=steps, seed=seed)


def export_average(checkpoint: Path, path: Path) -> int:
    """Write the moving average of a run as a weights file and return the step it stands for.

    Raises:
        WeightsError: The checkpoint cannot be read, or the file not be written.
    """
    content = _read_checkpoint(checkpoint)
    save_tensors(path, content["average"], {"step": str(content["step"])})
    return int(content["step"])


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"cannot read the checkpoint {path}: {error}") from error
    missing = {"step", "vmos", "average", "optimizer"} - set(content)
    if missing:
        raise WeightsError(f"{path} is no checkpoint of a training: it lacks {sorted(missing)}")
    return content


def frame_loss(logits: Tensor, labels: Tensor, fraction: float) -> Tensor:
    """Half bootstrapped cross-entropy, half soft Jaccard, at network size.

    Args:
        logits: ``(B, N + 1, H'/4, W'/4)`` float.
        labels: ``(B, H', W')`` uint8.
        fraction: Share of the hardest pixels that the cross-entropy counts.
    """
    size = (int(labels.shape[-2]), int(labels.shape[-1]))
    fine, target = resize_logits(logits, size), labels.long()
    cross_entropy = bootstrapped_cross_entropy(fine, target, fraction=fraction)
    return 0.5 * cross_entropy + 0.5 * soft_jaccard(fine, target)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Warm up linearly, then fall as a power of the steps left."""
    low, high = config.min_learning_rate, config.learning_rate
    warm_up = max(WARM_UP * config.steps, 1)
    if step < warm_up:
        return low + (high - low) * step / warm_up
    left = 1 - (step - warm_up) / max(config.steps - warm_up, 1)
    return low + (high - low) * float(max(left, 0.0) ** DECAY_POWER)


@torch.no_grad()
def start_as_similarity(vmos: VMOS) -> None:
    """Initialise so that matching begins as plain feature similarity.

    Projections to queries and keys are orthogonal, which keeps angles; refinements begin as
    identities; the short-term attention begins with a preference for near cells.
    """
    for projection in vmos.pyramid.projections():
        nn.init.orthogonal_(projection.weight.flatten(1))
        if projection.bias is not None:
            nn.init.zeros_(projection.bias)
    for module in vmos.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.second.norm.weight)
        if isinstance(module, GatedPropagationBlock):
            _start_block(module)


QUERY_GAIN = 1.4
"""Makes the score of a token with itself about 15, so that the softmax tells it from some thousand
others."""
NEAR_CELLS = 4.0


def _start_block(block: GatedPropagationBlock) -> None:
    narrow = block.width // 2
    nn.init.orthogonal_(block.key_value.weight[:narrow], gain=QUERY_GAIN)
    nn.init.zeros_(block.key_value.bias)
    radius = block.short_term.radius
    offset = torch.arange(-radius, radius + 1, dtype=torch.float32)
    distance = offset[:, None] ** 2 + offset**2
    block.short_term.relative_bias.bias.copy_(-distance.flatten() / (2 * NEAR_CELLS**2))
    nn.init.zeros_(block.short_term.relative_bias.weight)


def _parameter_groups(vmos: VMOS, weight_decay: float) -> Sequence[dict[str, object]]:
    wide = [p for p in vmos.parameters() if p.ndim > 1]
    narrow = [p for p in vmos.parameters() if p.ndim <= 1]
    return [
        {"params": wide, "weight_decay": weight_decay},
        {"params": narrow, "weight_decay": 0.0},
    ]
