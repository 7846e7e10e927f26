"""The refiner against the package's own predictor, object by object, and its own promises."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from predictors import (
    ALL_KINDS,
    FRAME,
    MASK_LOGIT,
    ROUNDING,
    check_against_predictor,
    embedding_of,
    make_initial,
    make_refiner,
)
from reference_sam import ReferenceDecoder, reference_refiner

from vots_hqtrack.config import CandidateChoice, PromptKind, RefinerConfig
from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.refiner import Box, Click, ObjectPrompt
from vots_hqtrack.sam.corrections import (
    correct_mask,
    is_sure_correction,
    num_contradicted,
    vicinity_of,
)
from vots_hqtrack.sam.layers import SamWeights
from vots_hqtrack.sam.mask_decoder import Candidates, MaskDecoder
from vots_hqtrack.sam.models import SamPredictor
from vots_hqtrack.sam.prompts import prompt_boxes
from vots_hqtrack.sam.refiner import SamRefiner


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_batched_masks_equal_the_predictors(
    random_predictor: SamPredictor, kind: PromptKind
) -> None:
    check_against_predictor(random_predictor, kind)


def test_batched_hq_masks_equal_the_predictors(hq_predictor: SamPredictor) -> None:
    """With every prompt: the decoder does not see which kind they are."""
    check_against_predictor(hq_predictor, "box+mask+point")


@pytest.mark.weights
def test_batched_trained_masks_equal_the_predictors(trained_predictor: SamPredictor) -> None:
    check_against_predictor(trained_predictor, "box+mask+point")


@pytest.mark.parametrize("hq", [False, True])
def test_no_object(random_predictor: SamPredictor, hq_predictor: SamPredictor, hq: bool) -> None:
    predictor = hq_predictor if hq else random_predictor
    none = torch.zeros(0, *FRAME, dtype=torch.bool)
    refinement = make_refiner(predictor).refine(embedding_of(predictor), none)
    assert refinement.masks.shape == (0, *FRAME)
    assert refinement.predicted_iou.shape == (0,)


def test_empty_masks_stay_empty_and_leave_the_others_alone(random_predictor: SamPredictor) -> None:
    initial = make_initial()
    with_empty = torch.zeros(5, *FRAME, dtype=torch.bool)
    with_empty[[1, 2, 4]] = initial
    refiner, embedding = make_refiner(random_predictor), embedding_of(random_predictor)
    refinement = refiner.refine(embedding, with_empty)
    assert not refinement.masks[[0, 3]].any()
    assert refinement.predicted_iou[[0, 3]].tolist() == [0.0, 0.0]
    assert torch.equal(refinement.masks[[1, 2, 4]], refiner.refine(embedding, initial).masks)


def test_calls_of_a_few_objects_add_up(random_predictor: SamPredictor) -> None:
    embedding = embedding_of(random_predictor)
    at_once = make_refiner(random_predictor).refine(embedding, make_initial())
    in_parts = make_refiner(random_predictor, objects_per_call=2).refine(embedding, make_initial())
    assert (at_once.masks != in_parts.masks).sum() <= 2
    torch.testing.assert_close(at_once.predicted_iou, in_parts.predicted_iou, atol=1e-4, rtol=0)


def test_order_of_objects_and_earlier_frames_do_not_matter(random_predictor: SamPredictor) -> None:
    refiner, embedding = make_refiner(random_predictor), embedding_of(random_predictor)
    first = refiner.refine(embedding, make_initial())
    other = dataclasses.replace(embedding, embedding=embedding.embedding.flip(3))
    elsewhere = refiner.refine(other, make_initial())
    assert not torch.equal(elsewhere.masks, first.masks)
    turned = refiner.refine(embedding, make_initial().flip(0))
    assert (turned.masks.flip(0) != first.masks).sum() <= 2


def test_inputs_of_another_dtype_are_decoded_in_float32(random_predictor: SamPredictor) -> None:
    embedding = embedding_of(random_predictor)
    rounded = dataclasses.replace(
        embedding, embedding=embedding.embedding.bfloat16(), early=embedding.early.bfloat16()
    )
    refinement = make_refiner(random_predictor).refine(rounded, make_initial())
    assert refinement.predicted_iou.dtype == torch.float32


def test_refine_exceptions(random_predictor: SamPredictor) -> None:
    refiner, embedding = make_refiner(random_predictor), embedding_of(random_predictor)
    with pytest.raises(ShapeError, match="frame size 160x90, got 90x160"):
        refiner.refine(embedding, torch.ones(1, 160, 90, dtype=torch.bool))
    with pytest.raises(ShapeError, match="bool tensor"):
        refiner.refine(embedding, torch.ones(1, *FRAME))


@pytest.mark.parametrize("choice", ["single", "predicted_iou"])
def test_segment_box_equals_the_predictor(
    random_predictor: SamPredictor, choice: CandidateChoice
) -> None:
    refiner = make_refiner(random_predictor, choice=choice)
    mask = refiner.segment_boxes(embedding_of(random_predictor), [(30.0, 20.0, 40.0, 30.0)])[0]
    assert mask.dtype == torch.bool
    logits, scores, _ = random_predictor.predict(
        box=np.array([30.0, 20.0, 69.0, 49.0]), return_logits=True
    )
    own = torch.from_numpy(logits[scores.argmax()])
    assert not ((mask != (own > 0)) & (own.abs() > ROUNDING)).any()


@pytest.mark.parametrize(
    "clicks",
    [
        [Click(50.5, 35.5)],
        [Click(50.5, 35.5), Click(120.5, 60.5, is_inside=False)],
        [Click(0.5, 0.5, is_inside=False), Click(159.5, 89.5), Click(31.5, 20.5)],
    ],
)
@pytest.mark.parametrize("box", [None, (30.0, 20.0, 40.0, 30.0)])
def test_clicks_equal_the_predictors(
    random_predictor: SamPredictor, clicks: list[Click], box: Box | None
) -> None:
    refiner = make_refiner(random_predictor)
    prompt = ObjectPrompt(tuple(clicks), box)
    mask = refiner.segment(embedding_of(random_predictor), prompt)
    is_vague = len(clicks) == 1 and box is None
    found = []
    for multimask in (True,) if is_vague else (False, True):
        logits, scores, _ = random_predictor.predict(
            point_coords=np.array([[click.x - 0.5, click.y - 0.5] for click in clicks]),
            point_labels=np.array([int(click.is_inside) for click in clicks]),
            box=None if box is None else np.array([30.0, 20.0, 69.0, 49.0]),
            multimask_output=multimask,
            return_logits=True,
        )
        found += [torch.from_numpy(logits[index]) for index in np.argsort(-scores)]
        wrong = [num_contradicted(clicks, own > 0) for own in found]
        if not is_vague and wrong[0] == 0:
            break
    own = found[wrong.index(min(wrong))]
    assert mask.dtype == torch.bool
    assert not ((mask != (own > 0)) & (own.abs() > ROUNDING)).any()


def test_a_correction_is_the_smallest_change_near_the_click() -> None:
    mask = torch.zeros(40, 100, dtype=torch.bool)
    mask[10:30, 10:30] = True
    candidates = mask.repeat(2, 1, 1)
    candidates[0, 10:30, 30:40] = True  # what the click asks for,
    candidates[0, :, 90:] = True  # and what it does not
    candidates[1, :, 30:] = True
    vicinity = vicinity_of(mask, Click(33, 20))
    found = correct_mask(mask, candidates, [Click(33, 20)], vicinity)
    wanted = mask.clone()
    wanted[10:30, 30:40] = True
    near = correct_mask(mask, wanted[None], [Click(33, 20)], vicinity)
    assert torch.equal(found, near)
    assert found[20, 33]
    assert not found[:, 60:].any()


@pytest.mark.parametrize(
    ("num_rows", "is_inside", "is_sure"),
    [(12, True, True), (13, True, False), (12, False, False), (0, True, False)],
)
def test_a_correction_is_sure_up_to_three_tenths_of_the_mask_if_all_clicks_agree(
    num_rows: int, *, is_inside: bool, is_sure: bool
) -> None:
    mask = torch.zeros(60, 60, dtype=torch.bool)
    mask[10:50, 20:30] = True
    single = mask.clone()
    single[15 : 15 + num_rows, 30:40] = True
    clicks = [Click(25.5, 30.5), Click(32.5, 16.5, is_inside)]
    assert is_sure_correction(mask, single, clicks) == is_sure


@pytest.mark.weights
def test_a_small_correction_or_one_that_asks_for_nothing_takes_one_pass(
    trained_predictor: SamPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = MaskDecoder(SamWeights(trained_predictor.model.state_dict()), torch.float32).eval()
    refiner, asked = SamRefiner(decoder), []
    forward = decoder.forward

    def count(*given: Any, multimask: bool | None, **options: Any) -> Candidates:
        asked.append(multimask)
        return forward(*given, multimask=multimask, **options)

    monkeypatch.setattr(decoder, "forward", count)
    embedding = embedding_of(trained_predictor)
    found = refiner.segment(embedding, ObjectPrompt((), (30.0, 20.0, 40.0, 30.0))).numpy()
    ys, xs = found.nonzero()
    inside = Click(float(xs[len(xs) // 2]) + 0.5, float(ys[len(ys) // 2]) + 0.5)
    asked.clear()
    for agreeing in (found, np.ones_like(found)):
        refiner.segment(embedding, ObjectPrompt((inside,), None, agreeing))
    assert asked == [None, None]
    speck = np.zeros_like(found)
    speck[0, 0] = True
    asked.clear()
    refiner.segment(embedding, ObjectPrompt((inside,), None, speck))
    assert asked == [None, True]


@pytest.mark.parametrize("is_inside", [True, False])
@pytest.mark.parametrize("at", [(50.5, 35.5), (159.5, 0.5), (3.5, 88.5)])
def test_a_correction_decodes_the_masks_near_the_click_only(
    random_predictor: SamPredictor, at: tuple[float, float], is_inside: bool
) -> None:
    """With whole masks, as the reference decoder gives them, and with windows: the same result."""
    mask = np.zeros(FRAME, np.bool_)
    mask[20:60, 30:80] = True
    click = Click(*at, is_inside)
    prompt = ObjectPrompt((Click(40.5, 30.5), click), None, mask)
    embedding = embedding_of(random_predictor)
    whole = make_refiner(random_predictor)
    decoder = MaskDecoder(SamWeights(random_predictor.model.state_dict()), torch.float32).eval()
    cut = SamRefiner(decoder)
    cut.mask_logit = whole.mask_logit
    with torch.inference_mode():
        wanted = whole.segment(embedding, prompt)
        prompted = cut.precompute(embedding)
        found = cut.segment(prompted, prompt)
        again = cut.segment(embedding, prompt)
    assert (found != wanted).sum() <= 2
    assert (found != again).sum() <= 2
    rows, columns = vicinity_of(torch.from_numpy(mask), click).window
    outside = found.numpy() != mask
    outside[rows, columns] = False
    assert not outside.any()


def test_prompt_exceptions(random_predictor: SamPredictor) -> None:
    refiner, embedding = make_refiner(random_predictor), embedding_of(random_predictor)
    with pytest.raises(InputError, match="needs a box or a click"):
        refiner.segment(embedding, ObjectPrompt())
    with pytest.raises(InputError, match="inside the 160x90 frame, got x=160"):
        refiner.segment(embedding, ObjectPrompt((Click(160, 3),)))


def test_convention_a_box_round_a_mask_is_its_prompt(random_predictor: SamPredictor) -> None:
    refiner, embedding = make_refiner(random_predictor), embedding_of(random_predictor)
    mask = torch.zeros(1, *FRAME, dtype=torch.bool)
    mask[0, 20:50, 30:70] = True
    x0, y0, x1, y1 = prompt_boxes(mask)[0].tolist()
    around = (x0, y0, x1 - x0 + 1, y1 - y0 + 1)
    from_mask = (
        make_refiner(random_predictor, "box", "predicted_iou").refine(embedding, mask).masks[0]
    )
    assert torch.equal(refiner.segment_boxes(embedding, [around])[0], from_mask)


def test_a_box_is_cut_to_the_frame(random_predictor: SamPredictor) -> None:
    refiner, embedding = make_refiner(random_predictor), embedding_of(random_predictor)
    beyond = refiner.segment_boxes(embedding, [(100.0, 50.0, 500.0, 400.0)])
    inside = refiner.segment_boxes(embedding, [(100.0, 50.0, 60.0, 40.0)])
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
    with pytest.raises(InputError, match=r"a part of the 160x90 frame, got -?\d"):
        make_refiner(random_predictor).segment_boxes(embedding_of(random_predictor), [box])


def test_boxes_of_one_call_equal_those_of_many(random_predictor: SamPredictor) -> None:
    embedding = embedding_of(random_predictor)
    boxes = [(30.0, 20.0, 40.0, 30.0), (90.0, 40.0, 60.0, 40.0), (5.0, 5.0, 20.0, 20.0)]
    refiner = make_refiner(random_predictor, objects_per_call=2)
    at_once = refiner.segment_boxes(embedding, boxes)
    one_by_one = torch.cat([refiner.segment_boxes(embedding, [box]) for box in boxes])
    assert at_once.shape == (3, *FRAME)
    assert (at_once != one_by_one).sum() <= 2
    assert refiner.segment_boxes(embedding, []).shape == (0, *FRAME)


@pytest.mark.gpu
def test_gpu_equals_cpu(random_predictor: SamPredictor) -> None:
    device = torch.device("cuda")
    embedding = embedding_of(random_predictor)
    on_cpu = make_refiner(random_predictor).refine(embedding, make_initial())
    sam = copy.deepcopy(random_predictor.model).to(device)
    moved = dataclasses.replace(
        embedding, embedding=embedding.embedding.to(device), early=embedding.early.to(device)
    )
    decoder = ReferenceDecoder(sam)
    refiner = SamRefiner(decoder, choice="single", mask_logit=MASK_LOGIT)
    on_gpu = refiner.refine(moved, make_initial().to(device))
    assert (on_gpu.masks.cpu() != on_cpu.masks).float().mean() < 1e-3
    torch.testing.assert_close(on_gpu.predicted_iou.cpu(), on_cpu.predicted_iou, atol=1e-2, rtol=0)


def test_defaults_of_module_and_configuration_agree(random_predictor: SamPredictor) -> None:
    model = random_predictor.model
    by_default = SamRefiner(ReferenceDecoder(model))
    configured = reference_refiner(RefinerConfig(), model)
    names = ("prompt", "choice", "fill_holes", "drop_islands", "mask_logit", "objects_per_call")
    for name in names:
        assert getattr(by_default, name) == getattr(configured, name)
