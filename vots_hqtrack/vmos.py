"""VMOS, the video multi-object segmenter: propagates masks from frame to frame (paper section 2.2).

The network holds weights only. What it stores of a video is in memory entries that the caller
keeps, so one network serves any number of videos at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vots_hqtrack.config import VMOSConfig
from vots_hqtrack.decoder import FPNDecoder, MaskDecoder
from vots_hqtrack.identity import IdentityBank
from vots_hqtrack.propagation.multi_scale import MultiScalePropagation
from vots_hqtrack.propagation.single_scale import SingleScalePropagation
from vots_hqtrack.types import (
    FrameFeatures,
    IdentityEmbedding,
    LayerProposal,
    Memory,
    MemoryEntry,
    PropagationOutput,
)


class VMOS(nn.Module):
    """Segments the objects of one group (at most 10) in a frame, given entries of earlier frames.

    Args:
        identity: The identity bank.
        propagation: Multi-scale or single-scale propagation.
        decoder: The decoder that goes with it.
    """

    def __init__(
        self,
        identity: IdentityBank,
        propagation: MultiScalePropagation | SingleScalePropagation,
        decoder: MaskDecoder | FPNDecoder,
    ) -> None:
        super().__init__()
        self.identity = identity
        # Weights files know it by this name.
        self.pyramid = propagation
        self.decoder = decoder

    def encode_masks(self, one_hot: Tensor) -> IdentityEmbedding:
        """Embed the masks of a frame by the identity bank.

        Args:
            one_hot: ``(B, 11, H, W)`` float in ``[0, 1]`` at network size; channel 0 is the
                background, 1..10 the slots.
        """
        embedding: IdentityEmbedding = self.identity(one_hot)
        return embedding

    def propagate(self, features: FrameFeatures, memory: Memory) -> PropagationOutput:
        """Propagate the memory into one frame; nothing is written.

        Args:
            features: Encoder features of the frame.
            memory: Memory to read.

        Returns:
            The embedding to decode, and the frame's proposals for the memory.
        """
        output: PropagationOutput = self.pyramid(features, memory)
        return output

    def decode(self, output: PropagationOutput) -> Tensor:
        """Decode what :meth:`propagate` gave to logits.

        Returns:
            ``(B, 11, H/4, W/4)`` float; channel 0 is the background, 1..10 the slots.
        """
        extra = () if output.features is None else (output.features,)
        logits: Tensor = self.decoder(output.embedding, *extra)
        return logits

    def write_memory(
        self,
        frame_index: int,
        proposals: Sequence[LayerProposal],
        embedding: IdentityEmbedding,
    ) -> MemoryEntry:
        """Make a frame's memory entry from what :meth:`propagate` proposed and from its labels.

        Args:
            frame_index: The frame.
            proposals: Proposals of that frame.
            embedding: Embedding of the final masks, from :meth:`encode_masks`.
        """
        layers = zip(self.pyramid.blocks, proposals, strict=True)
        return MemoryEntry(
            frame_index,
            tuple(block.write_memory(proposal, embedding) for block, proposal in layers),
        )


def build_vmos(config: VMOSConfig, dims: tuple[int, int, int]) -> VMOS:
    """Build VMOS with fresh weights.

    Args:
        config: Sizes.
        dims: Encoder channels at strides 4, 8 and 16.
    """
    identity = IdentityBank(
        config.width_s16,
        config.width_s8 if config.multi_scale else None,
        kernel=config.identity_kernel,
        kernel_s8=config.identity_kernel_s8,
        stride_s8=config.identity_stride_s8,
    )
    if config.multi_scale:
        multi_scale = MultiScalePropagation(
            dims,
            width_s16=config.width_s16,
            width_s8=config.width_s8,
            width_s4=config.width_s4,
            num_blocks_s16=config.num_blocks_s16,
            window_radius=config.window_radius,
            align_corners=config.align_corners,
        )
        return VMOS(identity, multi_scale, MaskDecoder(2 * config.width_s4))
    single_scale = SingleScalePropagation(
        dims[2],
        width=config.width_s16,
        num_blocks=config.num_blocks_s16,
        window_radius=config.window_radius,
    )
    decoder = FPNDecoder(
        2 * config.width_s16, dims, width=config.width_s16, align_corners=config.align_corners
    )
    return VMOS(identity, single_scale, decoder)
