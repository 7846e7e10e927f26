"""The deformable convolution DCNv3 of InternImage: its weights; the sampling is ``ops.dcnv3``."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.ops.dcnv3 import deformable_sampling

NORM_EPS = 1e-6
"""Of every layer normalisation in InternImage; elsewhere in VMOS it is PyTorch's 1e-5."""
KERNEL = 3


class DeformableConv(nn.Module):
    """Where to look and what it weighs is read off the input by a depth-wise convolution.

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
        offsets = self.offsets(guide).unflatten(-1, (self.groups, -1, 2))
        weights = self.weights(guide).unflatten(-1, (self.groups, -1)).softmax(-1)
        sampled: Tensor = self.output(deformable_sampling(self.value(x), offsets, weights))
        return sampled
