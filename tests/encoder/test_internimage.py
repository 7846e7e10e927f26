"""InternImage: shapes, strides, the order of its levels, and gradients."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from vots_hqtrack.encoder.dcnv3 import DeformableConv
from vots_hqtrack.encoder.internimage import InternImage, build_internimage_t
from vots_hqtrack.errors import ShapeError


def small(seed: int = 0) -> InternImage:
    torch.manual_seed(seed)
    return InternImage(widths=(8, 16, 24), depths=(1, 2, 1, 2), groups=(2, 4, 4, 8)).eval()


@pytest.mark.parametrize(("height", "width"), [(17, 17), (33, 49), (40, 30), (1, 16)])
def test_shapes(height: int, width: int) -> None:
    encoder = small()
    with torch.inference_mode():
        features = encoder(torch.randn(2, 3, height, width))
    for feature_map, channels, stride in zip(
        (features.s4, features.s8, features.s16), encoder.dims, (4, 8, 16), strict=True
    ):
        assert feature_map.shape == (2, channels, -(-height // stride), -(-width // stride))
        assert torch.isfinite(feature_map).all()


def test_features_are_normalised_over_channels() -> None:
    features = small()(torch.randn(1, 3, 33, 33))
    for feature_map in (features.s4, features.s8, features.s16):
        mean, variance = feature_map.mean(1), feature_map.var(1, correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
        torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-3, rtol=0)


def test_last_stage_reads_the_normalised_third() -> None:
    """The released model keeps the fourth stage at stride 16, on the third's normalised map."""
    encoder = small()
    image = torch.randn(1, 3, 49, 33)
    third = {}
    hook = encoder.levels[2].norm.register_forward_hook(lambda *call: third.update(out=call[2]))
    with torch.inference_mode():
        features = encoder(image)
        expected = encoder.levels[3](third["out"])
    hook.remove()
    assert torch.equal(features.s16, expected.permute(0, 3, 1, 2))
    assert not torch.equal(features.s16, third["out"].permute(0, 3, 1, 2))


def test_non_contiguous_image() -> None:
    encoder, image = small(), torch.randn(1, 3, 33, 49)
    strided = image.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(strided).s16, encoder(image).s16)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    encoder = small()
    features = encoder(torch.randn(1, 3, 33, 33))
    sum(
        feature_map.square().mul(torch.rand_like(feature_map)).sum()
        for feature_map in (features.s4, features.s8, features.s16)
    ).backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_fresh_layer_averages_its_neighbours() -> None:
    """No offsets and even weights: the layer starts as a 3 x 3 average between two projections."""
    torch.manual_seed(0)
    layer = DeformableConv(8, groups=2)
    x = torch.randn(1, 5, 6, 8)
    averaged = F.avg_pool2d(layer.value(x).permute(0, 3, 1, 2), 3, 1, 1, count_include_pad=True)
    torch.testing.assert_close(layer(x), layer.output(averaged.permute(0, 2, 3, 1)))


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(3, 32, 32),
        torch.zeros(1, 1, 32, 32),
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
    ],
)
def test_exception(image: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"float image \(B, 3, H, W\), got"):
        small()(image)


def test_released_size() -> None:
    with torch.device("meta"):
        encoder = build_internimage_t()
    assert encoder.dims == (64, 128, 256)
    assert len(encoder.state_dict()) == 682
    assert sum(p.numel() for p in encoder.parameters()) == 18_813_680
