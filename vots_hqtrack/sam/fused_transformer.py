"""SAM's two-way transformer fused for inference: the same function with fewer matmuls.

The image's 4,096 tokens and a handful of prompt tokens attend to each other in both directions,
several times a call. Whatever is linear between the two is moved to the prompt tokens' side:
instead of projecting the image to keys, queries and values, prompt tokens are projected back
through those weights, head by head, and multiplied with the image as it is. Constants that cancel
in a softmax are left out.

It is a part of the fused mask decoder, and computes in its own dtype whatever autocast says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vots_hqtrack.errors import ShapeError


class TokensAndImage(NamedTuple):
    """Output of the transformer.

    Attributes:
        tokens: ``(N, K, C)`` float.
        image: ``(N, H' W', C)`` float.
    """

    tokens: Tensor
    image: Tensor


class FusedTwoWayTransformer(nn.Module):
    """The package's ``TwoWayTransformer`` for one size of image.

    Args:
        transformer: The package's, in evaluation mode; it is not changed.
        image_pe: ``(1, C, H', W')`` float, positional encoding of the image.
        dtype: Of weights, tokens and image.
    """

    positions: Tensor

    def __init__(self, transformer: nn.Module, image_pe: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        source: Any = transformer
        self.dtype = dtype
        positions = image_pe.detach().flatten(2).transpose(1, 2).clone()
        self.layers = nn.ModuleList(_Layer(layer) for layer in source.layers)
        self.last = _TokenToImage(source.final_attn_token_to_image)
        self.norm = _copy_norm(source.norm_final_attn)
        self.register_buffer("positions", positions, persistent=False)
        self.to(dtype)

    def forward(self, image: Tensor, tokens: Tensor, wanted: Sequence[int]) -> TokensAndImage:
        """Let tokens and image attend to each other.

        Args:
            image: ``(N, H' W', C)`` float, of each object, row by row.
            tokens: ``(N, K, C)`` float, of each object.
            wanted: Indices of the tokens to return; the last attention is left out for the others.

        Returns:
            The wanted tokens and the image, of this transformer's dtype.

        Raises:
            ShapeError: The image has another number of tokens than the positional encoding.
        """
        if image.shape[1] != self.positions.shape[1]:
            got, want = image.shape[1], self.positions.shape[1]
            raise ShapeError(f"the image must have {want} tokens, got {got}")
        with torch.autocast(image.device.type, enabled=False):
            image = image.to(self.dtype)
            first = tokens = tokens.to(self.dtype)
            placed = image + self.positions
            for number, layer in enumerate(self.layers):
                tokens, image = layer(tokens, first, image, placed, is_first=number == 0)
                placed = image + self.positions
            rows = list(wanted)
            tokens, first = tokens[:, rows], first[:, rows]
            tokens = self.norm(tokens + self.last(tokens + first, image, placed))
        return TokensAndImage(tokens, image)


class _Attention(nn.Module):
    """Projections of one of SAM's attentions, with the scale of the scores in the query's."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        source: Any = attention
        self.heads = int(source.num_heads)
        self.query = _copy_linear(source.q_proj, factor=_query_scale(source))
        self.key, self.value = _copy_linear(source.k_proj), _copy_linear(source.v_proj)
        self.output = _copy_linear(source.out_proj)


class _TokenToImage(_Attention):
    """Cross-attention from tokens to the image.

    A score is ``(Wq t) . (Wk c)``, which is ``(Wk' Wq t) . c``; the key's bias adds the same to all
    scores of a token. The readout is ``Wv`` of the weighted mean, because the weights sum to 1.
    """

    def forward(self, tokens: Tensor, image: Tensor, placed: Tensor) -> Tensor:
        """Attend to the image.

        Args:
            tokens: ``(N, K, C)`` float.
            image: ``(N, L, C)`` float.
            placed: The same with the positional encoding added.

        Returns:
            ``(N, K, C)`` float.
        """
        query = self.query(tokens).unflatten(-1, (self.heads, -1))
        back = torch.einsum("nkhd,hdc->nhkc", query, _by_heads(self.key, self.heads))
        weights = (back.flatten(1, 2) @ placed.transpose(1, 2)).softmax(-1)
        mean = (weights @ image).unflatten(1, (self.heads, -1))
        value = torch.einsum("nhkc,hdc->nkhd", mean, _by_heads(self.value, self.heads))
        read: Tensor = self.output(value.flatten(2) + self.value.bias)
        return read


class _ImageToToken(_Attention):
    """Cross-attention from the image to tokens, by the same rule; so is its output projection."""

    def forward(
        self, image: Tensor, placed: Tensor, tokens: Tensor, placed_tokens: Tensor
    ) -> Tensor:
        """Return the image ``(N, L, C)`` with the readout added."""
        key = self.key(placed_tokens).unflatten(-1, (self.heads, -1))
        back = torch.einsum("nkhd,hdc->nhkc", key, _by_heads(self.query, self.heads))
        constant = torch.einsum("nkhd,hd->nhk", key, self.query.bias.view(self.heads, -1))
        # The image's tokens are the last dimension: a softmax over eight contiguous values takes
        # eight times as long on the CPU as one over eight rows.
        scores = torch.baddbmm(
            constant.flatten(1).unsqueeze(2), back.flatten(1, 2), placed.transpose(1, 2)
        )
        weights = scores.unflatten(1, (self.heads, -1)).softmax(2).flatten(1, 2).transpose(1, 2)
        value = self.value(tokens).unflatten(-1, (self.heads, -1))
        weight = self.output.weight.unflatten(-1, (self.heads, -1))
        # The weights of every head sum to 1, so each head adds its part of the bias.
        ahead = torch.einsum("nkhd,chd->nhkc", value, weight) + self.output.bias / self.heads
        return torch.baddbmm(image, weights, ahead.flatten(1, 2))


class _SelfAttention(_Attention):
    """Self-attention of the tokens."""

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
    """One layer: self-attention, tokens to image, MLP, image to tokens."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        source: Any = layer
        self.self_attention = _SelfAttention(source.self_attn)
        self.to_image = _TokenToImage(source.cross_attn_token_to_image)
        self.to_tokens = _ImageToToken(source.cross_attn_image_to_token)
        self.mlp = nn.Sequential(
            _copy_linear(source.mlp.lin1), source.mlp.act, _copy_linear(source.mlp.lin2)
        )
        norms = (source.norm1, source.norm2, source.norm3, source.norm4)
        self.norms = nn.ModuleList(_copy_norm(norm) for norm in norms)

    def forward(
        self, tokens: Tensor, first: Tensor, image: Tensor, placed: Tensor, *, is_first: bool
    ) -> tuple[Tensor, Tensor]:
        """Return tokens and image after the layer."""
        # In the first layer the tokens are their own positional encoding, and there is no residual.
        if is_first:
            tokens = self.norms[0](self.self_attention(tokens, tokens))
        else:
            tokens = self.norms[0](tokens + self.self_attention(tokens + first, tokens))
        tokens = self.norms[1](tokens + self.to_image(tokens + first, image, placed))
        tokens = self.norms[2](tokens + self.mlp(tokens))
        return tokens, self.norms[3](self.to_tokens(image, placed, tokens, tokens + first))


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
