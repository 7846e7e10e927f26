"""Identity bank: labels to embeddings, so that all objects travel in one pass (paper 2.1)."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.types import SLOTS_PER_GROUP, IdentityEmbedding


class IdentityBank(nn.Module):
    """Learnt patches, one for the background and each slot, summed where the labels say so.

    Args:
        width_s16: Channels at 1/16.
        width_s8: Channels at 1/8; None where no block works at that scale.
        kernel: Patch side at 1/16; an odd one is centred on the cell, an even one covers it.
        kernel_s8: Patch side of the 1/8 bank.
        stride_s8: 8, or 16 with nearest up-sampling as in the released model.
    """

    def __init__(
        self, width_s16: int, width_s8: int | None, *, kernel: int, kernel_s8: int, stride_s8: int
    ) -> None:
        super().__init__()
        channels = SLOTS_PER_GROUP + 1
        self.bank_s16 = nn.Conv2d(channels, width_s16, kernel, 16, _centred(kernel))
        self.norm_s16 = nn.LayerNorm(width_s16)
        self.bank_s8, self.norm_s8 = None, None
        if width_s8 is not None:
            self.bank_s8 = nn.Conv2d(channels, width_s8, kernel_s8, stride_s8, _centred(kernel_s8))
            self.norm_s8 = nn.LayerNorm(width_s8)

    def forward(self, one_hot: Tensor) -> IdentityEmbedding:
        """Embed labels.

        Args:
            one_hot: ``(B, 11, H, W)`` float in ``[0, 1]`` at network size, channel 0 the
                background.

        Returns:
            Tokens at 1/16, and at 1/8 where the bank has that scale.
        """
        coarse = self.norm_s16(self.bank_s16(one_hot).permute(0, 2, 3, 1))
        return IdentityEmbedding(s16=coarse.flatten(1, 2), s8=self._embed_s8(one_hot))

    def _embed_s8(self, one_hot: Tensor) -> Tensor | None:
        if self.bank_s8 is None or self.norm_s8 is None:
            return None
        height, width = one_hot.shape[-2:]
        size = (-(-height // 8), -(-width // 8))
        tokens: Tensor = self.norm_s8(self.bank_s8(one_hot).permute(0, 2, 3, 1))
        if tokens.shape[1:3] != size:
            resized = F.interpolate(tokens.permute(0, 3, 1, 2), size, mode="nearest")
            tokens = resized.permute(0, 2, 3, 1)
        return tokens.flatten(1, 2)


def _centred(kernel: int) -> int:
    return kernel // 2 if kernel % 2 else 0
