"""The released VMOS checkpoint under our names, and back.

Our flat form has three prefixes: ``encoder.`` for InternImage, ``vmos.`` for everything else that
computes, and ``dead.`` for the entries of the released model that never touch its output. The dead
ones are kept so that an export is complete; the models are loaded from the other two.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vots_hqtrack.checkpoints.load import require_fit
from vots_hqtrack.checkpoints.reader import read_checkpoint
from vots_hqtrack.checkpoints.rename import Rule, invert, rename
from vots_hqtrack.config import EncoderConfig, VMOSConfig, released_vmos
from vots_hqtrack.encoder import find_encoder
from vots_hqtrack.vmos import build_vmos

_ENCODER = (
    ("encoder.patch_embed.conv1.*", "encoder.stem.first.*"),
    ("encoder.patch_embed.norm1.1.*", "encoder.stem.first_norm.*"),
    ("encoder.patch_embed.conv2.*", "encoder.stem.second.*"),
    ("encoder.patch_embed.norm2.1.*", "encoder.stem.second_norm.*"),
    ("encoder.levels.*.norm.0.*", "encoder.levels.*.norm.*"),
    ("encoder.levels.0.downsample.conv.*", "encoder.merges.0.conv.*"),
    ("encoder.levels.0.downsample.norm.1.*", "encoder.merges.0.norm.*"),
    ("encoder.levels.1.downsample.conv.*", "encoder.merges.1.conv.*"),
    ("encoder.levels.1.downsample.norm.1.*", "encoder.merges.1.norm.*"),
)
_ENCODER_BLOCK = (
    ("gamma1", "conv_scale"),
    ("gamma2", "mlp_scale"),
    ("norm1.0.*", "conv_norm.*"),
    ("norm2.0.*", "mlp_norm.*"),
    ("dcn.dw_conv.0.*", "conv.depthwise.*"),
    ("dcn.dw_conv.1.1.*", "conv.norm.*"),
    ("dcn.offset.*", "conv.offsets.*"),
    ("dcn.mask.*", "conv.weights.*"),
    ("dcn.input_proj.*", "conv.value.*"),
    ("dcn.output_proj.*", "conv.output.*"),
    ("mlp.fc1.*", "mlp.0.*"),
    ("mlp.fc2.*", "mlp.2.*"),
)
_PROPAGATION_BLOCK = (
    ("norm1.*", "norm.*"),
    ("linear_QV.*", "key_value.*"),
    ("linear_U.*", "gate.*"),
    ("id_norm1.*", "identity_norm.*"),
    ("linear_ID_U.*", "identity_gate.*"),
    ("linear_ID_V.*", "identity_value.*"),
    ("long_term_attn.dw_conv.conv.weight", "long_term_output.depthwise.weight"),
    ("long_term_attn.projection.*", "long_term_output.projection.*"),
    ("short_term_attn.relative_emb_k.bias", "short_term.relative_bias.bias"),
    ("short_term_attn.dw_conv.conv.weight", "short_term_output.depthwise.weight"),
    ("short_term_attn.projection.*", "short_term_output.projection.*"),
    ("norm2.*", "self_norm.*"),
    ("id_norm2.*", "self_identity_norm.*"),
    ("self_attn.linear_QK.*", "self_attention.query_key.*"),
    ("self_attn.linear_V1.*", "self_attention.visual_value.*"),
    ("self_attn.linear_V2.*", "self_attention.identity_value.*"),
    ("self_attn.linear_U1.*", "self_attention.visual_gate.*"),
    ("self_attn.linear_U2.*", "self_attention.identity_gate.*"),
    ("self_attn.dw_conv.conv.weight", "self_attention.output.depthwise.weight"),
    ("self_attn.projection.*", "self_attention.output.projection.*"),
)
_RELATIVE_BIAS = (
    "short_term_attn.relative_emb_k.weight",
    "short_term.relative_bias.weight",
)
_BLOCKS = (
    ("LSTT.layers.*", "vmos.pyramid.blocks_s16.*"),
    ("LSTT.layer_s8", "vmos.pyramid.block_s8"),
)
_FUSIONS = (
    ("LSTT.s8_cons_{}", "vmos.pyramid.visual_to_s8"),
    ("LSTT.s8_cons_{}_id", "vmos.pyramid.identity_to_s8"),
    ("LSTT.s4_cons_{}", "vmos.pyramid.visual_to_s4"),
    ("LSTT.s4_cons_{}_id", "vmos.pyramid.identity_to_s4"),
)
_FUSION_PARTS = (
    ("in", "conv.*", "reduce.conv.*"),
    ("in", "gn.*", "reduce.norm.*"),
    ("out", "res1.conv1.*", "refine.0.first.conv.*"),
    ("out", "res1.gn1.*", "refine.0.first.norm.*"),
    ("out", "res1.conv2.*", "refine.0.second.conv.*"),
    ("out", "res1.gn2.*", "refine.0.second.norm.*"),
    ("out", "res2.conv1.*", "refine.1.first.conv.*"),
    ("out", "res2.gn1.*", "refine.1.first.norm.*"),
    ("out", "res2.conv2.*", "refine.1.second.conv.*"),
    ("out", "res2.gn2.*", "refine.1.second.norm.*"),
)
_REST = (
    ("encoder_projector.*", "vmos.pyramid.project_s16.*"),
    ("LSTT.s8_proj.*", "vmos.pyramid.project_s8.*"),
    ("LSTT.s4_proj.*", "vmos.pyramid.project_s4.*"),
    ("LSTT.decoder_norms_s4.0.gn.*", "vmos.pyramid.norm.*"),
    ("patch_wise_id_bank.*", "vmos.identity.bank_s16.*"),
    ("patch_wise_id_bank_s8.*", "vmos.identity.bank_s8.*"),
    ("id_norm.*", "vmos.identity.norm_s16.*"),
    ("id_norm_s8.*", "vmos.identity.norm_s8.*"),
    ("conv_output1.conv.*", "vmos.decoder.conv.*"),
    ("conv_output1.gn.*", "vmos.decoder.norm.*"),
    ("conv_output2.*", "vmos.decoder.classify.*"),
)
ENCODER_RULES = (
    *(Rule(*pair) for pair in _ENCODER),
    *(
        Rule(f"encoder.levels.*.blocks.*.{theirs}", f"encoder.levels.*.blocks.*.{ours}")
        for theirs, ours in _ENCODER_BLOCK
    ),
)
"""Released key -> ours, for the encoder."""
LIVE_RULES = (
    *ENCODER_RULES,
    *(
        Rule(f"{their_block}.{theirs}", f"{our_block}.{ours}")
        for their_block, our_block in _BLOCKS
        for theirs, ours in _PROPAGATION_BLOCK
    ),
    *(
        Rule(f"{theirs}.{_RELATIVE_BIAS[0]}", f"{ours}.{_RELATIVE_BIAS[1]}", layout="to_linear")
        for theirs, ours in _BLOCKS
    ),
    *(
        Rule(f"{their_fusion.format(end)}.{theirs}", f"{our_fusion}.{ours}")
        for their_fusion, our_fusion in _FUSIONS
        for end, theirs, ours in _FUSION_PARTS
    ),
    *(Rule(*pair) for pair in _REST),
)
"""Released key -> ours, for what computes."""
DEAD_PREFIX = "dead."
"""Prefix of entries of the released model that never touch its output."""
DEAD_RULES = tuple(
    Rule(pattern, f"{DEAD_PREFIX}{pattern}")
    for pattern in ("decoder.**", "encoder.levels.2.downsample.**", "LSTT.decoder_norms.**")
)
"""The decoder that is never called and the norm before it, and a down-sampling that is dropped."""
RULES = (*LIVE_RULES, *DEAD_RULES)


def import_vmos(path: Path) -> dict[str, Tensor]:
    """Read the released checkpoint of VMOS with InternImage-T, such as ``save_step_42000.pth``.

    Args:
        path: The file as published, or bare weights under the same keys.

    Returns:
        All tensors under our keys, with the prefixes ``encoder.``, ``vmos.`` and ``dead.``.

    Raises:
        WeightsError: The file cannot be read, or a key is missing, unknown, or of another shape.
    """
    tensors = read_checkpoint(path)
    dead = {key for key in tensors if any(rule.apply(key) for rule in DEAD_RULES)}
    live = {key: tensor for key, tensor in tensors.items() if key not in dead}
    require_fit(_wanted(), live, source=str(path), model="the released VMOS")
    return rename(tensors, RULES, source=str(path))


def export_vmos(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo :func:`import_vmos`: the same keys, shapes and values as the released checkpoint has.

    Args:
        tensors: The tensors of :func:`import_vmos`, also with other numbers.

    Raises:
        WeightsError: A key is unknown, or a kind of key is missing.
    """
    return rename(tensors, invert(RULES), source="the weights to export")


