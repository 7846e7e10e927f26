"""SAM's and HQ-SAM's mask decoder made ready for inference: the same masks at a part of the cost.

What does not depend on an object is computed once a frame. What is linear between a map and the
token that reads it is moved to the token's side: HQ-SAM's last convolutions never run, because
their weights times the token are a kernel with one output. Only the part of SAM's square where the
frame lies is brought to the masks' resolution, and only for the masks that are asked for. Weights
have the format that they are multiplied in; autocast has no say.

The package's own modules, walked by `sam.candidates`, are the reference.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.config import HQOutput
from vots_hqtrack.sam.candidates import SEVERAL, SINGLE, Candidates
from vots_hqtrack.sam.dense_prompts import DensePrompts
from vots_hqtrack.sam.fused_transformer import FusedTwoWayTransformer
from vots_hqtrack.sam.geometry import SamGeometry
from vots_hqtrack.sam.hq_head import FusedHQHead
from vots_hqtrack.sam.models import MaskDecoderHQ
from vots_hqtrack.sam.upscale import TransposedConv
from vots_hqtrack.types import ImageEmbedding, Size

UPSCALING = 4
"""Cells of a mask along one of the embedding."""
REACH = 2
"""Mask cells beyond its own that HQ-SAM's convolutions read for one."""


@dataclass(frozen=True, slots=True)
class DecoderView:
    """What the decoder reads of one frame, for all objects.

    Attributes:
        cells: ``(H' W', 256)`` float, the embedding row by row.
        grid: Size of the embedding in cells.
        needed: The part of it, from its first row and column, that the frame's masks come from.
        hq: ``(4 rows columns, C)`` float of that part, for the HQ head; None without one.
    """

    cells: Tensor
    grid: Size
    needed: Size
    hq: Tensor | None


class FusedMaskDecoder(nn.Module):
    """The package's ``MaskDecoder`` or ``MaskDecoderHQ``, and its prompt encoder's mask part.

    Args:
        decoder: In evaluation mode; it is not changed.
        prompt_encoder: The package's ``PromptEncoder``.
        dtype: Format of weights and maps.
    """

    def __init__(self, decoder: nn.Module, prompt_encoder: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        source: Any = decoder
        encoder: Any = prompt_encoder
        self.dtype = dtype
        self.transformer = FusedTwoWayTransformer(source.transformer, encoder.get_dense_pe(), dtype)
        tokens = [source.iou_token.weight, source.mask_tokens.weight]
        if isinstance(decoder, MaskDecoderHQ):
            tokens.append(source.hf_token.weight)
        self.tokens = nn.Parameter(torch.cat(tokens).detach(), requires_grad=False)
        self.finer = TransposedConv(source.output_upscaling[0], source.output_upscaling[1])
        self.finest = TransposedConv(source.output_upscaling[3])
        self.readers = copy.deepcopy(source.output_hypernetworks_mlps)
        self.scorer = copy.deepcopy(source.iou_prediction_head)
        self.requires_grad_(False).to(dtype)
        # These two keep some of their weights in float32.
        self.prompts = DensePrompts(prompt_encoder, dtype)
        is_hq = isinstance(decoder, MaskDecoderHQ)
        self.head = FusedHQHead(decoder, dtype) if is_hq else None

    def view(self, embedding: ImageEmbedding, geometry: SamGeometry) -> DecoderView:
        """Compute what all objects of a frame share.

        Args:
            embedding: SAM's view of the frame.
            geometry: Where the frame lies in SAM's input.
        """
        grid = Size(*embedding.embedding.shape[-2:])
        with torch.autocast(embedding.embedding.device.type, enabled=False):
            cells = embedding.embedding.to(self.dtype).flatten(2).transpose(1, 2)[0]
            needed = _needed(geometry, grid)
            hq = None if self.head is None else self.head.view(embedding, needed)
        return DecoderView(cells.contiguous(), grid, needed, hq)

    def forward(
        self,
        view: DecoderView,
        sparse: Tensor,
        masks: Tensor | None,
        *,
        multimask: bool,
        hq_output: HQOutput = "sum",
    ) -> Candidates:
        """Decode the prompts of N objects, N at least 1.

        Args:
            view: Of the frame.
            sparse: ``(N, K, 256)`` float, tokens of boxes and points.
            masks: ``(N, 1, mask_side, mask_side)`` float32 logits, or None.
            multimask: True for SAM's three masks, False for its single one.
            hq_output: An HQ decoder's masks: SAM's plus the HQ token's, or the latter alone.

        Returns:
            3 candidates of each object, or 1. The logits end a little behind the frame.
        """
        places = range(*(SEVERAL if multimask else SINGLE).indices(len(self.readers)))
        with torch.autocast(sparse.device.type, enabled=False):
            cells = self.prompts(view.cells, masks, len(sparse))
            tokens = self.tokens.expand(len(sparse), -1, -1)
            wanted = [0, *(1 + place for place in places)]
            if self.head is not None:
                wanted.append(tokens.shape[1] - 1)
            tokens, cells = self.transformer(
                cells, torch.cat([tokens, sparse.to(self.dtype)], dim=1), wanted
            )
            scores = self.scorer(tokens[:, 0])[:, list(places)].float()
            fine = self._upscale(cells, view)
            readers = [
                self.readers[place](tokens[:, row]) for row, place in enumerate(places, start=1)
            ]
            logits = _read(fine, torch.stack(readers, dim=1))
            if self.head is not None and view.hq is not None:
                own = self.head(view.hq, fine, tokens[:, -1])
                logits = logits + own if hq_output == "sum" else own.expand_as(logits)
        return Candidates(logits, scores)

    def _upscale(self, cells: Tensor, view: DecoderView) -> Tensor:
        """Bring the needed cells to the masks' resolution: ``(N, 32, 4 rows, 4 columns)``."""
        rows, columns = view.needed
        part = cells.unflatten(1, tuple(view.grid))[:, :rows, :columns].contiguous()
        fine: Tensor = self.finest(self.finer(part.permute(0, 3, 1, 2)))
        return fine


def prepare_decoder(sam: nn.Module, dtype: torch.dtype) -> None:
    """Put a prepared mask decoder in the place of a ``Sam``'s own.

    Args:
        sam: The package's, with its weights.
        dtype: Format of the decoder.
    """
    parts: Any = sam
    parts.mask_decoder = FusedMaskDecoder(parts.mask_decoder, parts.prompt_encoder, dtype)


def _read(fine: Tensor, tokens: Tensor) -> Tensor:
    """Read ``(N, C, H', W')`` maps by ``(N, K, C)`` tokens: ``(N, K, H', W')`` float32."""
    planes = tokens @ fine.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)
    return planes.view(*tokens.shape[:2], *fine.shape[-2:]).float()


def _needed(geometry: SamGeometry, grid: Size) -> Size:
    """Return the rows and columns of the embedding that the masks inside the frame come from."""
    # Interpolation to the frame reads one mask cell beyond it, and the HQ head's convolutions more.
    rows, columns = (
        min(-(-(side + 1 + REACH) // UPSCALING), whole)
        for side, whole in zip(geometry.covered, grid, strict=True)
    )
    return Size(rows, columns)
