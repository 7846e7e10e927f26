"""Operations of the fused networks on maps ``(N, C, H', W')`` in channels-last memory.

Encoder and decoder share them. All are for inference and work in place, because new memory for a
map costs as much as most operations on it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


def gelu_(x: Tensor) -> Tensor:
    """Apply GELU in place, to maps or tokens."""
    # The vectorised GELU needs a contiguous tensor; on channels-last maps it is twice as slow, so
    # it is applied to the view with the channels last.
    channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    torch.ops.aten.gelu_(x.permute(0, 2, 3, 1) if channels_last else x)
    return x


def channel_norm(layer: nn.Module) -> nn.LayerNorm:
    """Return the ``LayerNorm2d`` of ``segment_anything_hq`` as a norm of tokens."""
    source: Any = layer
    norm = nn.LayerNorm(len(source.weight), eps=source.eps)
    norm.load_state_dict({"weight": source.weight, "bias": source.bias})
    return norm.requires_grad_(False)


@torch.no_grad()
def centred(layer: nn.Module, *, outputs: int = 0) -> nn.Module:
    """Return a copy of a convolution whose output channels have the mean 0 at every position.

    A channel norm after it gives the same and need not compute their mean.

    Args:
        layer: ``nn.Conv2d`` or ``nn.ConvTranspose2d`` with a bias.
        outputs: Dimension of the weight that counts output channels: 1 for a transposed one.
    """
    made: Any = copy.deepcopy(layer)
    made.weight -= made.weight.mean(dim=outputs, keepdim=True)
    made.bias -= made.bias.mean()
    module: nn.Module = made.requires_grad_(False)
    return module


def norm_centred_(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Norm channels whose mean is 0 in place: what the norm itself gives for those.

    On the CPU in bfloat16 it takes 60 % of the time for 64 channels.

    Args:
        x: ``(N, C, H', W')`` float, channels last; overwritten.
        norm: Of C channels, with weight and bias.

    Returns:
        ``x``.
    """
    tokens = x.permute(0, 2, 3, 1)
    length = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True).float()
    scale = length.square_().mul_(1 / tokens.shape[-1]).add_(norm.eps).rsqrt_()
    tokens.mul_(scale.to(x.dtype))
    torch.addcmul(norm.bias, tokens, norm.weight, out=tokens)
    return x
