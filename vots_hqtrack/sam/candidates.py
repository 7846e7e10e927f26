"""SAM's mask decoder, asked for every mask that it has for N objects of one frame.

The package's HQ decoder adds its HQ token's mask to the one SAM mask that it picks itself. Here its
parts are called one by one, so that whoever asks can pick by another rule; sum and order of
operations are the package's, so the masks are the same to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.config import HQOutput
from vots_hqtrack.sam.models import MaskDecoderHQ
from vots_hqtrack.sam.prompts import Prompts
from vots_hqtrack.types import ImageEmbedding

SINGLE, SEVERAL = slice(0, 1), slice(1, 4)
"""SAM's mask tokens: one for clear prompts, three for prompts that could mean several things."""


@dataclass(frozen=True, slots=True)
class EncodedPrompts:
    """What SAM's prompt encoder makes of N objects' prompts.

    Attributes:
        sparse: ``(N, K, 256)`` float, tokens of boxes and points.
        dense: ``(N, 256, 64, 64)`` float, of mask prompts.
        image_pe: ``(1, 256, 64, 64)`` float, positions of the image's cells.
    """

    sparse: Tensor
    dense: Tensor
    image_pe: Tensor


@dataclass(frozen=True, slots=True)
class Candidates:
    """Masks that SAM offers for N objects.

    Attributes:
        logits: ``(N, K, H', W')`` float32, from the first row and column of SAM's square on: all of
            it, or the part that the frame covers and at least a cell more.
        predicted_iou: ``(N, K)`` float32, SAM's own opinion of its masks; the HQ token has none of
            its own.
    """

    logits: Tensor
    predicted_iou: Tensor


@dataclass(frozen=True, slots=True)
class DecodedMasks:
    """All masks that a decoder makes of N objects.

    Attributes:
        sam: ``(N, 4, mask_side, mask_side)`` float32 logits: the single mask, then the three.
        hq: ``(N, 1, mask_side, mask_side)`` float32 logits, the HQ token's; None of a plain SAM.
        predicted_iou: ``(N, 4)`` float32, SAM's opinion of its own masks.
    """

    sam: Tensor
    hq: Tensor | None
    predicted_iou: Tensor


def decode_candidates(
    decoder: nn.Module,
    embedding: ImageEmbedding,
    prompts: EncodedPrompts,
    *,
    multimask: bool,
    hq_output: HQOutput = "sum",
) -> Candidates:
    """Decode the prompts of N objects in one call.

    Args:
        decoder: The package's ``MaskDecoder`` or ``MaskDecoderHQ``.
        embedding: SAM's view of the frame.
        prompts: Of N objects, N at least 1.
        multimask: True for SAM's three masks, False for its single one.
        hq_output: An HQ decoder's masks: SAM's plus the HQ token's, or the latter alone, which is
            one mask under each of SAM's scores. A plain decoder has only SAM's.

    Returns:
        K = 3 candidates of each object, or 1.
    """
    chosen = SEVERAL if multimask else SINGLE
    masks = decode_masks(decoder, embedding, prompts)
    logits = masks.sam[:, chosen]
    if masks.hq is not None:
        logits = logits + masks.hq if hq_output == "sum" else masks.hq.expand_as(logits)
    return Candidates(logits, masks.predicted_iou[:, chosen])


def decode_masks(
    decoder: nn.Module, embedding: ImageEmbedding, prompts: EncodedPrompts
) -> DecodedMasks:
    """Run the mask decoder once and return every mask that it makes, apart from each other.

    Args:
        decoder: The package's ``MaskDecoder`` or ``MaskDecoderHQ``.
        embedding: SAM's view of the frame.
        prompts: Of N objects, N at least 1.
    """
    parts: Any = decoder
    arguments = {
        "image_embeddings": embedding.embedding.float(),
        "image_pe": prompts.image_pe,
        "sparse_prompt_embeddings": prompts.sparse,
        "dense_prompt_embeddings": prompts.dense,
    }
    if not isinstance(decoder, MaskDecoderHQ):
        masks, scores = parts.predict_masks(**arguments)
        return DecodedMasks(masks.float(), None, scores.float())
    masks, scores = parts.predict_masks(**arguments, hq_features=hq_features(decoder, embedding))
    return DecodedMasks(masks[:, :-1].float(), masks[:, -1:].float(), scores.float())


def encode_prompts(prompt_encoder: nn.Module, prompts: Prompts) -> EncodedPrompts:
    """Run SAM's prompt encoder on the prompts of N objects.

    Args:
        prompt_encoder: The package's ``PromptEncoder``.
        prompts: Boxes, and masks and foreground points if there are any.
    """
    parts: Any = prompt_encoder
    sparse, dense = parts(
        points=_labelled_points(prompts), boxes=prompts.boxes, masks=prompts.masks
    )
    return EncodedPrompts(sparse, dense, parts.get_dense_pe())


def encode_tokens(prompt_encoder: nn.Module, prompts: Prompts) -> Tensor:
    """Run SAM's prompt encoder on boxes and points alone.

    Args:
        prompt_encoder: The package's ``PromptEncoder``.
        prompts: Of N objects.

    Returns:
        ``(N, K, 256)`` float tokens.
    """
    parts: Any = prompt_encoder
    sparse: Tensor
    # Autocast would round coordinates to a hundredth of the frame and worse.
    with torch.autocast(prompts.boxes.device.type, enabled=False):
        sparse, _ = parts(points=_labelled_points(prompts), boxes=prompts.boxes, masks=None)
    return sparse


def hq_features(decoder: nn.Module, embedding: ImageEmbedding) -> Tensor:
    """Fuse the encoder's last and early features for the HQ token, once for all objects.

    Args:
        decoder: The package's ``MaskDecoderHQ``.
        embedding: SAM's view of the frame.

    Returns:
        ``(1, 32, 256, 256)`` float.
    """
    parts: Any = decoder
    early = embedding.early.float().permute(0, 3, 1, 2)
    last: Tensor = parts.embedding_encoder(embedding.embedding.float())
    first: Tensor = parts.compress_vit_feat(early)
    return last + first


def _labelled_points(prompts: Prompts) -> tuple[Tensor, Tensor] | None:
    """Return the points and the label of each, which is that of the foreground."""
    points = prompts.points
    if points is None:
        return None
    return points, torch.ones(points.shape[:2], dtype=torch.int, device=points.device)
