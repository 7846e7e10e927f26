"""SAM's ViT walked block by block computes what the package's own forward computes."""

import pytest
import torch
from torch import nn

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.sam.models import ImageEncoderViT, build_empty_sam
from vots_hqtrack.sam.vit import SamVitEncoder


def build(seed: int = 0) -> ImageEncoderViT:
    torch.manual_seed(seed)
    network = ImageEncoderViT(
        96, 16, embed_dim=48, depth=5, num_heads=3, out_chans=16, use_rel_pos=True, window_size=4,
        global_attn_indexes=(1, 4),
    ).eval()  # fmt: skip
    for name, parameter in network.named_parameters():
        if "rel_pos" in name or name == "pos_embed":
            nn.init.normal_(parameter)
        if "qkv.weight" in name:
            nn.init.normal_(parameter, std=0.3)
    return network


def test_values_are_those_of_the_package() -> None:
    network, image = build(), torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        wanted, wanted_early = network(image)
        found, early = SamVitEncoder(network)(image)
        without = build()
        for block in without.blocks:
            nn.init.zeros_(block.attn.rel_pos_h)
        flat, _ = without(image)
    assert (wanted - flat).abs().max() > 0.1, "relative positions must matter in this test"
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)
    assert len(early) == len(wanted_early) == 2
    for found_map, other in zip(early, wanted_early, strict=True):
        torch.testing.assert_close(found_map, other, atol=2e-5, rtol=1e-5)


def test_lower_precision_stays_near() -> None:
    network, image = build(), torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        wanted, _ = network(image)
        with torch.autocast("cpu", torch.bfloat16):
            found, _ = SamVitEncoder(network)(image)
            package, _ = network(image)
    error, package_error = ((found_map - wanted).abs().mean() for found_map in (found, package))
    assert error < 1.5 * package_error


def test_every_large_network_of_the_package_has_these_parts() -> None:
    for model in ("vit_b", "vit_l", "vit_h"):
        encoder = build_empty_sam(model).image_encoder  # type: ignore[arg-type]
        whole = [block for block in encoder.blocks if not block.window_size]
        assert len(whole) == 4
        assert all(len(block.attn.rel_pos_h) == 2 * 64 - 1 for block in whole)
        assert encoder.pos_embed.shape[1:3] == (64, 64)


def test_exception_another_size() -> None:
    with pytest.raises(ShapeError, match=r"wants an image of \(6, 6\) patches, got \(4, 6\)"):
        SamVitEncoder(build())(torch.randn(1, 3, 64, 96))
