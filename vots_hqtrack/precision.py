"""Which dtype each layer of the tracker computes in (docs/decisions/0014): the one rule for all.

A layer computes in the dtype of its weights, and its input is cast to that dtype. No layer is given
weights of one dtype and an input of another: the CPU's kernels accept some such pairs, CUDA's
refuse them. Three kinds of networks follow the rule, each in its own way:

- VMOS with an encoder of its own (the released model and its relatives): :func:`lower_products`
  gives 16-bit weights to some layers and casts the input of every layer. Autocast is off.
- Networks that are fused for inference (``encoder.tinyvit``, ``refiner.prepared``): one dtype for
  weights and maps, which they are built with. Autocast has no effect on them.
- All others (VMOS on SAM's features, the refiner's ViT, whatever is trained): float32 weights under
  autocast, as :func:`uses_autocast` decides.

Rounding everything, as autocast does, changes more than one mask pixel in fifty of the released
model. Measured part by part, two thirds of that comes from the encoder's fine maps, from what is
added to the token streams, and from the convolutions behind them, which are a fifth of all
operations. The other four fifths bear it: matmuls that are averaged over hundreds of memory tokens,
and what they multiply. Those are the layers that get 16-bit weights; attention computes in the
dtype of the keys and values that it is given, with sums in float32. All else stays in float32:
norms, gates, residuals, output projections, fusions and the decoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.encoder.internimage import Block, InternImage
from vots_hqtrack.identity import IdentityBank
from vots_hqtrack.propagation.block import GatedPropagationBlock


def lower_products(network: nn.Module, dtype: torch.dtype) -> None:
    """Give 16-bit weights to the layers that bear it, and cast the input of every layer.

    Args:
        network: VMOS or its encoder; one without such layers stays as it is.
        dtype: ``torch.bfloat16`` or ``torch.float16``; ``torch.float32`` changes nothing.
    """
    rounded = [layer for module in network.modules() for layer in _robust_layers(module)]
    if dtype == torch.float32 or not rounded:
        return
    for layer in rounded:
        layer.to(dtype)
    for layer in network.modules():
        if isinstance(getattr(layer, "weight", None), nn.Parameter):
            layer.register_forward_pre_hook(_cast_input)


def uses_autocast(config: TrackerConfig, dtype: torch.dtype, *, refining: bool) -> bool:
    """Tell whether a part of the tracker runs under autocast.

    Args:
        config: Of the tracker.
        dtype: That it computes in.
        refining: Whether the refiner runs, or VMOS and its encoder.
    """
    return dtype != torch.float32 and (refining or config.encoder.kind == "sam")


def _robust_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Find the layers that a module owns and that may be rounded."""
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


def _cast_input(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...] | None:
    """Bring what goes into a layer to the dtype of its weights."""
    (x,) = inputs
    parts: Any = layer
    dtype: torch.dtype = parts.weight.dtype
    # Runs for some 400 layers a frame, most of which are given what they want.
    return None if x.dtype == dtype else (x.to(dtype),)
