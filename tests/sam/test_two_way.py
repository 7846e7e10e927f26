"""The two-way transformer gives the tokens and image of ``segment_anything_hq``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.sam.layers import SamWeights
from vots_hqtrack.sam.models import build_sam
from vots_hqtrack.sam.two_way import TwoWayTransformer


@pytest.fixture(scope="module")
def sam() -> Any:
    torch.manual_seed(0)
    network = build_sam("vit_tiny")
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.mask_decoder.transformer.named_parameters():
        if "bias" in name or "norm" in name:  # which begin as 0 and 1, and would hide mistakes
            parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


def positions_of(sam: Any) -> Tensor:
    positions: Tensor = sam.prompt_encoder.get_dense_pe().detach()
    return positions


def draw(num_objects: int, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Return the image as a map ``(N, 256, 64, 64)``, and tokens ``(N, K, 256)``."""
    generator = torch.Generator().manual_seed(num_objects)
    return (
        torch.randn(num_objects, 256, 64, 64, generator=generator),
        torch.randn(num_objects, num_tokens, 256, generator=generator),
    )


def build(sam: Any, dtype: torch.dtype) -> TwoWayTransformer:
    weights = SamWeights(sam.mask_decoder.transformer.state_dict())
    return TwoWayTransformer(weights, positions_of(sam).flatten(2).transpose(1, 2)).to(dtype)


@pytest.mark.parametrize(("num_objects", "num_tokens"), [(1, 7), (3, 9)])
def test_values_equal_the_package(sam: Any, num_objects: int, num_tokens: int) -> None:
    image, tokens = draw(num_objects, num_tokens)
    wanted = [0, num_tokens - 1]
    with torch.inference_mode():
        given = sam.mask_decoder.transformer(
            image, positions_of(sam).expand(num_objects, -1, -1, -1), tokens
        )
        found = build(sam, torch.float32)(image.flatten(2).transpose(1, 2), tokens, wanted)
    # Sums in another order: 2e-5 was seen.
    torch.testing.assert_close(found.tokens, given[0][:, wanted], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(found.image, given[1], atol=2e-4, rtol=1e-4)


@pytest.mark.usefixtures("fast_16_bit")
def test_bfloat16_stays_within_its_rounding(sam: Any) -> None:
    image, tokens = draw(2, 8)
    image = image.flatten(2).transpose(1, 2)
    with torch.inference_mode():
        exact, rounded = (
            build(sam, dtype)(image.to(dtype), tokens.to(dtype), range(8))
            for dtype in (torch.float32, torch.bfloat16)
        )
    for left, right in zip(exact, rounded, strict=True):
        assert right.dtype == torch.bfloat16
        assert (right.float() - left).std() < 0.05 * left.std()


def test_exception_another_size(sam: Any) -> None:
    with pytest.raises(ShapeError, match=r"4096 tokens, got 2048"):
        build(sam, torch.float32)(torch.zeros(1, 2048, 256), torch.zeros(1, 7, 256), [0])
