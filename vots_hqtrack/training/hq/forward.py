"""The HQ decoder on a part of the picture, with gradients for the HQ head alone.

Everything but the transformer works cell by cell or on near neighbours, so the costly maps are
computed only in a window of cells that the loss looks at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

UPSCALE = 4
"""Cells of a low-resolution mask along one cell of the embedding."""
MARGIN = 1
"""Cells at a window's border that are computed for their neighbours only."""


@dataclass(frozen=True, slots=True)
class DecoderInput:
    """What the decoder reads of B pictures, one object each.

    Attributes:
        embedding: ``(B, 256, 64, 64)``, SAM's encoder.
        early: ``(B, C, 64, 64)``, its early features.
        sparse: ``(B, K, 256)`` float, prompt tokens.
        dense: ``(B, 256, 64, 64)`` float, mask prompts.
        image_pe: ``(1, 256, 64, 64)`` float, positions.
        corners: For each picture the window's first row and column of cells.
    """

    embedding: Tensor
    early: Tensor
    sparse: Tensor
    dense: Tensor
    image_pe: Tensor
    corners: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class HQLogits:
    """Masks inside the windows, the margin cut off.

    Attributes:
        sam: ``(B, 1, S, S)`` float, SAM's single mask; without gradient.
        hq: ``(B, 1, S, S)`` float, the HQ token's mask.
    """

    sam: Tensor
    hq: Tensor


def decode_windows(decoder: nn.Module, inputs: DecoderInput, window: int) -> HQLogits:
    """Run the package's ``MaskDecoderHQ`` and keep the masks of one window a picture.

    Args:
        decoder: Its HQ parts may require gradients, the others must not.
        inputs: Of B pictures.
        window: Side of the windows in cells; ``S = 4 (window - 2)``.
    """
    parts: Any = decoder
    batch = len(inputs.embedding)
    output = torch.cat([parts.iou_token.weight, parts.mask_tokens.weight, parts.hf_token.weight])
    tokens = torch.cat([output.expand(batch, -1, -1), inputs.sparse], dim=1)
    source = inputs.embedding + inputs.dense
    queries, keys = parts.transformer(source, inputs.image_pe.expand_as(source), tokens)
    with torch.no_grad():
        maps = keys.transpose(1, 2).reshape(source.shape)
        upscaled = parts.output_upscaling(_windows(maps, inputs.corners, window))
        single = parts.output_hypernetworks_mlps[0](queries[:, 1])
        sam = _masks(single, upscaled)
    features = parts.embedding_encoder(_windows(inputs.embedding, inputs.corners, window))
    features = features + parts.compress_vit_feat(_windows(inputs.early, inputs.corners, window))
    features = features + parts.embedding_maskfeature(upscaled)
    hq_token = 1 + len(parts.mask_tokens.weight)
    hq = _masks(parts.hf_mlp(queries[:, hq_token]), features)
    return HQLogits(_inside(sam), _inside(hq))


def _masks(weights: Tensor, features: Tensor) -> Tensor:
    """Weigh the channels: ``(B, C)`` and ``(B, C, H, W)`` to ``(B, 1, H, W)`` float32."""
    masks = weights[:, None] @ features.flatten(2)
    return masks.view(len(masks), 1, *features.shape[2:]).float()


def _windows(maps: Tensor, corners: tuple[tuple[int, int], ...], window: int) -> Tensor:
    parts = [
        one[:, top : top + window, left : left + window]
        for one, (top, left) in zip(maps, corners, strict=True)
    ]
    return torch.stack(parts)


def _inside(masks: Tensor) -> Tensor:
    border = MARGIN * UPSCALE
    return masks[..., border:-border, border:-border]
