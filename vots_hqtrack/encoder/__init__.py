"""The registry of image encoders (paper section 2.2).

An encoder is an ``nn.Module`` that maps an image, ``(B, 3, H, W)`` float normalised RGB, to
``FrameFeatures``. It is registered under the name that ``encoder.kind`` takes, with what the rest
of the network is built from: its channels and its strides::

    @register_encoder("mine", channels=(64, 128, 256))
    class MyEncoder(nn.Module):
        def forward(self, image: Tensor) -> FrameFeatures: ...

Any other name is looked up among timm's feature extractors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.registry import Registry

if TYPE_CHECKING:
    from torch import nn

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """A registered encoder.

    Attributes:
        name: Value of ``encoder.kind``.
        channels: Channels of its three feature maps, finest first.
        strides: Strides of the maps in pixels of its input. 4, 8 and 16 have the released model's
            geometry: sides of ``16 k + 1``, corners aligned. With 8, 16 and 32, VMOS's network
            image is half of the input, which is padded to multiples of 32.
        build: Makes it with fresh weights, in training mode.
    """

    name: str
    channels: Triple
    strides: Triple
    build: Callable[[], nn.Module]

    @property
    def input_scale(self) -> int:
        """Pixels of the encoder's input to one of VMOS's network image, each way."""
        return self.strides[0] // 4


_Build = TypeVar("_Build", bound="Callable[[], nn.Module]")
_SPECS: Registry[EncoderSpec] = Registry(
    "encoder.kind",
    {"internimage-t": "vots_hqtrack.encoder.internimage", "sam": "vots_hqtrack.sam.tiny_vit"},
)
_REFINERS = {"sam": "sam"}
"""Encoders that are part of a refiner, with the refiner's name."""


def register_encoder(
    name: str, *, channels: Triple, strides: Triple = (4, 8, 16), of_refiner: str = ""
) -> Callable[[_Build], _Build]:
    """Register a class or function that builds an encoder.

    Args:
        name: Value of ``encoder.kind``; a second registration replaces the first.
        channels: Channels of the three feature maps, finest first.
        strides: Their strides in pixels of the encoder's input: ``(4, 8, 16)`` or ``(8, 16, 32)``.
        of_refiner: Name of the refiner that this encoder is a part of, if it is one: with that
            refiner, both stages share it (``Refiner.shared_encoder``), and its weights are there.

    Raises:
        ConfigError: The strides are others.
    """
    if strides not in ((4, 8, 16), (8, 16, 32)):
        raise ConfigError(f"encoder {name!r}: strides must be 4,8,16 or 8,16,32, got {strides}")

    def register(build: _Build) -> _Build:
        _SPECS.add(name, EncoderSpec(name, channels, strides, build))
        if of_refiner:
            _REFINERS[name] = of_refiner
        return build

    return register


def is_part_of(encoder: str, refiner: str) -> bool:
    """Return whether an encoder is a part of a refiner, both by their names.

    Example:
        >>> is_part_of("sam", "sam"), is_part_of("sam", "sam2"), is_part_of("resnet50", "sam")
        (True, False, False)
    """
    return _REFINERS.get(encoder) == refiner


def find_encoder(name: str) -> EncoderSpec:
    """Return an encoder by its name: a registered one, or one of timm's.

    Raises:
        ConfigError: The name is unknown, or timm's encoder gives no maps at strides 4, 8 and 16.
    """
    spec = _SPECS.find(name)
    if spec is None:
        from vots_hqtrack.encoder.timm import find_timm_encoder

        spec = find_timm_encoder(name)
    if spec is None:
        raise _SPECS.unknown(name, ", or a name of timm's such as resnet50")
    return spec
