"""Encoders trained on ImageNet, where the training of VMOS begins.

What comes out has the keys of the encoder's part of VMOS's weights, under the prefix ``encoder.``.
Classifiers are left out, and so are levels that VMOS does not have.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vots_hqtrack.checkpoints.convert import ENCODER_RULES
from vots_hqtrack.checkpoints.load import require_fit
from vots_hqtrack.checkpoints.rename import Rule, invert, rename
from vots_hqtrack.encoder.internimage import build_internimage_t
from vots_hqtrack.encoder.timm import build_timm_encoder

RESNET_RULES = (Rule("**", "encoder.backbone.**"),)
RESNET_UNUSED = ("layer4.*", "fc.*")
COUNTERS = "*.num_batches_tracked"
"""Of batch normalisations; older files lack them, and frozen ones never read them."""

INTERNIMAGE_UNUSED = (
    "levels.2.downsample.*",
    "conv_head.*",
    "head.*",
    "cls.*",
    "clip_projector.*",
    "avgpool.*",
)
"""The down-sampling that VMOS does without, and the parts of the classifiers."""

HALVED_AXES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("levels.3.blocks.*.dcn.offset.bias", ()),
    ("levels.3.blocks.*.dcn.mask.bias", ()),
    ("levels.3.blocks.*.dcn.offset.weight", (1,)),
    ("levels.3.blocks.*.dcn.mask.weight", (1,)),
    ("levels.3.blocks.*.dcn.*_proj.weight", (0, 1)),
    ("levels.3.blocks.*.mlp.fc?.weight", (0, 1)),
    ("levels.3.*", (0,)),
)
"""Axes of which every second element is kept, by key; the first pattern that fits counts.

The last level has twice the width in ImageNet's network. Its groups stay as many, so what is given
for each group and point stays whole.
"""


@dataclass(frozen=True, slots=True)
class ImagenetEncoder:
    """What an ImageNet checkpoint holds for us.

    Attributes:
        tensors: Under the keys of VMOS's weights.
        unused: Keys of the checkpoint that were left out.
    """

    tensors: Mapping[str, Tensor]
    unused: tuple[str, ...]


def internimage_from_imagenet(tensors: Mapping[str, Tensor], *, source: str) -> ImagenetEncoder:
    """Make VMOS's InternImage-T of the classifier of the same name.

    Args:
        tensors: The classifier's, by its own keys.
        source: What to call them in errors, such as the file's path.

    Raises:
        WeightsError: A key is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        shapes = build_internimage_t().state_dict()
    ours = {f"encoder.{key}": value for key, value in shapes.items()}
    halved = rename(ours, invert(ENCODER_RULES), source="the encoder")
    wanted = {
        key: _resized(value, axes_to_halve(key), 2)
        for key, value in _without_prefix(halved, "encoder.").items()
    }
    used, unused = _split(tensors, INTERNIMAGE_UNUSED)
    require_fit(wanted, used, source=source, model="InternImage-T of ImageNet")
    kept = {f"encoder.{key}": halve(value, axes_to_halve(key)) for key, value in used.items()}
    return ImagenetEncoder(rename(kept, ENCODER_RULES, source=source), unused)


def resnet_from_imagenet(tensors: Mapping[str, Tensor], *, source: str) -> ImagenetEncoder:
    """Make VMOS's ResNet-50 of the classifier of torchvision or timm.

    Args:
        tensors: The classifier's, by its own keys.
        source: What to call them in errors, such as the file's path.

    Raises:
        WeightsError: A key is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        wanted = build_timm_encoder("resnet50").backbone.state_dict()
    used, unused = _split(tensors, RESNET_UNUSED)
    require_fit(wanted, used, source=source, model="ResNet-50", allow_missing=(COUNTERS,))
    counters = {key: torch.zeros((), dtype=torch.int64) for key in wanted if key not in used}
    return ImagenetEncoder(rename({**used, **counters}, RESNET_RULES, source=source), unused)


def axes_to_halve(key: str) -> tuple[int, ...]:
    """Return the axes of an ImageNet tensor of which VMOS keeps every second element.

    Example:
        >>> axes_to_halve("levels.3.blocks.0.dcn.offset.weight")
        (1,)
        >>> axes_to_halve("levels.2.blocks.0.dcn.offset.weight")
        ()
    """
    return next((axes for pattern, axes in HALVED_AXES if fnmatch.fnmatchcase(key, pattern)), ())


def halve(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Keep the elements 0, 2, 4, ... of some axes."""
    return tensor[tuple(slice(None, None, 2 if axis in axes else 1) for axis in range(tensor.ndim))]


def _resized(tensor: Tensor, axes: tuple[int, ...], factor: int) -> Tensor:
    sides = (side * factor if axis in axes else side for axis, side in enumerate(tensor.shape))
    return tensor.new_empty(tuple(sides))


def _split(
    tensors: Mapping[str, Tensor], unused: tuple[str, ...]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    left_out = tuple(
        key for key in tensors if any(fnmatch.fnmatchcase(key, pattern) for pattern in unused)
    )
    return {key: value for key, value in tensors.items() if key not in set(left_out)}, left_out


def _without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items()}
