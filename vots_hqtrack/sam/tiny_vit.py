"""SAM's own image encoder as the feature extractor: one pass serves VMOS and the refiner.

The TinyViT that ``segment-anything-hq`` builds is walked module by module, for two reasons: VMOS
wants its maps at three strides, and a frame that is not square need not be padded to SAM's 1024 x
1024. Every attention of TinyViT stays inside windows of 7 or 14 cells, so the input is padded to
the next common border of the windows only.

SAM's strides are counted on its own 1024-pixel input. VMOS's network image is half of that, so
SAM's strides 8, 16 and 32 are VMOS's strides 4, 8 and 16
(docs/decisions/0002-lite-network-scale.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.types import FrameFeatures, ImageEmbedding, Size

SAM_INPUT = 1024
SAM_STRIDE = 16
WINDOW_BORDER = 224
"""Pixels after which windows of 7 cells at strides 8 and 16 and of 14 cells at stride 16 all begin
anew."""


@dataclass(frozen=True, slots=True)
class SamMaps:
    """What one walk through TinyViT gives.

    Attributes:
        stride8: ``(B, 128, H/8, W/8)`` float, before the second merging.
        early: ``(B, 160, H/16, W/16)`` float, what the HQ head reads.
        before_neck: ``(B, 320, H/16, W/16)`` float.
        neck: ``(B, 256, H/16, W/16)`` float, what SAM's mask decoder reads.
    """

    stride8: Tensor
    early: Tensor
    before_neck: Tensor
    neck: Tensor


class SamEncoder(nn.Module):
    """TinyViT of ``segment-anything-hq`` as an encoder for both stages.

    Args:
        image_encoder: The package's ``TinyViT``; it is used in place, so its weights stay under
            their names.
    """

    dims = (128, 576, 256)

    def __init__(self, image_encoder: nn.Module) -> None:
        super().__init__()
        self.image_encoder = image_encoder

    def forward(self, image: Tensor) -> SamMaps:
        """Encode images.

        Args:
            image: ``(B, 3, H, W)`` float, SAM-normalised RGB, sides multiples of 32 up to 1024.

        Returns:
            The maps, cut to the input's own grid.

        Raises:
            ShapeError: A side is not a multiple of 32, or larger than 1024.
        """
        check_input(image)
        height, width = image.shape[-2:]
        x = pad_to_windows(image)
        # The package's classes are not annotated.
        encoder: Any = self.image_encoder
        x = encoder.patch_embed(x.contiguous(memory_format=torch.channels_last))
        for block in encoder.layers[0].blocks:
            x = block(x)
        x = _merge(encoder.layers[0].downsample, x)
        for block in encoder.layers[1].blocks:
            x = _windowed_block(block, x)
        stride8 = x
        early = x = _merge(encoder.layers[1].downsample, x)
        for block in encoder.layers[2].blocks:
            x = _windowed_block(block, x)
        x = _merge(encoder.layers[2].downsample, x)
        for block in encoder.layers[3].blocks:
            x = _windowed_block(block, x)
        neck = encoder.neck(x)
        rows, columns = height // SAM_STRIDE, width // SAM_STRIDE
        return SamMaps(
            stride8=stride8[..., : 2 * rows, : 2 * columns],
            early=early[..., :rows, :columns],
            before_neck=x[..., :rows, :columns],
            neck=neck[..., :rows, :columns],
        )


def features_from_sam(maps: SamMaps) -> FrameFeatures:
    """Arrange SAM's maps as VMOS's features.

    Each map is normalised over its channels without parameters, because only the neck's output has
    a bounded scale.

    Args:
        maps: Of one or more images.

    Returns:
        ``s4`` 128, ``s8`` 576 (before the neck, then the neck), ``s16`` 256 channels (the neck
        averaged 2 x 2).
    """
    neck = _normalise_channels(maps.neck)
    return FrameFeatures(
        s4=_normalise_channels(maps.stride8),
        s8=torch.cat([_normalise_channels(maps.before_neck), neck], dim=1),
        s16=F.avg_pool2d(neck, 2),
    )


def embedding_from_sam(
    maps: SamMaps, background: SamMaps, input_size: Size, frame_size: Size
) -> ImageEmbedding:
    """Lay one frame's maps over those of an empty SAM input.

    Args:
        maps: Of one image (B = 1).
        background: Maps of a 1024 x 1024 input of zeros, which is what SAM pads with.
        input_size: Size of the resized frame inside SAM's input.
        frame_size: Size of the video frame.

    Returns:
        The embedding that SAM's mask decoder reads.
    """
    rows, columns = maps.neck.shape[-2:]
    neck, early = background.neck.clone(), background.early.clone()
    neck[..., :rows, :columns] = maps.neck
    early[..., :rows, :columns] = maps.early
    return ImageEmbedding(neck, early.permute(0, 2, 3, 1), input_size, frame_size)


def check_input(image: Tensor) -> None:
    """Demand an image ``(B, 3, H, W)`` that the encoders here take.

    Raises:
        ShapeError: A side is not a multiple of 32, or larger than 1024.
    """
    height, width = image.shape[-2:]
    if height % 32 or width % 32 or max(height, width) > SAM_INPUT:
        wanted = f"multiples of 32 up to {SAM_INPUT}"
        raise ShapeError(f"SAM's encoder wants sides that are {wanted}, got {height}x{width}")


def pad_to_windows(image: Tensor) -> Tensor:
    """Pad images below and at the right to the next common border of the windows, with zeros."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, _missing(width), 0, _missing(height)))


def _missing(side: int) -> int:
    padded = -(-side // WINDOW_BORDER) * WINDOW_BORDER
    return min(padded, SAM_INPUT) - side


def _merge(merging: nn.Module, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    parts: Any = merging
    stride = parts.conv2.c.stride[0]
    tokens: Tensor = merging(x).transpose(1, 2)
    return tokens.reshape(*tokens.shape[:2], -(-height // stride), -(-width // stride))


def _windowed_block(block: nn.Module, x: Tensor) -> Tensor:
    parts: Any = block
    batch, channels, height, width = x.shape
    side = int(parts.window_size)
    grid = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, -width % side, 0, -height % side))
    rows, columns = grid.shape[1] // side, grid.shape[2] // side
    windows = grid.reshape(batch, rows, side, columns, side, channels).transpose(2, 3)
    attended: Tensor = parts.attn(windows.reshape(-1, side * side, channels))
    attended = attended.reshape(batch, rows, columns, side, side, channels).transpose(2, 3)
    attended = attended.reshape(batch, rows * side, columns * side, channels)[:, :height, :width]
    x = parts.local_conv(x + attended.permute(0, 3, 1, 2))
    tokens = x.permute(0, 2, 3, 1)
    mixed: Tensor = tokens + parts.mlp(tokens)
    return mixed.permute(0, 3, 1, 2)


def _normalise_channels(x: Tensor) -> Tensor:
    tokens = x.permute(0, 2, 3, 1).float()
    return F.layer_norm(tokens, tokens.shape[-1:]).permute(0, 3, 1, 2)
