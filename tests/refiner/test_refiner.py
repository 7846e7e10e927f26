"""The refiner against the package's own predictor, object by object, and its own promises."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.config import CandidateChoice, HQOutput, PromptKind, RefinerConfig
from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.refiner.geometry import SamGeometry
from vots_hqtrack.refiner.models import Sam, SamPredictor, build_sam
from vots_hqtrack.refiner.prompts import make_prompts, prompt_boxes, prompt_masks
from vots_hqtrack.refiner.refiner import MaskRefiner, Refinement, build_refiner
from vots_hqtrack.types import ImageEmbedding, Size

FRAME = Size(90, 160)
ALL_KINDS: tuple[PromptKind, ...] = ("box", "box+mask", "box+mask+point")
MASK_LOGIT = 12.0
ROUNDING = 1e-3
"""Largest change of a mask logit by batching: 2.3e-4 was seen, at logits of up to 215."""


def _frame() -> np.ndarray:
    rows, columns = np.mgrid[: FRAME.height, : FRAME.width]
    frame = np.stack([rows * 2, columns, (rows * columns) % 256], axis=2).astype(np.uint8)
    frame[20:50, 30:70] = (250, 20, 20)
    frame[40:80, 90:150] = (10, 200, 40)
    return frame


def _coarse() -> torch.Tensor:
    """Three objects: one inside, one over the frame's corner, one of two pixels."""
    coarse = torch.zeros(3, *FRAME, dtype=torch.bool)
    coarse[0, 22:48, 32:72] = True
    coarse[1, 45:, 88:] = True
    coarse[2, 10, 5:7] = True
    return coarse


def _predictor(sam: Sam, embedded: SamPredictor | None = None) -> SamPredictor:
    predictor = SamPredictor(sam)
    if embedded is None:
        predictor.set_image(_frame())
    else:  # another decoder on the same embedding
        for name in ("features", "interm_features", "original_size", "input_size", "is_image_set"):
            setattr(predictor, name, getattr(embedded, name))
    return predictor


def _embedding(predictor: SamPredictor) -> ImageEmbedding:
    return ImageEmbedding(
        embedding=predictor.features,
        early=predictor.interm_features[0],
        input_size=Size(*predictor.input_size),
        frame_size=Size(*predictor.original_size),
    )


def _shake(sam: Sam) -> Sam:
    """Make random weights give masks with insides and outsides: larger mask tokens do."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in sam.mask_decoder.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(parameter + 0.05 * noise)
    return sam.requires_grad_(False)


@pytest.fixture(scope="module")
def random_predictor() -> SamPredictor:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return _predictor(_shake(build_sam("vit_tiny")))


@pytest.fixture(scope="module")
def hq_predictor(random_predictor: SamPredictor) -> SamPredictor:
    with torch.random.fork_rng():
        torch.manual_seed(8)
        return _predictor(_shake(build_sam("vit_tiny", hq=True)), random_predictor)


@pytest.fixture(scope="module")
def trained_predictor() -> SamPredictor:
    sam = build_sam("vit_tiny")
    load_into(sam, load_weights("sam-vit-tiny"), source="sam-vit-tiny")
    return _predictor(sam)


def _refiner(
    predictor: SamPredictor,
    prompt: PromptKind = "box+mask+point",
    choice: CandidateChoice = "single",
    objects_per_call: int = 16,
    hq_output: HQOutput = "sum",
) -> MaskRefiner:
    model = predictor.model
    return MaskRefiner(
        model.prompt_encoder,
        model.mask_decoder,
        prompt=prompt,
        choice=choice,
        hq_output=hq_output,
        mask_logit=MASK_LOGIT,
        objects_per_call=objects_per_call,
    )


def _geometry(predictor: SamPredictor) -> SamGeometry:
    return SamGeometry(FRAME, Size(*predictor.input_size), side=1024, mask_side=256)


def _one_by_one(
    predictor: SamPredictor,
    coarse: torch.Tensor,
    kind: PromptKind,
    *,
    multimask: bool,
    hq_token_only: bool = False,
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """For each object the predictor's logits ``(K, H, W)``, scores ``(K,)``, small logits."""
    found = []
    for mask in coarse:
        prompts = make_prompts(mask[None], _geometry(predictor), kind=kind, mask_logit=MASK_LOGIT)
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


