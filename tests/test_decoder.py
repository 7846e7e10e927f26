"""Decoders: sizes, gradients, and where the encoder's maps come in."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from vots_hqtrack.decoder import FPNDecoder, MaskDecoder
from vots_hqtrack.types import FrameFeatures

DIMS = (8, 12, 20)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def draw_features(height: int, width: int, batch: int = 1) -> FrameFeatures:
    sizes = [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16)]
    return FrameFeatures(
        *(draw(batch, dim, *size, seed=dim) for dim, size in zip(DIMS, sizes, strict=True))
    )


def build(*, align_corners: bool = True) -> FPNDecoder:
    torch.manual_seed(0)
    return FPNDecoder(24, DIMS, width=32, align_corners=align_corners).eval()


@pytest.mark.parametrize(("height", "width"), [(97, 129), (33, 49), (17, 17), (32, 48), (1, 40)])
def test_shapes(height: int, width: int) -> None:
    features = draw_features(height, width, batch=2)
    with torch.inference_mode():
        logits = build()(draw(2, 24, *features.s16.shape[-2:]), features)
    assert logits.shape == (2, 11, -(-height // 4), -(-width // 4))
    assert torch.isfinite(logits).all()


def test_values_every_map_of_the_encoder_is_read_once() -> None:
    """With identity-like weights the result is the sum of the maps, each resized to 1/4."""
    decoder = build()
    features, embedding = draw_features(33, 49), draw(1, 24, 3, 4)
    with torch.no_grad():
        for module in (decoder.reduce, decoder.refine_s16, decoder.refine_s8, decoder.refine_s4):
            module.norm = torch.nn.Identity()
            module.conv.bias.zero_()
            torch.nn.init.dirac_(module.conv.weight)
        for adapt in (decoder.adapt_s16, decoder.adapt_s8, decoder.adapt_s4):
            adapt.weight.abs_()
            adapt.bias.zero_()
        torch.nn.init.dirac_(decoder.classify.weight)
        decoder.classify.bias.zero_()
        # Everything positive, so that no rectifier cuts anything off.
        features = FrameFeatures(*(x.abs() for x in (features.s4, features.s8, features.s16)))
        found = decoder(embedding.abs(), features)
        wanted = decoder.adapt_s16(features.s16)[:, :11] + embedding.abs()[:, :11]
        for adapted in (decoder.adapt_s8(features.s8), decoder.adapt_s4(features.s4)):
            finer = adapted[:, :11]
            wanted = finer + F.interpolate(
                wanted, finer.shape[-2:], mode="bilinear", align_corners=True
            )
    torch.testing.assert_close(found, wanted)


def test_gradients_reach_every_parameter_and_input() -> None:
    decoder = build(align_corners=False).train()
    features, embedding = draw_features(33, 49), draw(1, 24, 3, 4).requires_grad_()
    maps = [x.requires_grad_() for x in (features.s4, features.s8, features.s16)]
    decoder(embedding, features).square().mean().backward()
    tensors = [*decoder.parameters(), embedding, *maps]
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in tensors)


def test_shapes_of_two_convolutions() -> None:
    torch.manual_seed(0)
    decoder, embedding = MaskDecoder(16).eval(), draw(1, 16, 9, 13)
    with torch.inference_mode():
        logits = decoder(embedding)
    assert logits.shape == (1, 11, 9, 13)
    assert torch.isfinite(logits).all()


def test_sizes_of_deaot() -> None:
    """The released checkpoint carries DeAOT's decoder, unused; these are its shapes."""
    with torch.device("meta"):
        decoder = FPNDecoder(512, (64, 128, 256), width=256, align_corners=True)
    assert sum(p.numel() for p in decoder.parameters()) == 1_274_123
    assert decoder.refine_s8.conv.weight.shape == (128, 256, 3, 3)
