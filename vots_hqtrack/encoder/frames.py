"""From a video frame to what both stages read of it, whatever encoders a preset has.

The lite preset has one encoder for both stages. The released model has one for VMOS, and SAM's own
for the refiner, which runs only when a mask is to be refined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vots_hqtrack.config import CompileBackend, EncoderConfig, FrameConfig
from vots_hqtrack.devices import compiled
from vots_hqtrack.encoder.internimage import InternImage, build_internimage_t
from vots_hqtrack.encoder.timm import TimmEncoder, build_timm_encoder
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.frame import (
    FrameGeometry,
    frame_to_image,
    plan_aligned_frame,
    plan_frame,
    scaled_edge,
)
from vots_hqtrack.sam.fused_tiny_vit import FusedSamEncoder
from vots_hqtrack.sam.tiny_vit import (
    SAM_INPUT,
    SamEncoder,
    SamMaps,
    embedding_from_sam,
    features_from_sam,
)
from vots_hqtrack.types import FrameArray, FrameFeatures, ImageEmbedding, Size


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One frame, encoded.

    Attributes:
        features: What VMOS reads.
        embed: Gives what the refiner reads; computes it if the features did not bring it along.
    """

    features: FrameFeatures
    embed: Callable[[], ImageEmbedding]


class FrameEncoder(Protocol):
    """Lays frames out and encodes them."""

    def plan(self, frame_size: Size, scale: float = 1.0) -> FrameGeometry:
        """Lay out a frame size, at a share of the usual resolution."""

    def encode(self, frame: FrameArray, geometry: FrameGeometry) -> EncodedFrame:
        """Encode a uint8 ``(H, W, 3)`` RGB frame of the geometry's size."""


def build_encoder(config: EncoderConfig) -> InternImage | TimmEncoder:
    """Build an encoder that VMOS does not share with the refiner, with fresh weights.

    Args:
        config: Which one, and the channels that VMOS is built for.

    Raises:
        ConfigError: The channels are not the encoder's, or it is SAM's, which comes with the
            refiner.
    """
    if config.kind == "sam":
        raise ConfigError("wanted an encoder of its own, got SAM's, which the refiner brings along")
    internimage = config.kind == "internimage-t"
    encoder = build_internimage_t() if internimage else build_timm_encoder(config.kind)
    if config.dims != encoder.dims:
        raise ConfigError(
            f"encoder.dims must be {','.join(map(str, encoder.dims))} with encoder.kind="
            f"{config.kind}, got {','.join(map(str, config.dims))}"
        )
    return encoder


class SharedFrameEncoder:
    """SAM's TinyViT for both stages.

    Args:
        encoder: In evaluation mode, on its device.
        config: Frame options.
        compile_with: Back end of ``torch.compile``, or ``off``.
    """

    def __init__(
        self,
        encoder: SamEncoder | FusedSamEncoder,
        config: FrameConfig,
        *,
        compile_with: CompileBackend = "off",
    ) -> None:
        self._encoder = compiled(encoder, compile_with)
        self._config = config
        self._device = next(encoder.parameters()).device
        # What SAM sees where it pads; the same for all frames. Not compiled: a CUDA graph would
        # write the next frame's maps over it.
        self._background: SamMaps = encoder(
            torch.zeros(1, 3, SAM_INPUT, SAM_INPUT, device=self._device)
        )

    def plan(self, frame_size: Size, scale: float = 1.0) -> FrameGeometry:
        """Lay out a frame size: long side 1024 or less, padded to multiples of 32."""
        return plan_frame(frame_size, scaled_edge(self._config.long_edge, scale))

    def encode(self, frame: FrameArray, geometry: FrameGeometry) -> EncodedFrame:
        """Encode a frame once for both stages."""
        maps: SamMaps = self._encoder(frame_to_image(frame, geometry, self._device))

        def embed() -> ImageEmbedding:
            return embedding_from_sam(
                maps, self._background, geometry.input_size, geometry.frame_size
            )

        return EncodedFrame(features_from_sam(maps), embed)


class SeparateFrameEncoder:
    """One encoder for VMOS in the released model's geometry, and SAM's own for the refiner.

    Args:
        encoder: Gives ``FrameFeatures`` of an image ``(B, 3, H, W)``.
        sam_encoder: SAM's image encoder, which takes 1024 x 1024; None without a refiner.
        config: Frame options.
        compile_with: Back end of ``torch.compile``, or ``off``.
    """

    def __init__(
        self,
        encoder: nn.Module,
        sam_encoder: nn.Module | None,
        config: FrameConfig,
        *,
        compile_with: CompileBackend = "off",
    ) -> None:
        self._encoder = compiled(encoder, compile_with)
        self._sam_encoder = None if sam_encoder is None else compiled(sam_encoder, compile_with)
        self._config = config
        self._device = next(encoder.parameters()).device

    def plan(self, frame_size: Size, scale: float = 1.0) -> FrameGeometry:
        """Lay out a frame size: sides of 16 k + 1, no padding."""
        usual = plan_aligned_frame(
            frame_size,
            min_short_edge=self._config.min_short_edge,
            max_long_edge=self._config.max_long_edge,
        )
        if scale == 1:
            return usual
        edge = int(max(usual.network_size) * scale)
        return plan_aligned_frame(frame_size, min_short_edge=0, max_long_edge=edge)

    def encode(self, frame: FrameArray, geometry: FrameGeometry) -> EncodedFrame:
        """Encode a frame for VMOS; SAM's encoder waits until it is asked."""
        features: FrameFeatures = self._encoder(frame_to_image(frame, geometry, self._device))
        return EncodedFrame(features, lambda: self._embed(frame))

    def _embed(self, frame: FrameArray) -> ImageEmbedding:
        if self._sam_encoder is None:
            raise ConfigError(
                "this preset has no refiner: it can neither refine masks nor start from a box"
            )
        geometry = plan_frame(Size(*frame.shape[:2]), SAM_INPUT)
        image = frame_to_image(frame, geometry, self._device)
        square = image.new_zeros(1, 3, SAM_INPUT, SAM_INPUT)
        square[..., : image.shape[-2], : image.shape[-1]] = image
        sam_encoder: Any = self._sam_encoder
        embedding: Tensor
        embedding, early = sam_encoder(square)
        return ImageEmbedding(embedding, early[0], geometry.input_size, geometry.frame_size)
