"""One gated propagation block: long-term, short-term and self attention (paper section 2.2).

Two streams run side by side: visual features, and identity features that say where each object is.
The first block has no identity stream yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.propagation.attention import (
    GatedOutput,
    GatedSelfAttention,
    WindowAttention,
    memory_attention,
)
from vots_hqtrack.types import IdentityEmbedding, LayerMemory, LayerProposal, Memory


@dataclass(frozen=True, slots=True)
class BlockOutput:
    """Features after one block, and what the block proposes to store of the frame.

    Attributes:
        visual: ``(B, H', W', C)`` float.
        identity: ``(B, H', W', C)`` float.
        proposal: The frame's key and value, before its labels are decided.
    """

    visual: Tensor
    identity: Tensor
    proposal: LayerProposal


class GatedPropagationBlock(nn.Module):
    """Gated propagation at one stride.

    Args:
        width: Channels ``C`` of each stream; keys have ``C / 2``, values ``2C`` for each stream.
        stride: Stride of the feature map, in pixels of the network image.
        layer: Index of the block's part of a memory entry.
        is_first: The block gets no identity stream.
        window_radius: Reach of the short-term attention in tokens.
    """

    def __init__(
        self, width: int, *, stride: int, layer: int, is_first: bool, window_radius: int
    ) -> None:
        super().__init__()
        self.width = width
        self.stride = stride
        self.layer = layer
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

    def forward(self, visual: Tensor, identity: Tensor | None, memory: Memory) -> BlockOutput:
        """Propagate the memory into one frame.

        Args:
            visual: ``(B, H', W', C)`` float.
            identity: ``(B, H', W', C)`` float; None in the first block.
            memory: Memory to read.

        Returns:
            The features and the frame's proposal for the memory.
        """
        proposal, gate = self._project(visual, identity)
        long_term, short_term = self._read(proposal, memory)
        update = self.long_term_output(long_term * gate)
        update = update + self.short_term_output(short_term * gate)
        visual_update, identity_update = update.chunk(2, dim=-1)
        visual = visual + visual_update
        identity = identity_update if identity is None else identity + identity_update

        update = self.self_attention(self.self_norm(visual), self.self_identity_norm(identity))
        visual_update, identity_update = update.chunk(2, dim=-1)
        return BlockOutput(visual + visual_update, identity + identity_update, proposal)

    def _read(self, proposal: LayerProposal, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return what is read of the long-term and the short-term memory: ``(B, H', W', 4C)``."""
        if isinstance(memory, tuple):
            # As it is stored: a batch of all videos' entries would be a copy of them every frame.
            read = [self._read(proposal.sample(i), video) for i, video in enumerate(memory)]
            return torch.cat([long for long, _ in read]), torch.cat([short for _, short in read])
        if isinstance(memory, IdentityEmbedding):
            short_term = self.write_memory(proposal, memory)
            long_term = [short_term]
        else:
            short_term = memory.short_term.layers[self.layer]
            long_term = [entry.layers[self.layer] for entry in memory.long_term]
        keys, values = [entry.key for entry in long_term], [entry.value for entry in long_term]
        return (
            memory_attention(proposal.key, keys, values),
            self.short_term(proposal.key, short_term.key, short_term.value),
        )

    def _project(self, visual: Tensor, identity: Tensor | None) -> tuple[LayerProposal, Tensor]:
        """Return the frame's proposal, and the gate ``(B, H', W', 4C)`` of what it reads."""
        normed = self.norm(visual)
        key, value = self.key_value(normed).split([self.width // 2, 2 * self.width], dim=-1)
        gate = F.silu(self.gate(normed))
        if self.identity_norm is None or self.identity_gate is None:
            identity_normed, identity_gate = None, torch.ones_like(gate)
        else:
            identity_normed = self.identity_norm(identity)
            identity_gate = F.silu(self.identity_gate(identity_normed))
        proposal = LayerProposal(key, F.silu(value), identity_normed)
        return proposal, torch.cat([gate, identity_gate], dim=-1)

    def write_memory(self, proposal: LayerProposal, embedding: IdentityEmbedding) -> LayerMemory:
        """Join a frame's proposal with its labels.

        Args:
            proposal: From :meth:`forward`.
            embedding: Identity embedding of the frame's labels.

        Returns:
            The block's part of the frame's memory entry.

        Raises:
            ShapeError: The identity bank has no embedding at the block's stride.
        """
        labels = embedding.at_stride(self.stride)
        if proposal.identity is not None:
            labels = torch.cat([proposal.identity, labels], dim=-1)
        value = torch.cat([proposal.value, F.silu(self.identity_value(labels))], dim=-1)
        # The key is a slice of a larger tensor, which is not worth keeping.
        return LayerMemory(proposal.key.contiguous(), value)


def make_blocks_s16(width: int, num_blocks: int, window_radius: int) -> nn.ModuleList:
    """Return the propagation blocks at stride 16; arguments as for a block."""
    return nn.ModuleList(
        GatedPropagationBlock(
            width, stride=16, layer=layer, is_first=layer == 0, window_radius=window_radius
        )
        for layer in range(num_blocks)
    )


def run_blocks(blocks: Iterable[nn.Module], visual: Tensor, memory: Memory) -> list[BlockOutput]:
    """Run blocks of one stride one after the other; the first gets no identity stream.

    Args:
        blocks: From :func:`make_blocks_s16`.
        visual: ``(B, H', W', C)`` float, projected encoder features.
        memory: As for a block.

    Returns:
        The output of every block.
    """
    outputs: list[BlockOutput] = []
    identity = None
    for block in blocks:
        output: BlockOutput = block(visual, identity, memory)
        visual, identity = output.visual, output.identity
        outputs.append(output)
    return outputs
