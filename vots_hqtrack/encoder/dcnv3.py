"""The deformable convolution DCNv3 of InternImage: its weights; the sampling is ``ops``'s."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.ops import deformable_sampling

NORM_EPS = 1e-6
"""Epsilon of every layer normalisation in InternImage; elsewhere in VMOS it is PyTorch's 1e-5."""
KERNEL = 3
LOG2_OF_E = math.log2(math.e)


class DeformableConv(nn.Module):
    """Deformable convolution; a depth-wise one of the input gives its offsets and weights.

    Args:
        width: Channels ``C``.
        groups: Groups of channels, each with its own offsets and weights.
    """

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        points = KERNEL**2
        self.groups = groups
        self.value = nn.Linear(width, width)
        self.depthwise = nn.Conv2d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.offsets = nn.Linear(width, groups * points * 2)
        self.weights = nn.Linear(width, groups * points)
        self.output = nn.Linear(width, width)
        # Training begins with a plain 3 x 3 average of each group.
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: ``(B, H', W', C)`` float.

        Returns:
            ``(B, H', W', C)`` float.
        """
        guide = self.depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        guide = F.gelu(self.norm(guide))
        offsets, weights = self._offsets_and_weights(guide)
        sampled: Tensor = self.output(deformable_sampling(self.value(x), offsets, weights))
        return sampled

    def _offsets_and_weights(self, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Read offsets ``(B, H', W', G, P, 2)`` and weights ``(B, H', W', G, P)`` off the guide.

        One matmul gives both; in its result all ``x`` of a pixel are side by side, and all ``y``,
        which makes the sampling fast.
        """
        order = torch.arange(self.offsets.out_features, device=guide.device).view(-1, 2).T.flatten()
        placed = F.linear(
            guide,
            torch.cat([self.offsets.weight[order], self.weights.weight]),
            torch.cat([self.offsets.bias[order], self.weights.bias]),
        )
        placed = placed.unflatten(-1, (3, self.groups, -1))
        return placed[..., :2, :, :].movedim(-3, -1), _softmax(placed[..., 2, :, :])


def _softmax(scores: Tensor) -> Tensor:
    """Softmax over the last dimension; PyTorch's own is slow where that has a few entries."""
    powers = torch.exp2((scores - scores.detach().amax(-1, keepdim=True)) * LOG2_OF_E)
    return powers / powers.sum(-1, keepdim=True)
