"""SAM's two-way transformer made ready for inference: the same function with fewer products.

The image's 4,096 cells and a handful of tokens look at each other in both directions, several times
a call. Whatever is linear between a cell and a token is moved to the tokens' side: instead of
projecting cells to keys, queries and values, tokens are brought back through those weights, head by
head, and meet the cells as they are. Constants that a softmax does not see are left out.

It is a part of the prepared mask decoder, and computes in its own number format whatever autocast
says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vots_hqtrack.errors import ShapeError


class TokensAndCells(NamedTuple):
    """What the transformer gives.

    Attributes:
        tokens: ``(N, K, C)`` float.
        cells: ``(N, H' W', C)`` float.
    """

    tokens: Tensor
    cells: Tensor


class FusedTwoWayTransformer(nn.Module):
    """The package's ``TwoWayTransformer`` for one grid of cells.

    Args:
        transformer: The package's, in evaluation mode; it is not changed.
        image_pe: ``(1, C, H', W')`` float positions of the cells.
        dtype: Format of weights, tokens and cells.
    """

    positions: Tensor

    def __init__(self, transformer: nn.Module, image_pe: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        source: Any = transformer
        self.dtype = dtype
        positions = image_pe.detach().flatten(2).transpose(1, 2).clone()
        self.layers = nn.ModuleList(_Layer(layer) for layer in source.layers)
        self.last = _LookAtCells(source.final_attn_token_to_image)
        self.norm = _copy_norm(source.norm_final_attn)
        self.register_buffer("positions", positions, persistent=False)
        self.to(dtype)

    def forward(self, cells: Tensor, tokens: Tensor, wanted: Sequence[int]) -> TokensAndCells:
        """Let tokens and cells look at each other.

        Args:
            cells: ``(N, H' W', C)`` float, of each object, row by row.
            tokens: ``(N, K, C)`` float, of each object.
            wanted: Places of the tokens whose last look matters; the others' is left out.

        Returns:
            The wanted tokens and all cells, of this transformer's dtype.

        Raises:
            ShapeError: The cells are not as many as the positions.
        """
        if cells.shape[1] != self.positions.shape[1]:
            got, want = cells.shape[1], self.positions.shape[1]
            raise ShapeError(f"the image must have {want} cells, got {got}")
        with torch.autocast(cells.device.type, enabled=False):
            cells = cells.to(self.dtype)
            first = tokens = tokens.to(self.dtype)
            placed = cells + self.positions
            for number, layer in enumerate(self.layers):
                tokens, cells = layer(tokens, first, cells, placed, is_first=number == 0)
                placed = cells + self.positions
            rows = list(wanted)
            tokens, first = tokens[:, rows], first[:, rows]
            tokens = self.norm(tokens + self.last(tokens + first, cells, placed))
        return TokensAndCells(tokens, cells)


class _LookAtCells(nn.Module):
    """Tokens that look at cells.

    A score is ``(Wq t) . (Wk c)``, which is ``(Wk' Wq t) . c``; the key's bias adds the same to all
    scores of a token. The readout is ``Wv`` of the mean cell, because the shares sum to 1.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        source: Any = attention
        self.heads = int(source.num_heads)
        self.query = _copy_linear(source.q_proj, factor=_query_scale(source))
        self.key = _copy_linear(source.k_proj)
        self.value, self.output = _copy_linear(source.v_proj), _copy_linear(source.out_proj)

    def forward(self, tokens: Tensor, cells: Tensor, placed: Tensor) -> Tensor:
        """Look at cells by their places.

        Args:
            tokens: ``(N, K, C)`` float.
            cells: ``(N, L, C)`` float.
            placed: The same with their positions added.

        Returns:
            ``(N, K, C)`` float.
        """
        query = self.query(tokens).unflatten(-1, (self.heads, -1))
        back = torch.einsum("nkhd,hdc->nhkc", query, _by_heads(self.key, self.heads))
        shares = (back.flatten(1, 2) @ placed.transpose(1, 2)).softmax(-1)
        mean = (shares @ cells).unflatten(1, (self.heads, -1))
        value = torch.einsum("nhkc,hdc->nkhd", mean, _by_heads(self.value, self.heads))
        read: Tensor = self.output(value.flatten(2) + self.value.bias)
        return read


class _LookAtTokens(nn.Module):
    """Cells that look at tokens, by the same rule; their output goes through the tokens as well."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        source: Any = attention
        self.heads = int(source.num_heads)
        self.query = _copy_linear(source.q_proj, factor=_query_scale(source))
        self.key, self.value = _copy_linear(source.k_proj), _copy_linear(source.v_proj)
        self.output = _copy_linear(source.out_proj)

    def forward(
        self, cells: Tensor, placed: Tensor, tokens: Tensor, placed_tokens: Tensor
    ) -> Tensor:
        """Return the cells ``(N, L, C)`` with what they read added."""
        key = self.key(placed_tokens).unflatten(-1, (self.heads, -1))
        back = torch.einsum("nkhd,hdc->nhkc", key, _by_heads(self.query, self.heads))
        constant = torch.einsum("nkhd,hd->nhk", key, self.query.bias.view(self.heads, -1))
        # Cells lie along the last dimension: a softmax over eight neighbours takes eight times as
        # long on the CPU as one over eight rows.
        scores = torch.baddbmm(
            constant.flatten(1).unsqueeze(2), back.flatten(1, 2), placed.transpose(1, 2)
        )
        shares = scores.unflatten(1, (self.heads, -1)).softmax(2).flatten(1, 2).transpose(1, 2)
        value = self.value(tokens).unflatten(-1, (self.heads, -1))
        weight = self.output.weight.unflatten(-1, (self.heads, -1))
        # The shares of every head sum to 1, so each head brings its part of the bias along.
        ahead = torch.einsum("nkhd,chd->nhkc", value, weight) + self.output.bias / self.heads
        return torch.baddbmm(cells, shares, ahead.flatten(1, 2))


class _LookAround(nn.Module):
    """Tokens that look at each other."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        source: Any = attention
        self.heads = int(source.num_heads)
        self.query = _copy_linear(source.q_proj, factor=_query_scale(source))
        self.key, self.value = _copy_linear(source.k_proj), _copy_linear(source.v_proj)
        self.output = _copy_linear(source.out_proj)

    def forward(self, placed: Tensor, tokens: Tensor) -> Tensor:
        """Return ``(N, K, C)`` of tokens with and without their positions."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(placed), self.key(placed), self.value(tokens))
        )
        mixed = (query @ key.transpose(-2, -1)).softmax(-1) @ value
        read: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return read


class _Layer(nn.Module):
    """One layer: tokens among themselves, tokens to cells, perceptron, cells to tokens."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        source: Any = layer
        self.around = _LookAround(source.self_attn)
        self.to_cells = _LookAtCells(source.cross_attn_token_to_image)
        self.to_tokens = _LookAtTokens(source.cross_attn_image_to_token)
        self.perceptron = nn.Sequential(
            _copy_linear(source.mlp.lin1), source.mlp.act, _copy_linear(source.mlp.lin2)
        )
        norms = (source.norm1, source.norm2, source.norm3, source.norm4)
        self.norms = nn.ModuleList(_copy_norm(norm) for norm in norms)

    def forward(
        self, tokens: Tensor, first: Tensor, cells: Tensor, placed: Tensor, *, is_first: bool
    ) -> tuple[Tensor, Tensor]:
        """Return tokens and cells after the layer."""
        # Before the first layer the tokens are their own positions, and nothing is added.
        if is_first:
            tokens = self.norms[0](self.around(tokens, tokens))
        else:
            tokens = self.norms[0](tokens + self.around(tokens + first, tokens))
        tokens = self.norms[1](tokens + self.to_cells(tokens + first, cells, placed))
        tokens = self.norms[2](tokens + self.perceptron(tokens))
        return tokens, self.norms[3](self.to_tokens(cells, placed, tokens, tokens + first))


def _by_heads(layer: nn.Linear, heads: int) -> Tensor:
    """Return a layer's weight as ``(heads, D, C)``."""
    weight: Tensor = layer.weight
    by_heads: Tensor = weight.unflatten(0, (heads, -1))
    return by_heads


def _query_scale(attention: nn.Module) -> float:
    source: Any = attention
    return float((source.internal_dim // source.num_heads) ** -0.5)


def _copy_linear(layer: nn.Module, *, factor: float = 1.0) -> nn.Linear:
    source: Any = layer
    copied = nn.Linear(source.in_features, source.out_features)
    copied.load_state_dict({"weight": source.weight * factor, "bias": source.bias * factor})
    return copied


def _copy_norm(layer: nn.Module) -> nn.LayerNorm:
    source: Any = layer
    copied = nn.LayerNorm(source.normalized_shape, eps=source.eps)
    copied.load_state_dict(source.state_dict())
    return copied