def shapes_of(encoder: EncoderConfig, vmos: VMOSConfig) -> dict[str, Tensor]:
    """Return empty tensors with the keys and shapes of our flat form.

    Args:
        encoder: The encoder, not one that is shared with the refiner.
        vmos: Sizes of the segmenter.
    """
    spec = find_encoder(encoder.kind)
    with torch.device("meta"):
        parts = {"encoder": spec.build(), "vmos": build_vmos(vmos, spec.channels)}
    return {
        f"{prefix}.{key}": tensor
        for prefix, part in parts.items()
        for key, tensor in part.state_dict().items()
    }


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take one model's tensors out of the flat form, such as ``encoder`` or ``vmos``.

    Args:
        tensors: With prefixed keys.
        prefix: Without the dot.

    Returns:
        The tensors with that prefix, under the rest of their keys.

    Example:
        >>> part_of({"vmos.a": torch.zeros(1), "dead.a": torch.zeros(1)}, "vmos")
        {'a': tensor([0.])}
    """
    start = f"{prefix}."
    return {
        key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)
    }


def _wanted() -> dict[str, Tensor]:
    """Return an empty tensor for each live key of the released model."""
    ours = shapes_of(EncoderConfig(kind="internimage-t"), released_vmos())
    return rename(ours, invert(LIVE_RULES), source="the models")
