"""Propagation at 1/16: all of DeAOT, and the first scale of VMOS's cascade (paper section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.propagation.block import BlockOutput, GatedPropagationBlock
from vots_hqtrack.types import (
    FrameFeatures,
    IdentityEmbedding,
    LayerMemory,
    LayerProposal,
    MemoryEntry,
    Size,
)


@dataclass(frozen=True, slots=True)
class PyramidOutput:
    """What the propagation makes of one frame.

    Attributes:
        embedding: ``(B, 2C, H', W')`` float, visual half first; what the decoder reads. At 1/4 of
            the network image after the cascade, at 1/16 without it.
        proposals: One for each block, those at 1/16 first.
    """

    embedding: Tensor
    proposals: tuple[LayerProposal, ...]


class CoarsePropagation(nn.Module):
    """Propagation blocks at 1/16, one after the other.

    Args:
        dim: Encoder channels at stride 16.
        width: Token width.
        num_blocks: Propagation blocks.
        window_radius: Reach of the short-term attention in cells.
    """

    def __init__(self, dim: int, *, width: int, num_blocks: int, window_radius: int) -> None:
        super().__init__()
        self.project_s16 = nn.Conv2d(dim, width, 1)
        self.blocks_s16 = nn.ModuleList(
            GatedPropagationBlock(width, is_first=i == 0, window_radius=window_radius)
            for i in range(num_blocks)
        )

    def projections(self) -> list[nn.Conv2d]:
        """Return what brings the encoder's maps in, the coarsest first."""
        return [module for module in self.children() if isinstance(module, nn.Conv2d)]

    def propagate_s16(
        self,
        features: FrameFeatures,
        long_term: Sequence[MemoryEntry],
        short_term: MemoryEntry | None,
        own_embedding: IdentityEmbedding | None,
    ) -> list[BlockOutput]:
        """Run the blocks at 1/16; arguments as of :meth:`SingleScalePropagation.forward`."""
        visual: Tensor = self.project_s16(features.s16)
        identity: Tensor | None = None
        outputs: list[BlockOutput] = []
        for index in range(len(self.blocks_s16)):
            output = self.run_block(index, visual, identity, long_term, short_term, own_embedding)
            visual, identity = output.visual, output.identity
            outputs.append(output)
        return outputs

    def run_block(
        self,
        index: int,
        visual: Tensor,
        identity: Tensor | None,
        long_term: Sequence[MemoryEntry],
        short_term: MemoryEntry | None,
        own_embedding: IdentityEmbedding | None,
    ) -> BlockOutput:
        """Run one block on ``(B, C, H', W')`` maps, with its own part of every memory entry."""
        return _run_on_maps(
            self.block(index),
            visual,
            identity,
            [entry.layers[index] for entry in long_term],
            short_term.layers[index] if short_term else None,
            None if own_embedding is None else self.embedding_for(index, own_embedding),
        )

    def remember(
        self, proposals: Sequence[LayerProposal], embedding: IdentityEmbedding
    ) -> tuple[LayerMemory, ...]:
        """Join a frame's proposals with the identity embedding of its labels, block by block."""
        layers = []
        for index, proposal in enumerate(proposals):
            tokens = self.embedding_for(index, embedding)
            layers.append(self.block(index).remember(proposal, tokens))
        return tuple(layers)

    def block(self, index: int) -> GatedPropagationBlock:
        """Return a block by its place."""
        block = self.blocks_s16[index]
        if not isinstance(block, GatedPropagationBlock):
            raise TypeError(f"wanted a propagation block, got {type(block).__name__}")
        return block

    def embedding_for(self, index: int, embedding: IdentityEmbedding) -> Tensor:
        """Return the identity tokens ``(B, L, C)`` at the scale of a block."""
        return embedding.s16


class SingleScalePropagation(CoarsePropagation):
    """DeAOT's propagation: no block and no fusion beyond 1/16 (the baseline of paper Table 2).

    Only the last block's streams go on to the decoder.

    Args:
        dim: Encoder channels at stride 16.
        width: Token width.
        num_blocks: Propagation blocks.
        window_radius: Reach of the short-term attention in cells.
    """

    def __init__(self, dim: int, *, width: int, num_blocks: int, window_radius: int) -> None:
        super().__init__(dim, width=width, num_blocks=num_blocks, window_radius=window_radius)
        # Two groups over the whole map, as at the end of the cascade.
        self.norm = nn.GroupNorm(2, 2 * width)

    def forward(
        self,
        features: FrameFeatures,
        long_term: Sequence[MemoryEntry],
        short_term: MemoryEntry | None,
        *,
        own_embedding: IdentityEmbedding | None = None,
    ) -> PyramidOutput:
        """Propagate the memory into one frame.

        Args:
            features: Encoder features of the frame.
            long_term: Memory frames; may be empty for a reference frame.
            short_term: One earlier frame; None for a reference frame.
            own_embedding: Identity embedding of a reference frame's own labels; None otherwise.

        Returns:
            The embedding at 1/16 and the frame's proposals.
        """
        outputs = self.propagate_s16(features, long_term, short_term, own_embedding)
        last = outputs[-1]
        embedding = self.norm(torch.cat([last.visual, last.identity], dim=1))
        return PyramidOutput(embedding, tuple(output.proposal for output in outputs))


def fine_tokens(embedding: IdentityEmbedding) -> Tensor:
    """Return the identity tokens ``(B, L8, C8)`` at 1/8.

    Raises:
        ShapeError: The identity bank that made them has no such scale.
    """
    if embedding.s8 is None:
        raise ShapeError("the block at 1/8 wants identity tokens at 1/8, got those at 1/16 only")
    return embedding.s8


def _run_on_maps(
    block: GatedPropagationBlock,
    visual: Tensor,
    identity: Tensor | None,
    long_term: Sequence[LayerMemory],
    short_term: LayerMemory | None,
    own_embedding: Tensor | None,
) -> BlockOutput:
    """Run a block on ``(B, C, H', W')`` maps instead of tokens."""
    size = Size(*visual.shape[-2:])
    output: BlockOutput = block(
        _tokens(visual),
        None if identity is None else _tokens(identity),
        size,
        long_term,
        short_term,
        own_embedding=own_embedding,
    )
    return BlockOutput(
        output.visual.transpose(1, 2).unflatten(2, size),
        output.identity.transpose(1, 2).unflatten(2, size),
        output.proposal,
    )


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)
