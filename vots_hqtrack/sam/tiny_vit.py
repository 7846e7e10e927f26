"""SAM's own image encoder as the feature extractor: one pass serves VMOS and the refiner.

The TinyViT that ``segment-anything-hq`` builds is walked module by module, for two reasons: VMOS
wants its maps at three strides, and a frame that is not square need not be padded to SAM's 1024 x
1024. Every attention of TinyViT stays inside windows of 7 or 14 tokens, so the input is padded to
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

from vots_hqtrack.encoder import register_encoder
from vots_hqtrack.errors import ShapeError
from vots_hqtrack.sam.models import build_sam
from vots_hqtrack.types import FrameFeatures, Size

SAM_INPUT = 1024
SAM_STRIDE = 16
WINDOW_BORDER = 224
"""Distance in pixels between common borders of the windows: 7 tokens at strides 8 and 16, and 14 at
stride 16."""


@dataclass(frozen=True, slots=True)
class SharedFeatures(FrameFeatures):
    """What VMOS reads of an image, and what SAM's mask decoder reads.

    ``s4`` has 128 channels, ``s8`` 576 (before the neck, then the neck), ``s16`` 256 (the neck
    averaged 2 x 2). Each of their maps is normalised over its channels without parameters, because
    only the neck's output has a bounded scale.

    Attributes:
        early: ``(B, 160, H/16, W/16)`` float, read by the HQ head.
        neck: ``(B, 256, H/16, W/16)`` float, read by SAM's mask decoder.
    """

    early: Tensor
    neck: Tensor


class SamEncoder(nn.Module):
    """TinyViT of ``segment-anything-hq`` as an encoder for both stages: the reference.

    Args:
        image_encoder: The package's ``TinyViT``; it is used in place, so its weights stay under
            their names.
    """

    def __init__(self, image_encoder: nn.Module) -> None:
        super().__init__()
        self.image_encoder = image_encoder

    def forward(self, image: Tensor) -> SharedFeatures:
        """Encode images.

        Args:
            image: ``(B, 3, H, W)`` float, SAM-normalised RGB, sides multiples of 32 up to 1024.

        Returns:
            The features, cut to the input's size.

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
        return share_maps(stride8, early, x, neck, Size(height, width))


@register_encoder("sam", channels=(128, 576, 256), strides=(8, 16, 32), of_refiner="sam")
def build_sam_encoder() -> SamEncoder:
    """Build SAM's TinyViT with fresh weights, apart from a refiner."""
    return SamEncoder(build_sam("vit_tiny").image_encoder)


def share_maps(
    stride8: Tensor, early: Tensor, before_neck: Tensor, neck: Tensor, size: Size
) -> SharedFeatures:
    """Arrange TinyViT's maps of a padded input as features for both stages.

    Args:
        stride8: ``(B, 128, ...)`` float at stride 8.
        early: ``(B, 160, ...)`` float at stride 16; so are those that follow.
        before_neck: ``(B, 320, ...)`` float.
        neck: ``(B, 256, ...)`` float.
        size: Of the input without padding.
    """
    rows, columns = size.height // SAM_STRIDE, size.width // SAM_STRIDE
    neck = neck[..., :rows, :columns]
    normal = _normalise_channels(neck)
    return SharedFeatures(
        s4=_normalise_channels(stride8[..., : 2 * rows, : 2 * columns]),
        s8=torch.cat([_normalise_channels(before_neck[..., :rows, :columns]), normal], dim=1),
        s16=F.avg_pool2d(normal, 2),
        early=early[..., :rows, :columns],
        neck=neck,
    )


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
    tokens = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, -width % side, 0, -height % side))
    rows, columns = tokens.shape[1] // side, tokens.shape[2] // side
    windows = tokens.reshape(batch, rows, side, columns, side, channels).transpose(2, 3)
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
