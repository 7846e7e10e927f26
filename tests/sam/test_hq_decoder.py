"""HQ decoders: the HQ token alone, and every rule of choice among the sums."""

from __future__ import annotations

import pytest
import torch
from predictors import (
    ALL_KINDS,
    FRAME,
    MASK_LOGIT,
    ROUNDING,
    assert_same,
    embedding_of,
    geometry_of,
    make_coarse,
    make_refiner,
    one_by_one,
)

from vots_hqtrack.build import load_sam
from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.config import CandidateChoice, HQOutput, PromptKind, RefinerConfig
from vots_hqtrack.masks import mask_iou
from vots_hqtrack.sam.models import SamPredictor, build_sam
from vots_hqtrack.sam.prompts import make_prompts, prompt_masks
from vots_hqtrack.sam.refiner import build_refiner
from vots_hqtrack.types import Size


@pytest.mark.parametrize("choice", ["single", "predicted_iou"])
def test_the_hq_tokens_mask_alone_equals_the_predictors(
    hq_predictor: SamPredictor, choice: CandidateChoice
) -> None:
    coarse, multimask = make_coarse(), choice != "single"
    refiner = make_refiner(hq_predictor, "box", choice, hq_output="hq")
    alone = refiner.refine(embedding_of(hq_predictor), coarse)
    summed = make_refiner(hq_predictor, "box", choice).refine(embedding_of(hq_predictor), coarse)
    own = one_by_one(hq_predictor, coarse, "box", multimask=multimask, hq_token_only=True)
    for row, (logits, scores, _) in enumerate(own):
        assert_same(alone, row, logits[0], scores[0].item())
    assert not torch.equal(alone.masks, summed.masks)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_coarse_iou_chooses_among_an_hq_decoders_sums(
    hq_predictor: SamPredictor, kind: PromptKind
) -> None:
    """Against the decoder's own parts, object by object: the predictor keeps one candidate."""
    coarse, geometry = make_coarse(), geometry_of(hq_predictor)
    refiner = make_refiner(hq_predictor, kind, "coarse_iou")
    refinement = refiner.refine(embedding_of(hq_predictor), coarse)
    wanted = prompt_masks(coarse, geometry, mask_logit=1.0) > 0
    height = 144  # cells that the 90 x 160 frame covers
    by_score = []
    for row, (logits, scores, low) in enumerate(
        _all_sums(hq_predictor, coarse, kind, geometry.input_size)
    ):
        inside, target = low[:, :height] > 0, wanted[row, :, :height]
        iou = (inside & target).sum(dim=(1, 2)) / (inside | target).sum(dim=(1, 2))
        pick = int(iou.argmax())
        by_score.append(pick == int(scores.argmax()))
        assert_same(refinement, row, logits[pick], scores[pick].item())
    if kind == "box":
        assert False in by_score, "the rule never differs from the predicted IoU"


def _all_sums(
    predictor: SamPredictor, coarse: torch.Tensor, kind: PromptKind, input_size: Size
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """For each object SAM's three masks plus the HQ token's, as the package's parts give them."""
    sam, found = predictor.model, []
    decoder = sam.mask_decoder
    early = predictor.interm_features[0].permute(0, 3, 1, 2)
    features = decoder.embedding_encoder(predictor.features) + decoder.compress_vit_feat(early)
    for mask in coarse:
        prompts = make_prompts(mask[None], geometry_of(predictor), kind=kind, mask_logit=MASK_LOGIT)
        points = None
        if prompts.points is not None:
            points = prompts.points, torch.ones(1, 1, dtype=torch.int)
        sparse, dense = sam.prompt_encoder(points=points, boxes=prompts.boxes, masks=prompts.masks)
        pe = sam.prompt_encoder.get_dense_pe()
        masks, scores = decoder.predict_masks(predictor.features, pe, sparse, dense, features)
        low = masks[:, 1:4] + masks[:, 4:]
        fine = sam.postprocess_masks(low, tuple(input_size), tuple(FRAME))
        found.append((fine[0], scores[0, 1:4], low[0]))
    return found


def test_the_untrained_hq_token_changes_sams_own_masks(
    random_predictor: SamPredictor, hq_predictor: SamPredictor
) -> None:
    """Why the plain decoder exists: the same weights with an HQ token attend differently."""
    plain, hq = random_predictor.model, hq_predictor.model
    shared = {name: value for name, value in plain.mask_decoder.state_dict().items()}
    with_token = build_sam("vit_tiny", hq=True)
    with_token.prompt_encoder.load_state_dict(plain.prompt_encoder.state_dict())
    load_into(
        with_token.mask_decoder,
        {**hq.mask_decoder.state_dict(), **shared},
        source="plain weights and an HQ head",
    )
    embedding = embedding_of(random_predictor)
    sparse, dense = plain.prompt_encoder(
        points=None, boxes=torch.tensor([[100.0, 100.0, 400.0, 300.0]]), masks=None
    )
    arguments = (embedding.embedding, plain.prompt_encoder.get_dense_pe(), sparse, dense)
    own, _ = plain.mask_decoder.predict_masks(*arguments)
    hq_features = torch.zeros(1, 32, 256, 256)
    changed, _ = with_token.mask_decoder.predict_masks(*arguments, hq_features)
    assert (own - changed[:, :4]).abs().max() > 10 * ROUNDING


@pytest.mark.weights
def test_the_shipped_head_makes_an_hq_sam_of_the_tiny_sam() -> None:
    sam = load_sam(RefinerConfig(hq=True))
    shipped = load_weights("hq-head-vit-tiny")
    plain = build_sam("vit_tiny").state_dict()
    assert set(shipped) == set(sam.state_dict()) - set(plain)
    assert sum(value.numel() for value in shipped.values()) == 448_512
    token = sam.mask_decoder.hf_token.weight
    assert torch.equal(token, shipped["mask_decoder.hf_token.weight"].float())


@pytest.mark.weights
@pytest.mark.parametrize("output", ["sum", "hq"])
def test_the_shipped_head_mends_a_coarse_mask(
    trained_predictor: SamPredictor, output: HQOutput
) -> None:
    """A rectangle seen through VMOS's cells and shifted by three pixels, on a frame of 90 x 160."""
    truth = torch.zeros(1, *FRAME, dtype=torch.bool)
    truth[0, 20:50, 30:70] = True
    coarse = torch.zeros_like(truth)
    coarse[0, 23:53, 27:67] = True
    refiner = build_refiner(
        RefinerConfig(hq=True, hq_output=output), load_sam(RefinerConfig(hq=True))
    )
    refined = refiner.refine(embedding_of(trained_predictor), coarse).masks
    before, after = mask_iou(truth, coarse).item(), mask_iou(truth, refined).item()
    assert before < 0.8
    assert after > before + 0.15, "0.71 became 0.89 (sum) and more (token) when the head was made"
