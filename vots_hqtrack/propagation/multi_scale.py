"""Multi-scale propagation: at strides 16 and 8, fused to stride 4 (paper section 2.2, Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from vots_hqtrack.propagation.block import (
    BlockOutput,
    GatedPropagationBlock,
    make_blocks_s16,
    run_blocks,
)
from vots_hqtrack.propagation.fusion import Fusion, from_map, to_map
from vots_hqtrack.types import FrameFeatures, Memory, PropagationOutput


class MultiScalePropagation(nn.Module):
    """Propagation blocks at stride 16, one at stride 8, and the fusions to finer strides.

    Args:
        dims: Encoder channels at strides 4, 8 and 16.
        width_s16: Channels of each stream at stride 16.
        width_s8: Channels of each stream at stride 8.
        width_s4: Channels of each stream at stride 4.
        num_blocks_s16: Propagation blocks at stride 16.
        window_radius: Reach of the short-term attention in tokens.
        align_corners: Rule of resizing maps between strides.
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
        self.blocks_s16 = make_blocks_s16(width_s16, num_blocks_s16, window_radius)
        self.project_s8 = nn.Conv2d(dims[1], width_s8, 1)
        self.project_s4 = nn.Conv2d(dims[0], width_s4, 1)
        joined = num_blocks_s16 * width_s16
        self.visual_to_s8 = Fusion(joined, width_s8, align_corners=align_corners)
        self.identity_to_s8 = Fusion(joined, width_s8, align_corners=align_corners)
        self.block_s8 = GatedPropagationBlock(
            width_s8, stride=8, layer=num_blocks_s16, is_first=False, window_radius=window_radius
        )
        self.visual_to_s4 = Fusion(width_s8, width_s4, align_corners=align_corners)
        self.identity_to_s4 = Fusion(width_s8, width_s4, align_corners=align_corners)
        # Two groups: one normalises the visual half over the whole map, one the identity half.
        self.norm = nn.GroupNorm(2, 2 * width_s4)

    @property
    def blocks(self) -> Sequence[GatedPropagationBlock]:
        """All blocks, in the order of a memory entry's layers."""
        return [*cast("Sequence[GatedPropagationBlock]", self.blocks_s16), self.block_s8]

    def forward(self, features: FrameFeatures, memory: Memory) -> PropagationOutput:
        """Propagate the memory into one frame.

        Args:
            features: Encoder features of the frame.
            memory: Memory to read.

        Returns:
            The embedding at stride 4 and the frame's proposals.
        """
        outputs = run_blocks(self.blocks_s16, from_map(self.project_s16(features.s16)), memory)
        visual = torch.cat([output.visual for output in outputs], dim=-1)
        identity = torch.cat([output.identity for output in outputs], dim=-1)

        projected = from_map(self.project_s8(features.s8))
        visual = self.visual_to_s8(visual, projected)
        identity = self.identity_to_s8(identity, projected)
        output: BlockOutput = self.block_s8(visual, identity, memory)
        outputs.append(output)

        projected = from_map(self.project_s4(features.s4))
        visual = self.visual_to_s4(output.visual, projected)
        identity = self.identity_to_s4(output.identity, projected)
        embedding = self.norm(to_map(torch.cat([visual, identity], dim=-1)))
        return PropagationOutput(embedding, tuple(output.proposal for output in outputs))
