"""The refiner's network, built by the ``segment-anything-hq`` package (paper section 2.2).

Importing that package warns: it uses old names of timm, and registers TinyViT models under timm's
own names (so ``timm.create_model("tiny_vit_21m_512")`` gives the package's model from then on). The
import below silences exactly those messages. It has to be the first one in the process, so take the
package's classes from here.
"""

from __future__ import annotations

import warnings

import torch

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.frame import PIXEL_MEAN, PIXEL_STD

with warnings.catch_warnings():
    warnings.filterwarnings(
        "ignore", r"Importing from timm\.models\.(layers|registry) is deprecated", FutureWarning
    )
    warnings.filterwarnings("ignore", r"Overwriting tiny_vit_\w+ in registry", UserWarning)
    from segment_anything_hq import (
        SamPredictor,
        sam_model_registry,
        sam_model_registry_baseline,
    )
    from segment_anything_hq.modeling import MaskDecoderHQ, Sam

__all__ = [
    "HQ_DECODER_PARTS",
    "MaskDecoderHQ",
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
"""What HQ-SAM's mask decoder has beyond SAM's: the HQ token, its MLP, the fusing convolutions."""


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
    registry = sam_model_registry if hq else sam_model_registry_baseline
    if model not in registry:
        raise ConfigError(f"unknown SAM {model!r}; wanted one of: {', '.join(sorted(registry))}")
    sam = registry[model]()
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
