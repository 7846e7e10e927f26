"""SAM's large image encoders, ViT-B, L and H, without a score matrix in global attention.

The network that ``segment-anything-hq`` builds is walked block by block. Most of its attentions
stay in small windows. The few that do not would take, at ViT-H's 4,096 tokens and 16 heads,
gigabytes for scores and for what is added to them by relative position.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.ops import global_attention
from vots_hqtrack.precision import cast_layers


class SamVitEncoder(nn.Module):
    """A ViT of ``segment-anything-hq``, for inference.

    Args:
        image_encoder: The package's ``ImageEncoderViT`` with relative positions; it is used in
            place, so its weights stay under their names.
        dtype: Dtype of its matmuls; the residual stream and the norms stay in float32.
    """

    def __init__(self, image_encoder: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        parts: Any = image_encoder
        chosen = [parts.patch_embed.proj, parts.neck[0], parts.neck[2]]
        chosen += [part for block in parts.blocks for part in (block.attn, block.mlp)]
        cast_layers(image_encoder, chosen, dtype)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encode an image.

        Args:
            image: ``(B, 3, H, W)`` float of the size that the network is built for, SAM-normalised.

        Returns:
            What SAM's mask decoder reads, ``(B, 256, H/16, W/16)`` float; and the tokens after each
            block with global attention, ``(B, H/16, W/16, C)`` float, the first of which the HQ
            head reads.

        Raises:
            ShapeError: The image has another size.
        """
        encoder: Any = self.image_encoder
        x = encoder.patch_embed(image)
        if encoder.pos_embed is not None:
            if encoder.pos_embed.shape[1:] != x.shape[1:]:
                wanted, got = tuple(encoder.pos_embed.shape[1:3]), tuple(x.shape[1:3])
                raise ShapeError(f"SAM's encoder wants an image of {wanted} patches, got {got}")
            x = x + encoder.pos_embed
        early = []
        for block in encoder.blocks:
            if block.window_size:
                x = block(x)
                continue
            x = x + _attend_globally(block.attn, block.norm1(x))
            x = x + block.mlp(block.norm2(x))
            early.append(x)
        return encoder.neck(x.permute(0, 3, 1, 2)), early


def _attend_globally(attention: nn.Module, x: Tensor) -> Tensor:
    """Attend among all of ``(B, H', W', C)``.

    The term that a score has for the distance of two tokens in rows (columns) is a dot product too:
    of the query's value for each row and a one-hot vector of the key's row. So it joins query and
    key as further channels, and no score matrix is kept.
    """
    parts: Any = attention
    batch, height, width, _ = x.shape
    qkv = parts.qkv(x).unflatten(-1, (3, parts.num_heads, -1)).permute(3, 0, 4, 1, 2, 5)
    query, key, value = (part.flatten(1, 2) for part in qkv.flatten(1, 2).unbind(0))
    queries = query.unflatten(1, (height, width))
    rows = torch.einsum("nhwc,hkc->nhwk", queries, _by_distance(parts.rel_pos_h, height))
    columns = torch.einsum("nhwc,wkc->nhwk", queries, _by_distance(parts.rel_pos_w, width))
    row_one_hot = torch.eye(height, device=x.device, dtype=key.dtype).repeat_interleave(width, 0)
    column_one_hot = torch.eye(width, device=x.device, dtype=key.dtype).repeat(height, 1)
    one_hot = torch.cat([row_one_hot, column_one_hot], dim=1).expand(len(key), -1, -1)
    joined_key = torch.cat([key, one_hot], dim=-1)
    added = torch.cat([rows, columns], dim=-1).flatten(1, 2)
    joined_query = torch.cat([query * parts.scale, added.to(query.dtype)], dim=-1)
    joined_query = joined_query * joined_query.shape[-1] ** 0.5  # cancels the attention's own scale
    heads = global_attention(joined_query, [joined_key], [value])
    readout = heads.unflatten(0, (batch, -1)).unflatten(2, (height, width))
    attended: Tensor = parts.proj(readout.permute(0, 2, 3, 1, 4).flatten(3).to(x.dtype))
    return attended


def _by_distance(table: Tensor, side: int) -> Tensor:
    """Look up ``(side, side, c)``: the embedding of the distance of each query and key."""
    if len(table) != 2 * side - 1:
        raise ShapeError(f"wanted positions for {side} patches, got {len(table)} distances")
    index = torch.arange(side, device=table.device)
    return table[index[:, None] - index + side - 1]