def _assert_same(refinement: Refinement, row: int, logits: torch.Tensor, score: float) -> None:
    differs = refinement.masks[row] != (logits > 0)
    assert not (differs & (logits.abs() > ROUNDING)).any()
    assert differs.sum() <= 2
    assert refinement.predicted_iou[row].item() == pytest.approx(min(max(score, 0), 1), abs=1e-4)


def _check_against_predictor(predictor: SamPredictor, kind: PromptKind) -> None:
    coarse = _coarse()
    single = _refiner(predictor, kind, "single").refine(_embedding(predictor), coarse)
    best = _refiner(predictor, kind, "predicted_iou").refine(_embedding(predictor), coarse)
    seen = 0
    for row, (logits, scores, _) in enumerate(
        _one_by_one(predictor, coarse, kind, multimask=False)
    ):
        _assert_same(single, row, logits[0], scores[0].item())
        seen += int(0 < single.masks[row].sum() < single.masks[row].numel())
    for row, (logits, scores, _) in enumerate(_one_by_one(predictor, coarse, kind, multimask=True)):
        first = int(scores.argmax())
        _assert_same(best, row, logits[first], scores[first].item())
    assert seen, "no mask has an inside and an outside: nothing was compared"


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_batched_masks_equal_the_predictors(
    random_predictor: SamPredictor, kind: PromptKind
) -> None:
    _check_against_predictor(random_predictor, kind)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_batched_hq_masks_equal_the_predictors(
    hq_predictor: SamPredictor, kind: PromptKind
) -> None:
    _check_against_predictor(hq_predictor, kind)


@pytest.mark.weights
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_batched_trained_masks_equal_the_predictors(
    trained_predictor: SamPredictor, kind: PromptKind
) -> None:
    _check_against_predictor(trained_predictor, kind)


@pytest.mark.parametrize("choice", ["single", "predicted_iou"])
def test_the_hq_tokens_mask_alone_equals_the_predictors(
    hq_predictor: SamPredictor, choice: CandidateChoice
) -> None:
    coarse, multimask = _coarse(), choice != "single"
    refiner = _refiner(hq_predictor, "box", choice, hq_output="hq")
    alone = refiner.refine(_embedding(hq_predictor), coarse)
    summed = _refiner(hq_predictor, "box", choice).refine(_embedding(hq_predictor), coarse)
    own = _one_by_one(hq_predictor, coarse, "box", multimask=multimask, hq_token_only=True)
    for row, (logits, scores, _) in enumerate(own):
        _assert_same(alone, row, logits[0], scores[0].item())
    assert not torch.equal(alone.masks, summed.masks)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_coarse_iou_chooses_among_an_hq_decoders_sums(
    hq_predictor: SamPredictor, kind: PromptKind
) -> None:
    """Against the decoder's own parts, object by object: the predictor keeps one candidate."""
    coarse, geometry = _coarse(), _geometry(hq_predictor)
    refiner = _refiner(hq_predictor, kind, "coarse_iou")
    refinement = refiner.refine(_embedding(hq_predictor), coarse)
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
        _assert_same(refinement, row, logits[pick], scores[pick].item())
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
        prompts = make_prompts(mask[None], _geometry(predictor), kind=kind, mask_logit=MASK_LOGIT)
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


def test_coarse_iou_takes_the_candidate_most_like_the_coarse_mask(
    random_predictor: SamPredictor,
) -> None:
    coarse = _coarse()
    refiner = _refiner(random_predictor, "box", "coarse_iou")
    refinement = refiner.refine(_embedding(random_predictor), coarse)
    wanted = prompt_masks(coarse, _geometry(random_predictor), mask_logit=1.0) > 0
    height = 144  # cells that the 90 x 160 frame covers
    picks = set()
    for row, (logits, scores, low) in enumerate(
        _one_by_one(random_predictor, coarse, "box", multimask=True)
    ):
        inside, target = low[:, :height] > 0, wanted[row, :, :height]
        iou = (inside & target).sum(dim=(1, 2)) / (inside | target).sum(dim=(1, 2))
        pick = int(iou.argmax())
        picks.add(pick == int(scores.argmax()))
        _assert_same(refinement, row, logits[pick], scores[pick].item())
    assert False in picks, "the rule never differs from the predicted IoU: it was not tested"


