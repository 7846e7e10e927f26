"""A frame's image embedding for SAM's mask decoder, by the shared encoder or by SAM's own."""

from __future__ import annotations

from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vots_hqtrack.checkpoints.load import digest_of
from vots_hqtrack.config import CompileBackend
from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.frame import frame_to_image, plan_frame
from vots_hqtrack.replay import launched_once
from vots_hqtrack.sam.tiny_vit import SAM_INPUT, SharedFeatures, TinyViT
from vots_hqtrack.types import FrameArray, ImageEmbedding, Size


class EmptyInput(NamedTuple):
    """SAM's maps of an input without a frame.

    Attributes:
        neck: ``(1, 256, 64, 64)``.
        early: ``(1, 160, 64, 64)``.
    """

    neck: Tensor
    early: Tensor


MAX_KNOWN_INPUTS = 4
"""Largest number of such maps that are kept, of 7 MB each in float32."""
_known_inputs: dict[str, EmptyInput] = {}
"""By the weights: trackers of one process share them."""


class SharedEmbedder:
    """Makes the embedding from the features that the shared encoder gave VMOS.

    Args:
        encoder: That encoder; in evaluation mode.
    """

    def __init__(self, encoder: TinyViT) -> None:
        self._encoder = encoder

    @cached_property
    def background(self) -> EmptyInput:
        """Maps of the padding, the same for all frames; computed when first read."""
        key = _fingerprint(self._encoder)
        known = _known_inputs.get(key)
        if known is None:
            with torch.inference_mode():
                features = self._encoder.encode_empty()
            known = _known_inputs[key] = EmptyInput(features.neck, features.early)
            for oldest in list(_known_inputs)[:-MAX_KNOWN_INPUTS]:
                _known_inputs.pop(oldest, None)  # another thread may have been faster
        return known

    def __call__(self, encoded: EncodedFrame) -> ImageEmbedding:
        """Paste a frame's maps over those of an empty SAM input.

        Raises:
            ConfigError: The frame was encoded by another encoder.
        """
        features, geometry = encoded.features, encoded.geometry
        if not isinstance(features, SharedFeatures):
            raise ConfigError("this refiner reads frames that SAM's encoder encoded")
        neck = _pasted(features.neck, self.background.neck)
        early = _pasted(features.early, self.background.early)
        return ImageEmbedding(
            neck, early.permute(0, 2, 3, 1), geometry.input_size, geometry.frame_size
        )


def _pasted(part: Tensor, background: Tensor) -> Tensor:
    """Return the background with a map over its first rows and columns."""
    rows, columns = part.shape[-2:]
    whole = torch.empty_like(background)  # cloning it would write the map's place twice
    whole[..., :rows, :columns] = part
    whole[..., :rows, columns:] = background[..., :rows, columns:]
    whole[..., rows:, :] = background[..., rows:, :]
    return whole


class OwnEmbedder:
    """Encodes the frame with SAM's own image encoder.

    Args:
        encoder: Takes 1024 x 1024 pixels; gives ``SharedFeatures``, or the embedding and a list of
            early features, as ``segment_anything_hq`` does. In evaluation mode.
        compile_with: Option ``runtime.compile``.
    """

    def __init__(self, encoder: nn.Module, *, compile_with: CompileBackend = "off") -> None:
        self._device = next(encoder.parameters()).device
        self._encoder = launched_once(encoder, compile_with, self._device)

    def __call__(self, encoded: EncodedFrame) -> ImageEmbedding:
        """Resize and pad the frame to SAM's input, and encode it."""
        image, input_size = sam_image(encoded.frame, self._device)
        output: Any = self._encoder(image)
        embedding: Tensor
        early: Tensor
        if isinstance(output, SharedFeatures):
            embedding, early = output.neck, output.early.permute(0, 2, 3, 1)
        else:
            embedding, (early, *_) = output
        return ImageEmbedding(embedding, early, input_size, Size(*encoded.frame.shape[:2]))


def sam_image(frame: FrameArray, device: torch.device) -> tuple[Tensor, Size]:
    """Make SAM's input of a frame.

    Args:
        frame: uint8 ``(H, W, 3)`` RGB.
        device: Device of the result.

    Returns:
        ``(1, 3, 1024, 1024)`` float32, SAM-normalised, and the size of the frame inside it.
    """
    geometry = plan_frame(Size(*frame.shape[:2]), SAM_INPUT)
    image = frame_to_image(frame, geometry, device)
    square = image.new_zeros(1, 3, SAM_INPUT, SAM_INPUT)
    square[..., : image.shape[-2], : image.shape[-1]] = image
    return square, geometry.input_size


def _fingerprint(encoder: nn.Module) -> str:
    """Name an encoder by its weights, their device, and the number of threads that compute."""
    weights = chain(encoder.named_parameters(), encoder.named_buffers())
    where = next(encoder.parameters()).device
    digest = digest_of({name: tensor.detach().cpu() for name, tensor in weights})
    return f"{digest} {where} {torch.get_num_threads()}"
