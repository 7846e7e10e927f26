"""What is trained: an encoder and VMOS, unrolled over clips in one forward pass."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vots_hqtrack.build import build_networks, load_segmenter
from vots_hqtrack.checkpoints.convert import part_of
from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.config import MemoryConfig, TrackerConfig
from vots_hqtrack.devices import pick_dtype
from vots_hqtrack.encoder import find_encoder
from vots_hqtrack.encoder.frames import FrameEncoder, NetworkEncoder
from vots_hqtrack.errors import ConfigError, ShapeError
from vots_hqtrack.frame import ALIGNED_GRID, PIXEL_MEAN, PIXEL_STD
from vots_hqtrack.presets import load_preset
from vots_hqtrack.refiner import RefinerOptions, build_refiner
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.training.clip import unroll_clip
from vots_hqtrack.training.initialise import start_as_similarity
from vots_hqtrack.training.recipe import ClipOptions, ModelOptions
from vots_hqtrack.types import FrameFeatures, Size
from vots_hqtrack.vmos import VMOS

IMAGES_AT_ONCE = 96
"""Images that a frozen encoder takes together: enough for any GPU, and 4 GB of maps at most."""


class ClipNetwork(nn.Module):
    """Encoder and VMOS.

    Args:
        encoder: Gives ``FrameFeatures`` of images ``(B, 3, H, W)``; None where batches bring
            features.
        vmos: The segmenter.
        memory: Memory rules of the training.
        align_corners: How logits are resized to the labels.
        train_encoder: Off, no gradient is computed for the encoder, and it stays in evaluation.
        shares_encoder: The encoder is the refiner's, whose weights are not VMOS's to save.
        recompute_encoder: The backward pass computes the encoder anew, one frame at a time.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        encoder: nn.Module | None,
        vmos: VMOS,
        memory: MemoryConfig,
        *,
        align_corners: bool,
        train_encoder: bool,
        shares_encoder: bool = False,
        recompute_encoder: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.vmos = vmos
        self.memory = memory
        self.align_corners = align_corners
        self.train_encoder = train_encoder
        self.shares_encoder = shares_encoder
        self.recompute_encoder = recompute_encoder and train_encoder
        if encoder is not None and not train_encoder:
            encoder.requires_grad_(False)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
        self.register_buffer("pixel_mean", mean, persistent=False)
        self.register_buffer("pixel_std", std, persistent=False)

    def train(self, mode: bool = True) -> ClipNetwork:
        """Switch between training and evaluation; a frozen encoder stays in evaluation."""
        super().train(mode)
        if self.encoder is not None and not self.train_encoder:
            self.encoder.eval()
        return self

    def forward(
        self, batch: ClipBatch, *, use_own_labels: bool, with_reference: bool
    ) -> list[Tensor]:
        """Track through a batch; see :func:`~vots_hqtrack.training.clip.unroll_clip`."""
        features = self._encode(batch.frames) if batch.features is None else batch.features
        if not torch.is_autocast_enabled(batch.labels.device.type):
            features = _widen(features)
        return unroll_clip(
            self.vmos,
            features,
            batch.labels,
            batch.slots,
            self.memory,
            use_predicted_masks=use_own_labels,
            align_corners=self.align_corners,
            with_reference=with_reference,
            num_objects=batch.num_objects,
        )

    @torch.no_grad()
    def encode_frozen(self, batch: ClipBatch, dtype: torch.dtype) -> ClipBatch:
        """Give a batch the features of a frozen encoder; no graph of autograd begins here.

        Args:
            batch: With frames, and without features.
            dtype: Of the features: that in which products are computed.

        Returns:
            The batch with features, its frames too. It comes back as it is where it has features,
            or where the encoder learns.
        """
        if batch.features is not None or self.train_encoder or batch.frames is None:
            return batch
        count = batch.frames.shape[1]
        # Frame by frame, so that the maps of all clips' frame i lie side by side.
        images = batch.frames.transpose(0, 1).flatten(0, 1)
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            encoded = [self._encode_images(part) for part in images.split(IMAGES_AT_ONCE)]
        maps = [
            torch.cat([getattr(part, name).to(dtype) for part in encoded]).unflatten(0, (count, -1))
            for name in ("s4", "s8", "s16")
        ]
        features = tuple(FrameFeatures(*(one[index] for one in maps)) for index in range(count))
        return dataclasses.replace(batch, features=features)

    @property
    def own_encoder(self) -> nn.Module | None:
        """The encoder whose weights are saved with VMOS's; None where it is the refiner's."""
        return None if self.shares_encoder else self.encoder

    def trained_tensors(self) -> dict[str, Tensor]:
        """Return what a weights file of the preset holds: encoder and VMOS, or VMOS alone."""
        if self.own_encoder is None:
            return dict(self.vmos.state_dict())
        parts = {"encoder": self.own_encoder, "vmos": self.vmos}
        return {
            f"{name}.{key}": tensor
            for name, part in parts.items()
            for key, tensor in part.state_dict().items()
        }

    def load_trained(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Take what :meth:`trained_tensors` returned.

        Raises:
            WeightsError: The tensors do not fit.
        """
        load_segmenter(self.own_encoder, self.vmos, tensors, source=source)

    def learning_state(self) -> dict[str, Tensor]:
        """Return all that training changes; a frozen encoder is left out."""
        return {name: one for name, one in self.state_dict().items() if self._changes(name)}

    def load_learning_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what :meth:`learning_state` returned.

        Raises:
            RuntimeError: The tensors do not fit.
        """
        frozen = {name: one for name, one in self.state_dict().items() if not self._changes(name)}
        given = {name: one for name, one in tensors.items() if self._changes(name)}
        self.load_state_dict({**frozen, **given})

    def _changes(self, name: str) -> bool:
        return self.train_encoder or not name.startswith("encoder.")

    def _encode(self, frames: Tensor | None) -> tuple[FrameFeatures, ...]:
        if frames is None or self.encoder is None:
            raise ShapeError("a batch needs frames and an encoder, or features")
        batch, num_frames = frames.shape[:2]
        if self.recompute_encoder:
            return tuple(
                checkpoint(self._encode_images, frames[:, index], use_reentrant=False)
                for index in range(num_frames)
            )
        encoded = self._encode_images(frames.flatten(0, 1))
        s4, s8, s16 = (
            one.unflatten(0, (batch, num_frames)) for one in (encoded.s4, encoded.s8, encoded.s16)
        )
        return tuple(FrameFeatures(s4[:, i], s8[:, i], s16[:, i]) for i in range(num_frames))

    def _encode_images(self, frames: Tensor) -> FrameFeatures:
        """Encode ``(B, 3, H, W)`` uint8 frames."""
        encoder: Any = self.encoder
        images = (frames.float() - self.pixel_mean) / self.pixel_std
        with torch.set_grad_enabled(self.train_encoder and torch.is_grad_enabled()):
            features: FrameFeatures = encoder(images)
            return features


def build_network(
    model: ModelOptions,
    clip: ClipOptions,
    *,
    encoder_dtype: torch.dtype = torch.float32,
    compile_encoder: bool = False,
) -> ClipNetwork:
    """Build the network of a recipe with the weights that it starts from.

    Args:
        model: Of the recipe.
        clip: Of the recipe.
        encoder_dtype: In which SAM's frozen encoder computes.
        compile_encoder: Let ``torch.compile`` translate a frozen encoder.

    Raises:
        ConfigError: The preset cannot be trained that way.
        WeightsError: Weights are missing, damaged, or do not fit.
    """
    config = tracker_config(model)
    if config.shares_encoder and model.train_encoder:
        raise ConfigError(
            f"model.train_encoder must be false: the encoder of the preset {model.preset} is also "
            "the refiner's"
        )
    if model.features == "cached" and not config.shares_encoder:
        raise ConfigError(
            f"model.features must be computed: the preset {model.preset} has no encoder of SAM's"
        )
    encoder, vmos = build_networks(config)
    if model.similarity_start and not model.weights:
        start_as_similarity(vmos)
    memory = MemoryConfig(clip.memory_capacity, clip.memory_gap, clip.short_term_delay)
    network = ClipNetwork(
        _encoder_of(model, config, encoder, encoder_dtype),
        vmos,
        memory,
        align_corners=config.vmos.align_corners,
        train_encoder=model.train_encoder,
        shares_encoder=config.shares_encoder,
        recompute_encoder=model.recompute_encoder,
    )
    if model.weights:
        network.load_trained(load_named(model.weights), model.weights)
    if compile_encoder and network.encoder is not None and not model.train_encoder:
        network.encoder.compile(dynamic=False)
    return network


def tracker_config(model: ModelOptions) -> TrackerConfig:
    """Return the configuration of the tracker whose network is trained."""
    return apply_settings(load_preset(model.preset), model.settings)


def load_named(name: str) -> dict[str, Tensor]:
    """Read weights by their name or path.

    Raises:
        WeightsError: There are none, or they are damaged.
    """
    is_path = "/" in name or "\\" in name or name.endswith(".safetensors")
    return load_weights(name, Path(name) if is_path else None)


def frame_encoder(network: ClipNetwork, config: TrackerConfig) -> FrameEncoder:
    """Wrap the network's encoder as the tracker wants it.

    Args:
        network: With an encoder, or trained on cached features of SAM's.
        config: Of the tracker.
    """
    encoder = network.encoder
    if encoder is None:
        device = next(network.vmos.parameters()).device
        encoder = build_shared_encoder(config, device, pick_dtype(config.runtime.dtype, device))
    strides = find_encoder(config.encoder.kind).strides
    return NetworkEncoder(encoder.eval(), config.frame, strides=strides)


def build_shared_encoder(
    config: TrackerConfig, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    """Build the encoder that both stages share, as the tracker runs it.

    Args:
        config: Of the tracker.
        device: Where to compute.
        dtype: Of the encoder.

    Raises:
        ConfigError: The refiner's encoder cannot be shared.
        WeightsError: The refiner's weights are missing, damaged, or do not fit.
    """
    refiner = build_refiner(config.refiner, RefinerOptions(device, dtype, shares_encoder=True))
    if refiner.shared_encoder is None:
        raise ConfigError(f"the refiner {config.refiner.kind!r} has no encoder that VMOS can read")
    return refiner.shared_encoder


def check_crop(crop: tuple[int, int], config: TrackerConfig) -> Size:
    """Check that a network size suits a preset.

    Raises:
        ConfigError: It does not.
    """
    is_aligned = find_encoder(config.encoder.kind).input_scale == 1
    rest = 1 if is_aligned else 0
    if any(side % ALIGNED_GRID != rest for side in crop):
        wanted = f"sides of {ALIGNED_GRID} k" + (" + 1" if is_aligned else "")
        raise ConfigError(
            f"phases.crop must have {wanted} for the preset {config.preset}, got {crop}"
        )
    return Size(*crop)


def copy_average(network: ClipNetwork) -> ClipNetwork:
    """Return a copy for the moving average; a frozen encoder is shared."""
    shared = {} if network.train_encoder else {id(network.encoder): network.encoder}
    average = copy.deepcopy(network, shared)
    return average.requires_grad_(False).eval()


@torch.no_grad()
def update_average(average: ClipNetwork, network: ClipNetwork, decay: float) -> None:
    """Move the average towards the network; what does not learn is copied.

    Args:
        average: From :func:`copy_average`.
        network: What learns.
        decay: How much of the average is kept, from 0 to 1.
    """
    # A copy has its tensors in the same order; those of a frozen encoder are the same ones.
    kept = [*average.parameters(), *average.buffers()]
    pairs = list(zip(kept, [*network.parameters(), *network.buffers()], strict=True))
    moving = [pair for pair in pairs if pair[1].requires_grad]
    if moving:
        torch._foreach_lerp_([one for one, _ in moving], [one for _, one in moving], 1 - decay)
    for own, new in pairs:
        if own is not new and not new.requires_grad:
            own.copy_(new)


def _widen(features: Sequence[FrameFeatures]) -> tuple[FrameFeatures, ...]:
    # Cached features are bfloat16; autocast narrows them again where products run in it.
    return tuple(FrameFeatures(one.s4.float(), one.s8.float(), one.s16.float()) for one in features)


def _encoder_of(
    model: ModelOptions, config: TrackerConfig, encoder: nn.Module | None, dtype: torch.dtype
) -> nn.Module | None:
    """Return the encoder with the weights that training starts from; None with cached features."""
    if model.features == "cached":
        return None
    if encoder is None:
        return build_shared_encoder(config, torch.device("cpu"), dtype)
    if model.encoder_weights:
        tensors = part_of(load_named(model.encoder_weights), "encoder")
        load_into(encoder, tensors, source=model.encoder_weights)
    return encoder
