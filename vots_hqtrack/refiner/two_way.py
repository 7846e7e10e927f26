"""SAM's two-way transformer made ready for inference: the same sums, fewer of them done twice.

The image's cells and the prompts' tokens look at each other in both directions, several times a
call. Positions of cells never change, so what the projections make of them is computed once and
added after the product. What is projected from the same cells is projected by one product: keys and
values for the tokens' look at the cells, and queries for the cells' look at the tokens. The scale
of the attention lies in the queries' weights.

It takes the transformer's place inside the package's mask decoder, plain or HQ, and computes in its
own number format whatever autocast says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.errors import ShapeError


class PreparedTwoWayTransformer(nn.Module):
    """The package's ``TwoWayTransformer`` for one grid of cells.

    Args:
        transformer: The package's, in evaluation mode; it is not changed.
        image_pe: ``(1, C, H', W')`` float positions of the cells.
        dtype: Format of weights, tokens and cells.
    """

    def __init__(self, transformer: nn.Module, image_pe: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        source: Any = transformer
        self.dtype = dtype
        self.grid = tuple(image_pe.shape[-2:])
        positions = image_pe.detach().flatten(2).transpose(1, 2).float()
        self.layers = nn.ModuleList(_Layer(layer, positions) for layer in source.layers)
        last = source.final_attn_token_to_image
        self.last_cells = _CellProjection(
            [_Part(last.k_proj, is_placed=True), _Part(last.v_proj)], positions
        )
        self.last_look = _TokenSide(last)
        self.norm = _copy_norm(source.norm_final_attn)
        self.to(dtype)

    def forward(
        self, image_embedding: Tensor, image_pe: Tensor, point_embedding: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Let tokens and cells look at each other.

        Args:
            image_embedding: ``(N, C, H', W')`` float, the cells of each object.
            image_pe: Not read: the positions are those given at the start.
            point_embedding: ``(N, K, C)`` float, the tokens of each object.

        Returns:
            Tokens ``(N, K, C)`` and cells ``(N, H' W', C)``, of the given cells' dtype.

        Raises:
            ShapeError: The grid is another one than the positions are for.
        """
        grid = tuple(image_embedding.shape[-2:])
        if grid != self.grid:
            raise ShapeError(f"the image must have {self.grid} cells, got {grid}")
        with torch.autocast(image_embedding.device.type, enabled=False):
            cells = image_embedding.flatten(2).transpose(1, 2).to(self.dtype)
            positions = tokens = point_embedding.to(self.dtype)
            for number, layer in enumerate(self.layers):
                tokens, cells = layer(tokens, positions, cells, is_first=number == 0)
            key, value = self.last_cells(cells)
            look = self.last_look(tokens + positions, key, value)
            tokens = self.norm(tokens + look)
        return tokens.to(image_embedding.dtype), cells.to(image_embedding.dtype)


def prepare_decoder(sam: nn.Module, dtype: torch.dtype) -> None:
    """Put a prepared transformer into the mask decoder of a ``Sam``.

    Args:
        sam: The package's, with its weights, on its device; its decoder is changed.
        dtype: Format of the transformer.
    """
    parts: Any = sam
    positions: Tensor = parts.prompt_encoder.get_dense_pe()
    decoder = parts.mask_decoder
    decoder.transformer = PreparedTwoWayTransformer(decoder.transformer, positions, dtype)


class _Part(NamedTuple):
    """One linear layer that reads cells, perhaps with their positions added, and a factor."""

    layer: nn.Module
    is_placed: bool = False
    factor: float = 1.0


