"""The refiner on SAM's larger networks, with seeded random weights, against their own predictor."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from reference_sam import ReferenceDecoder, narrow_sam

from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.frame import plan_frame
from vots_hqtrack.sam.embed import OwnEmbedder
from vots_hqtrack.sam.geometry import SamGeometry
from vots_hqtrack.sam.models import Sam, SamPredictor, build_sam
from vots_hqtrack.sam.prompts import make_prompts
from vots_hqtrack.sam.refiner import SamRefiner
from vots_hqtrack.types import FrameFeatures, ImageEmbedding, Size

FRAME = Size(120, 160)
NO_FEATURES = FrameFeatures(*3 * (torch.zeros(1, 1, 1, 1),))
ROUNDING = 1e-3
"""Of a mask logit, by batching; the logits here reach 100 and more."""


@cache
def _sam(model: str, *, hq: bool) -> Sam:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        sam = narrow_sam(hq=hq) if model == "narrow" else build_sam(model, hq=hq)
        with torch.no_grad():
            for parameter in sam.mask_decoder.parameters():
                parameter.add_(torch.randn(parameter.shape), alpha=0.05)
    return sam.requires_grad_(False)


def _initial() -> torch.Tensor:
    initial = torch.zeros(3, *FRAME, dtype=torch.bool)
    initial[0, 22:58, 32:72] = True
    initial[1, 60:, 88:] = True
    initial[2, 10:14, 5:12] = True
    return initial


def _random_embedding(sam: Sam) -> ImageEmbedding:
    generator = torch.Generator().manual_seed(3)
    channels = sam.mask_decoder.compress_vit_feat[0].in_channels
    return ImageEmbedding(
        embedding=torch.randn(1, 256, 64, 64, generator=generator),
        early=torch.randn(1, 64, 64, channels, generator=generator),
        input_size=plan_frame(FRAME).input_size,
        frame_size=FRAME,
    )


def _predictor(sam: Sam, embedding: ImageEmbedding) -> SamPredictor:
    predictor = SamPredictor(sam)
    predictor.features = embedding.embedding
    predictor.interm_features = [embedding.early]
    predictor.input_size = tuple(embedding.input_size)
    predictor.original_size = tuple(embedding.frame_size)
    predictor.is_image_set = True
    return predictor


def _one_by_one(predictor: SamPredictor, *, multimask: bool) -> Iterator[torch.Tensor]:
    """Yield each object's best mask logits ``(H, W)``."""
    geometry = SamGeometry(FRAME, Size(*predictor.input_size), side=1024, mask_side=256)
    for mask in _initial():
        prompts = make_prompts(mask[None], geometry, kind="box", mask_logit=12.0)
        logits, scores, _ = predictor.predict_torch(
            None, None, boxes=prompts.boxes, multimask_output=multimask, return_logits=True
        )
        yield logits[0, int(scores[0].argmax())]


def _check(sam: Sam, embedding: ImageEmbedding, predictor: SamPredictor) -> None:
    partly = 0
    for multimask in (False, True):
        refiner = SamRefiner(
            ReferenceDecoder(sam),
            prompt="box",
            choice="predicted_iou" if multimask else "single",
        )
        masks = refiner.refine(embedding, _initial()).masks
        for mask, logits in zip(masks, _one_by_one(predictor, multimask=multimask), strict=True):
            differs = mask != (logits > 0)
            assert not (differs & (logits.abs() > ROUNDING)).any()
            partly += int(0 < mask.sum() < mask.numel())
    assert partly, "no mask has an inside and an outside: nothing was compared"


def test_vit_b_batched_masks_equal_the_predictors() -> None:
    sam = _sam("vit_b", hq=True)
    embedding = _random_embedding(sam)
    _check(sam, embedding, _predictor(sam, embedding))


@pytest.mark.parametrize(
    ("model", "hq"),
    [
        ("narrow", True),
        *(
            pytest.param(model, hq, marks=pytest.mark.large)
            for model in ("vit_b", "vit_l", "vit_h")
            for hq in (False, True)
        ),
    ],
)
def test_whole_network_from_frame_to_masks(model: str, hq: bool) -> None:
    """The frame encoder's one walk and the batched decoder, against the predictor's own way."""
    sam = _sam(model, hq=hq)
    frame = np.random.default_rng(1).integers(0, 256, (*FRAME, 3), dtype=np.uint8)
    embed = OwnEmbedder(sam.image_encoder)
    geometry = plan_frame(FRAME)
    predictor = SamPredictor(sam)
    with torch.inference_mode():
        embedding = embed(EncodedFrame(frame, geometry, NO_FEATURES))
        predictor.set_image(frame)
    torch.testing.assert_close(embedding.embedding, predictor.features, atol=1e-4, rtol=1e-4)
    _check(sam, embedding, predictor)
