"""Encoder and VMOS in training, unrolled over clips in one forward pass."""

from __future__ import annotations

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
from vots_hqtrack.frame import ALIGNED_STRIDE, PIXEL_MEAN, PIXEL_STD
from vots_hqtrack.presets import load_preset
from vots_hqtrack.refiner import RefinerOptions, build_refiner, shared_encoder_of
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.training.clip import unroll_clip
from vots_hqtrack.training.initialise import start_as_similarity
from vots_hqtrack.training.losses import Loss, StepOptions, clip_loss
from vots_hqtrack.training.recipe import ClipOptions, ModelOptions
from vots_hqtrack.training.task import TrainedNetwork
from vots_hqtrack.types import FrameFeatures, Size
from vots_hqtrack.vmos import VMOS

IMAGES_AT_ONCE = 96
"""Images that a frozen encoder takes together: enough for any GPU, and 4 GB of maps at most."""


class ClipNetwork(TrainedNetwork):
    """Encoder and VMOS.

    Args:
        encoder: Gives ``FrameFeatures`` of images ``(B, 3, H, W)``; None where batches bring
            features.
        vmos: The segmenter.
        memory: Memory rules of the training.
        align_corners: Convention of resizing logits to the labels.
        train_encoder: Off, no gradient is computed for the encoder, and it stays in evaluation.
        shares_encoder: The encoder is the refiner's; its weights are not saved with VMOS's.
        recompute_encoder: Recompute the encoder in the backward pass, one frame at a time.
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

    def forward(self, batch: ClipBatch, options: StepOptions) -> list[Tensor]:
        """Track through a batch; see :func:`~vots_hqtrack.training.clip.unroll_clip`."""
        features = self._encode(batch.frames) if batch.features is None else batch.features
        if not torch.is_autocast_enabled(batch.labels.device.type):
            # Cached features are bfloat16.
            features = tuple(
                FrameFeatures(each.s4.float(), each.s8.float(), each.s16.float())
                for each in features
            )
        return unroll_clip(
            self.vmos,
            features,
            batch.labels,
            batch.slots,
            self.memory,
            use_predicted_masks=options.predicted_masks,
            align_corners=self.align_corners,
            with_reference=options.with_reference,
            num_objects=batch.num_objects,
        )

    def loss(
        self,
        predicted: Sequence[Tensor],
        batch: ClipBatch,
        options: StepOptions,
    ) -> Loss:
        """Return the loss of the tracked frames, and the fading one of the reference frame."""
        return clip_loss(
            predicted,
            batch.labels,
            options,
            align_corners=self.align_corners,
        )

    @torch.no_grad()
    def encode_frozen(self, batch: ClipBatch, dtype: torch.dtype) -> ClipBatch:
        """Give a batch the features of a frozen encoder; no graph of autograd begins here.

        Args:
            batch: With frames, and without features.
            dtype: Dtype of the features: that of the matrix multiplications.

        Returns:
            The batch with features, its frames too. It comes back as it is where it has features,
            or where the encoder learns.
        """
        if batch.features is not None or self.train_encoder or batch.frames is None:
            return batch
        count = batch.frames.shape[1]
        # Frame by frame, so that the maps of all clips' frame i are side by side.
        images = batch.frames.transpose(0, 1).flatten(0, 1)
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            encoded = [self._encode_images(part) for part in images.split(IMAGES_AT_ONCE)]
        maps = [
            torch.cat([getattr(part, name).to(dtype) for part in encoded]).unflatten(0, (count, -1))
            for name in ("s4", "s8", "s16")
        ]
        features = tuple(FrameFeatures(*(each[index] for each in maps)) for index in range(count))
        return dataclasses.replace(batch, features=features)

    def learning_modules(self) -> nn.ModuleDict:
        """Return VMOS, and an encoder that learns."""
        encoder = {"encoder": self.encoder} if self.encoder and self.train_encoder else {}
        return nn.ModuleDict({**encoder, "vmos": self.vmos})

    def export_tensors(self, learnt: nn.ModuleDict) -> dict[str, Tensor]:
        """Return encoder and VMOS, or VMOS alone where the encoder is the refiner's."""
        if self._own_encoder is None:
            return dict(learnt["vmos"].state_dict())
        return nn.ModuleDict({"encoder": self._own_encoder, **learnt}).state_dict()

    def load_export(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Load what :meth:`export_tensors` returned."""
        load_segmenter(self._own_encoder, self.vmos, tensors, source=source)

    @property
    def _own_encoder(self) -> nn.Module | None:
        return None if self.shares_encoder else self.encoder

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
            each.unflatten(0, (batch, num_frames)) for each in (encoded.s4, encoded.s8, encoded.s16)
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
        model: Options of the network.
        clip: Options of the memory.
        encoder_dtype: Dtype of SAM's frozen encoder.
        compile_encoder: Compile a frozen encoder by ``torch.compile``.

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
        network.load_export(load_named(model.weights), model.weights)
    if compile_encoder and network.encoder is not None and not model.train_encoder:
        network.encoder.compile(dynamic=False)
    return network


def tracker_config(model: ModelOptions) -> TrackerConfig:
    """Return the configuration of the tracker that is trained."""
    return apply_settings(load_preset(model.preset), model.settings)


def load_named(name: str) -> dict[str, Tensor]:
    """Read weights by their name or path.

    Raises:
        WeightsError: There are none, or they are damaged.
    """
    is_path = "/" in name or "\\" in name or name.endswith(".safetensors")
    return load_weights(name, Path(name) if is_path else None)


def frame_encoder(
    encoder: nn.Module | None, config: TrackerConfig, device: torch.device
) -> FrameEncoder:
    """Wrap an encoder as the tracker wants it.

    Args:
        encoder: The encoder; None builds SAM's, for a network trained on cached features.
        config: Configuration of the tracker.
        device: Device of a new encoder.
    """
    if encoder is None:
        encoder = build_shared_encoder(config, device, pick_dtype(config.runtime.dtype, device))
    strides = find_encoder(config.encoder.kind).strides
    return NetworkEncoder(encoder.eval(), config.frame, strides=strides)


def build_shared_encoder(
    config: TrackerConfig, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    """Build the encoder that both stages share, as the tracker runs it.

    Args:
        config: Configuration of the tracker.
        device: Device of the encoder.
        dtype: Dtype of the encoder.

    Raises:
        ConfigError: The refiner's encoder cannot be shared.
        WeightsError: The refiner's weights are missing, damaged, or do not fit.
    """
    options = dataclasses.replace(config.refiner, enabled=False)  # its encoder alone is wanted
    refiner = build_refiner(options, RefinerOptions(device, dtype, shares_encoder=True))
    return shared_encoder_of(refiner, config.refiner.kind)


def check_crop(crop: tuple[int, int], config: TrackerConfig) -> Size:
    """Check that a network size suits a preset.

    Raises:
        ConfigError: It does not.
    """
    is_aligned = find_encoder(config.encoder.kind).input_scale == 1
    rest = 1 if is_aligned else 0
    if any(side % ALIGNED_STRIDE != rest for side in crop):
        wanted = f"sides of {ALIGNED_STRIDE} k" + (" + 1" if is_aligned else "")
        raise ConfigError(
            f"phases.crop must have {wanted} for the preset {config.preset}, got {crop}"
        )
    return Size(*crop)


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
