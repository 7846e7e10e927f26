"""From a configuration to the tracker's parts, with their weights loaded."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from vots_hqtrack.checkpoints.convert import part_of
from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.checkpoints.manifest import resolve
from vots_hqtrack.config import RefinerConfig, TrackerConfig
from vots_hqtrack.encoder.frames import (
    FrameEncoder,
    SeparateFrameEncoder,
    SharedFrameEncoder,
    build_encoder,
)
from vots_hqtrack.encoder.sam import SamEncoder
from vots_hqtrack.refiner.models import Sam, build_sam
from vots_hqtrack.refiner.refiner import MaskRefiner, build_refiner
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
    build = _build_shared if config.encoder.kind == "sam" else _build_separate
    return build(config, device, weights)


def load_sam(config: RefinerConfig) -> Sam:
    """Build the refiner's network with its weights.

    Raises:
        WeightsError: They are missing, damaged, or do not fit.
    """
    sam = build_sam(config.model, hq=config.hq)
    load_into(sam, load_weights(config.weights), source=str(resolve(config.weights)))
    return sam


def _build_shared(
    config: TrackerConfig, device: torch.device, weights: Path | None
) -> TrackerParts:
    """Build the parts of a preset whose stages share SAM's encoder."""
    sam = load_sam(config.refiner)
    vmos = build_vmos(config.vmos, config.encoder.dims)
    source = resolve(config.weights, weights)
    load_into(vmos, load_weights(config.weights, weights), source=str(source))
    with torch.inference_mode():
        encoder = SharedFrameEncoder(SamEncoder(sam.image_encoder).to(device).eval(), config.frame)
    return TrackerParts(encoder, vmos, build_refiner(config.refiner, sam))


def _build_separate(
    config: TrackerConfig, device: torch.device, weights: Path | None
) -> TrackerParts:
    """Build the parts of a preset whose VMOS has an encoder of its own."""
    source = resolve(config.weights, weights)
    backbone, vmos = build_encoder(config.encoder), build_vmos(config.vmos, config.encoder.dims)
    tensors = load_weights(config.weights, weights)
    load_into(backbone, part_of(tensors, "encoder"), source=str(source))
    load_into(vmos, part_of(tensors, "vmos"), source=str(source))
    refiner, sam_encoder = None, None
    if config.refiner.enabled:
        sam = load_sam(config.refiner)
        refiner, sam_encoder = build_refiner(config.refiner, sam), sam.image_encoder
        sam_encoder.to(device).eval()
    encoder = SeparateFrameEncoder(backbone.to(device).eval(), sam_encoder, config.frame)
    return TrackerParts(encoder, vmos, refiner)
