"""SAM networks as the ``segment-anything-hq`` package builds them (paper section 2.3).

The larger SAMs' image encoders are its modules, and the HQ head is trained on its modules; the tiny
SAM does without it. Importing the package takes seconds, so it is done when it is needed. It warns,
as it uses old names of timm, and registers TinyViT models under timm's own names (so
``timm.create_model("tiny_vit_21m_512")`` gives the package's model from then on). The import here
silences exactly those messages. It has to be the first one in the process, so take the package's
classes from here.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

import torch

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.frame import PIXEL_MEAN, PIXEL_STD

if TYPE_CHECKING:
    from segment_anything_hq import SamPredictor
    from segment_anything_hq.modeling import ImageEncoderViT, Sam

__all__ = [
    "HQ_DECODER_PARTS",
    "UNUSED_ENCODER_PARTS",
    "ImageEncoderViT",
    "Sam",
    "SamPredictor",
    "build_empty_sam",
    "build_sam",
]

UNUSED_ENCODER_PARTS = ("norm_head", "head")
"""TinyViT's ImageNet classifier: SAM never calls it, and SAM weights do not carry it."""

HQ_DECODER_PARTS = (
    "hf_token",
    "hf_mlp",
    "compress_vit_feat",
    "embedding_encoder",
    "embedding_maskfeature",
)
"""Parts of HQ-SAM's mask decoder beyond SAM's: the HQ token, its MLP, the fusing convolutions."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the package has
    """Give the package's classes, which are imported at first use."""
    if name == "SamPredictor":
        return _import("segment_anything_hq").SamPredictor
    if name in ("Sam", "ImageEncoderViT"):
        return getattr(_import("segment_anything_hq.modeling"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def build_sam(model: str, *, hq: bool = False) -> Sam:
    """Build a SAM network with random weights, in evaluation mode.

    Args:
        model: The package's name of the network.
        hq: True gives HQ-SAM's mask decoder, False SAM's own. It is not enough to leave the HQ
            output of the former unused: its HQ token takes part in the attention among the output
            tokens, so an untrained one changes SAM's masks too.

    Returns:
        The package's ``Sam`` without parts that only serve image classification, so that its
        ``state_dict`` has exactly the tensors of a SAM weights file.

    Raises:
        ConfigError: The package has no such network.
    """
    package = _import("segment_anything_hq")
    registry = package.sam_model_registry if hq else package.sam_model_registry_baseline
    if model not in registry:
        raise ConfigError(f"unknown SAM {model!r}; wanted one of: {', '.join(sorted(registry))}")
    sam: Sam = registry[model]()
    for part in UNUSED_ENCODER_PARTS:
        if hasattr(sam.image_encoder, part):
            delattr(sam.image_encoder, part)
    return sam.eval()


def build_empty_sam(model: str, *, hq: bool = False) -> Sam:
    """Build a SAM network with empty weights (on the meta device), to be loaded into.

    It takes no memory and no time, where random weights of ViT-H take 2.5 GB and seconds. TinyViT
    reads values while it is built, so it gets random ones; it is small.

    Args:
        model: The package's name of the network.
        hq: True gives HQ-SAM's mask decoder, False SAM's own.

    Raises:
        ConfigError: The package has no such network.
    """
    if model == "vit_tiny":
        return build_sam(model, hq=hq)
    with torch.device("meta"):
        sam = build_sam(model, hq=hq)
    # No weights file has these two.
    for name, values in (("pixel_mean", PIXEL_MEAN), ("pixel_std", PIXEL_STD)):
        sam.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
    return sam


def _import(name: str) -> Any:  # noqa: ANN401 - a package without annotations
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"Importing from timm\.models\.(layers|registry) is deprecated", FutureWarning
        )
        warnings.filterwarnings("ignore", r"Overwriting tiny_vit_\w+ in registry", UserWarning)
        return importlib.import_module(name)
