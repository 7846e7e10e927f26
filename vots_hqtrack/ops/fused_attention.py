"""Attention to all tokens of several frames by PyTorch's ``scaled_dot_product_attention``.

The keys are narrow and the values wide, which most of PyTorch's fused kernels refuse. They take the
values in pieces as wide as the keys, each as a head of its own; the scores are then computed once
for each piece.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.ops.attention import check_attention


@torch.no_grad()
def fused_attention(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Attend with the values in pieces as wide as the keys, without gradients.

    Args:
        query: ``(B, L, A)`` float.
        keys: One ``(B, L_t, A)`` for each frame, of the query's dtype.
        values: One ``(B, L_t, D)`` for each frame, of the query's dtype.

    Returns:
        ``(B, L, D)`` in float32, or in float64 where the values are.

    Raises:
        ShapeError: No frame is given, or the shapes do not fit each other.
    """
    check_attention(query, keys, values)
    value_width, width = values[0].shape[-1], query.shape[-1]
    pieces = -(-value_width // width)
    padded = F.pad(torch.cat(list(values), dim=1), (0, pieces * width - value_width))
    heads = padded.unflatten(-1, (pieces, width)).transpose(1, 2)
    key = torch.cat(list(keys), dim=1)
    query_heads, key_heads = (x[:, None].expand(-1, pieces, -1, -1) for x in (query, key))
    return _attend(query_heads, key_heads, heads)[..., :value_width]


@torch.no_grad()
def plain_fused_attention(
    query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]
) -> Tensor:
    """Attend with the values in one piece, by any of PyTorch's kernels that supports it.

    Arguments, result and errors are those of :func:`fused_attention`.
    """
    check_attention(query, keys, values)
    key, value = torch.cat(list(keys), dim=1), torch.cat(list(values), dim=1)
    return _attend(query[:, None], key[:, None], value[:, None])


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    with torch.autocast(query.device.type, enabled=False):
        readout = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return readout.to(torch.promote_types(readout.dtype, torch.float32))
