"""HQ-SAM's head prepared for inference (HQ-SAM, section 3): fused features, read by the HQ token.

Three maps make the token's mask: SAM's upscaled cells through two 3 x 3 convolutions, the encoder's
last features and its early ones through two transposed convolutions each. Their last convolutions
are linear, and so is the token's reading of the sum; the token's product with their weights comes
first, and each of them has one output instead of 32.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own spelling
from torch import Tensor, nn

from vots_hqtrack.sam.channels_last import centred, channel_norm, gelu_, norm_centred_
from vots_hqtrack.sam.upscale import TransposedConv
from vots_hqtrack.types import ImageEmbedding, Size


class FusedHQHead(nn.Module):
    """The HQ part of the package's ``MaskDecoderHQ``.

    Args:
        decoder: In evaluation mode; it is not changed.
        dtype: Format of weights and maps.
    """

    def __init__(self, decoder: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        source: Any = decoder
        last, early = source.embedding_encoder, source.compress_vit_feat
        conv, norm, _, conv_out = source.embedding_maskfeature
        self.dtype = dtype
        self.from_last = TransposedConv(last[0], last[1])
        self.from_early = TransposedConv(early[0], early[1])
        self.conv = centred(conv)
        self.norm = channel_norm(norm)
        self.reader = copy.deepcopy(source.hf_mlp).requires_grad_(False)
        self.to(dtype)
        self.conv.to(memory_format=torch.channels_last)
        # Multiplied with the token in float32; they are small.
        self.fused = _constant(torch.cat([last[3].weight, early[3].weight]))
        self.fine = _constant(conv_out.weight)
        self.bias = _constant(last[3].bias + early[3].bias + conv_out.bias)

    def view(self, embedding: ImageEmbedding, needed: Size) -> Tensor:
        """Bring the encoder's features to twice their resolution, once for all objects.

        Args:
            embedding: SAM's view of the frame.
            needed: Rows and columns of cells to take, from the first.

        Returns:
            ``(4 rows columns, C)`` float, the two chains side by side in C.
        """
        rows, columns = needed
        last = embedding.embedding[:, :, :rows, :columns].to(
            self.dtype, memory_format=torch.channels_last
        )
        early = embedding.early[:, :rows, :columns].to(self.dtype).contiguous()
        maps = self.from_last(last), self.from_early(early.permute(0, 3, 1, 2))
        return torch.cat([one.permute(0, 2, 3, 1).flatten(0, 2) for one in maps], dim=1)

    def forward(self, features: Tensor, fine: Tensor, token: Tensor) -> Tensor:
        """Make the token's masks of N objects.

        Args:
            features: ``(H' W' / 4, C)`` float, what `view` gave.
            fine: ``(N, 32, H', W')`` float, SAM's upscaled cells, channels last.
            token: ``(N, 256)`` float, the HQ token after the transformer.

        Returns:
            ``(N, 1, H', W')`` float32 logits.
        """
        height, width = fine.shape[-2:]
        read: Tensor = self.reader(token).float()
        kernels = torch.einsum("no,coij->cnij", read, self.fused).flatten(1).to(self.dtype)
        coarse = (features @ kernels).view(height // 2, width // 2, len(read), 2, 2)
        masks = coarse.permute(2, 0, 3, 1, 4).reshape(len(read), height, width).float()
        masks += (read @ self.bias)[:, None, None]
        kernels = torch.einsum("no,ocij->nijc", read, self.fine).flatten(1, 2).to(self.dtype)
        sharp = gelu_(norm_centred_(self.conv(fine), self.norm))
        planes = kernels @ sharp.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)
        return (masks + _add_shifted(planes.unflatten(2, (height, width)).float())).unsqueeze(1)


def _add_shifted(planes: Tensor) -> Tensor:
    """Add up ``(N, 9, H', W')``, each plane shifted by its place in a 3 x 3 kernel."""
    height, width = planes.shape[-2:]
    padded = F.pad(planes, (1, 1, 1, 1))
    total = planes[:, 4].clone()
    for place in (0, 1, 2, 3, 5, 6, 7, 8):
        row, column = divmod(place, 3)
        total += padded[:, place, row : row + height, column : column + width]
    return total


def _constant(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad=False)
