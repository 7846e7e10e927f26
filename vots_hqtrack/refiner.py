"""The refiner: initial masks in, sharper masks out; its protocol and registry (paper section 2.3).

A refiner is registered under the name that ``refiner.kind`` takes, by a function that builds it::

    @register_refiner("mine")
    def build_mine(config: RefinerConfig, options: RefinerOptions) -> MyRefiner: ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from vots_hqtrack.config import CompileBackend, RefinerConfig
from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.frame import FrameGeometry
from vots_hqtrack.registry import Registry
from vots_hqtrack.types import FrameArray, FrameFeatures, MaskArray

Box = tuple[float, float, float, float]
"""``(x, y, width, height)`` in frame pixels, pixel edges."""


@dataclass(frozen=True, slots=True)
class Refinement:
    """The refiner's masks of N objects.

    Attributes:
        masks: ``(N, H, W)`` bool, frame pixels.
        predicted_iou: ``(N,)`` float32 in ``[0, 1]``: the refiner's estimate of each mask's IoU
            with the truth; 0 where the initial mask was empty.
    """

    masks: Tensor
    predicted_iou: Tensor


class Click(NamedTuple):
    """A point inside an object, or one outside of it.

    Attributes:
        x: Frame pixels from the left edge.
        y: Frame pixels from the top edge.
        is_inside: False for a point that is not the object.
    """

    x: float
    y: float
    is_inside: bool = True


@dataclass(frozen=True, slots=True)
class ObjectPrompt:
    """Prompts of one object on one frame: a box, clicks, or both.

    Attributes:
        clicks: Points inside and outside of the object.
        box: Box around it, or None.
        mask: ``(H, W)`` bool mask so far, which the clicks correct, or None.
    """

    clicks: tuple[Click, ...] = ()
    box: Box | None = None
    mask: MaskArray | None = None


class Refiner(Protocol):
    """Interface of a mask refiner. It keeps no data of a frame or video.

    Attributes:
        shared_encoder: Its image encoder if VMOS reads that too (an encoder that is registered
            as a part of this refiner); None otherwise.
    """

    shared_encoder: nn.Module | None

    def embed(self, encoded: EncodedFrame) -> Any:  # noqa: ANN401 - each refiner's own
        """Compute once for each frame what all its objects need."""

    def refine(self, embedding: Any, masks: Tensor) -> Refinement:  # noqa: ANN401
        """Refine ``(N, H, W)`` bool masks; an empty one stays empty."""

    def segment_boxes(self, embedding: Any, boxes: Sequence[Box]) -> Tensor:  # noqa: ANN401
        """Segment what each box encloses: ``(N, H, W)`` bool."""

    def segment(self, embedding: Any, prompt: ObjectPrompt) -> Tensor:  # noqa: ANN401
        """Segment the object that clicks or a box name: ``(H, W)`` bool."""


@runtime_checkable
class PrecomputesForClicks(Protocol):
    """Interface of a refiner with work that all clicks on a frame share."""

    def precompute(self, embedding: Any) -> Any:  # noqa: ANN401
        """Return what ``segment`` takes in place of the frame's embedding."""


@runtime_checkable
class EncodesPreviews(Protocol):
    """Interface of a refiner that can read a frame at a reduced resolution.

    Attributes:
        saves_time_by_previews: Whether that takes less time than the whole frame.
    """

    @property
    def saves_time_by_previews(self) -> bool: ...  # noqa: D102 - see above

    def encode_preview(self, frame: FrameArray, geometry: FrameGeometry) -> FrameFeatures:
        """Encode a frame for masks that others will replace."""


@dataclass(frozen=True, slots=True)
class RefinerOptions:
    """Options of building a refiner, beside its configuration.

    Attributes:
        device: Compute device.
        dtype: Dtype of its heavy layers.
        has_weights: False builds it with random weights, which need not be on disk.
        shares_encoder: VMOS reads the refiner's image encoder.
        compile_with: Option ``runtime.compile``, for its image encoder.
        published: Folder of a published tracker, read before other weights; or None.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    has_weights: bool = True
    shares_encoder: bool = False
    compile_with: CompileBackend = "off"
    published: Path | None = None


BuildRefiner = Callable[[RefinerConfig, RefinerOptions], Refiner]
_Build = TypeVar("_Build", bound=BuildRefiner)
_BUILDERS: Registry[BuildRefiner] = Registry(
    "refiner.kind", {"sam": "vots_hqtrack.sam.refiner", "sam2": "vots_hqtrack.sam.sam2"}
)


def register_refiner(name: str) -> Callable[[_Build], _Build]:
    """Register a function that builds a refiner.

    Args:
        name: Value of ``refiner.kind``; a second registration replaces the first.
    """

    def register(build: _Build) -> _Build:
        _BUILDERS.add(name, build)
        return build

    return register


def build_refiner(config: RefinerConfig, options: RefinerOptions) -> Refiner:
    """Build the refiner that ``refiner.kind`` names.

    Args:
        config: Its configuration.
        options: Device, dtype and weights.

    Raises:
        ConfigError: The name is unknown, or an option does not suit it.
        WeightsError: Its weights are missing, damaged, or do not fit.
    """
    build = _BUILDERS.find(config.kind)
    if build is None:
        raise _BUILDERS.unknown(config.kind)
    return build(config, options)


def shared_encoder_of(refiner: Refiner | None, kind: str) -> nn.Module:
    """Return the image encoder of a refiner that VMOS reads too.

    Args:
        refiner: The refiner; None if there is none.
        kind: Name of the refiner in errors.

    Raises:
        ConfigError: It has no such encoder.
    """
    encoder = None if refiner is None else refiner.shared_encoder
    if encoder is None:
        raise ConfigError(f"the refiner {kind!r} has no encoder that VMOS can read")
    return encoder
