"""Trains HQ-SAM's extra parameters on a frozen SAM (HQ-SAM, section 3).

The HQ token, its MLP and the convolutions that fuse features learn; everything else keeps the
weights of a plain SAM. They begin so that the HQ token's mask is SAM's own single mask, and learn
where that one is wrong.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.checkpoints.load import load_into, load_weights, require_fit, save_tensors
from vots_hqtrack.devices import lower_precision
from vots_hqtrack.errors import ConfigError, WeightsError
from vots_hqtrack.io import atomic_path
from vots_hqtrack.sam.models import HQ_DECODER_PARTS, Sam, build_sam
from vots_hqtrack.training.hq.cache import HQCacheConfig, Progress, fill_cache
from vots_hqtrack.training.hq.degrade import DegradeConfig
from vots_hqtrack.training.hq.forward import HQLogits, decode_windows
from vots_hqtrack.training.hq.loss import draw_points, point_loss
from vots_hqtrack.training.hq.samples import HQBatch, HQSampleConfig, HQSampler, HQSource

Report = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class HQTrainConfig:
    """Schedule and loss of the HQ head's training.

    Attributes:
        steps: Optimiser steps in all.
        learning_rate: At the end of the warm-up; it falls along a cosine.
        min_learning_rate: At the end.
        warm_up: Share of the steps over which the rate rises.
        weight_decay: Of matrices and kernels; biases, norms and the token have none.
        clip_norm: Longest gradient.
        points: Points of a window that the loss looks at.
        sum_weight: Weight of the loss on the sum with SAM's mask; that on the HQ token's mask has
            the rest.
        average: Time constant of the moving average of the weights, as a share of all steps.
        save_every: Steps between two checkpoints.
        seed: Of all chance.
    """

    steps: int = 900
    learning_rate: float = 4e-4
    min_learning_rate: float = 4e-6
    warm_up: float = 0.03
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    points: int = 8192
    sum_weight: float = 0.5
    average: float = 0.05
    save_every: int = 100
    seed: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        if self.steps < 1 or self.save_every < 1 or self.points < 1:
            got = f"{self.steps}, {self.save_every} and {self.points}"
            raise ConfigError(f"train: steps, save_every and points must be 1 or more, got {got}")
        if not 0 <= self.sum_weight <= 1:
            raise ConfigError(f"train.sum_weight must be from 0 to 1, got {self.sum_weight}")


@dataclass(frozen=True, slots=True)
class HQHeadConfig:
    """One training run of the HQ head; each attribute is a section of its recipe's file.

    Attributes:
        sources: Cached pictures.
        train: Schedule and loss.
        samples: How batches are drawn.
        degrade: How coarse masks are made.
        cache: What is encoded beforehand, and by which SAM, which is also the one that is trained.
    """

    sources: tuple[HQSource, ...]
    train: HQTrainConfig = field(default_factory=HQTrainConfig)
    samples: HQSampleConfig = field(default_factory=HQSampleConfig)
    degrade: DegradeConfig = field(default_factory=DegradeConfig)
    cache: HQCacheConfig = field(default_factory=HQCacheConfig)

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.sources:
            raise ConfigError("wanted at least one table [[sources]] of cached pictures, got none")


def train_hq_head(
    config: HQHeadConfig,
    out: Path,
    report: Report | None = None,
    *,
    data: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train an HQ head, or go on where an earlier call with the same folder stopped.

    Args:
        config: What to train.
        out: Folder for ``checkpoint.pt`` and, at the end, the weights; the cache too, where the
            configuration names no folder for it.
        report: Called with each step's number and loss.
        data: Folder of the data sets that the cache is filled from; None takes the cache as it is.
        progress: Called with the name of each picture or video that was added to the cache.

    Returns:
        The weights file, ``hq-head.safetensors``: the moving average in float16.

    Raises:
        ConfigError: A value of the configuration is out of range.
        InputError: A source holds no picture.
        WeightsError: SAM's weights or the checkpoint cannot be used, or a file not be written.
    """
    checkpoint = out / "checkpoint.pt"
    cache = Path(config.cache.folder) if config.cache.folder else out / "cache"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(f"cannot make the folder {out}: {error}") from error
    if data is not None:
        fill_cache(config.cache, data, cache, progress or (lambda _: None))
    trainer = HQHeadTrainer(config, cache)
    trainer.run(checkpoint, report)
    weights = out / "hq-head.safetensors"
    save_tensors(weights, trainer.averaged(), {"step": str(trainer.step)})
    return weights


