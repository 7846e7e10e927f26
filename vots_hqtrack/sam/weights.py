"""SAM weights with the HQ head in a file of its own: joined at load, or written as one.

The shipped tiny SAM serves with and without the HQ head, so that the 9.8 million numbers they share
are stored once.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vots_hqtrack.checkpoints.load import load_weights, require_fit
from vots_hqtrack.errors import ConfigError, WeightsError
from vots_hqtrack.io import atomic_path
from vots_hqtrack.sam.models import HQ_DECODER_PARTS, build_empty_sam

SAM_NAME = re.compile(r"sam(?P<hq>-hq)?-(?P<model>vit-(?:tiny|b|l|h))")
"""Names of SAM weights, which say what network they are of."""
_PREFIXES = tuple(f"mask_decoder.{part}." for part in HQ_DECODER_PARTS)


def has_hq_head(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether SAM weights have tensors of an HQ head.

    Args:
        tensors: By the keys of a whole ``Sam``.
    """
    return any(key.startswith(_PREFIXES) for key in tensors)


def load_sam_weights(
    weights: str, *, hq: bool, head: str, published: Path | None = None
) -> dict[str, Tensor]:
    """Read the weights of a SAM network, with its HQ head from a second file if it has none.

    Args:
        weights: Name of the SAM's weights.
        hq: True for HQ-SAM.
        head: Name of the HQ head's weights, read for an HQ-SAM if its own weights have no head;
            empty if there are none.
        published: Folder of a published tracker, read before other weights; or None.

    Returns:
        Tensors on the CPU by the keys of a whole ``Sam``, in the files' dtypes.

    Raises:
        WeightsError: Weights are missing or damaged, or the second file is not an HQ head.
    """
    tensors = load_weights(weights, published)
    if not hq or not head or has_hq_head(tensors):
        return tensors
    extra = load_weights(head, published)
    others = [key for key in extra if not key.startswith(_PREFIXES)]
    if others or not extra:
        found = f"{others[0]} and the like" if others else "nothing"
        raise WeightsError(f"the weights {head} must be an HQ head alone, got {found}")
    return {**tensors, **extra}


def export_weights(name: str, path: Path, *, head: str = "", force: bool = False) -> None:
    """Write SAM weights that are here as one checkpoint that ``segment_anything_hq`` reads.

    The checkpoint is in float32. Of the package's own keys only those of TinyViT's ImageNet
    classifier are missing, which nobody calls.

    Args:
        name: Name of the SAM's weights, such as ``sam-vit-tiny``.
        path: The file to write, such as ``sam_hq_vit_tiny.pth``; its folder must exist.
        head: Name of an HQ head to put into it, or empty.
        force: True replaces a file that is there.

    Raises:
        ConfigError: The name is not that of SAM weights.
        WeightsError: Weights are missing, damaged or do not fit, or the file cannot be written.
    """
    found = SAM_NAME.fullmatch(name)
    if found is None:
        raise ConfigError(
            f"only SAM weights can be exported, such as sam-vit-tiny or sam-hq-vit-h; got {name!r}"
        )
    tensors = load_sam_weights(name, hq=bool(found["hq"] or head), head=head)
    if path.exists() and not force:
        raise WeightsError(f"{path} is there already; give --force to replace it")
    model = found["model"].replace("-", "_")
    own = build_empty_sam(model, hq=has_hq_head(tensors)).state_dict()
    require_fit(own, tensors, source="to export", model=model)
    wide = {
        key: value.float() if value.is_floating_point() else value for key, value in tensors.items()
    }
    try:
        with atomic_path(path) as temporary:
            torch.save(wide, temporary)
    except (OSError, RuntimeError, pickle.PicklingError) as error:
        raise WeightsError(f"cannot write the checkpoint {path}: {error}") from error
