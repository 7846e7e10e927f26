"""TinyViT fused for inference: the same network with fewer and cheaper operations.

What depends on weights alone is computed once: batch normalisation is folded into the convolution
before it, the scale of the attention into its queries, the position bias is expanded, and weights
have the dtype that they are multiplied in, so nothing is cast for each frame. Maps are
channels-last throughout, which makes tokens of them without a copy.

`sam.tiny_vit.SamEncoder` is the reference; tests hold this one against it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.sam.channels_last import channel_norm, gelu_
from vots_hqtrack.sam.tiny_vit import (
    SAM_STRIDE,
    SharedFeatures,
    check_input,
    pad_to_windows,
    share_maps,
)
from vots_hqtrack.types import Size

MAX_SAFE_SCORE = 40.0
"""Scores up to this size, either sign: their exponentials and the sums of those keep the full
precision of bfloat16."""


class FusedSamEncoder(nn.Module):
    """The same as ``SamEncoder`` in one dtype, whatever autocast says.

    Args:
        image_encoder: The package's ``TinyViT`` in evaluation mode; it is copied.
        dtype: Of weights and maps.
    """

    def __init__(self, image_encoder: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        source: Any = copy.deepcopy(image_encoder)
        self.dtype = dtype
        self.stem = ConvChain(source.patch_embed.seq[0], source.patch_embed.seq[2])
        make: Callable[[nn.Module], nn.Module] = InvertedBottleneck
        self.stages, self.merges = nn.ModuleList(), nn.ModuleList()
        for level in source.layers:
            self.stages.append(nn.Sequential(*(make(block) for block in level.blocks)))
            make, down = WindowBlock, level.downsample
            if down is not None:
                self.merges.append(ConvChain(down.conv1, down.conv2, down.conv3))
        self.neck = Neck(source.neck)
        self.to(dtype)

    def forward(self, image: Tensor) -> SharedFeatures:
        """Encode images.

        Args:
            image: ``(B, 3, H, W)`` float, SAM-normalised RGB, sides multiples of 32 up to 1024.

        Returns:
            The features, cut to the input's size: float32 for VMOS, of the encoder's dtype for SAM.

        Raises:
            ShapeError: A side is not a multiple of 32, or larger than 1024.
        """
        check_input(image)
        size = Size(*image.shape[-2:])
        x = pad_to_windows(image).to(self.dtype, memory_format=torch.channels_last)
        with torch.autocast(image.device.type, enabled=False):
            first, second, third, fourth = self.stages
            x = self.merges[0](first(self.stem(x)))
            stride8 = second(x)
            early = self.merges[1](stride8)
            x = fourth(self.merges[2](third(early)))
            # The 3 x 3 kernel reads one row more than there is of the frame.
            neck = self.neck(x[..., : size.height // SAM_STRIDE + 1, :])
            return share_maps(stride8, early, x, neck, size)


class Neck(nn.Module):
    """Two convolutions, each with its channels normalised after it.

    Args:
        layers: The package's: convolution, ``LayerNorm2d``, convolution, ``LayerNorm2d``.
    """

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        parts: Any = layers
        self.convs = nn.ModuleList([parts[0], parts[2]])
        self.norms = nn.ModuleList(channel_norm(parts[index]) for index in (1, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H', W')`` to ``(B, 256, H', W')``."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x


class FoldedConv(nn.Module):
    """A convolution with the batch normalisation after it folded in.

    Args:
        pair: The package's ``Conv2d_BN``.
    """

    def __init__(self, pair: nn.Module) -> None:
        super().__init__()
        parts: Any = pair
        conv, norm = parts.c, parts.bn
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = (conv.weight * scale[:, None, None, None]).detach()
        bias = (norm.bias - norm.running_mean * scale).detach()
        self.weight = nn.Parameter(
            weight.contiguous(memory_format=torch.channels_last), requires_grad=False
        )
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride = conv.stride
        self.padding = conv.padding
        self.groups = int(conv.groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H', W')`` to ``(B, C', H'', W'')``."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)


class ConvChain(nn.Module):
    """Convolutions with GELU between them: the stem, or a downsampling.

    Args:
        pairs: The package's ``Conv2d_BN``, in order.
    """

    def __init__(self, *pairs: nn.Module) -> None:
        super().__init__()
        self.convs = nn.ModuleList(FoldedConv(pair) for pair in pairs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H', W')`` to ``(B, C', H'', W'')``."""
        x = self.convs[0](x)
        for conv in list(self.convs)[1:]:
            x = conv(gelu_(x))
        return x


