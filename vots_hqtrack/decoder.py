"""Decoder: embedding at 1/4 to object logits (the two convolutions of the released model)."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.types import SLOTS_PER_GROUP


class MaskDecoder(nn.Module):
    """Two convolutions.

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
