"""SAM's mask decoder, asked for every mask that it has for N objects of one frame.

The package's HQ decoder adds its HQ token's mask to the one SAM mask that it picks itself. Here its
parts are called one by one, so that whoever asks can pick by another rule; sum and order of
operations are the package's, so the masks are the same to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vots_hqtrack.config import HQOutput
from vots_hqtrack.refiner.models import MaskDecoderHQ
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
        logits: ``(N, K, mask_side, mask_side)`` float32.
        predicted_iou: ``(N, K)`` float32, SAM's own opinion of its masks; the HQ token has none of
            its own.
    """

    logits: Tensor
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
    parts: Any = decoder
    arguments = {
        "image_embeddings": embedding.embedding.float(),
        "image_pe": prompts.image_pe,
        "sparse_prompt_embeddings": prompts.sparse,
        "dense_prompt_embeddings": prompts.dense,
    }
    if not isinstance(decoder, MaskDecoderHQ):
        masks, scores = parts.predict_masks(**arguments)
        return Candidates(masks[:, chosen].float(), scores[:, chosen].float())
    masks, scores = parts.predict_masks(**arguments, hq_features=hq_features(decoder, embedding))
    sam, hq = masks[:, chosen], masks[:, -1:]
    logits = sam + hq if hq_output == "sum" else hq.expand_as(sam)
    return Candidates(logits.float(), scores[:, chosen].float())


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
