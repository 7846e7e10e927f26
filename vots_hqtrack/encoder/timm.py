"""Convolutional backbones of timm as VMOS's encoder; ResNet-50 is the paper's baseline (Table 2).

Stages coarser than stride 16 are not built: DeAOT never reads one. Batch normalisations are frozen,
as in DeAOT: clips of a few frames are too small a batch to take statistics of. timm takes seconds
to import, so that is done when one of its networks is asked for.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.encoder import EncoderSpec, Triple
from vots_hqtrack.errors import ConfigError, ShapeError
from vots_hqtrack.types import FrameFeatures

STRIDES = (4, 8, 16)
PROBE_SIZE = (33, 49)
"""Tells strides, rounding and the order of the axes apart."""


class TimmEncoder(nn.Module):
    """Feature maps of a backbone at strides 4, 8 and 16.

    The weights have the names that timm gives them, so an ImageNet checkpoint fits without a rename
    table.

    Args:
        backbone: ``timm.create_model(..., features_only=True)`` with maps at strides 4, 8 and 16.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        for norm in self._norms():
            norm.eval()
            for parameter in norm.parameters(recurse=False):
                parameter.requires_grad = False

    def train(self, mode: bool = True) -> TimmEncoder:
        """Switch between training and evaluation; batch normalisations stay in evaluation."""
        super().train(mode)
        for norm in self._norms():
            norm.eval()
        return self

    def forward(self, image: Tensor) -> FrameFeatures:
        """Encode images.

        Args:
            image: ``(B, 3, H, W)`` float, normalised RGB of any size.

        Returns:
            Maps at strides 4, 8 and 16, each size rounded up.

        Raises:
            ShapeError: The tensor is another one.
        """
        if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
            got = f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
            raise ShapeError(f"the backbone wants a float image (B, 3, H, W), got {got}")
        s4, s8, s16 = self.backbone(image)
        return FrameFeatures(s4, s8, s16)

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]


def find_timm_encoder(name: str) -> EncoderSpec | None:
    """Return what one of timm's feature extractors gives; None if timm has no model of that name.

    Raises:
        ConfigError: It gives no maps ``(B, C, H', W')`` at strides 4, 8 and 16 of an image of any
            size, each size rounded up.
    """
    import timm

    if not timm.is_model(name):
        return None
    _, channels = _find_stages(name)
    return EncoderSpec(name, channels, STRIDES, lambda: build_timm_encoder(name))


def build_timm_encoder(name: str) -> TimmEncoder:
    """Build an encoder with fresh weights; nothing is downloaded.

    Args:
        name: timm's name of the backbone, such as ``resnet50``.

    Raises:
        ConfigError: timm has no such backbone, or it does not suit; see :func:`find_timm_encoder`.
    """
    import timm

    stages, _ = _find_stages(name)
    return TimmEncoder(
        timm.create_model(name, pretrained=False, features_only=True, out_indices=stages)
    )


@lru_cache(maxsize=8)
def _find_stages(name: str) -> tuple[tuple[int, ...], Triple]:
    """Return timm's indices of the maps at the wanted strides, and their channels.

    Sizes are read from the maps of an empty image: what timm declares does not say how they are
    rounded.
    """
    import timm

    if not timm.is_model(name):
        raise ConfigError(f"unknown backbone {name!r}: wanted a name of timm's, such as resnet50")
    height, width = PROBE_SIZE
    try:
        with torch.device("meta"):
            whole: Any = timm.create_model(name, pretrained=False, features_only=True).eval()
            maps = whole(torch.empty(1, 3, height, width))
    except (AssertionError, AttributeError, NotImplementedError, RuntimeError) as error:
        raise ConfigError(
            f"the backbone {name!r} gives no maps of an image of {width}x{height} pixels: {error}"
        ) from error
    sizes = [tuple(stage.shape[2:]) for stage in maps]
    found = dict(zip(sizes, zip(whole.feature_info.out_indices, maps, strict=True), strict=True))
    wanted = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    if not found.keys() >= set(wanted):
        raise ConfigError(
            f"the backbone {name!r} cannot be used: of an image of {width}x{height} pixels wanted "
            f"maps (B, C, H', W') of the sizes {wanted}, got {sizes}"
        )
    first, second, third = (found[size] for size in wanted)
    indices = (first[0], second[0], third[0])
    return indices, (first[1].shape[1], second[1].shape[1], third[1].shape[1])
