"""The mask decoder gives the masks of ``segment_anything_hq``, plain and HQ."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from predictors import embedding_of, make_initial, shake
from reference_sam import ReferenceDecoder, reference_refiner

from vots_hqtrack.checkpoints.load import load_into
from vots_hqtrack.config import HQOutput, RefinerConfig
from vots_hqtrack.frame import plan_frame
from vots_hqtrack.masks import mask_iou
from vots_hqtrack.sam.geometry import SamGeometry
from vots_hqtrack.sam.layers import SamWeights
from vots_hqtrack.sam.mask_decoder import MaskDecoder
from vots_hqtrack.sam.models import SamPredictor, build_sam
from vots_hqtrack.sam.prompts import Prompts
from vots_hqtrack.sam.refiner import SamRefiner
from vots_hqtrack.sam.weights import load_sam_weights
from vots_hqtrack.types import ImageEmbedding, Size


@pytest.fixture(scope="module", params=[False, True], ids=["sam", "hq-sam"])
def sam(request: pytest.FixtureRequest) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = shake(build_sam("vit_tiny", hq=request.param))
        with torch.no_grad():  # norms begin as 1 and 0, which would hide mistakes
            for parameter in network.prompt_encoder.mask_downscaling.parameters():
                parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    return network.requires_grad_(False)


def decoder_of(sam: Any, dtype: torch.dtype = torch.float32, **options: Any) -> MaskDecoder:
    hq = hasattr(sam.mask_decoder, "hf_token")
    return MaskDecoder(SamWeights(sam.state_dict()), dtype, hq=hq, **options).eval()


def draw_embedding(frame_size: Size) -> ImageEmbedding:
    generator = torch.Generator().manual_seed(5)
    return ImageEmbedding(
        torch.randn(1, 256, 64, 64, generator=generator),
        torch.randn(1, 64, 64, 160, generator=generator),
        plan_frame(frame_size).input_size,
        frame_size,
    )


def draw_prompts(*, has_masks: bool) -> Prompts:
    generator = torch.Generator().manual_seed(6)
    boxes = torch.tensor([[100.0, 80.0, 400.0, 300.0], [300.0, 90.0, 500.0, 500.0]])
    if not has_masks:
        return Prompts(boxes)
    masks = 20 * torch.rand(2, 1, 256, 256, generator=generator) - 10
    return Prompts(boxes, masks, torch.tensor([[[200.0, 170.0]], [[400.0, 300.0]]]))


def decode_both(
    sam: Any, frame_size: Size, *, has_masks: bool, multimask: bool, hq_output: HQOutput = "sum"
) -> tuple[Any, Any]:
    """Return the candidates of the package and ours, compared where the frame is."""
    embedding, prompts = draw_embedding(frame_size), draw_prompts(has_masks=has_masks)
    geometry = SamGeometry(frame_size, embedding.input_size, side=1024, mask_side=256)
    reference = ReferenceDecoder(sam, hq_output=hq_output)
    decoder = decoder_of(sam, hq_output=hq_output)
    with torch.inference_mode():
        wanted = reference(embedding, prompts, multimask=multimask)
        found = decoder(decoder.precompute(embedding, geometry), prompts, multimask=multimask)
    rows, columns = (min(side + 1, 256) for side in geometry.covered)
    assert found.logits.shape[2] >= rows
    assert found.logits.shape[3] >= columns
    torch.testing.assert_close(found.predicted_iou, wanted.predicted_iou, atol=1e-3, rtol=1e-3)
    cut = wanted.logits[..., :rows, :columns], found.logits[..., :rows, :columns]
    # Sums in another order: 3e-5 of the logits' size was seen.
    scale = float(cut[0].std())
    torch.testing.assert_close(cut[1], cut[0], atol=1e-3 * scale, rtol=1e-3)
    return wanted, found


@pytest.mark.parametrize("frame_size", [Size(481, 300), Size(64, 64)])
def test_masks_inside_the_frame_equal_the_packages(sam: Any, frame_size: Size) -> None:
    wanted, found = decode_both(sam, frame_size, has_masks=True, multimask=False)
    assert found.logits.shape[:2] == (2, 1)
    is_square = frame_size.height == frame_size.width
    assert (found.logits.numel() == wanted.logits.numel()) == is_square


def test_the_frames_edge_is_no_edge_of_the_convolutions(sam: Any) -> None:
    """The last row that the frame reads has its neighbours behind it; the last computed has not."""
    wanted, found = decode_both(sam, Size(480, 854), has_masks=True, multimask=False)
    height = found.logits.shape[2]
    assert height < 256
    gap = (found.logits - wanted.logits[..., :height, :]).abs().amax(dim=(0, 1, 3))
    assert gap[:146].max() < 1e-2 * wanted.logits.std()
    if hasattr(sam.mask_decoder, "hf_token"):
        assert gap[-1] > gap[:146].max(), "the cut shows nowhere: nothing was tested"


def test_all_candidates_without_a_mask_prompt(sam: Any) -> None:
    """The HQ token's mask alone: one under each of SAM's scores. A plain SAM gives its own."""
    _, found = decode_both(sam, Size(480, 854), has_masks=False, multimask=True, hq_output="hq")
    assert found.logits.shape[:2] == (2, 3)
    assert found.predicted_iou.shape == (2, 3)


@pytest.mark.parametrize(
    "window",
    [
        (slice(30, 42), slice(100, 131)),
        (slice(0, 1), slice(250, 256)),
        (slice(140, 145), slice(3, 9)),
    ],
)
def test_a_window_and_all_masks_equal_the_whole_and_its_parts(sam: Any, window: Any) -> None:
    embedding, prompts = draw_embedding(Size(480, 854)), draw_prompts(has_masks=True)
    geometry = SamGeometry(embedding.frame_size, embedding.input_size, side=1024, mask_side=256)
    decoder = decoder_of(sam)
    with torch.inference_mode():
        cache = decoder.precompute(embedding, geometry)
        single, several = (decoder(cache, prompts, multimask=kind) for kind in (False, True))
        found = decoder(cache, prompts, multimask=None, window=window)
    wanted = torch.cat([single.logits, several.logits], dim=1)
    assert found.logits.shape == wanted.shape
    scale = float(wanted.std())
    cut = (..., *window)
    torch.testing.assert_close(found.logits[cut], wanted[cut], atol=1e-4 * scale, rtol=1e-4)
    scores = torch.cat([single.predicted_iou, several.predicted_iou], dim=1)
    torch.testing.assert_close(found.predicted_iou, scores, atol=1e-4, rtol=1e-4)
    assert (found.logits == -1).float().mean() > 0.5, "nothing was left out"


@pytest.mark.usefixtures("fast_16_bit")
@pytest.mark.weights
@pytest.mark.parametrize("hq", [False, True])
def test_shipped_weights_masks_stay(trained_predictor: SamPredictor, hq: bool) -> None:
    config = RefinerConfig(hq=hq)
    sam = build_sam("vit_tiny", hq=hq)
    tensors = load_sam_weights(config.weights, hq=hq, head=config.head)
    load_into(sam, tensors, source=config.weights)
    embedding, initial = embedding_of(trained_predictor), make_initial()[:2]
    refiner = reference_refiner(config, sam)
    with torch.inference_mode():
        wanted = refiner.refine(embedding, initial).masks
        refiner.decoder = decoder_of(sam)
        exact = refiner.refine(embedding, initial).masks
        refiner.decoder = decoder_of(sam, torch.bfloat16)
        rounded = refiner.refine(embedding, initial).masks
    assert (wanted != exact).sum() <= 2
    assert (mask_iou(wanted, rounded) >= 0.99).all(), "0.999 was seen"


@pytest.mark.usefixtures("fast_16_bit")
def test_autocast_has_no_say_and_nothing_is_kept(sam: Any) -> None:
    refiner = SamRefiner(decoder_of(sam))
    size = Size(48, 64)
    embedding = draw_embedding(size)
    initial = torch.zeros(1, *size, dtype=torch.bool)
    initial[0, 10:30, 20:50] = True
    with torch.inference_mode():
        plain = refiner.refine(embedding, initial)
        with torch.autocast("cpu", torch.bfloat16):
            again = refiner.refine(embedding, initial)
    assert torch.equal(plain.masks, again.masks)
    assert torch.equal(plain.predicted_iou, again.predicted_iou)
