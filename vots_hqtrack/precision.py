"""Which products of the released model run in a 16-bit format (docs/decisions/0014).

Rounding everything, as autocast does, changes more than one mask pixel in fifty. Measured part by
part, two thirds of that comes from the encoder's fine maps, from what is added to the token
streams, and from the convolutions behind them, which are a fifth of all operations. The other four
fifths bear it: products that are averaged over hundreds of memory tokens, and what they multiply.

So the products listed here get 16-bit weights and cast their own input, by hooks from outside;
attention computes in the format of the keys and values that it is given, with sums in float32. All
else stays in float32: norms, gates, shortcuts, output projections, fusions and the decoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.encoder.internimage import Block, InternImage
from vots_hqtrack.identity import IdentityBank
from vots_hqtrack.propagation.block import GatedPropagationBlock


def lower_products(network: nn.Module, dtype: torch.dtype) -> None:
    """Make the products of a network that bear it compute in a 16-bit format.

    Args:
        network: VMOS or its encoder; one without such products stays as it is.
        dtype: ``torch.bfloat16`` or ``torch.float16``; ``torch.float32`` changes nothing.
    """
    if dtype == torch.float32:
        return
    for module in network.modules():
        for product in _robust_products(module):
            product.to(dtype)
            product.register_forward_pre_hook(_cast_input)


def _robust_products(module: nn.Module) -> Iterator[nn.Module]:
    """Find the products that a module owns and that may be rounded."""
    if isinstance(module, GatedPropagationBlock):
        attention = module.self_attention
        yield from (module.key_value, module.identity_value, module.short_term.relative_bias)
        yield from (attention.query_key, attention.visual_value, attention.identity_value)
    elif isinstance(module, IdentityBank):
        yield from (bank for bank in (module.bank_s16, module.bank_s8) if bank is not None)
    elif isinstance(module, InternImage):
        for level in module.levels_s16():
            perceptrons = (block.mlp for block in level.modules() if isinstance(block, Block))
            yield from (
                layer for mlp in perceptrons for layer in mlp if isinstance(layer, nn.Linear)
            )


def _cast_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Bring what goes into a product to the format of its weights."""
    weight: Tensor = module.get_parameter("weight")
    return tuple(x.to(weight.dtype) for x in inputs)
