"""SAM's two-way transformer for inference: the same function with fewer matmuls.

The image's 4,096 tokens and a handful of prompt tokens attend to each other in both directions,
several times a call. Linear layers between the two are moved to the prompt tokens' side: instead of
projecting the image to keys, queries and values, prompt tokens are projected back through those
weights, head by head, and multiplied with the image as it is. Constants that cancel in a softmax
are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.sam.layers import SamWeights

WIDTH = 256
"""Channels of prompt tokens and image tokens."""
HEADS = 8
MLP_WIDTH = 2048
NUM_LAYERS = 2


class TokensAndImage(NamedTuple):
    """Output of the transformer.

    Attributes:
        tokens: ``(N, K, C)`` float.
        image: ``(N, H' W', C)`` float.
    """

    tokens: Tensor
    image: Tensor


class TwoWayTransformer(nn.Module):
    """SAM's two-way transformer for one size of image, in the dtype of its weights.

    Args:
        weights: Weights of the transformer.
        positions: ``(1, H' W', C)`` float, positional encoding of the image.
    """

    positions: Tensor

    def __init__(self, weights: SamWeights, positions: Tensor) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _Layer(weights.part(f"layers.{number}"), is_first=number == 0)
            for number in range(NUM_LAYERS)
        )
        self.last = _TokenToImage(weights.part("final_attn_token_to_image"))
        self.norm = weights.load("norm_final_attn", nn.LayerNorm(WIDTH))
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, image: Tensor, tokens: Tensor, wanted: Sequence[int]) -> TokensAndImage:
        """Let tokens and image attend to each other.

        Args:
            image: ``(N, H' W', C)`` float, of each object, row by row.
            tokens: ``(N, K, C)`` float, of each object.
            wanted: Indices of the tokens to return; the last attention is left out for the others.

        Raises:
            ShapeError: The image has another number of tokens than the positional encoding.
        """
        if image.shape[1] != self.positions.shape[1]:
            got, want = image.shape[1], self.positions.shape[1]
            raise ShapeError(f"the image must have {want} tokens, got {got}")
        start = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, start, image, image + self.positions)
        tokens, start = (
            torch.stack([part[:, row] for row in wanted], dim=1) for part in (tokens, start)
        )
        readout = self.last(tokens + start, image, image + self.positions)
        return TokensAndImage(self.norm(tokens + readout), image)


class _Attention(nn.Module):
    """Projections of one attention, with the scale of the scores in the query's.

    Args:
        weights: Weights of the attention.
        width: Channels of queries, keys and values.
    """

    def __init__(self, weights: SamWeights, width: int = WIDTH // 2) -> None:
        super().__init__()
        self.query = weights.load("q_proj", nn.Linear(WIDTH, width))
        self.key = weights.load("k_proj", nn.Linear(WIDTH, width))
        self.value = weights.load("v_proj", nn.Linear(WIDTH, width))
        self.output = weights.load("out_proj", nn.Linear(width, WIDTH))
        scale = (width // HEADS) ** -0.5
        for parameter in self.query.parameters():
            parameter.mul_(scale)


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
            placed: The image with the positional encoding added.

        Returns:
            ``(N, K, C)`` float.
        """
        query = self.query(tokens).unflatten(-1, (HEADS, -1))
        back = torch.einsum("nkhd,hdc->nhkc", query, _by_heads(self.key))
        weights = (back.flatten(1, 2) @ placed.transpose(1, 2)).softmax(-1)
        mean = (weights @ image).unflatten(1, (HEADS, -1))
        value = torch.einsum("nhkc,hdc->nkhd", mean, _by_heads(self.value))
        readout: Tensor = self.output(value.flatten(2) + self.value.bias)
        return readout


class _ImageToToken(_Attention):
    """Cross-attention from the image to tokens, by the same rule, output projection included."""

    def forward(
        self, image: Tensor, placed: Tensor, tokens: Tensor, placed_tokens: Tensor
    ) -> Tensor:
        """Return the image ``(N, L, C)`` with the readout added."""
        key = self.key(placed_tokens).unflatten(-1, (HEADS, -1))
        back = torch.einsum("nkhd,hdc->nhkc", key, _by_heads(self.query))
        constant = torch.einsum("nkhd,hd->nhk", key, self.query.bias.view(HEADS, -1))
        # The image's tokens are the last dimension: a softmax over eight contiguous values takes
        # eight times as long on the CPU as one over eight rows.
        scores = torch.baddbmm(
            constant.flatten(1).unsqueeze(2), back.flatten(1, 2), placed.transpose(1, 2)
        )
        weights = scores.unflatten(1, (HEADS, -1)).softmax(2).flatten(1, 2).transpose(1, 2)
        value = self.value(tokens).unflatten(-1, (HEADS, -1))
        weight = self.output.weight.unflatten(-1, (HEADS, -1))
        # The weights of every head sum to 1, so each head adds its part of the bias.
        ahead = torch.einsum("nkhd,chd->nhkc", value, weight) + self.output.bias / HEADS
        return torch.baddbmm(image, weights, ahead.flatten(1, 2))


class _SelfAttention(_Attention):
    """Self-attention of the tokens."""

    def forward(self, placed: Tensor, tokens: Tensor) -> Tensor:
        """Return ``(N, K, C)`` of tokens with and without their positions."""
        query, key, value = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in (self.query(placed), self.key(placed), self.value(tokens))
        )
        mixed = (query @ key.transpose(-2, -1)).softmax(-1) @ value
        readout: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return readout


class _Layer(nn.Module):
    """One layer: self-attention, tokens to image, MLP, image to tokens.

    Args:
        weights: Weights of the layer.
        is_first: The tokens are their own positional encoding, and the self-attention has no
            residual.
    """

    def __init__(self, weights: SamWeights, *, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first
        self.self_attention = _SelfAttention(weights.part("self_attn"), WIDTH)
        self.to_image = _TokenToImage(weights.part("cross_attn_token_to_image"))
        self.to_tokens = _ImageToToken(weights.part("cross_attn_image_to_token"))
        mlp = weights.part("mlp")
        self.mlp = nn.Sequential(
            mlp.load("lin1", nn.Linear(WIDTH, MLP_WIDTH)),
            nn.ReLU(),
            mlp.load("lin2", nn.Linear(MLP_WIDTH, WIDTH)),
        )
        self.norms = nn.ModuleList(
            weights.load(f"norm{number}", nn.LayerNorm(WIDTH)) for number in (1, 2, 3, 4)
        )

    def forward(
        self, tokens: Tensor, start: Tensor, image: Tensor, placed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return tokens and image after the layer."""
        if self.is_first:
            tokens = self.norms[0](self.self_attention(tokens, tokens))
        else:
            tokens = self.norms[0](tokens + self.self_attention(tokens + start, tokens))
        tokens = self.norms[1](tokens + self.to_image(tokens + start, image, placed))
        tokens = self.norms[2](tokens + self.mlp(tokens))
        return tokens, self.norms[3](self.to_tokens(image, placed, tokens, tokens + start))


def _by_heads(layer: nn.Linear) -> Tensor:
    """Return a layer's weight as ``(heads, D, C)``."""
    weight: Tensor = layer.weight.unflatten(0, (HEADS, -1))
    return weight
