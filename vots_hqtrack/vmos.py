"""VMOS, the video multi-object segmenter (paper section 2.1): encode, identify, propagate, decode.

The network holds weights only. What it remembers of a video lies in memory entries that the caller
keeps, so one network serves any number of videos at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vots_hqtrack.config import VMOSConfig
from vots_hqtrack.decoder import MaskDecoder, PyramidDecoder
from vots_hqtrack.identity import IdentityBank
from vots_hqtrack.propagation.coarse import PyramidOutput, SingleScalePropagation
from vots_hqtrack.propagation.pyramid import PropagationPyramid
from vots_hqtrack.types import (
    FrameFeatures,
    IdentityEmbedding,
    LayerProposal,
    MemoryEntry,
)


class VMOS(nn.Module):
    """Segments the objects of one group (at most 10) in a frame, given entries of earlier frames.

    Args:
        identity: The identity bank.
        pyramid: The propagation cascade, or its first scale alone.
        decoder: The decoder that goes with it.
    """

    def __init__(
        self,
        identity: IdentityBank,
        pyramid: PropagationPyramid | SingleScalePropagation,
        decoder: MaskDecoder | PyramidDecoder,
    ) -> None:
        super().__init__()
        self.identity = identity
        self.pyramid = pyramid
        self.decoder = decoder

    def identify(self, one_hot: Tensor) -> IdentityEmbedding:
        """Embed labels: ``(B, 11, H, W)`` float one-hot at network size."""
        embedding: IdentityEmbedding = self.identity(one_hot)
        return embedding

    def propagate(
        self,
        features: FrameFeatures,
        long_term: Sequence[MemoryEntry],
        short_term: MemoryEntry,
    ) -> PyramidOutput:
        """Read the memories for one frame; nothing is written.

        Args:
            features: Encoder features of the frame.
            long_term: At least one entry.
            short_term: One entry of a recent frame.

        Returns:
            The embedding to decode, and what the frame would add to the memories.
        """
        output: PyramidOutput = self.pyramid(features, long_term, short_term)
        return output

    def propagate_reference(
        self, features: FrameFeatures, embedding: IdentityEmbedding
    ) -> PyramidOutput:
        """Propagate a frame whose labels are given: it is its own memory."""
        output: PyramidOutput = self.pyramid(features, (), None, own_embedding=embedding)
        return output

    def remember(
        self,
        frame_index: int,
        proposals: Sequence[LayerProposal],
        embedding: IdentityEmbedding,
    ) -> MemoryEntry:
        """Join what :meth:`propagate` proposed with the labels that were decided on."""
        return MemoryEntry(frame_index, self.pyramid.remember(proposals, embedding))

    def decode(self, embedding: Tensor, features: FrameFeatures) -> Tensor:
        """Decode what :meth:`propagate` made of a frame to logits.

        Args:
            embedding: ``(B, C, H', W')`` float.
            features: Encoder features of the same frame.

        Returns:
            ``(B, 11, H/4, W/4)`` float; channel 0 is the background, 1..10 the slots.
        """
        logits: Tensor = self.decoder(embedding, features)
        return logits


def build_vmos(config: VMOSConfig, dims: tuple[int, int, int]) -> VMOS:
    """Build VMOS with fresh weights.

    Args:
        config: Sizes.
        dims: Encoder channels at strides 4, 8 and 16.
    """
    identity = IdentityBank(
        config.width_s16,
        config.width_s8 if config.cascade else None,
        kernel=config.identity_kernel,
        kernel_s8=config.identity_kernel_s8,
        stride_s8=config.identity_stride_s8,
    )
    if not config.cascade:
        return VMOS(identity, *_build_single_scale(config, dims))
    pyramid = PropagationPyramid(
        dims,
        width_s16=config.width_s16,
        width_s8=config.width_s8,
        width_s4=config.width_s4,
        num_blocks_s16=config.num_blocks_s16,
        window_radius=config.window_radius,
        align_corners=config.align_corners,
    )
    return VMOS(identity, pyramid, MaskDecoder(2 * config.width_s4))


def _build_single_scale(
    config: VMOSConfig, dims: tuple[int, int, int]
) -> tuple[SingleScalePropagation, PyramidDecoder]:
    """Build DeAOT's propagation and decoder, the baseline of the paper's Table 2."""
    pyramid = SingleScalePropagation(
        dims[2],
        width=config.width_s16,
        num_blocks=config.num_blocks_s16,
        window_radius=config.window_radius,
    )
    decoder = PyramidDecoder(
        2 * config.width_s16,
        dims,
        width=config.width_s16,
        align_corners=config.align_corners,
    )
    return pyramid, decoder
