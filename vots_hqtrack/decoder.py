"""Decoders: from the propagated embedding to object logits at stride 4.

The released model reads the embedding of multi-scale propagation, which is at stride 4, by two
convolutions. DeAOT's propagation ends at stride 16; its decoder also reads the encoder's features.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.propagation.fusion import ConvNorm
from vots_hqtrack.types import SLOTS_PER_GROUP, FrameFeatures


class MaskDecoder(nn.Module):
    """Two convolutions, after multi-scale propagation.

    Args:
        width: Channels of the embedding.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(8, width)
        self.classify = nn.Conv2d(width, SLOTS_PER_GROUP + 1, 1)

    def forward(self, embedding: Tensor) -> Tensor:
        """Decode.

        Args:
            embedding: ``(B, width, H/4, W/4)`` float.

        Returns:
            ``(B, 11, H/4, W/4)`` float logits; channel 0 is the background, 1..10 the slots.
        """
        logits: Tensor = self.classify(F.relu(self.norm(self.conv(embedding))))
        return logits


class FPNDecoder(nn.Module):
    """An FPN from stride 16 to 4, after single-scale propagation (DeAOT's).

    Args:
        width_in: Channels of the embedding.
        dims: Encoder channels at strides 4, 8 and 16.
        width: Channels at stride 16, and of the sum at 8; there are half as many beyond.
        align_corners: Rule of resizing maps between strides.
    """

    def __init__(
        self, width_in: int, dims: tuple[int, int, int], *, width: int, align_corners: bool
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.reduce = ConvNorm(width_in, width)
        self.adapt_s16 = nn.Conv2d(dims[2], width, 1)
        self.adapt_s8 = nn.Conv2d(dims[1], width, 1)
        self.adapt_s4 = nn.Conv2d(dims[0], width // 2, 1)
        self.refine_s16 = ConvNorm(width, width, 3)
        self.refine_s8 = ConvNorm(width, width // 2, 3)
        self.refine_s4 = ConvNorm(width // 2, width // 2, 3)
        self.classify = nn.Conv2d(width // 2, SLOTS_PER_GROUP + 1, 1)

    def forward(self, embedding: Tensor, features: FrameFeatures) -> Tensor:
        """Decode.

        Args:
            embedding: ``(B, width_in, H/16, W/16)`` float.
            features: Encoder features of the frame.

        Returns:
            ``(B, 11, H/4, W/4)`` float logits; channel 0 is the background, 1..10 the slots.
        """
        x = F.relu(self.reduce(embedding))
        x = F.relu(self.refine_s16(x + self.adapt_s16(features.s16)))
        x = self._resize(x, features.s8)
        x = F.relu(self.refine_s8(x + self.adapt_s8(features.s8)))
        x = self._resize(x, features.s4)
        x = F.relu(self.refine_s4(x + self.adapt_s4(features.s4)))
        logits: Tensor = self.classify(x)
        return logits

    def _resize(self, x: Tensor, like: Tensor) -> Tensor:
        size = like.shape[-2:]
        return F.interpolate(x, size, mode="bilinear", align_corners=self.align_corners)
