"""The package's own predictor, which the refiner must agree with, on a drawn frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference_sam import ReferenceDecoder

from vots_hqtrack.config import CandidateChoice, HQOutput, PromptKind
from vots_hqtrack.refiner import Refinement
from vots_hqtrack.sam.geometry import SamGeometry
from vots_hqtrack.sam.models import Sam, SamPredictor
from vots_hqtrack.sam.prompts import make_prompts
from vots_hqtrack.sam.refiner import SamRefiner
from vots_hqtrack.types import ImageEmbedding, Size

FRAME = Size(90, 160)
ALL_KINDS: tuple[PromptKind, ...] = ("box", "box+mask", "box+mask+point")
MASK_LOGIT = 12.0
ROUNDING = 1e-3
"""Largest change of a mask logit by batching: 2.3e-4 was seen, at logits of up to 215."""


def make_frame() -> np.ndarray:
    rows, columns = np.mgrid[: FRAME.height, : FRAME.width]
    frame = np.stack([rows * 2, columns, (rows * columns) % 256], axis=2).astype(np.uint8)
    frame[20:50, 30:70] = (250, 20, 20)
    frame[40:80, 90:150] = (10, 200, 40)
    return frame


def make_initial() -> torch.Tensor:
    """Three objects: one inside, one over the frame's corner, one of two pixels."""
    initial = torch.zeros(3, *FRAME, dtype=torch.bool)
    initial[0, 22:48, 32:72] = True
    initial[1, 45:, 88:] = True
    initial[2, 10, 5:7] = True
    return initial


def make_predictor(sam: Sam, embedded: SamPredictor | None = None) -> SamPredictor:
    predictor = SamPredictor(sam)
    if embedded is None:
        predictor.set_image(make_frame())
    else:  # another decoder on the same embedding
        for name in ("features", "interm_features", "original_size", "input_size", "is_image_set"):
            setattr(predictor, name, getattr(embedded, name))
    return predictor


def embedding_of(predictor: SamPredictor) -> ImageEmbedding:
    return ImageEmbedding(
        embedding=predictor.features,
        early=predictor.interm_features[0],
        input_size=Size(*predictor.input_size),
        frame_size=Size(*predictor.original_size),
    )


def shake(sam: Sam) -> Sam:
    """Make random weights give masks with insides and outsides: larger mask tokens do."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in sam.mask_decoder.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(parameter + 0.05 * noise)
    return sam.requires_grad_(False)


def make_refiner(
    predictor: SamPredictor,
    prompt: PromptKind = "box+mask+point",
    choice: CandidateChoice = "single",
    objects_per_call: int = 16,
    hq_output: HQOutput = "sum",
) -> SamRefiner:
    return SamRefiner(
        ReferenceDecoder(predictor.model, hq_output=hq_output),
        prompt=prompt,
        choice=choice,
        mask_logit=MASK_LOGIT,
        objects_per_call=objects_per_call,
    )


def geometry_of(predictor: SamPredictor) -> SamGeometry:
    return SamGeometry(FRAME, Size(*predictor.input_size), side=1024, mask_side=256)


def one_by_one(
    predictor: SamPredictor,
    initial: torch.Tensor,
    kind: PromptKind,
    *,
    multimask: bool,
    hq_token_only: bool = False,
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """For each object the predictor's logits ``(K, H, W)``, scores ``(K,)``, small logits."""
    found = []
    for mask in initial:
        prompts = make_prompts(mask[None], geometry_of(predictor), kind=kind, mask_logit=MASK_LOGIT)
        labels = None if prompts.points is None else torch.ones(1, 1, dtype=torch.int)
        logits, scores, low = predictor.predict_torch(
            prompts.points,
            labels,
            boxes=prompts.boxes,
            mask_input=prompts.masks,
            multimask_output=multimask,
            return_logits=True,
            hq_token_only=hq_token_only,
        )
        found.append((logits[0], scores[0], low[0]))
    return found


def assert_same(refinement: Refinement, row: int, logits: torch.Tensor, score: float) -> None:
    differs = refinement.masks[row] != (logits > 0)
    assert not (differs & (logits.abs() > ROUNDING)).any()
    assert differs.sum() <= 2
    assert refinement.predicted_iou[row].item() == pytest.approx(min(max(score, 0), 1), abs=1e-4)


def check_against_predictor(predictor: SamPredictor, kind: PromptKind) -> None:
    initial = make_initial()
    single = make_refiner(predictor, kind, "single").refine(embedding_of(predictor), initial)
    best = make_refiner(predictor, kind, "predicted_iou").refine(embedding_of(predictor), initial)
    seen = 0
    for row, (logits, scores, _) in enumerate(
        one_by_one(predictor, initial, kind, multimask=False)
    ):
        assert_same(single, row, logits[0], scores[0].item())
        seen += int(0 < single.masks[row].sum() < single.masks[row].numel())
    for row, (logits, scores, _) in enumerate(one_by_one(predictor, initial, kind, multimask=True)):
        first = int(scores.argmax())
        assert_same(best, row, logits[first], scores[first].item())
    assert seen, "no mask has an inside and an outside: nothing was compared"