class HQHeadTrainer:
    """Network, moving average, optimiser and step counter of one run.

    Args:
        config: What to train.
        cache: Folder that the sources lie in.
    """

    def __init__(self, config: HQHeadConfig, cache: Path) -> None:
        self.config = config
        self.schedule = config.train
        self.sam = hq_sam_from_plain(config.cache.sam_weights, seed=config.train.seed)
        self.head = head_parameters(self.sam)
        for parameter in self.head.values():
            parameter.requires_grad_(True)
        self.average = {name: value.detach().clone() for name, value in self.head.items()}
        self.optimizer = torch.optim.AdamW(_groups(self.head, config.train.weight_decay))
        self.sampler = HQSampler(
            cache,
            config.sources,
            config.samples,
            config.degrade,
            self.sam.prompt_encoder,
            config.train.seed,
        )
        self.step = 0

    def run(self, checkpoint: Path, report: Report | None = None) -> None:
        """Train to the end, or on from the checkpoint if there is one."""
        if checkpoint.exists():
            self.load(checkpoint)
        if self.step >= self.schedule.steps:
            return
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self.sampler.draw, self.step)
            while self.step < self.schedule.steps:
                batch = coming.result()
                coming = reader.submit(self.sampler.draw, self.step + 1)
                loss = self.train_step(batch)
                if report is not None:
                    report(self.step, loss)
                is_last = self.step == self.schedule.steps
                if is_last or self.step % self.schedule.save_every == 0:
                    self.save(checkpoint)

    def train_step(self, batch: HQBatch) -> float:
        """Make one optimiser step and return its loss."""
        generator = torch.Generator().manual_seed(self.schedule.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.schedule, self.step)
        with lower_precision(torch.device("cpu")):
            logits = decode_windows(self.sam.mask_decoder, batch.inputs, self.config.samples.window)
        loss = window_loss(logits, batch, self.schedule, generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.head.values(), self.schedule.clip_norm)
        self.optimizer.step()
        self._update_average()
        self.step += 1
        return float(loss.detach())

    @torch.no_grad()
    def _update_average(self) -> None:
        limit = 1 - 1 / max(self.schedule.average * self.schedule.steps, 1)
        decay = min(limit, (1 + self.step) / (10 + self.step))
        for name, kept in self.average.items():
            kept.lerp_(self.head[name].detach(), 1 - decay)

    def averaged(self) -> dict[str, Tensor]:
        """Return the moving average under the keys of a whole ``Sam``."""
        return {f"mask_decoder.{name}": value.clone() for name, value in self.average.items()}

    def save(self, path: Path) -> None:
        """Write everything that a later run needs to go on exactly here."""
        content = {
            "step": self.step,
            "head": {name: value.detach() for name, value in self.head.items()},
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_path(path) as temporary:
            torch.save(content, temporary)

    def load(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote.

        Raises:
            WeightsError: The file is damaged or belongs to another network.
        """
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            for name in ("head", "average"):
                require_fit(self.average, content[name], source=str(path), model="the HQ head")
            self.optimizer.load_state_dict(content["optimizer"])
            self.step = int(content["step"])
        except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as e:
            raise WeightsError(f"cannot go on from the checkpoint {path}: {e}") from e
        with torch.no_grad():
            for name, kept in self.average.items():
                kept.copy_(content["average"][name])
                self.head[name].copy_(content["head"][name])


def window_loss(
    logits: HQLogits, batch: HQBatch, config: HQTrainConfig, generator: torch.Generator
) -> Tensor:
    """Point loss of the HQ token's mask and of its sum with SAM's, at the target's resolution.

    Args:
        logits: Masks inside the windows.
        batch: Targets of the same windows.
        config: Weights and number of points.
        generator: Chooses the points.
    """
    size = batch.target.shape[-2:]
    hq, sam = (
        F.interpolate(masks, size, mode="bilinear", align_corners=False).flatten(1)
        for masks in (logits.hq, logits.sam)
    )
    target, counted = batch.target.flatten(1), batch.counted.flatten(1)
    num = min(config.points, target.shape[1])
    places = draw_points(hq.detach() + sam, counted, num, generator)
    picked, truth, counts = (part.gather(1, places) for part in (hq, target, counted))
    alone = point_loss(picked, truth, counts)
    summed = point_loss(picked + sam.gather(1, places), truth, counts)
    return (1 - config.sum_weight) * alone + config.sum_weight * summed


def learning_rate(config: HQTrainConfig, step: int) -> float:
    """Rise linearly, then fall along half a cosine."""
    warm_up = max(config.warm_up * config.steps, 1)
    if step < warm_up:
        return config.learning_rate * (step + 1) / (warm_up + 1)
    progress = (step - warm_up) / max(config.steps - warm_up, 1)
    share = 0.5 * (1 + float(torch.cos(torch.tensor(progress * torch.pi))))
    return config.min_learning_rate + (config.learning_rate - config.min_learning_rate) * share


def hq_sam_from_plain(weights: str, *, seed: int) -> Sam:
    """Build an HQ-SAM vit_tiny on a plain SAM's weights, with a head that is about to learn.

    Args:
        weights: Name of the plain SAM's weights.
        seed: Of the head's random numbers.

    Returns:
        The network; no parameter requires a gradient.

    Raises:
        WeightsError: The weights are missing, damaged, or do not fit.
    """
    patterns = tuple(f"mask_decoder.{part}.*" for part in HQ_DECODER_PARTS)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sam = build_sam("vit_tiny", hq=True)
        load_into(sam, load_weights(weights), source=weights, allow_missing=patterns)
        start_as_single_mask(sam.mask_decoder)
    return sam.requires_grad_(False)


def head_parameters(sam: Sam) -> dict[str, nn.Parameter]:
    """Return the HQ head's parameters by their names in the mask decoder."""
    return {
        name: parameter
        for name, parameter in sam.mask_decoder.named_parameters()
        if name.split(".")[0] in HQ_DECODER_PARTS
    }


FEATURE_SCALE = 0.105
"""Standard deviation of SAM's upscaled features over their channels (mean over training pictures):
what the normalisation takes away and its gain gives back."""
NOISE = 0.01
"""Of the kernels that begin as identities, so that their channels can part."""


@torch.no_grad()
def start_as_single_mask(decoder: nn.Module) -> None:
    """Make the HQ token's mask SAM's single mask, up to rounding and a positive factor per pixel.

    The token and its MLP are copies of the single mask's. The convolutions over SAM's features
    begin as an identity: the first gives each channel and its negative, whose normalisation changes
    no sign, and as ``GELU(x) - GELU(-x) = x`` the second can put them together again. The fused
    encoder features begin with nothing.
    """
    parts: Any = decoder
    parts.hf_token.weight.copy_(parts.mask_tokens.weight[:1])
    parts.hf_mlp.load_state_dict(parts.output_hypernetworks_mlps[0].state_dict())
    first, norm, _, second = parts.embedding_maskfeature
    nn.init.constant_(norm.weight, FEATURE_SCALE)
    channels = first.in_channels
    eye = torch.eye(channels)
    both = torch.cat([eye, -eye])
    for conv, centre in ((first, both), (second, both.T)):
        nn.init.normal_(conv.weight, std=NOISE / channels**0.5)
        nn.init.zeros_(conv.bias)
        conv.weight[:, :, 1, 1] += centre
    for branch in (parts.compress_vit_feat, parts.embedding_encoder):
        nn.init.zeros_(branch[-1].weight)
        nn.init.zeros_(branch[-1].bias)


def _groups(head: dict[str, nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    wide = [p for name, p in head.items() if p.ndim > 1 and not name.startswith("hf_token")]
    narrow = [p for name, p in head.items() if p.ndim <= 1 or name.startswith("hf_token")]
    return [
        {"params": wide, "weight_decay": weight_decay},
        {"params": narrow, "weight_decay": 0.0},
    ]
