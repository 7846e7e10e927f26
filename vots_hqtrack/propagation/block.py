"""One gated propagation block: long-term, short-term and self attention (paper section 2.1).

Two streams of tokens run side by side: visual ones, and identity ones that say which object lies
where. The first block of the cascade has no identity stream yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.propagation.attention import GatedOutput, GatedSelfAttention, memory_attention
from vots_hqtrack.propagation.window import WindowAttention
from vots_hqtrack.types import LayerMemory, LayerProposal, Size


@dataclass(frozen=True, slots=True)
class BlockOutput:
    """Tokens after one block, and what the block would remember of the frame.

    Attributes:
        visual: ``(B, L, C)`` float.
        identity: ``(B, L, C)`` float.
        proposal: The frame's key and value, waiting for the labels that the tracker decides on.
    """

    visual: Tensor
    identity: Tensor
    proposal: LayerProposal


class GatedPropagationBlock(nn.Module):
    """Gated propagation at one scale.

    Args:
        width: Channels ``C`` of each stream; keys have ``C / 2``, values ``2C`` for each stream.
        is_first: The block gets no identity stream.
        window_radius: Reach of the short-term attention in cells.
    """

    def __init__(self, width: int, *, is_first: bool, window_radius: int) -> None:
        super().__init__()
        self.width = width
        self.is_first = is_first
        self.norm = nn.LayerNorm(width)
        self.key_value = nn.Linear(width, width // 2 + 2 * width)
        self.gate = nn.Linear(width, 2 * width)
        self.identity_norm = None if is_first else nn.LayerNorm(width)
        self.identity_gate = None if is_first else nn.Linear(width, 2 * width)
        self.identity_value = nn.Linear(width if is_first else 2 * width, 2 * width)
        self.long_term_output = GatedOutput(4 * width, 2 * width)
        self.short_term = WindowAttention(width // 2, window_radius)
        self.short_term_output = GatedOutput(4 * width, 2 * width)
        self.self_norm = nn.LayerNorm(width)
        self.self_identity_norm = nn.LayerNorm(width)
        self.self_attention = GatedSelfAttention(width)

    def forward(
        self,
        visual: Tensor,
        identity: Tensor | None,
        size: Size,
        long_term: Sequence[LayerMemory],
        short_term: LayerMemory | None,
        *,
        own_embedding: Tensor | None = None,
    ) -> BlockOutput:
        """Propagate one frame through the memories.

        Args:
            visual: ``(B, L, C)`` float.
            identity: ``(B, L, C)`` float, or None in the first block.
            size: ``(H', W')`` with ``L = H' * W'``.
            long_term: Memory frames; not read for a reference frame.
            short_term: One earlier frame; not read for a reference frame.
            own_embedding: ``(B, L, C)`` identity embedding of this very frame when it is a
                reference frame, which then is its own memory; None otherwise.

        Returns:
            The tokens and the frame's proposal for the memory.
        """
        tokens = self.norm(visual)
        key, value = self.key_value(tokens).split([self.width // 2, 2 * self.width], dim=-1)
        gate = F.silu(self.gate(tokens))
        identity_tokens = None
        if self.identity_norm is not None and self.identity_gate is not None:
            identity_tokens = self.identity_norm(identity)
            gate = torch.cat([gate, F.silu(self.identity_gate(identity_tokens))], dim=-1)
        proposal = LayerProposal(key, F.silu(value), identity_tokens)
        if own_embedding is not None:
            own = self.remember(proposal, own_embedding)
            long_term, short_term = [own], own
        if short_term is None:
            raise ValueError("a frame that is no reference frame needs a short-term memory")

        keys, values = [entry.key for entry in long_term], [entry.value for entry in long_term]
        long_readout = memory_attention(key, keys, values)
        short_readout = self.short_term(key, short_term.key, short_term.value, size)
        update = self.long_term_output(self._gated(long_readout, gate), size)
        update = update + self.short_term_output(self._gated(short_readout, gate), size)
        visual_update, identity_update = update.chunk(2, dim=-1)
        visual = visual + visual_update
        identity = identity_update if identity is None else identity + identity_update

        normed, identity_normed = self.self_norm(visual), self.self_identity_norm(identity)
        update = self.self_attention(normed, identity_normed, size)
        visual_update, identity_update = update.chunk(2, dim=-1)
        return BlockOutput(visual + visual_update, identity + identity_update, proposal)

    def remember(self, proposal: LayerProposal, embedding: Tensor) -> LayerMemory:
        """Join a frame's proposal with its labels.

        Args:
            proposal: What :meth:`forward` returned for the frame.
            embedding: ``(B, L, C)`` identity embedding of the frame's labels.

        Returns:
            The entry for this block's memory.
        """
        joined = embedding
        if proposal.identity_tokens is not None:
            joined = torch.cat([proposal.identity_tokens, embedding], dim=-1)
        value = torch.cat([proposal.value, F.silu(self.identity_value(joined))], dim=-1)
        # The key is a slice of a larger tensor, which is not worth keeping.
        return LayerMemory(proposal.key.contiguous(), value)

    def _gated(self, readout: Tensor, gate: Tensor) -> Tensor:
        if not self.is_first:
            return readout * gate
        visual, identity = readout.chunk(2, dim=-1)
        gated = visual * gate
        return torch.cat([gated, identity.to(gated.dtype)], dim=-1)
