"""The walk through TinyViT gives what the package's own forward gives."""

import numpy as np
import pytest
import torch

from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.errors import ShapeError
from vots_hqtrack.frame import plan_frame
from vots_hqtrack.sam.embed import SharedEmbedder
from vots_hqtrack.sam.tiny_vit import SamEncoder, build_sam_encoder
from vots_hqtrack.types import Size


@pytest.fixture(scope="module")
def encoder() -> SamEncoder:
    torch.manual_seed(0)
    return build_sam_encoder().eval()


def test_square_input_matches_the_package(encoder: SamEncoder) -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 3, 1024, 1024, generator=generator)
    with torch.inference_mode():
        expected, early = encoder.image_encoder(image)
        maps = encoder(image)
    torch.testing.assert_close(maps.neck, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(maps.early.permute(0, 2, 3, 1), early[0], atol=1e-5, rtol=1e-5)


def test_shapes_and_strides(encoder: SamEncoder) -> None:
    with torch.inference_mode():
        features = encoder(torch.zeros(1, 3, 96, 160))
    assert features.s4.shape == (1, 128, 12, 20)
    assert features.s8.shape == (1, 576, 6, 10)
    assert features.s16.shape == (1, 256, 3, 5)


def test_features_are_normalised_over_channels(encoder: SamEncoder) -> None:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        features = encoder(image)
    torch.testing.assert_close(features.s4.mean(1), torch.zeros(1, 8, 8), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.s4.std(1), torch.ones(1, 8, 8), atol=2e-2, rtol=0)


@pytest.mark.parametrize("size", [(100, 128), (1056, 64)])
def test_odd_sizes_are_refused_by_name(encoder: SamEncoder, size: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match=f"{size[0]}x{size[1]}"):
        encoder(torch.zeros(1, 3, *size))


def test_embedding_is_laid_over_the_background(encoder: SamEncoder) -> None:
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
