"""HQ decoders: the HQ token alone, and every rule of choice among the sums."""

from __future__ import annotations

import pytest
import torch
from predictors import (
    FRAME,
    ROUNDING,
    assert_same,
    embedding_of,
    make_initial,
    make_refiner,
    one_by_one,
)
from reference_sam import reference_refiner

from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.config import CandidateChoice, HQOutput, RefinerConfig
from vots_hqtrack.masks import mask_iou
from vots_hqtrack.sam.models import Sam, SamPredictor, build_sam
from vots_hqtrack.sam.weights import load_sam_weights


@pytest.mark.parametrize("choice", ["single", "predicted_iou"])
def test_the_hq_tokens_mask_alone_equals_the_predictors(
    hq_predictor: SamPredictor, choice: CandidateChoice
) -> None:
    initial, multimask = make_initial(), choice != "single"
    refiner = make_refiner(hq_predictor, "box", choice, hq_output="hq")
    alone = refiner.refine(embedding_of(hq_predictor), initial)
    summed = make_refiner(hq_predictor, "box", choice).refine(embedding_of(hq_predictor), initial)
    own = one_by_one(hq_predictor, initial, "box", multimask=multimask, hq_token_only=True)
    for row, (logits, scores, _) in enumerate(own):
        assert_same(alone, row, logits[0], scores[0].item())
    assert not torch.equal(alone.masks, summed.masks)


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


@pytest.fixture(scope="module")
def shipped_hq_sam() -> Sam:
    config, sam = RefinerConfig(hq=True), build_sam("vit_tiny", hq=True)
    tensors = load_sam_weights(config.weights, hq=True, head=config.head)
    load_into(sam, tensors, source=config.weights)
    return sam


@pytest.mark.weights
def test_the_shipped_head_makes_an_hq_sam_of_the_tiny_sam(shipped_hq_sam: Sam) -> None:
    sam = shipped_hq_sam
    shipped = load_weights("hq-head-vit-tiny")
    plain = build_sam("vit_tiny").state_dict()
    assert set(shipped) == set(sam.state_dict()) - set(plain)
    assert sum(value.numel() for value in shipped.values()) == 448_512
    token = sam.mask_decoder.hf_token.weight
    assert torch.equal(token, shipped["mask_decoder.hf_token.weight"].float())


@pytest.mark.weights
@pytest.mark.parametrize("output", ["sum", "hq"])
def test_the_shipped_head_mends_an_initial_mask(
    trained_predictor: SamPredictor, shipped_hq_sam: Sam, output: HQOutput
) -> None:
    """A rectangle seen at VMOS's stride and shifted by three pixels, on a frame of 90 x 160."""
    truth = torch.zeros(1, *FRAME, dtype=torch.bool)
    truth[0, 20:50, 30:70] = True
    initial = torch.zeros_like(truth)
    initial[0, 23:53, 27:67] = True
    refiner = reference_refiner(RefinerConfig(hq=True, hq_output=output), shipped_hq_sam)
    refined = refiner.refine(embedding_of(trained_predictor), initial).masks
    before, after = mask_iou(truth, initial).item(), mask_iou(truth, refined).item()
    assert before < 0.8
    assert after > before + 0.15, "0.71 became 0.89 (sum) and more (token) when the head was made"
