"""Encoders trained on ImageNet, from which VMOS is trained.

The results have the keys of the encoder in VMOS's weights, with the prefix ``encoder.``.
Classifiers are left out, and so are stages that VMOS does not have.
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

_RESNET_RULES = (Rule("**", "encoder.backbone.**"),)
_RESNET_UNUSED = ("layer4.*", "fc.*")
_COUNTERS = "*.num_batches_tracked"
"""Counters of batch normalisation; older files lack them, and frozen layers never read them."""
_INTERNIMAGE_UNUSED = (
    "levels.2.downsample.*",
    "conv_head.*",
    "head.*",
    "cls.*",
    "clip_projector.*",
    "avgpool.*",
)
"""The downsampling that VMOS does without, and the parts of the classifiers."""
_HALVED_AXES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("levels.3.blocks.*.dcn.offset.bias", ()),
    ("levels.3.blocks.*.dcn.mask.bias", ()),
    ("levels.3.blocks.*.dcn.offset.weight", (1,)),
    ("levels.3.blocks.*.dcn.mask.weight", (1,)),
    ("levels.3.blocks.*.dcn.*_proj.weight", (0, 1)),
    ("levels.3.blocks.*.mlp.fc?.weight", (0, 1)),
    ("levels.3.*", (0,)),
)
"""Axes of which every second element is kept, by key; the first pattern that fits counts.

The last stage has twice the width in ImageNet's network, and as many groups: parameters by group
and point stay whole.
"""


@dataclass(frozen=True, slots=True)
class Content:
    """The tensors of a checkpoint that the package uses.

    Attributes:
        tensors: On the CPU, under the keys that the package's networks have.
        unused: Keys of the checkpoint that were left out.
    """

    tensors: Mapping[str, Tensor]
    unused: tuple[str, ...] = ()


def leave_out(tensors: Mapping[str, Tensor], unused: tuple[str, ...]) -> Content:
    """Leave out the tensors that fit one of some shell-style patterns."""
    left_out = dict.fromkeys(
        key for key in tensors if any(fnmatch.fnmatchcase(key, pattern) for pattern in unused)
    )
    kept = {key: value for key, value in tensors.items() if key not in left_out}
    return Content(kept, tuple(left_out))


def internimage_from_imagenet(tensors: Mapping[str, Tensor], *, source: str) -> Content:
    """Convert the classifier InternImage-T to VMOS's encoder.

    Args:
        tensors: The classifier's, by its own keys.
        source: Name of the tensors in errors, such as the file's path.

    Raises:
        WeightsError: A key is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        shapes = build_internimage_t().state_dict()
    ours = {f"encoder.{key}": value for key, value in shapes.items()}
    theirs = rename(ours, invert(ENCODER_RULES), source="the encoder")
    wanted = {}
    for name, value in theirs.items():
        key = name.removeprefix("encoder.")
        axes = axes_to_halve(key)
        sides = [2 * side if axis in axes else side for axis, side in enumerate(value.shape)]
        wanted[key] = value.new_empty(sides)
    content = leave_out(tensors, _INTERNIMAGE_UNUSED)
    require_fit(wanted, content.tensors, source=source, model="InternImage-T of ImageNet")
    halved = {}
    for key, value in content.tensors.items():
        axes = axes_to_halve(key)
        steps = (slice(None, None, 2 if axis in axes else 1) for axis in range(value.ndim))
        halved[f"encoder.{key}"] = value[tuple(steps)]
    return Content(rename(halved, ENCODER_RULES, source=source), content.unused)


def resnet_from_imagenet(tensors: Mapping[str, Tensor], *, source: str) -> Content:
    """Convert the classifier ResNet-50 of torchvision or timm to VMOS's encoder.

    Args:
        tensors: The classifier's, by its own keys.
        source: Name of the tensors in errors, such as the file's path.

    Raises:
        WeightsError: A key is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        wanted = build_timm_encoder("resnet50").backbone.state_dict()
    content = leave_out(tensors, _RESNET_UNUSED)
    used = content.tensors
    require_fit(wanted, used, source=source, model="ResNet-50", allow_missing=(_COUNTERS,))
    counters = {key: torch.zeros((), dtype=torch.int64) for key in wanted if key not in used}
    renamed = rename({**used, **counters}, _RESNET_RULES, source=source)
    return Content(renamed, content.unused)


def axes_to_halve(key: str) -> tuple[int, ...]:
    """Return the axes of an ImageNet tensor of which VMOS keeps every second element.

    Example:
        >>> axes_to_halve("levels.3.blocks.0.dcn.offset.weight")
        (1,)
        >>> axes_to_halve("levels.2.blocks.0.dcn.offset.weight")
        ()
    """
    return next((axes for pattern, axes in _HALVED_AXES if fnmatch.fnmatchcase(key, pattern)), ())
