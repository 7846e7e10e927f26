"""From a configuration to the tracker's parts, with their weights loaded."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import nn

from vots_hqtrack.checkpoints.convert import part_of
from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.checkpoints.manifest import resolve
from vots_hqtrack.config import RefinerConfig, TrackerConfig
from vots_hqtrack.devices import pick_dtype
from vots_hqtrack.encoder.frames import (
    FrameEncoder,
    SeparateFrameEncoder,
    SharedFrameEncoder,
    build_encoder,
)
from vots_hqtrack.errors import ConfigError, WeightsError
from vots_hqtrack.precision import lower_products
from vots_hqtrack.sam.fused_decoder import prepare_decoder
from vots_hqtrack.sam.fused_tiny_vit import FusedSamEncoder
from vots_hqtrack.sam.models import Sam, SamName, build_empty_sam, build_sam
from vots_hqtrack.sam.refiner import MaskRefiner, build_refiner
from vots_hqtrack.sam.vit import SamVitEncoder
from vots_hqtrack.sam.weights import load_sam_weights
from vots_hqtrack.vmos import VMOS, build_vmos


class TrackerParts(NamedTuple):
    """What a tracker is made of.

    Attributes:
        encoder: Lays frames out and encodes them for both stages.
        vmos: Segmenter.
        refiner: Mask refiner, or None.
    """

    encoder: FrameEncoder
    vmos: VMOS
    refiner: MaskRefiner | None


class _MakeSam(Protocol):
    def __call__(self, model: SamName, *, hq: bool) -> Sam: ...


class _Networks(NamedTuple):
    """The networks that a configuration names.

    Attributes:
        backbone: VMOS's own encoder, or None where it reads the refiner's.
        vmos: Segmenter.
        sam: The refiner's network, or None.
    """

    backbone: nn.Module | None
    vmos: VMOS
    sam: Sam | None


def build_parts(config: TrackerConfig, device: torch.device, weights: Path | None) -> TrackerParts:
    """Build what a configuration describes.

    Args:
        config: How to track.
        device: Where to compute.
        weights: VMOS weights (safetensors) in place of the preset's.

    Raises:
        ConfigError: The encoder's channels are not those that VMOS is told of.
        WeightsError: Weights are missing, damaged, or do not fit.
    """
    source = _find_all(config, weights)
    networks = _make_networks(config, build_empty_sam)
    tensors = load_weights(config.weights, weights)
    if networks.backbone is None:
        load_into(networks.vmos, tensors, source=source)
    else:
        load_into(networks.backbone, part_of(tensors, "encoder"), source=source)
        load_into(networks.vmos, part_of(tensors, "vmos"), source=source)
    if networks.sam is not None:
        _load_sam_into(networks.sam, config.refiner)
    return _join_parts(config, networks, device)


def build_untrained_parts(
    config: TrackerConfig, device: torch.device, *, seed: int = 0
) -> TrackerParts:
    """Build the same parts with random weights: as fast, and of no other use.

    Args:
        config: How to track.
        device: Where to compute.
        seed: Of the weights. PyTorch's own random state is left as it was.

    Raises:
        ConfigError: The encoder's channels are not those that VMOS is told of.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = _make_networks(config, build_sam)
    return _join_parts(config, networks, device)


def load_sam(config: RefinerConfig) -> Sam:
    """Build the refiner's network with its weights.

    Raises:
        WeightsError: They are missing, damaged, or do not fit.
    """
    sam = build_empty_sam(config.model, hq=config.hq)
    _load_sam_into(sam, config)
    return sam


def build_sam_encoder(config: TrackerConfig, device: torch.device) -> FusedSamEncoder:
    """Build the encoder that both stages share, without the rest of the tracker.

    Args:
        config: How to track.
        device: Where to compute.

    Raises:
        WeightsError: The refiner's weights are missing, damaged, or do not fit.
    """
    dtype = pick_dtype(config.runtime.dtype, device)
    return _prepare_encoder(load_sam(config.refiner), dtype, device)


def _find_all(config: TrackerConfig, weights: Path | None) -> str:
    """Return where VMOS's weights are; all that is missing is told before anything is built."""
    source, *others = config.weights_needed()
    found, problems = [], []
    for name, path in ((source, weights), *((other, None) for other in others)):
        try:
            found.append(resolve(name, path))
        except WeightsError as error:
            problems.append(str(error))
    if problems:
        raise WeightsError("\n".join(problems))
    return str(found[0])


def _load_sam_into(sam: Sam, config: RefinerConfig) -> None:
    tensors = load_sam_weights(config.weights, hq=config.hq, head=config.head)
    load_into(sam, tensors, source=str(resolve(config.weights)))


def _make_networks(config: TrackerConfig, make_sam: _MakeSam) -> _Networks:
    """Build networks without the weights of their own."""
    is_shared = config.encoder.kind == "sam"
    backbone = None if is_shared else build_encoder(config.encoder)
    vmos = build_vmos(config.vmos, config.encoder.dims)
    has_sam = is_shared or config.refiner.enabled
    sam = make_sam(config.refiner.model, hq=config.refiner.hq) if has_sam else None
    return _Networks(backbone, vmos, sam)


def _join_parts(config: TrackerConfig, networks: _Networks, device: torch.device) -> TrackerParts:
    """Make a tracker's parts of networks that have their weights."""
    sam, backbone = networks.sam, networks.backbone
    dtype = pick_dtype(config.runtime.dtype, device)
    if sam is not None:
        prepare_decoder(sam, dtype)
    refiner = None if sam is None else build_refiner(config.refiner, sam)
    if backbone is not None:
        lower_products(backbone, dtype)
        lower_products(networks.vmos, dtype)
        sam_encoder = None if sam is None else _make_sam_encoder(config, sam).to(device).eval()
        encoder = SeparateFrameEncoder(
            backbone.to(device).eval(),
            sam_encoder,
            config.frame,
            compile_with=config.runtime.compile,
        )
        return TrackerParts(encoder, networks.vmos, refiner)
    if sam is None:
        raise ConfigError("encoder.kind=sam reads the refiner's network, and there is none")
    prepared = _prepare_encoder(sam, dtype, device)
    with torch.inference_mode():
        shared = SharedFrameEncoder(prepared, config.frame, compile_with=config.runtime.compile)
    return TrackerParts(shared, networks.vmos, refiner)


def _prepare_encoder(sam: Sam, dtype: torch.dtype, device: torch.device) -> FusedSamEncoder:
    return FusedSamEncoder(sam.image_encoder, dtype).to(device).eval()


def _make_sam_encoder(config: TrackerConfig, sam: Sam) -> nn.Module:
    """Return the refiner's image encoder in a form that saves memory where there is one."""
    encoder: nn.Module = sam.image_encoder
    return encoder if config.refiner.model == "vit_tiny" else SamVitEncoder(encoder)