class InvertedBottleneck(nn.Module):
    """Inverted bottleneck: expand, depthwise convolution, project, with a residual.

    Args:
        block: The package's ``MBConv``.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        parts: Any = block
        self.chain = ConvChain(parts.conv1, parts.conv2, parts.conv3)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H', W')`` to the same shape."""
        change: Tensor = self.chain(x)
        return gelu_(change.add_(x))


class WindowBlock(nn.Module):
    """Attention inside windows, a depthwise convolution, and an MLP.

    Args:
        block: The package's ``TinyViTBlock``.
    """

    bias: Tensor
    zero_token: Tensor

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        parts: Any = block
        attention, mlp = parts.attn, parts.mlp
        self.side = int(parts.window_size)
        self.num_heads = int(attention.num_heads)
        self.key_dim = int(attention.key_dim)
        self.norm = attention.norm
        self.query_key_value = self._arranged(attention.qkv)
        zero_token = self.query_key_value(self.norm.bias)
        self.register_buffer("zero_token", zero_token.detach(), persistent=False)
        self.project = attention.proj
        positions = attention.attention_biases[:, attention.attention_bias_idxs]
        self.register_buffer("bias", positions.detach()[None].clone(), persistent=False)
        self.local = FoldedConv(parts.local_conv)
        self.mlp_norm = mlp.norm
        self.expand = mlp.fc1
        self.project_mlp = mlp.fc2

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H', W')``, channels last, to the same shape."""
        x = self.local(self._attend(x))
        tokens = x.permute(0, 2, 3, 1)
        mixed: Tensor = self.project_mlp(gelu_(self.expand(self.mlp_norm(tokens))))
        return mixed.add_(tokens).permute(0, 3, 1, 2)

    def _attend(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        side, heads, depth = self.side, self.num_heads, self.key_dim
        padded = self._pad(self.query_key_value(self.norm(x.permute(0, 2, 3, 1))))
        rows, columns = padded.shape[1] // side, padded.shape[2] // side
        windows = padded.view(batch, rows, side, columns, side, 3, heads, depth)
        # One copy makes queries, keys and values of a window and head contiguous.
        joined = windows.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, -1, side * side, depth)
        mixed = self._mix(*joined)
        mixed = mixed.view(batch, rows, columns, heads, side, side, depth)
        mixed = mixed.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, rows * side, -1, channels)
        attended: Tensor = self.project(mixed[:, :height, :width])
        return x + attended.permute(0, 3, 1, 2)

    def _pad(self, tokens: Tensor) -> Tensor:
        """Pad ``(B, H', W', C)`` to whole windows with what tokens of zeros become."""
        batch, height, width, channels = tokens.shape
        below, beside = -height % self.side, -width % self.side
        if not below and not beside:
            return tokens
        padded = tokens.new_empty(batch, height + below, width + beside, channels)
        padded[:, :height, :width] = tokens
        padded[:, height:] = self.zero_token
        padded[:, :height, width:] = self.zero_token
        return padded

    def _mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend within ``(M * heads, L, C)`` windows."""
        scores = torch.bmm(query, key.transpose(1, 2))
        scores.view(-1, *self.bias.shape[1:]).add_(self.bias)
        return weighted_mean(scores, value)

    def _arranged(self, joined: nn.Module) -> nn.Linear:
        """Return the layer that makes queries, scaled already, then keys, then values."""
        source: Any = joined
        arranged = nn.Linear(source.in_features, source.out_features)
        shape = (self.num_heads, 3, self.key_dim, -1)
        with torch.no_grad():
            for made, given in ((arranged.weight, source.weight), (arranged.bias, source.bias)):
                parts = given.view(shape).transpose(0, 1).clone()
                parts[0] *= self.key_dim**-0.5
                made.copy_(parts.reshape(made.shape))
        return arranged


def weighted_mean(scores: Tensor, value: Tensor) -> Tensor:
    """Average values by the softmax of scores.

    In bfloat16 on the CPU, PyTorch's softmax takes twice as long as exponentials, their sums, and a
    division after the matmul. It is still used where an exponential could leave the range.

    Args:
        scores: ``(M, L, L')`` float; overwritten.
        value: ``(M, L', C)`` float of the same dtype.

    Returns:
        ``(M, L, C)`` of that dtype.
    """
    if scores.device.type != "cpu" or scores.dtype != torch.bfloat16 or not _is_safe(scores):
        return torch.bmm(scores.softmax(-1), value)
    weights = scores.exp_()
    return torch.bmm(weights, value).div_(weights.sum(-1, keepdim=True))


def _is_safe(scores: Tensor) -> bool:
    low, high = torch.aminmax(scores)
    return bool(low >= -MAX_SAFE_SCORE) and bool(high <= MAX_SAFE_SCORE)
