"""TinyViT gives the features of ``segment_anything_hq``, up to rounding in bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference_sam import ReferenceTinyViT
from torch import Tensor, nn

from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.errors import ShapeError
from vots_hqtrack.frame import plan_frame
from vots_hqtrack.sam.embed import SharedEmbedder
from vots_hqtrack.sam.layers import SamWeights
from vots_hqtrack.sam.models import Sam, build_sam
from vots_hqtrack.sam.tiny_vit import SharedFeatures, TinyViT, build_tiny_vit
from vots_hqtrack.types import Size

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
def sam() -> Sam:
    torch.manual_seed(0)
    network = build_sam("vit_tiny")
    shake(network.image_encoder)
    # The position biases are laid out when training ends.
    return network.train().eval()


def build(sam: Sam, dtype: torch.dtype = torch.float32) -> TinyViT:
    return TinyViT(SamWeights(sam.image_encoder.state_dict()), dtype).eval()


@pytest.fixture(scope="module")
def encoder(sam: Sam) -> TinyViT:
    return build(sam)


def encode(encoder: nn.Module, image: Tensor) -> SharedFeatures:
    with torch.inference_mode():
        maps: SharedFeatures = encoder(image)
    return maps


def random_image(height: int, width: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(height + width)
    return torch.randn(batch, 3, height, width, generator=generator)


def test_square_image_equals_the_package(sam: Sam, encoder: TinyViT) -> None:
    image = random_image(1024, 1024)
    with torch.inference_mode():
        expected, early = sam.image_encoder(image)
    maps = encode(encoder, image)
    torch.testing.assert_close(maps.neck, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(maps.early.permute(0, 2, 3, 1), early[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("height", "width", "batch"), [(96, 160, 2), (32, 256, 1), (224, 64, 1)])
def test_values_equal_the_reference(
    sam: Sam, encoder: TinyViT, height: int, width: int, batch: int
) -> None:
    image = random_image(height, width, batch)
    wanted, found = encode(ReferenceTinyViT(sam), image), encode(encoder, image)
    for name in MAPS:
        # Folding rounds once more per convolution: 2e-5 at most was seen on these sizes.
        torch.testing.assert_close(
            getattr(found, name), getattr(wanted, name), atol=1e-4, rtol=1e-4
        )


@pytest.mark.usefixtures("fast_16_bit")
def test_bfloat16_stays_within_its_rounding(sam: Sam, encoder: TinyViT) -> None:
    image = random_image(96, 160)
    wanted, found = encode(encoder, image), encode(build(sam, torch.bfloat16), image)
    for name in MAPS:
        exact, rounded = getattr(wanted, name), getattr(found, name)
        assert rounded.dtype == (torch.bfloat16 if name in ("early", "neck") else torch.float32)
        # 8 bits of mantissa over a dozen blocks; autocast's own error is as large.
        assert (rounded.float() - exact).std() < 0.04 * exact.std(), name


def test_autocast_has_no_say(encoder: TinyViT) -> None:
    image = random_image(64, 64)
    wanted = encode(encoder, image)
    with torch.autocast("cpu", torch.bfloat16):
        found = encode(encoder, image)
    assert torch.equal(found.neck, wanted.neck)


def test_the_weights_given_stay_as_they_were(sam: Sam) -> None:
    before = {name: tensor.clone() for name, tensor in sam.image_encoder.state_dict().items()}
    build(sam, torch.bfloat16)
    after = sam.image_encoder.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_gradients_reach_every_weight() -> None:
    torch.manual_seed(0)
    encoder = build_tiny_vit()
    features = encoder(random_image(32, 32))
    sum(getattr(features, name).square().mean() for name in MAPS).backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_shapes_and_strides(encoder: TinyViT) -> None:
    features = encode(encoder, torch.zeros(1, 3, 96, 160))
    assert features.s4.shape == (1, 128, 12, 20)
    assert features.s8.shape == (1, 576, 6, 10)
    assert features.s16.shape == (1, 256, 3, 5)


def test_features_are_normalised_over_channels(encoder: TinyViT) -> None:
    features = encode(encoder, random_image(64, 64))
    torch.testing.assert_close(features.s4.mean(1), torch.zeros(1, 8, 8), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.s4.std(1), torch.ones(1, 8, 8), atol=2e-2, rtol=0)


@pytest.mark.parametrize("size", [(100, 128), (1056, 64)])
def test_odd_sizes_are_refused_by_name(encoder: TinyViT, size: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match=f"{size[1]}x{size[0]}"):
        encoder(torch.zeros(1, 3, *size))


def test_embedding_is_laid_over_the_background(encoder: TinyViT) -> None:
    with torch.inference_mode():
        background = encoder(torch.zeros(1, 3, 1024, 1024))
        maps = encoder(torch.ones(1, 3, 96, 1024))
        geometry = plan_frame(Size(45, 512))
        assert geometry.input_size == (90, 1024)
        frame = np.zeros((45, 512, 3), np.uint8)
        found = SharedEmbedder(encoder)(EncodedFrame(frame, geometry, maps))
    assert found.embedding.shape == (1, 256, 64, 64)
    assert torch.equal(found.embedding[:, :, :6], maps.neck)
    assert torch.equal(found.embedding[:, :, 6:], background.neck[:, :, 6:])
    assert found.early.shape == (1, 64, 64, 160)
    assert torch.equal(found.early[:, 6:], background.early.permute(0, 2, 3, 1)[:, 6:])


def test_trackers_with_the_same_weights_share_the_background(encoder: TinyViT, sam: Sam) -> None:
    first, same = (SharedEmbedder(network).background for network in (encoder, build(sam)))
    assert same is first
    other = build(sam)
    other.neck[0].weight.data[0, 0] += 0.1
    assert not torch.equal(SharedEmbedder(other).background.neck, first.neck)
