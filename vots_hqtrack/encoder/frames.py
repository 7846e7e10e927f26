"""From a video frame to the features that VMOS and the refiner read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vots_hqtrack.config import CompileBackend, FrameConfig
from vots_hqtrack.encoder import Triple
from vots_hqtrack.frame import (
    FrameGeometry,
    pixels_to_image,
    plan_aligned_frame,
    plan_frame,
    scaled_edge,
    upload_frame,
)
from vots_hqtrack.replay import launched_once
from vots_hqtrack.types import FrameArray, FrameFeatures, Size

_CROP_SCALE = 0.375
"""Long side of a crop's network image as a fraction of that of frames."""


@dataclass(slots=True)
class EncodedFrame:
    """One frame, encoded.

    Attributes:
        frame: uint8 ``(H, W, 3)`` RGB, for a refiner with an image encoder of its own.
        geometry: Layout of the frame for VMOS's encoder.
        features: Features for VMOS; a refiner that shares the encoder reads them too.
        embedding: The refiner's embedding of the frame, once it has been computed.
        prompted: Results of the refiner that all clicks share, once they have been computed.
    """

    frame: FrameArray
    geometry: FrameGeometry
    features: FrameFeatures
    embedding: Any = None
    prompted: Any = None


class FrameEncoder(Protocol):
    """Lays frames out and encodes them."""

    def plan(self, frame_size: Size, scale: float = 1.0) -> FrameGeometry:
        """Lay out a frame size, at a fraction of the usual resolution."""

    def plan_crop(self, size: Size) -> FrameGeometry:
        """Lay out a crop of a frame, enlarged to a fraction of a frame's long side."""

    def encode(self, frame: FrameArray, geometry: FrameGeometry) -> EncodedFrame:
        """Encode a uint8 ``(H, W, 3)`` RGB frame of the geometry's size."""

    def encode_together(
        self, frames: Sequence[FrameArray], geometries: Sequence[FrameGeometry]
    ) -> list[EncodedFrame]:
        """Encode frames in one batch; their geometries have one ``padded_size``."""


class NetworkEncoder:
    """A registered encoder with the geometry that its strides ask for.

    Args:
        network: Maps images ``(B, 3, H, W)`` to ``FrameFeatures``; in evaluation mode, on its
            device.
        config: Frame options.
        strides: Strides that the encoder is registered with.
        compile_with: Option ``runtime.compile``.
    """

    def __init__(
        self,
        network: nn.Module,
        config: FrameConfig,
        *,
        strides: Triple = (4, 8, 16),
        compile_with: CompileBackend = "off",
    ) -> None:
        self._config = config
        self._is_aligned = strides == (4, 8, 16)
        self._device = next(network.parameters()).device
        self._network = network
        self._launch_network = launched_once(self._encode_pixels, compile_with, self._device)

    def plan(self, frame_size: Size, scale: float = 1.0) -> FrameGeometry:
        """Lay out a frame size: padded to multiples of 32, or with sides of ``16 k + 1``."""
        if not self._is_aligned:
            return plan_frame(frame_size, scaled_edge(self._config.long_edge, scale))
        usual = plan_aligned_frame(
            frame_size,
            min_short_edge=self._config.min_short_edge,
            max_long_edge=self._config.max_long_edge,
        )
        if scale == 1:
            return usual
        edge = int(max(usual.network_size) * scale)
        return plan_aligned_frame(frame_size, min_short_edge=0, max_long_edge=edge)

    def plan_crop(self, size: Size) -> FrameGeometry:
        """Lay out a crop: its long side is 3/8 of a frame's at its largest."""
        if not self._is_aligned:
            return plan_frame(size, scaled_edge(self._config.long_edge, _CROP_SCALE))
        edge = int(self._config.max_long_edge * _CROP_SCALE)
        return plan_aligned_frame(size, min_short_edge=edge, max_long_edge=edge)

    def encode(self, frame: FrameArray, geometry: FrameGeometry) -> EncodedFrame:
        """Encode a frame once."""
        pixels = upload_frame(frame, geometry, self._device)
        features = self._launch_network((pixels,), (geometry,))
        return EncodedFrame(frame, geometry, features)

    def encode_together(
        self, frames: Sequence[FrameArray], geometries: Sequence[FrameGeometry]
    ) -> list[EncodedFrame]:
        """Encode frames in one batch."""
        pairs = list(zip(frames, geometries, strict=True))
        pixels = tuple(upload_frame(*pair, self._device) for pair in pairs)
        features: FrameFeatures = self._launch_network(pixels, tuple(geometries))
        return [EncodedFrame(*pair, features.sample(i)) for i, pair in enumerate(pairs)]

    def _encode_pixels(
        self, pixels: tuple[Tensor, ...], geometries: tuple[FrameGeometry, ...]
    ) -> FrameFeatures:
        images = [pixels_to_image(*pair) for pair in zip(pixels, geometries, strict=True)]
        batch = images[0] if len(images) == 1 else torch.cat(images)
        features: FrameFeatures = self._network(batch)
        return features
