"""timm's backbones as encoders: strides, names of the weights, frozen statistics, refusals."""

import pytest
import timm
import torch
from torch import nn

from vots_hqtrack.encoder import find_encoder
from vots_hqtrack.encoder.timm import TimmEncoder, build_timm_encoder
from vots_hqtrack.errors import ConfigError, ShapeError


@pytest.fixture(scope="module")
def encoder() -> TimmEncoder:
    torch.manual_seed(0)
    return build_timm_encoder("resnet50").eval()


@pytest.mark.parametrize(("height", "width"), [(33, 49), (97, 129), (40, 30), (1, 16)])
def test_shapes(encoder: TimmEncoder, height: int, width: int) -> None:
    with torch.inference_mode():
        features = encoder(torch.randn(2, 3, height, width))
    channels = find_encoder("resnet50").channels
    assert channels == (256, 512, 1024)
    maps = features.s4, features.s8, features.s16
    for found, count, stride in zip(maps, channels, (4, 8, 16), strict=True):
        assert found.shape == (2, count, -(-height // stride), -(-width // stride))
        assert torch.isfinite(found).all()


def test_values_are_those_of_the_classifier(encoder: TimmEncoder) -> None:
    """The maps are what timm's whole ResNet-50 computes on its way, under the same key names."""
    whole = timm.create_model("resnet50", pretrained=False, num_classes=0).eval()
    weights = encoder.backbone.state_dict()
    left_over = set(whole.state_dict()) - set(weights)
    assert {key.split(".")[0] for key in left_over} == {"layer4"}
    whole.load_state_dict(whole.state_dict() | weights)
    image = torch.randn(1, 3, 49, 33, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        x = whole.maxpool(whole.act1(whole.bn1(whole.conv1(image))))
        found = encoder(image)
        for layer, feature_map in zip(
            (whole.layer1, whole.layer2, whole.layer3),
            (found.s4, found.s8, found.s16),
            strict=True,
        ):
            x = layer(x)
            torch.testing.assert_close(feature_map, x)


def test_training_leaves_the_normalisations_alone() -> None:
    torch.manual_seed(0)
    encoder = build_timm_encoder("resnet18").train()
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    image = 3 + torch.randn(2, 3, 33, 49)
    features = encoder(image)
    sum(
        feature_map.square().mean() for feature_map in (features.s4, features.s8, features.s16)
    ).backward()
    assert before
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())
    norms = [part for part in encoder.modules() if isinstance(part, nn.BatchNorm2d)]
    frozen = {id(p) for norm in norms for p in norm.parameters()}
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is None) == (id(parameter) in frozen), name
    assert encoder.training
    assert not any(norm.training for norm in norms)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.eval()(image).s16, features.s16.detach())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("resnet5", "unknown backbone 'resnet5'"),
        ("convnext_atto", r"of the sizes \[\(9, 13\), \(5, 7\), \(3, 4\)\], got \[\(8, 12\)"),
        ("vit_tiny_patch16_224", "gives no maps of an image of 49x33 pixels"),
    ],
)
def test_exception_backbones_that_do_not_fit(name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        build_timm_encoder(name)


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(3, 32, 32),
        torch.zeros(1, 1, 32, 32),
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
    ],
)
def test_exception(encoder: TimmEncoder, image: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"float image \(B, 3, H, W\), got"):
        encoder(image)
