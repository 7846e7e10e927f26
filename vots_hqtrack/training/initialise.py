"""Initial weights of VMOS."""

from __future__ import annotations

import torch
from torch import nn

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.propagation.block import GatedPropagationBlock
from vots_hqtrack.propagation.fusion import ResidualBlock
from vots_hqtrack.propagation.multi_scale import MultiScalePropagation
from vots_hqtrack.vmos import VMOS

QUERY_GAIN = 1.4
"""Makes the score of a token with itself about 15, so that the softmax tells it from some thousand
others."""
NEAR_DISTANCE = 4.0


@torch.no_grad()
def start_as_similarity(vmos: VMOS) -> None:
    """Initialise so that matching begins as plain feature similarity.

    Projections to queries and keys are orthogonal, which keeps angles; refinements begin as
    identities; the short-term attention begins with a preference for near tokens.

    Raises:
        ConfigError: The network has single-scale propagation.
    """
    propagation = vmos.pyramid
    if not isinstance(propagation, MultiScalePropagation):
        raise ConfigError("model.similarity_start needs multi-scale propagation")
    for projection in (propagation.project_s16, propagation.project_s8, propagation.project_s4):
        nn.init.orthogonal_(projection.weight.flatten(1))
        if projection.bias is not None:
            nn.init.zeros_(projection.bias)
    for module in vmos.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.second.norm.weight)
        if isinstance(module, GatedPropagationBlock):
            _start_block(module)


def _start_block(block: GatedPropagationBlock) -> None:
    narrow = block.width // 2
    nn.init.orthogonal_(block.key_value.weight[:narrow], gain=QUERY_GAIN)
    nn.init.zeros_(block.key_value.bias)
    radius = block.short_term.radius
    offset = torch.arange(-radius, radius + 1, dtype=torch.float32)
    distance = offset[:, None] ** 2 + offset**2
    block.short_term.relative_bias.bias.copy_(-distance.flatten() / (2 * NEAR_DISTANCE**2))
    nn.init.zeros_(block.short_term.relative_bias.weight)
