"""Dtype of each layer of the tracker (docs/decisions/0014): one rule for all.

A network is built for a dtype, and a layer computes in the dtype of its weights, to which its input
is cast. Autocast is never on while the tracker runs. Three groups of layers follow the rule:

- VMOS, an encoder of its own, and SAM's ViT: :func:`cast_to_low_precision` gives 16-bit weights to
  some layers and casts the input of every layer.
- SAM's TinyViT and mask decoder (``sam.tiny_vit``,
  ``sam.mask_decoder``): one dtype for weights and maps, given to their constructors.
- Whatever has few weights (SAM's prompt encoder): float32.

VMOS on SAM's features was trained with all its linear layers and convolutions rounded, and runs so
(``runtime.low_precision=all``). With the released weights that changes more than one mask pixel in
fifty. Measured part by part, two thirds of that comes from the encoder's fine maps, from what is
added to the token streams, and from the convolutions behind them, which are a fifth of all
operations. The other four fifths bear it (``robust``): matmuls that are averaged over hundreds of
memory tokens, and what they multiply. All else then stays in float32: norms, gates, residuals,
output projections, fusions and the decoder. Attention computes in the dtype of the keys and values
that it is given, with sums in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.config import LowPrecision
from vots_hqtrack.encoder.dcnv3 import DeformableConv
from vots_hqtrack.encoder.internimage import Block, InternImage
from vots_hqtrack.identity import IdentityBank
from vots_hqtrack.propagation.block import GatedPropagationBlock

MATMUL_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)


def cast_to_low_precision(
    network: nn.Module, dtype: torch.dtype, which: LowPrecision = "robust"
) -> None:
    """Give 16-bit weights to layers of a network, and cast the input of every layer.

    Args:
        network: VMOS or its encoder; changed in place.
        dtype: ``torch.bfloat16`` or ``torch.float16``; ``torch.float32`` changes nothing.
        which: ``all`` linear layers and convolutions but deformable ones; or the ``robust`` ones,
            of which an encoder other than InternImage has none.
    """
    if which == "all":
        # A deformable convolution joins the weights of its layers, and its offsets need float32.
        exempt = {
            layer
            for module in network.modules()
            if isinstance(module, DeformableConv)
            for layer in module.modules()
        }
        layers = (layer for layer in network.modules() if isinstance(layer, MATMUL_LAYERS))
        cast_layers(network, (layer for layer in layers if layer not in exempt), dtype)
    else:
        robust = (layer for module in network.modules() for layer in _robust_layers(module))
        cast_layers(network, robust, dtype)


def cast_layers(network: nn.Module, chosen: Iterable[nn.Module], dtype: torch.dtype) -> None:
    """Give 16-bit weights to the chosen layers, and cast the input of every layer of a network.

    Args:
        network: Changed in place.
        chosen: Layers of it.
        dtype: Dtype of their weights; ``torch.float32`` changes nothing.
    """
    layers = list(chosen)
    if dtype == torch.float32 or not layers:
        return
    for layer in layers:
        layer.to(dtype)
    for layer in network.modules():
        if isinstance(getattr(layer, "weight", None), nn.Parameter):
            layer.register_forward_pre_hook(_cast_input)


def _robust_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Find the layers that a module owns and that may be rounded."""
    if isinstance(module, GatedPropagationBlock):
        attention = module.self_attention
        yield from (module.key_value, module.identity_value, module.short_term.relative_bias)
        yield from (attention.query_key, attention.visual_value, attention.identity_value)
    elif isinstance(module, IdentityBank):
        yield from (bank for bank in (module.bank_s16, module.bank_s8) if bank is not None)
    elif isinstance(module, InternImage):
        for stage in module.stages_s16():
            mlps = (block.mlp for block in stage.modules() if isinstance(block, Block))
            yield from (layer for mlp in mlps for layer in mlp if isinstance(layer, nn.Linear))


def _cast_input(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...] | None:
    """Bring what goes into a layer to the dtype of its weights."""
    (x,) = inputs
    parts: Any = layer
    dtype: torch.dtype = parts.weight.dtype
    # Runs for some 400 layers a frame, most of which need no cast. Embeddings are given integers.
    return None if x.dtype == dtype or not x.is_floating_point() else (x.to(dtype),)
