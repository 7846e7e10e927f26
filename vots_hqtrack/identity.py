"""Identity bank: masks to embeddings, so that all objects travel in one pass (paper 2.1)."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.types import SLOTS_PER_GROUP, IdentityEmbedding


class IdentityBank(nn.Module):
    """Learnt patches, one for the background and each slot, summed by the labels.

    Args:
        width_s16: Channels at stride 16.
        width_s8: Channels at stride 8; None where no block has that stride.
        kernel: Patch side at stride 16; an odd one is centred on the token, an even one covers it.
        kernel_s8: Patch side of the bank for stride 8.
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
        """Embed masks.

        Args:
            one_hot: ``(B, 11, H, W)`` float in ``[0, 1]`` at network size, channel 0 the
                background.

        Returns:
            The embedding at stride 16, and at 8 where the bank has that stride.
        """
        s16 = self.norm_s16(self.bank_s16(one_hot).permute(0, 2, 3, 1))
        if self.bank_s8 is None or self.norm_s8 is None:
            return IdentityEmbedding(s16, None)
        s8 = self.norm_s8(self.bank_s8(one_hot).permute(0, 2, 3, 1))
        size = [-(-side // 8) for side in one_hot.shape[-2:]]
        if s8.shape[1:3] != tuple(size):
            s8 = F.interpolate(s8.permute(0, 3, 1, 2), size, mode="nearest").permute(0, 2, 3, 1)
        return IdentityEmbedding(s16, s8)


def _centred(kernel: int) -> int:
    return kernel // 2 if kernel % 2 else 0
