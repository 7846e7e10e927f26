"""Attention of every token to a square window of another frame: reference and tiled version.

Used by the short-term memory (paper section 2.2; 15 x 15 tokens there). Both versions compute

    softmax_j(scale * q . k_j + bias_j) @ v_j    over the tokens j of the window inside the frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

TILE = (8, 16)
"""Rows and columns of queries that share one dense matmul. Wider tiles waste work on tokens
outside the windows, narrower ones copy the keys more often."""
DEVICE_TILE = (20, 32)
"""The same on other devices than the CPU, where starting a matmul costs more than its waste."""


def local_attention_reference(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, *, radius: int, scale: float
) -> Tensor:
    """Window attention, written for reading: one gathered window of keys and values per query.

    Args:
        query: ``(B, H', W', A)`` float.
        key: ``(B, H', W', A)`` float, the other frame.
        value: ``(B, H', W', D)`` float.
        bias: ``(B, H', W', (2 * radius + 1) ** 2)`` float, added to the scores, row by
            row of the window.
        radius: Reach of the window in tokens.
        scale: Factor of the products.

    Returns:
        ``(B, H', W', D)`` in the values' dtype.
    """
    height, width = query.shape[1:3]
    side = 2 * radius + 1

    def windows(tokens: Tensor) -> Tensor:
        padded = F.pad(tokens, (0, 0, radius, radius, radius, radius))
        unfolded = padded.unfold(1, side, 1).unfold(2, side, 1)
        return unfolded.flatten(4).movedim(-1, 3)

    scores = torch.einsum("bhwa,bhwja->bhwj", query, windows(key)) * scale + bias
    inside = windows(torch.ones(1, height, width, 1, dtype=torch.bool, device=query.device))
    scores = scores.masked_fill(~inside[..., 0], float("-inf"))
    return torch.einsum("bhwj,bhwjd->bhwd", scores.softmax(-1).to(value.dtype), windows(value))


def local_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, *, radius: int, scale: float
) -> Tensor:
    """Window attention in tiles: a tile's queries with all keys that any of them reaches.

    Arguments and result are those of :func:`local_attention_reference`.
    """
    height, width = query.shape[1:3]
    side = 2 * radius + 1
    window_bias = bias.unflatten(-1, (side, side))
    tile_height, tile_width = TILE if query.device.type == "cpu" else DEVICE_TILE
    rows = []
    for top in range(0, height, tile_height):
        bottom = min(top + tile_height, height)
        tiles = []
        for left in range(0, width, tile_width):
            right = min(left + tile_width, width)
            key_rows = slice(max(top - radius, 0), min(bottom + radius, height))
            key_columns = slice(max(left - radius, 0), min(right + radius, width))
            dense_bias = _absolute_bias(window_bias[:, top:bottom, left:right])
            dense_bias = dense_bias[
                ...,
                key_rows.start - (top - radius) : key_rows.stop - (top - radius),
                key_columns.start - (left - radius) : key_columns.stop - (left - radius),
            ]
            tile = _attend(
                query[:, top:bottom, left:right].flatten(1, 2),
                key[:, key_rows, key_columns].flatten(1, 2),
                value[:, key_rows, key_columns].flatten(1, 2),
                dense_bias.flatten(3).flatten(1, 2),
                scale,
            )
            tiles.append(tile.unflatten(1, (bottom - top, right - left)))
        rows.append(torch.cat(tiles, dim=2))
    return torch.cat(rows, dim=1)


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float) -> Tensor:
    scores = torch.baddbmm(bias.to(query.dtype), query, key.transpose(1, 2), alpha=scale)
    return scores.softmax(-1).to(value.dtype) @ value


def _absolute_bias(bias: Tensor) -> Tensor:
    """Turn a tile's bias by displacement into one by position; outside a window it is -inf.

    Args:
        bias: ``(B, h, w, side, side)`` by displacement (row, column).

    Returns:
        ``(B, h, w, h + side - 1, w + side - 1)`` by position relative to the tile's reach.
    """
    by_column = _skew(bias.transpose(2, 3))
    by_row = _skew(by_column.permute(0, 3, 4, 1, 2))
    return by_row.permute(0, 3, 1, 4, 2)


def _skew(rows: Tensor) -> Tensor:
    """Shift row ``i`` of ``(n, side)`` right by ``i``: ``(n, n + side - 1)``, the rest -inf."""
    count, side = rows.shape[-2:]
    width = count + side - 1
    padded = F.pad(rows, (0, count), value=float("-inf"))
    shifted: Tensor = padded.flatten(-2)[..., : count * width].unflatten(-1, (count, width))
    return shifted