@pytest.mark.parametrize("hq", [False, True])
def test_no_object(random_predictor: SamPredictor, hq_predictor: SamPredictor, hq: bool) -> None:
    predictor = hq_predictor if hq else random_predictor
    none = torch.zeros(0, *FRAME, dtype=torch.bool)
    refinement = _refiner(predictor)(_embedding(predictor), none)
    assert refinement.masks.shape == (0, *FRAME)
    assert refinement.predicted_iou.shape == (0,)


def test_empty_masks_stay_empty_and_leave_the_others_alone(random_predictor: SamPredictor) -> None:
    coarse = _coarse()
    with_empty = torch.zeros(5, *FRAME, dtype=torch.bool)
    with_empty[[1, 2, 4]] = coarse
    refiner, embedding = _refiner(random_predictor), _embedding(random_predictor)
    refinement = refiner.refine(embedding, with_empty)
    assert not refinement.masks[[0, 3]].any()
    assert refinement.predicted_iou[[0, 3]].tolist() == [0.0, 0.0]
    assert torch.equal(refinement.masks[[1, 2, 4]], refiner.refine(embedding, coarse).masks)


def test_calls_of_a_few_objects_add_up(random_predictor: SamPredictor) -> None:
    embedding = _embedding(random_predictor)
    at_once = _refiner(random_predictor).refine(embedding, _coarse())
    in_parts = _refiner(random_predictor, objects_per_call=2).refine(embedding, _coarse())
    assert (at_once.masks != in_parts.masks).sum() <= 2
    torch.testing.assert_close(at_once.predicted_iou, in_parts.predicted_iou, atol=1e-4, rtol=0)


def test_order_of_objects_and_earlier_frames_do_not_matter(random_predictor: SamPredictor) -> None:
    refiner, embedding = _refiner(random_predictor), _embedding(random_predictor)
    first = refiner.refine(embedding, _coarse())
    other = dataclasses.replace(embedding, embedding=embedding.embedding.flip(3))
    elsewhere = refiner.refine(other, _coarse())
    assert not torch.equal(elsewhere.masks, first.masks)
    turned = refiner.refine(embedding, _coarse().flip(0))
    assert (turned.masks.flip(0) != first.masks).sum() <= 2


def test_inputs_of_another_dtype_are_decoded_in_float32(random_predictor: SamPredictor) -> None:
    embedding = _embedding(random_predictor)
    rounded = dataclasses.replace(
        embedding, embedding=embedding.embedding.bfloat16(), early=embedding.early.bfloat16()
    )
    refinement = _refiner(random_predictor).refine(rounded, _coarse())
    assert refinement.predicted_iou.dtype == torch.float32


def test_refine_exceptions(random_predictor: SamPredictor) -> None:
    refiner, embedding = _refiner(random_predictor), _embedding(random_predictor)
    with pytest.raises(ShapeError, match="frame size 90x160, got 160x90"):
        refiner.refine(embedding, torch.ones(1, 160, 90, dtype=torch.bool))
    with pytest.raises(ShapeError, match="bool tensor"):
        refiner.refine(embedding, torch.ones(1, *FRAME))


@pytest.mark.parametrize("choice", ["single", "predicted_iou"])
def test_segment_box_equals_the_predictor(
    random_predictor: SamPredictor, choice: CandidateChoice
) -> None:
    refiner = _refiner(random_predictor, choice=choice)
    mask = refiner.segment_box(_embedding(random_predictor), (30.0, 20.0, 40.0, 30.0))
    assert mask.dtype == torch.bool
    logits, scores, _ = random_predictor.predict(
        box=np.array([30.0, 20.0, 69.0, 49.0]), return_logits=True
    )
    own = torch.from_numpy(logits[scores.argmax()])
    assert not ((mask != (own > 0)) & (own.abs() > ROUNDING)).any()


