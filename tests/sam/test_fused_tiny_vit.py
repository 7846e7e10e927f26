"""The fused TinyViT gives what the reference gives, up to rounding in bfloat16."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.sam.fused_tiny_vit import MAX_SAFE_SCORE, FusedSamEncoder, weighted_mean
from vots_hqtrack.sam.models import build_sam
from vots_hqtrack.sam.tiny_vit import SamEncoder, SharedFeatures

MAPS = ("s4", "s8", "s16", "early", "neck")


def shake(network: nn.Module) -> None:
    """Give normalisations and biases, which begin as 0 and 1, values that matter."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias, module.weight):
                tensor.data.add_(0.3 * torch.rand(tensor.shape, generator=generator))
            module.running_var.mul_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    for name, parameter in network.named_parameters():
        if "attention_biases" in name:
            parameter.data.normal_(generator=generator)


@pytest.fixture(scope="module")
def image_encoder() -> nn.Module:
    torch.manual_seed(0)
    encoder = build_sam("vit_tiny").image_encoder
    shake(encoder)
    # The position biases are laid out when training ends.
    return encoder.train().eval()


def encode(encoder: nn.Module, image: Tensor) -> SharedFeatures:
    with torch.inference_mode():
        maps: SharedFeatures = encoder(image)
    return maps


def picture(height: int, width: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(height + width)
    return torch.randn(batch, 3, height, width, generator=generator)


@pytest.mark.parametrize(("height", "width", "batch"), [(96, 160, 2), (32, 256, 1), (224, 64, 1)])
def test_values_equal_the_reference(
    image_encoder: nn.Module, height: int, width: int, batch: int
) -> None:
    image = picture(height, width, batch)
    wanted = encode(SamEncoder(image_encoder), image)
    found = encode(FusedSamEncoder(image_encoder, torch.float32), image)
    for name in MAPS:
        # Folding rounds once more per convolution: 2e-5 at most was seen on these sizes.
        torch.testing.assert_close(
            getattr(found, name), getattr(wanted, name), atol=1e-4, rtol=1e-4
        )


def test_bfloat16_stays_within_its_rounding(image_encoder: nn.Module) -> None:
    image = picture(96, 160)
    wanted = encode(SamEncoder(image_encoder), image)
    found = encode(FusedSamEncoder(image_encoder, torch.bfloat16), image)
    for name in MAPS:
        exact, rounded = getattr(wanted, name), getattr(found, name)
        assert rounded.dtype == (torch.bfloat16 if name in ("early", "neck") else torch.float32)
        # 8 bits of mantissa over a dozen blocks; autocast's own error is as large.
        assert (rounded.float() - exact).std() < 0.04 * exact.std(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("peak", [1.0, 0.9 * MAX_SAFE_SCORE, 3 * MAX_SAFE_SCORE])
def test_weighted_mean_is_that_by_the_softmax(dtype: torch.dtype, peak: float) -> None:
    """Beyond what powers are taken of, too: a row whose scores are all low still sums to 1."""
    generator = torch.Generator().manual_seed(3)
    scores = peak * (2 * torch.rand(6, 9, 49, generator=generator) - 1)
    scores[0, 0] = -peak
    scores, value = scores.to(dtype), torch.randn(6, 49, 32, generator=generator).to(dtype)
    wanted = scores.double().softmax(-1) @ value.double()
    found = weighted_mean(scores.clone(), value)
    assert found.dtype == dtype
    # 2 to the -8 is bfloat16's step at 1; weights, their sum, and the mean are rounded once each.
    tolerance = 1e-5 if dtype == torch.float32 else 3 * 2**-8
    torch.testing.assert_close(found.double(), wanted, atol=tolerance, rtol=tolerance)


def test_autocast_has_no_say(image_encoder: nn.Module) -> None:
    encoder, image = FusedSamEncoder(image_encoder, torch.float32), picture(64, 64)
    wanted = encode(encoder, image)
    with torch.autocast("cpu", torch.bfloat16):
        found = encode(encoder, image)
    assert torch.equal(found.neck, wanted.neck)


def test_the_given_network_stays_as_it_was(image_encoder: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in image_encoder.state_dict().items()}
    FusedSamEncoder(image_encoder, torch.bfloat16)
    after = image_encoder.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(after[name].dtype == tensor.dtype for name, tensor in before.items())


@pytest.mark.parametrize("size", [(100, 128), (1056, 64)])
def test_exception_odd_sizes(image_encoder: nn.Module, size: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match=f"{size[0]}x{size[1]}"):
        encode(FusedSamEncoder(image_encoder, torch.float32), torch.zeros(1, 3, *size))
