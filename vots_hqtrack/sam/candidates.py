"""SAM's prompt encoder and mask decoder, part by part: the reference of the fused decoder.

The package's HQ decoder adds its HQ token's mask to the one SAM mask that it picks itself. Here its
parts are called one by one, so that the caller can pick by another rule; sum and order of
operations are the package's, so the masks are the same to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vots_hqtrack.config import HQOutput
from vots_hqtrack.sam.geometry import SamGeometry, input_sides
from vots_hqtrack.sam.models import MaskDecoderHQ
from vots_hqtrack.sam.prompts import Prompts
from vots_hqtrack.types import ImageEmbedding

SINGLE, MULTIMASK = slice(0, 1), slice(1, 4)
"""SAM's mask tokens: one for clear prompts, three for prompts that could mean several things."""


@dataclass(frozen=True, slots=True)
class EncodedPrompts:
    """What SAM's prompt encoder makes of N objects' prompts.

    Attributes:
        sparse: ``(N, K, 256)`` float, tokens of boxes and points.
        dense: ``(N, 256, 64, 64)`` float, of mask prompts.
        image_pe: ``(1, 256, 64, 64)`` float, positions of the image's tokens.
    """

    sparse: Tensor
    dense: Tensor
    image_pe: Tensor


@dataclass(frozen=True, slots=True)
class Candidates:
    """Masks that SAM offers for N objects.

    Attributes:
        logits: ``(N, K, H', W')`` float32, from the first row and column of SAM's square on: all of
            it, or the part that the frame covers and at least one mask pixel more.
        predicted_iou: ``(N, K)`` float32, SAM's IoU predictions; the HQ token has none of its own.
    """

    logits: Tensor
    predicted_iou: Tensor


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


class PromptedDecoder(Protocol):
    """What the refiner asks of a network with prompts.

    Attributes:
        side: Side of its square input in pixels.
        mask_side: Side of its low-resolution masks in pixels.
    """

    side: int
    mask_side: int

    def precompute(self, embedding: Any, geometry: SamGeometry) -> Any:  # noqa: ANN401
        """Compute what all objects of a frame share."""

    def __call__(self, cache: Any, prompts: Prompts, *, multimask: bool) -> Candidates:  # noqa: ANN401
        """Decode N objects: K = 3 candidates of each, or 1."""


class ReferenceDecoder(nn.Module):
    """The package's modules as they are.

    Args:
        decoder: The package's ``MaskDecoder`` or ``MaskDecoderHQ``.
        prompt_encoder: The package's ``PromptEncoder``.
        hq_output: An HQ decoder's masks: SAM's plus the HQ token's, or the latter alone, which is
            one mask under each of SAM's scores. A plain decoder has only SAM's.
    """

    def __init__(
        self, decoder: nn.Module, prompt_encoder: nn.Module, *, hq_output: HQOutput = "sum"
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.prompt_encoder = prompt_encoder
        self.hq_output = hq_output
        self.side, self.mask_side = input_sides(prompt_encoder)

    def precompute(self, embedding: ImageEmbedding, geometry: SamGeometry) -> ImageEmbedding:
        """Return the embedding: nothing is computed ahead."""
        return embedding

    def forward(self, cache: ImageEmbedding, prompts: Prompts, *, multimask: bool) -> Candidates:
        """Decode the prompts of N objects, N at least 1, in one call.

        Args:
            cache: SAM's image embedding of the frame.
            prompts: Boxes, and masks and points if there are any.
            multimask: True for SAM's three masks, False for its single one.

        Returns:
            K = 3 candidates of each object, or 1.
        """
        chosen = MULTIMASK if multimask else SINGLE
        masks = decode_masks(self.decoder, cache, encode_prompts(self.prompt_encoder, prompts))
        logits = masks.sam[:, chosen]
        if masks.hq is not None:
            is_sum = self.hq_output == "sum"
            logits = logits + masks.hq if is_sum else masks.hq.expand_as(logits)
        return Candidates(logits, masks.predicted_iou[:, chosen])


def decode_masks(
    decoder: nn.Module, embedding: ImageEmbedding, prompts: EncodedPrompts
) -> DecodedMasks:
    """Run the mask decoder once and return every mask that it makes, apart from each other.

    Args:
        decoder: The package's ``MaskDecoder`` or ``MaskDecoderHQ``.
        embedding: SAM's image embedding of the frame.
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
        embedding: SAM's image embedding of the frame.

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
