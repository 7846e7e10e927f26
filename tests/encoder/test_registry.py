"""Encoders by name: what they declare, and what is refused."""

from __future__ import annotations

import pytest
import torch

from vots_hqtrack.encoder import find_encoder, register_encoder
from vots_hqtrack.errors import ConfigError


@pytest.mark.parametrize("name", ["internimage-t", "resnet50", "resnet18", "sam"])
def test_encoders_give_what_they_declare(name: str) -> None:
    spec = find_encoder(name)
    assert spec.name == name
    assert spec.input_scale == spec.strides[0] // 4
    encoder = spec.build().eval()
    with torch.inference_mode():
        features = encoder(torch.zeros(1, 3, 64, 96))
    maps = features.s4, features.s8, features.s16
    for found, channels, stride in zip(maps, spec.channels, spec.strides, strict=True):
        assert found.shape == (1, channels, 64 // stride, 96 // stride)


def test_a_later_registration_replaces_the_first() -> None:
    for channels in ((1, 2, 3), (4, 5, 6)):
        register_encoder("twice", channels=channels)(torch.nn.Identity)
        assert find_encoder("twice").channels == channels


def test_exceptions() -> None:
    with pytest.raises(ConfigError, match=r"unknown encoder\.kind 'sum'; wanted one of: inter"):
        find_encoder("sum")
    with pytest.raises(ConfigError, match="strides must be 4,8,16 or 8,16,32"):
        register_encoder("odd", channels=(8, 8, 8), strides=(2, 4, 8))
    with pytest.raises(ConfigError, match="cannot be used"):
        find_encoder("convnext_atto")
