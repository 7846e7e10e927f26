"""The cascade: propagation at 1/16, at 1/8, and fusion to 1/4 (paper section 2.1, Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.propagation.block import GatedPropagationBlock
from vots_hqtrack.propagation.coarse import CoarsePropagation, PyramidOutput, fine_tokens
from vots_hqtrack.types import FrameFeatures, IdentityEmbedding, MemoryEntry

NORM_GROUPS = 8


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
        # Channels-last, in which 3 x 3 convolutions are faster on the CPU.
        reduced = F.relu(self.reduce(stream)).contiguous(memory_format=torch.channels_last)
        size = features.shape[-2:]
        resized = F.interpolate(reduced, size, mode="bilinear", align_corners=self.align_corners)
        return F.relu(self.refine(resized + features))


class PropagationPyramid(CoarsePropagation):
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
        super().__init__(
            dims[2], width=width_s16, num_blocks=num_blocks_s16, window_radius=window_radius
        )
        self.project_s8 = nn.Conv2d(dims[1], width_s8, 1)
        self.project_s4 = nn.Conv2d(dims[0], width_s4, 1)
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
        outputs = self.propagate_s16(features, long_term, short_term, own_embedding)
        projected = self.project_s8(features.s8)
        output = self.run_block(
            len(outputs),
            self.visual_to_s8(torch.cat([one.visual for one in outputs], dim=1), projected),
            self.identity_to_s8(torch.cat([one.identity for one in outputs], dim=1), projected),
            long_term,
            short_term,
            own_embedding,
        )
        proposals = [*(one.proposal for one in outputs), output.proposal]

        projected = self.project_s4(features.s4)
        visual = self.visual_to_s4(output.visual, projected)
        identity = self.identity_to_s4(output.identity, projected)
        embedding = self.norm(torch.cat([visual, identity], dim=1))
        return PyramidOutput(embedding, tuple(proposals))

    def block(self, index: int) -> GatedPropagationBlock:
        """Return a block by its place; the one at 1/8 is the last."""
        return self.block_s8 if self._is_fine(index) else super().block(index)

    def embedding_for(self, index: int, embedding: IdentityEmbedding) -> Tensor:
        """Return the identity tokens ``(B, L, C)`` at the scale of a block."""
        if self._is_fine(index):
            return fine_tokens(embedding)
        return super().embedding_for(index, embedding)

    def _is_fine(self, index: int) -> bool:
        return index == len(self.blocks_s16)
