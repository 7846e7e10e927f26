"""Single-scale propagation: DeAOT's, the baseline of the paper's Table 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from vots_hqtrack.propagation.block import GatedPropagationBlock, make_blocks_s16, run_blocks
from vots_hqtrack.propagation.fusion import from_map, to_map
from vots_hqtrack.types import FrameFeatures, Memory, PropagationOutput


class SingleScalePropagation(nn.Module):
    """Propagation blocks at stride 16; the decoder gets both streams of the last one.

    Args:
        dim: Encoder channels at stride 16.
        width: Channels of each stream.
        num_blocks: Propagation blocks.
        window_radius: Reach of the short-term attention in tokens.
    """

    def __init__(self, dim: int, *, width: int, num_blocks: int, window_radius: int) -> None:
        super().__init__()
        self.project_s16 = nn.Conv2d(dim, width, 1)
        self.blocks_s16 = make_blocks_s16(width, num_blocks, window_radius)
        # Two groups: one normalises the visual half over the whole map, one the identity half.
        self.norm = nn.GroupNorm(2, 2 * width)

    @property
    def blocks(self) -> Sequence[GatedPropagationBlock]:
        """All blocks, in the order of a memory entry's layers."""
        return cast("Sequence[GatedPropagationBlock]", self.blocks_s16)

    def forward(self, features: FrameFeatures, memory: Memory) -> PropagationOutput:
        """Propagate the memory into one frame.

        Args:
            features: Encoder features of the frame.
            memory: Memory to read.

        Returns:
            The embedding at stride 16, the frame's proposals and its features.
        """
        outputs = run_blocks(self.blocks_s16, from_map(self.project_s16(features.s16)), memory)
        streams = torch.cat([outputs[-1].visual, outputs[-1].identity], dim=-1)
        proposals = tuple(output.proposal for output in outputs)
        return PropagationOutput(self.norm(to_map(streams)), proposals, features)
