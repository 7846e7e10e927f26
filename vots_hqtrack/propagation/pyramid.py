"""The cascade: propagation at 1/16, at 1/8, and fusion to 1/4 (paper section 2.1, Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.propagation.block import BlockOutput, GatedPropagationBlock
from vots_hqtrack.types import (
    FrameFeatures,
    IdentityEmbedding,
    LayerMemory,
    LayerProposal,
    MemoryEntry,
    Size,
)

NORM_GROUPS = 8


@dataclass(frozen=True, slots=True)
class PyramidOutput:
    """What the cascade makes of one frame.

    Attributes:
        embedding: ``(B, 2 * C4, H/4, W/4)`` float, visual half first; what the decoder reads.
        proposals: One for each block, those at 1/16 first.
    """

    embedding: Tensor
    proposals: tuple[LayerProposal, ...]


class ConvNorm(nn.Module):
    """A convolution and a group normalisation."""

    def __init__(self, dim_in: int, dim_out: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim_in, dim_out, kernel, padding=kernel // 2)
        self.norm = nn.GroupNorm(NORM_GROUPS, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, dim_in, H', W')`` to ``(B, dim_out, H', W')``."""
        normed: Tensor = self.norm(self.conv(x))
        return normed


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with group normalisation around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNorm(width, width, 3)
        self.second = ConvNorm(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, width, H', W')`` to the same shape."""
        change: Tensor = self.second(F.relu(self.first(F.relu(x))))
        return x + change


class Fusion(nn.Module):
    """One stream's way to the next finer scale: reduce, resize, add the encoder's features, refine.

    Args:
        dim_in: Channels of the coarser stream.
        width: Channels at the finer scale.
        align_corners: How the stream is resized.
    """

    def __init__(self, dim_in: int, width: int, *, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.reduce = ConvNorm(dim_in, width)
        self.refine = nn.Sequential(ResidualBlock(width), ResidualBlock(width))

    def forward(self, stream: Tensor, features: Tensor) -> Tensor:
        """Bring a stream to the features' scale.

        Args:
            stream: ``(B, dim_in, H', W')`` float.
            features: ``(B, width, H'', W'')`` float, projected encoder features.

        Returns:
            ``(B, width, H'', W'')`` float.
        """
        reduced = F.relu(self.reduce(stream))
        size = features.shape[-2:]
        resized = F.interpolate(reduced, size, mode="bilinear", align_corners=self.align_corners)
        return F.relu(self.refine(resized + features))


class PropagationPyramid(nn.Module):
    """All propagation blocks and the fusions between their scales.

    Args:
        dims: Encoder channels at strides 4, 8 and 16.
        width_s16: Token width at 1/16.
        width_s8: Token width at 1/8.
        width_s4: Channels of each stream at 1/4.
        num_blocks_s16: Propagation blocks at 1/16.
        window_radius: Reach of the short-term attention in cells.
        align_corners: How maps are resized between scales.
    """

    def __init__(
        self,
        dims: tuple[int, int, int],
        *,
        width_s16: int,
        width_s8: int,
        width_s4: int,
        num_blocks_s16: int,
        window_radius: int,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.project_s16 = nn.Conv2d(dims[2], width_s16, 1)
        self.project_s8 = nn.Conv2d(dims[1], width_s8, 1)
        self.project_s4 = nn.Conv2d(dims[0], width_s4, 1)
        self.blocks_s16 = nn.ModuleList(
            GatedPropagationBlock(width_s16, is_first=i == 0, window_radius=window_radius)
            for i in range(num_blocks_s16)
        )
        joined = num_blocks_s16 * width_s16
        self.visual_to_s8 = Fusion(joined, width_s8, align_corners=align_corners)
        self.identity_to_s8 = Fusion(joined, width_s8, align_corners=align_corners)
        self.block_s8 = GatedPropagationBlock(width_s8, is_first=False, window_radius=window_radius)
        self.visual_to_s4 = Fusion(width_s8, width_s4, align_corners=align_corners)
        self.identity_to_s4 = Fusion(width_s8, width_s4, align_corners=align_corners)
        # Two groups over the whole map: one normalises the visual half, the other the identity
        # half.
        self.norm = nn.GroupNorm(2, 2 * width_s4)

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
            The embedding at 1/4 and the frame's proposals.
        """

        def run(index: int, visual: Tensor, identity: Tensor | None) -> BlockOutput:
            recent = short_term.layers[index] if short_term else None
            memories = [entry.layers[index] for entry in long_term]
            own = None if own_embedding is None else self._choose(index, own_embedding)
            return _run_on_maps(self._block(index), visual, identity, memories, recent, own)

        visual: Tensor = self.project_s16(features.s16)
        identity: Tensor | None = None
        outputs = []
        for index in range(len(self.blocks_s16)):
            output = run(index, visual, identity)
            visual, identity = output.visual, output.identity
            outputs.append(output)
        proposals = [output.proposal for output in outputs]

        projected = self.project_s8(features.s8)
        output = run(
            len(self.blocks_s16),
            self.visual_to_s8(torch.cat([one.visual for one in outputs], dim=1), projected),
            self.identity_to_s8(torch.cat([one.identity for one in outputs], dim=1), projected),
        )
        proposals.append(output.proposal)

        projected = self.project_s4(features.s4)
        visual = self.visual_to_s4(output.visual, projected)
        identity = self.identity_to_s4(output.identity, projected)
        embedding = self.norm(torch.cat([visual, identity], dim=1))
        return PyramidOutput(embedding, tuple(proposals))

    def remember(
        self, proposals: Sequence[LayerProposal], embedding: IdentityEmbedding
    ) -> tuple[LayerMemory, ...]:
        """Join a frame's proposals with the identity embedding of its labels, block by block."""
        layers = []
        for index, proposal in enumerate(proposals):
            layers.append(self._block(index).remember(proposal, self._choose(index, embedding)))
        return tuple(layers)

    def _is_fine(self, index: int) -> bool:
        return index == len(self.blocks_s16)

    def _block(self, index: int) -> GatedPropagationBlock:
        block = self.block_s8 if self._is_fine(index) else self.blocks_s16[index]
        if not isinstance(block, GatedPropagationBlock):
            raise TypeError(f"wanted a propagation block, got {type(block).__name__}")
        return block

    def _choose(self, index: int, embedding: IdentityEmbedding) -> Tensor:
        return embedding.s8 if self._is_fine(index) else embedding.s16


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
