"""The prepared two-way transformer gives what the package's own gives, plain and HQ."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.refiner.candidates import decode_masks, encode_prompts
from vots_hqtrack.refiner.models import build_sam
from vots_hqtrack.refiner.prompts import Prompts
from vots_hqtrack.refiner.two_way import PreparedTwoWayTransformer, prepare_decoder
from vots_hqtrack.types import ImageEmbedding, Size


@pytest.fixture(scope="module", params=[False, True], ids=["sam", "hq-sam"])
def sam(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    network = build_sam("vit_tiny", hq=request.param)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.mask_decoder.transformer.named_parameters():
        if "bias" in name or "norm" in name:  # which begin as 0 and 1, and would hide mistakes
            parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


def positions_of(sam: Any) -> Tensor:
    positions: Tensor = sam.prompt_encoder.get_dense_pe().detach()
    return positions


def run(
    transformer: nn.Module, positions: Tensor, num_objects: int, num_tokens: int
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_objects)
    cells = torch.randn(num_objects, 256, 64, 64, generator=generator)
    tokens = torch.randn(num_objects, num_tokens, 256, generator=generator)
    with torch.inference_mode():
        found: tuple[Tensor, Tensor] = transformer(
            cells, positions.expand(num_objects, -1, -1, -1), tokens
        )
    return found


@pytest.mark.parametrize(("num_objects", "num_tokens"), [(1, 7), (3, 9)])
def test_values_equal_the_package(
    sam: Any,
    num_objects: int,
    num_tokens: int,
) -> None:
    given, positions = sam.mask_decoder.transformer, positions_of(sam)
    prepared = PreparedTwoWayTransformer(given, positions, torch.float32)
    wanted = run(given, positions, num_objects, num_tokens)
    found = run(prepared, positions, num_objects, num_tokens)
    for left, right in zip(found, wanted, strict=True):
        # Sums in another order: 2e-5 was seen.
        torch.testing.assert_close(left, right, atol=2e-4, rtol=1e-4)


def test_bfloat16_stays_within_its_rounding(sam: Any) -> None:
    given, positions = sam.mask_decoder.transformer, positions_of(sam)
    prepared = PreparedTwoWayTransformer(given, positions, torch.bfloat16)
    for exact, rounded in zip(
        run(given, positions, 2, 8), run(prepared, positions, 2, 8), strict=True
    ):
        assert rounded.dtype == torch.float32
        assert (rounded - exact).std() < 0.05 * exact.std()


def test_masks_of_the_whole_decoder_stay(sam: Any) -> None:
    other = copy.deepcopy(sam)
    prepare_decoder(other, torch.float32)
    assert isinstance(other.mask_decoder.transformer, PreparedTwoWayTransformer)
    generator = torch.Generator().manual_seed(5)
    embedding = ImageEmbedding(
        torch.randn(1, 256, 64, 64, generator=generator),
        torch.randn(1, 64, 64, 160, generator=generator),
        Size(576, 1024),
        Size(480, 854),
    )
    prompts = Prompts(torch.tensor([[100.0, 80.0, 400.0, 300.0], [500.0, 90.0, 900.0, 500.0]]))
    with torch.inference_mode():
        encoded = encode_prompts(sam.prompt_encoder, prompts)
        wanted = decode_masks(sam.mask_decoder, embedding, encoded)
        found = decode_masks(other.mask_decoder, embedding, encoded)
    scale = float(wanted.sam.std())
    torch.testing.assert_close(found.sam, wanted.sam, atol=1e-3 * scale, rtol=1e-3)
    torch.testing.assert_close(found.predicted_iou, wanted.predicted_iou, atol=1e-3, rtol=1e-3)
    assert (found.hq is None) == (wanted.hq is None)
    if wanted.hq is not None:
        torch.testing.assert_close(found.hq, wanted.hq, atol=1e-3, rtol=1e-3)


def test_exception_another_grid(sam: Any) -> None:
    prepared = PreparedTwoWayTransformer(
        sam.mask_decoder.transformer, positions_of(sam), torch.float32
    )
    with pytest.raises(ShapeError, match=r"64, 64.*32, 64"):
        prepared(torch.zeros(1, 256, 32, 64), torch.zeros(1), torch.zeros(1, 7, 256))