class _CellProjection(nn.Module):
    """Several linear layers of the same cells as one product.

    Args:
        parts: The layers.
        positions: ``(1, L, C)`` float32.
    """

    positions: Tensor

    def __init__(self, parts: Sequence[_Part], positions: Tensor) -> None:
        super().__init__()
        weights, added, self.widths = [], [], []
        for part in parts:
            layer: Any = part.layer
            placed = positions if part.is_placed else torch.zeros_like(positions)
            weights.append(layer.weight.detach() * part.factor)
            added.append(F.linear(placed, layer.weight, layer.bias).detach() * part.factor)
            self.widths.append(len(layer.weight))
        self.weight = nn.Parameter(torch.cat(weights), requires_grad=False)
        self.register_buffer("positions", torch.cat(added, dim=-1), persistent=False)

    def forward(self, cells: Tensor) -> Sequence[Tensor]:
        """Map ``(N, L, C)`` to one map for each layer."""
        projected: Sequence[Tensor] = (
            F.linear(cells, self.weight).add_(self.positions).split(self.widths, dim=-1)
        )
        return projected


class _TokenSide(nn.Module):
    """Tokens that look at keys and values which are projected already."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        source: Any = attention
        self.num_heads = int(source.num_heads)
        self.query = _copy_linear(source.q_proj, factor=_query_scale(source))
        self.output = _copy_linear(source.out_proj)

    def forward(self, tokens: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Map tokens ``(N, K, C)``, keys and values ``(N, L, C')`` to ``(N, K, C)``."""
        mixed: Tensor = self.output(_attend(self.query(tokens), key, value, self.num_heads))
        return mixed


class _CellSide(nn.Module):
    """Cells, projected to queries already, that look at tokens."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        source: Any = attention
        self.num_heads = int(source.num_heads)
        self.key, self.value = _copy_linear(source.k_proj), _copy_linear(source.v_proj)
        self.output = _copy_linear(source.out_proj)

    def forward(self, query: Tensor, placed: Tensor, tokens: Tensor) -> Tensor:
        """Map queries ``(N, L, C')``, tokens with and without positions to ``(N, L, C)``."""
        key, value = self.key(placed), self.value(tokens)
        mixed: Tensor = self.output(_attend(query, key, value, self.num_heads))
        return mixed


class _Layer(nn.Module):
    """One layer: tokens among themselves, tokens to cells, perceptron, cells to tokens."""

    def __init__(self, layer: nn.Module, positions: Tensor) -> None:
        super().__init__()
        source: Any = layer
        to_image, to_tokens = source.cross_attn_token_to_image, source.cross_attn_image_to_token
        self.among_query = _TokenSide(source.self_attn)
        self.among_key = _copy_linear(source.self_attn.k_proj)
        self.among_value = _copy_linear(source.self_attn.v_proj)
        self.cells = _CellProjection(
            [
                _Part(to_image.k_proj, is_placed=True),
                _Part(to_image.v_proj),
                _Part(to_tokens.q_proj, is_placed=True, factor=_query_scale(to_tokens)),
            ],
            positions,
        )
        self.to_image, self.to_tokens = _TokenSide(to_image), _CellSide(to_tokens)
        self.perceptron = nn.Sequential(
            _copy_linear(source.mlp.lin1), source.mlp.act, _copy_linear(source.mlp.lin2)
        )
        norms = (source.norm1, source.norm2, source.norm3, source.norm4)
        self.norms = nn.ModuleList(_copy_norm(norm) for norm in norms)

    def forward(
        self, tokens: Tensor, positions: Tensor, cells: Tensor, *, is_first: bool
    ) -> tuple[Tensor, Tensor]:
        """Return tokens and cells after the layer."""
        # Before the first layer the tokens are their own positions, and nothing is added.
        placed = tokens if is_first else tokens + positions
        look = self.among_query(placed, self.among_key(placed), self.among_value(tokens))
        tokens = self.norms[0](look if is_first else tokens + look)
        key, value, query = self.cells(cells)
        tokens = self.norms[1](tokens + self.to_image(tokens + positions, key, value))
        tokens = self.norms[2](tokens + self.perceptron(tokens))
        look = self.to_tokens(query, tokens + positions, tokens)
        return tokens, self.norms[3](look.add_(cells))


def _attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Attend with ``(N, L, C')``, ``(N, M, C')``, ``(N, M, C')`` by heads: ``(N, L, C')``."""
    query, key, value = (
        part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in (query, key, value)
    )
    mixed = (query @ key.transpose(-2, -1)).softmax(-1) @ value
    return mixed.transpose(1, 2).flatten(2)


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