def test_convention_a_box_round_a_mask_is_its_prompt(random_predictor: SamPredictor) -> None:
    refiner, embedding = _refiner(random_predictor), _embedding(random_predictor)
    mask = torch.zeros(1, *FRAME, dtype=torch.bool)
    mask[0, 20:50, 30:70] = True
    x0, y0, x1, y1 = prompt_boxes(mask)[0].tolist()
    around = (x0, y0, x1 - x0 + 1, y1 - y0 + 1)
    from_mask = _refiner(random_predictor, "box", "predicted_iou").refine(embedding, mask).masks[0]
    assert torch.equal(refiner.segment_box(embedding, around), from_mask)


def test_a_box_is_cut_to_the_frame(random_predictor: SamPredictor) -> None:
    refiner, embedding = _refiner(random_predictor), _embedding(random_predictor)
    beyond = refiner.segment_box(embedding, (100.0, 50.0, 500.0, 400.0))
    inside = refiner.segment_box(embedding, (100.0, 50.0, 60.0, 40.0))
    assert torch.equal(beyond, inside)


@pytest.mark.parametrize(
    "box",
    [
        (10.0, 10.0, 0.0, 5.0),
        (10.0, 10.0, 5.0, -5.0),
        (200.0, 10.0, 5.0, 5.0),
        (-20.0, 10.0, 15.0, 5.0),
        (10.0, float("nan"), 5.0, 5.0),
        (10.0, 10.0, float("inf"), 5.0),
    ],
)
def test_segment_box_exception(
    random_predictor: SamPredictor, box: tuple[float, float, float, float]
) -> None:
    with pytest.raises(InputError, match=r"a part of the 90x160 frame, got -?\d"):
        _refiner(random_predictor).segment_box(_embedding(random_predictor), box)


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
    embedding = _embedding(random_predictor)
    sparse, dense = plain.prompt_encoder(
        points=None, boxes=torch.tensor([[100.0, 100.0, 400.0, 300.0]]), masks=None
    )
    arguments = (embedding.embedding, plain.prompt_encoder.get_dense_pe(), sparse, dense)
    own, _ = plain.mask_decoder.predict_masks(*arguments)
    hq_features = torch.zeros(1, 32, 256, 256)
    changed, _ = with_token.mask_decoder.predict_masks(*arguments, hq_features)
    assert (own - changed[:, :4]).abs().max() > 10 * ROUNDING


def test_build_refiner_follows_the_configuration(random_predictor: SamPredictor) -> None:
    config = RefinerConfig(prompt="box", choice="coarse_iou", hq_output="hq")
    refiner = build_refiner(config, random_predictor.model)
    assert (refiner.prompt, refiner.choice, refiner.hq_output) == ("box", "coarse_iou", "hq")
    assert refiner.mask_decoder is random_predictor.model.mask_decoder


@pytest.mark.gpu
def test_gpu_equals_cpu(random_predictor: SamPredictor) -> None:
    device = torch.device("cuda")
    embedding = _embedding(random_predictor)
    on_cpu = _refiner(random_predictor).refine(embedding, _coarse())
    sam = copy.deepcopy(random_predictor.model).to(device)
    moved = dataclasses.replace(
        embedding, embedding=embedding.embedding.to(device), early=embedding.early.to(device)
    )
    refiner = MaskRefiner(
        sam.prompt_encoder, sam.mask_decoder, choice="single", mask_logit=MASK_LOGIT
    )
    on_gpu = refiner.refine(moved, _coarse().to(device))
    assert (on_gpu.masks.cpu() != on_cpu.masks).float().mean() < 1e-3
    torch.testing.assert_close(on_gpu.predicted_iou.cpu(), on_cpu.predicted_iou, atol=1e-2, rtol=0)


def test_defaults_of_module_and_configuration_agree(random_predictor: SamPredictor) -> None:
    model = random_predictor.model
    by_default = MaskRefiner(model.prompt_encoder, model.mask_decoder)
    configured = build_refiner(RefinerConfig(), model)
    for name in ("prompt", "choice", "hq_output", "mask_logit", "objects_per_call"):
        assert getattr(by_default, name) == getattr(configured, name)
