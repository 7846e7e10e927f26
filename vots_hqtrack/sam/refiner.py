"""Coarse masks and the frame's SAM embedding in, sharp masks out (paper section 2.2).

The frame is encoded once, elsewhere; here run SAM's prompt encoder and mask decoder, for all
objects in one batch. The module holds no data of a frame or video.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.config import CandidateChoice, HQOutput, PromptKind, RefinerConfig
from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.masks import check_mask_stack, has_pixels
from vots_hqtrack.sam.candidates import (
    Candidates,
    decode_candidates,
    encode_prompts,
    encode_tokens,
)
from vots_hqtrack.sam.components import clean_logits
from vots_hqtrack.sam.fused_decoder import DecoderView, FusedMaskDecoder
from vots_hqtrack.sam.geometry import SamGeometry, masks_in_frame, scale_points
from vots_hqtrack.sam.models import Sam
from vots_hqtrack.sam.prompts import Prompts, make_prompts, prompt_masks
from vots_hqtrack.types import ImageEmbedding, Size

MASK_LOGIT = 20.0
"""Confidence of the mask prompt, in logits: on DAVIS frames 4 is clearly worse, 48 no better."""

OBJECTS_PER_CALL = 16
"""Objects that one decoder call takes: it needs about 45 MB each, and gains nothing from more."""


@dataclass(frozen=True, slots=True)
class Refinement:
    """The refiner's masks of N objects.

    Attributes:
        masks: ``(N, H, W)`` bool, frame pixels.
        predicted_iou: ``(N,)`` float32 in ``[0, 1]``: SAM's own opinion of each mask, 0 where the
            coarse mask was empty.
    """

    masks: Tensor
    predicted_iou: Tensor


class MaskRefiner(nn.Module):
    """SAM's or HQ-SAM's mask decoder, prompted with coarse masks."""

    def __init__(
        self,
        prompt_encoder: nn.Module,
        mask_decoder: nn.Module,
        *,
        prompt: PromptKind = "box+mask+point",
        choice: CandidateChoice = "single",
        hq_output: HQOutput = "sum",
        fill_holes: bool = False,
        drop_islands: bool = False,
        mask_logit: float = MASK_LOGIT,
        objects_per_call: int = OBJECTS_PER_CALL,
    ) -> None:
        """Take over the two modules of a ``Sam``.

        Args:
            prompt_encoder: The package's ``PromptEncoder``.
            mask_decoder: The package's ``MaskDecoder`` or ``MaskDecoderHQ``, or either of them
                prepared.
            prompt: What SAM is told of a coarse mask.
            choice: Which of SAM's candidates is taken: of its three, the one that it deems best or
                the one most like the coarse mask; or its ``single`` mask for clear prompts.
            hq_output: What an HQ decoder's candidates are: SAM's mask and the HQ token's, summed,
                or the latter alone.
            fill_holes: Fill holes of SAM's masks that VMOS's masks do not have.
            drop_islands: Drop parts of SAM's masks that are far from VMOS's masks.
            mask_logit: Confidence of the mask prompt, in logits.
            objects_per_call: Objects in one decoder call, at most.
        """
        super().__init__()
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.prompt = prompt
        self.choice = choice
        self.hq_output = hq_output
        self.fill_holes = fill_holes
        self.drop_islands = drop_islands
        self.mask_logit = mask_logit
        self.objects_per_call = objects_per_call

    def forward(self, embedding: ImageEmbedding, coarse: Tensor) -> Refinement:
        """Same as `refine`."""
        return self.refine(embedding, coarse)

    @torch.no_grad()
    def refine(self, embedding: ImageEmbedding, coarse: Tensor) -> Refinement:
        """Refine the masks of N objects.

        Args:
            embedding: SAM's view of the frame.
            coarse: ``(N, H, W)`` bool, frame pixels.

        Returns:
            Masks in the same order. An empty coarse mask stays empty: there is nothing to prompt
            with.

        Raises:
            ShapeError: The masks are not bool ``(N, H, W)`` of the frame's size.
        """
        check_mask_stack(coarse)
        if tuple(coarse.shape[1:]) != tuple(embedding.frame_size):
            got = Size(coarse.shape[1], coarse.shape[2])
            raise ShapeError(
                f"masks to refine must have the frame size {embedding.frame_size}, got {got}"
            )
        masks = torch.zeros_like(coarse)
        predicted_iou = torch.zeros(len(coarse), device=coarse.device)
        present = has_pixels(coarse).nonzero().flatten()
        geometry = self._geometry(embedding)
        view = self._view(embedding, geometry) if len(present) else None
        # Splitting nothing would give one empty part, which SAM's decoder cannot take.
        for rows in torch.split(present, self.objects_per_call) if len(present) else ():
            part = coarse[rows]
            prompts = make_prompts(part, geometry, kind=self.prompt, mask_logit=self.mask_logit)
            found = self._decode(embedding, view, prompts, multimask=self.choice != "single")
            best = self._choose(found, part, geometry)
            picked = torch.arange(len(rows), device=rows.device), best
            logits = self._clean(found.logits[picked], part, prompts.masks, geometry)
            masks[rows] = masks_in_frame(logits, geometry)
            predicted_iou[rows] = found.predicted_iou[picked].clamp(0, 1)
        return Refinement(masks, predicted_iou)

    @torch.no_grad()
    def segment_box(
        self, embedding: ImageEmbedding, box: tuple[float, float, float, float]
    ) -> Tensor:
        """Segment what a box encloses; of SAM's three candidates the one that it deems best.

        Args:
            embedding: SAM's view of the frame.
            box: ``(x, y, width, height)`` in frame pixels, pixel edges; cut to the frame.

        Returns:
            ``(H, W)`` bool, frame pixels.

        Raises:
            InputError: The box is not finite, or encloses no pixel of the frame.
        """
        geometry = self._geometry(embedding)
        corners = torch.tensor([_box_corners(box, embedding.frame_size)], dtype=torch.float64)
        boxes = scale_points(corners.view(1, 2, 2), geometry).view(1, 4)
        prompts = Prompts(boxes.to(embedding.embedding.device))
        view = self._view(embedding, geometry)
        found = self._decode(embedding, view, prompts, multimask=True)
        best = int(found.predicted_iou[0].argmax())
        return masks_in_frame(found.logits[:, best], geometry)[0]

    def _geometry(self, embedding: ImageEmbedding) -> SamGeometry:
        encoder: Any = self.prompt_encoder
        return SamGeometry(
            frame_size=embedding.frame_size,
            input_size=embedding.input_size,
            side=encoder.input_image_size[0],
            mask_side=encoder.mask_input_size[0],
        )

    def _view(self, embedding: ImageEmbedding, geometry: SamGeometry) -> DecoderView | None:
        """Compute what a prepared decoder needs once a frame."""
        decoder = self.mask_decoder
        if not isinstance(decoder, FusedMaskDecoder):
            return None
        return decoder.view(embedding, geometry)

    def _decode(
        self,
        embedding: ImageEmbedding,
        view: DecoderView | None,
        prompts: Prompts,
        *,
        multimask: bool,
    ) -> Candidates:
        """Run SAM's prompt encoder and decoder on the prompts of N objects."""
        if view is not None:
            tokens = encode_tokens(self.prompt_encoder, prompts)
            found: Candidates = self.mask_decoder(
                view, tokens, prompts.masks, multimask=multimask, hq_output=self.hq_output
            )
            return found
        encoded = encode_prompts(self.prompt_encoder, prompts)
        return decode_candidates(
            self.mask_decoder, embedding, encoded, multimask=multimask, hq_output=self.hq_output
        )

    def _clean(
        self, logits: Tensor, coarse: Tensor, given: Tensor | None, geometry: SamGeometry
    ) -> Tensor:
        """Fill holes and drop islands of the chosen masks, ``(N, H', W')`` low-resolution logits.

        ``given`` are the mask prompts, or None where there are none.
        """
        if not (self.fill_holes or self.drop_islands):
            return logits
        if given is None:
            given = prompt_masks(coarse, geometry, mask_logit=1.0)
        height, width = logits.shape[1:]
        return clean_logits(
            logits,
            given[:, 0, :height, :width] > 0,
            geometry.covered,
            fill_holes=self.fill_holes,
            drop_islands=self.drop_islands,
        )

    def _choose(self, found: Candidates, coarse: Tensor, geometry: SamGeometry) -> Tensor:
        """Return ``(N,)`` int64, which of the K candidates of each object to take."""
        if self.choice != "coarse_iou":
            return found.predicted_iou.argmax(dim=1)
        wanted = prompt_masks(coarse, geometry, mask_logit=1.0) > 0
        height, width = geometry.covered
        inside = found.logits[..., :height, :width] > 0
        wanted = wanted[..., :height, :width]
        intersection = (inside & wanted).sum(dim=(2, 3))
        union = (inside | wanted).sum(dim=(2, 3)).clamp(min=1)
        return (intersection / union).argmax(dim=1)


def build_refiner(config: RefinerConfig, sam: Sam) -> MaskRefiner:
    """Build the refiner that a configuration describes, on the modules of a ``Sam``.

    Args:
        config: Which prompts to give and which candidate to take.
        sam: Network with its weights; its prompt encoder and mask decoder are used in place.
    """
    return MaskRefiner(
        sam.prompt_encoder,
        sam.mask_decoder,
        prompt=config.prompt,
        choice=config.choice,
        hq_output=config.hq_output,
        fill_holes=config.fill_holes,
        drop_islands=config.drop_islands,
    )


def _box_corners(box: tuple[float, float, float, float], size: Size) -> list[float]:
    """Return a box's part in the frame as ``xyxy`` pixel indices, maxima inclusive."""
    x, y, width, height = box
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + width, float(size.width)), min(y + height, float(size.height))
    finite = all(math.isfinite(value) for value in box)
    if not finite or right - left < 1 or bottom - top < 1:
        raise InputError(
            f"a box must be x, y, width, height in pixels and enclose a part of the {size} frame, "
            f"got {', '.join(f'{value:g}' for value in box)}"
        )
    return [left, top, right - 1, bottom - 1]
