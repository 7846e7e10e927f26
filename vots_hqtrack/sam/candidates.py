"""Prompt encoder and mask decoder of ``segment_anything_hq``, part by part.

The package's HQ decoder adds its HQ token's mask to the one SAM mask that it picks itself. Here its
parts are called one by one, so that the caller can pick by another rule; sum and order of
operations are the package's, so the masks are the same to the last bit. Training of the HQ head
uses them, and tests of `sam.mask_decoder`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.sam.prompts import Prompts
from vots_hqtrack.types import ImageEmbedding


@dataclass(frozen=True, slots=True)
class EncodedPrompts:
    """Encoded prompts of N objects.

    Attributes:
        sparse: ``(N, K, 256)`` float, tokens of boxes and points.
        dense: ``(N, 256, 64, 64)`` float, of mask prompts.
        image_pe: ``(1, 256, 64, 64)`` float, positions of the image's tokens.
    """

    sparse: Tensor
    dense: Tensor
    image_pe: Tensor


@dataclass(frozen=True, slots=True)
class DecodedMasks:
    """Raw output of a mask decoder for N objects.

    Attributes:
        sam: ``(N, 4, mask_side, mask_side)`` float32 logits of the single-mask token, then of the
            three multimask tokens.
        hq: ``(N, 1, mask_side, mask_side)`` float32 logits of the HQ token; None without HQ head.
        predicted_iou: ``(N, 4)`` float32, SAM's IoU predictions.
    """

    sam: Tensor
    hq: Tensor | None
    predicted_iou: Tensor


def decode_masks(
    decoder: nn.Module, embedding: ImageEmbedding, prompts: EncodedPrompts
) -> DecodedMasks:
    """Run the mask decoder once and return every mask that it makes, apart from each other.

    Args:
        decoder: The package's ``MaskDecoder`` or ``MaskDecoderHQ``.
        embedding: SAM's image embedding of the frame.
        prompts: Prompts of N objects, N at least 1.
    """
    parts: Any = decoder
    arguments = {
        "image_embeddings": embedding.embedding.float(),
        "image_pe": prompts.image_pe,
        "sparse_prompt_embeddings": prompts.sparse,
        "dense_prompt_embeddings": prompts.dense,
    }
    if not hasattr(decoder, "hf_token"):
        masks, scores = parts.predict_masks(**arguments)
        return DecodedMasks(masks.float(), None, scores.float())
    masks, scores = parts.predict_masks(**arguments, hq_features=hq_features(decoder, embedding))
    return DecodedMasks(masks[:, :-1].float(), masks[:, -1:].float(), scores.float())


def encode_prompts(prompt_encoder: nn.Module, prompts: Prompts) -> EncodedPrompts:
    """Run SAM's prompt encoder on the prompts of N objects.

    Args:
        prompt_encoder: The package's ``PromptEncoder``.
        prompts: Boxes or points or both, and masks if there are any.
    """
    parts: Any = prompt_encoder
    points = None
    if prompts.points is not None:
        labels = torch.ones_like(prompts.points[..., 0], dtype=torch.int)
        if prompts.labels is not None:
            labels = prompts.labels.int()
        points = prompts.points, labels
    sparse, dense = parts(points=points, boxes=prompts.boxes, masks=prompts.masks)
    return EncodedPrompts(sparse, dense, parts.get_dense_pe())


def hq_features(decoder: nn.Module, embedding: ImageEmbedding) -> Tensor:
    """Fuse the encoder's last and early features for the HQ token, once for all objects.

    Args:
        decoder: The package's ``MaskDecoderHQ``.
        embedding: SAM's image embedding of the frame.

    Returns:
        ``(1, 32, 256, 256)`` float.
    """
    parts: Any = decoder
    early = embedding.early.float().permute(0, 3, 1, 2)
    last: Tensor = parts.embedding_encoder(embedding.embedding.float())
    first: Tensor = parts.compress_vit_feat(early)
    return last + first
