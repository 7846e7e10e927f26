"""Dropout and drop path as forward hooks, which act in training mode alone.

The network's own code has no dropout: it is the code of inference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.encoder.internimage import Block
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.propagation.attention import GatedOutput
from vots_hqtrack.training.recipe import RegularisationOptions
from vots_hqtrack.vmos import VMOS

Hook = Callable[[nn.Module, Any, Tensor], Tensor]


def regularise_vmos(vmos: VMOS, options: RegularisationOptions) -> None:
    """Add dropout of channels and drop path to VMOS.

    Args:
        vmos: The network; its modules get hooks.
        options: Probabilities.
    """
    for module in vmos.modules():
        if isinstance(module, GatedOutput) and options.dropout:
            module.depthwise.register_forward_hook(_drop_channels(options.dropout))
    for block in vmos.pyramid.blocks:
        if block.stride == 16 and options.drop_path:
            block.self_attention.register_forward_hook(_drop_samples(options.drop_path))


def regularise_encoder(encoder: nn.Module, options: RegularisationOptions) -> None:
    """Add drop path to InternImage: nothing at the first block, growing evenly to the last.

    Args:
        encoder: The network; its modules get hooks.
        options: Probabilities.

    Raises:
        ConfigError: The encoder has no such blocks.
    """
    blocks = [module for module in encoder.modules() if isinstance(module, Block)]
    if not options.encoder_drop_path:
        return
    if not blocks:
        raise ConfigError(
            "regularisation.encoder_drop_path must be 0: this encoder has no InternImage blocks"
        )
    for number, block in enumerate(blocks):
        probability = options.encoder_drop_path * number / max(len(blocks) - 1, 1)
        if probability:
            block.conv.register_forward_hook(_drop_samples(probability))
            block.mlp.register_forward_hook(_drop_samples(probability))


def _drop_channels(probability: float) -> Hook:
    def hook(module: nn.Module, _: object, output: Tensor) -> Tensor:
        return F.dropout2d(output, probability, training=module.training)

    return hook


def _drop_samples(probability: float) -> Hook:
    def hook(module: nn.Module, _: object, output: Tensor) -> Tensor:
        if not module.training:
            return output
        kept = output.new_empty(len(output), *(1,) * (output.ndim - 1)).bernoulli_(1 - probability)
        return output * kept / (1 - probability)

    return hook
