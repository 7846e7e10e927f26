"""TinyViT made ready for inference: the same network with fewer and cheaper operations.

What depends on weights alone is computed once: batch normalisation is folded into the convolution
before it, the scale of the attention into its queries, the position bias is laid out, and weights
have the number format in which they are multiplied, so nothing is cast for each frame. Maps are
channels-last throughout, which makes tokens of them without a copy.

`encoder.sam.SamEncoder` is the reference; tests hold this one against it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.encoder.sam import SAM_STRIDE, SamMaps, check_input, pad_to_windows


class PreparedSamEncoder(nn.Module):
    """The same as ``SamEncoder`` in one number format, which autocast has no say in.

    Args:
        image_encoder: The package's ``TinyViT`` in evaluation mode; it is copied.
        dtype: Format of weights and maps.
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

    def forward(self, image: Tensor) -> SamMaps:
        """Encode images.

        Args:
            image: ``(B, 3, H, W)`` float, SAM-normalised RGB, sides multiples of 32 up to 1024.

        Returns:
            The maps, cut to the input's own grid, of the encoder's dtype.

        Raises:
            ShapeError: A side is not a multiple of 32, or larger than 1024.
        """
        check_input(image)
        rows, columns = (side // SAM_STRIDE for side in image.shape[-2:])
        x = pad_to_windows(image).to(self.dtype, memory_format=torch.channels_last)
        with torch.autocast(image.device.type, enabled=False):
            first, second, third, fourth = self.stages
            x = self.merges[0](first(self.stem(x)))
            stride8 = second(x)
            early = self.merges[1](stride8)
            x = fourth(self.merges[2](third(early)))
            neck = self.neck(x)
        return SamMaps(
            stride8=stride8[..., : 2 * rows, : 2 * columns],
            early=early[..., :rows, :columns],
            before_neck=x[..., :rows, :columns],
            neck=neck[..., :rows, :columns],
        )


class Neck(nn.Module):
    """Two convolutions, each with its channels normalised after it.

    Args:
        layers: The package's: convolution, ``LayerNorm2d``, convolution, ``LayerNorm2d``.
    """

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        parts: Any = layers
        self.convs = nn.ModuleList([parts[0], parts[2]])
        self.norms = nn.ModuleList(_channel_norm(parts[place]) for place in (1, 3))

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
    """Convolutions with GELU between them: the stem, or a merging of patches.

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
            x = conv(_gelu_(x))
        return x


class InvertedBottleneck(nn.Module):
    """Widen, convolve each channel, narrow, around a shortcut.

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
        return _gelu_(change.add_(x))


class WindowBlock(nn.Module):
    """Attention inside windows, a convolution of each channel, and a perceptron.

    Args:
        block: The package's ``TinyViTBlock``.
    """

    bias: Tensor

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        parts: Any = block
        attention, perceptron = parts.attn, parts.mlp
        self.side = int(parts.window_size)
        self.num_heads = int(attention.num_heads)
        self.key_dim = int(attention.key_dim)
        self.norm = attention.norm
        self.query_key_value = self._scaled(attention.qkv)
        self.project = attention.proj
        positions = attention.attention_biases[:, attention.attention_bias_idxs]
        self.register_buffer("bias", positions.detach()[None].clone(), persistent=False)
        self.local = FoldedConv(parts.local_conv)
        self.perceptron_norm = perceptron.norm
        self.widen = perceptron.fc1
        self.narrow = perceptron.fc2

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H', W')``, channels last, to the same shape."""
        x = self.local(self._attend(x))
        tokens = x.permute(0, 2, 3, 1)
        mixed: Tensor = self.narrow(_gelu_(self.widen(self.perceptron_norm(tokens))))
        return mixed.add_(tokens).permute(0, 3, 1, 2)

    def _attend(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        side = self.side
        missing = (0, 0, 0, -width % side, 0, -height % side)
        grid = x.permute(0, 2, 3, 1)
        grid = F.pad(grid, missing) if any(missing) else grid
        rows, columns = grid.shape[1] // side, grid.shape[2] // side
        windows = grid.view(batch, rows, side, columns, side, channels).transpose(2, 3)
        windows = windows.reshape(batch * rows * columns, side * side, channels)
        attended: Tensor = self.project(self._mix(self.norm(windows)))
        attended = attended.view(batch, rows, columns, side, side, channels).transpose(2, 3)
        attended = attended.reshape(batch, rows * side, columns * side, channels)
        return x + attended[:, :height, :width].permute(0, 3, 1, 2)

    def _mix(self, tokens: Tensor) -> Tensor:
        """Attend within ``(M, L, C)`` windows."""
        count, length, _ = tokens.shape
        joined: Tensor = self.query_key_value(tokens).view(count, length, self.num_heads, -1)
        query, key, value = joined.transpose(1, 2).split(self.key_dim, dim=3)
        scores = (query @ key.transpose(2, 3)).add_(self.bias)
        mixed: Tensor = scores.softmax(-1) @ value
        return mixed.transpose(1, 2).reshape(count, length, -1)

    def _scaled(self, joined: nn.Module) -> nn.Linear:
        """Return the layer that makes queries, keys and values, its queries scaled already."""
        source: Any = joined
        scaled = nn.Linear(source.in_features, source.out_features)
        factor = torch.ones(self.num_heads, source.out_features // self.num_heads)
        factor[:, : self.key_dim] = self.key_dim**-0.5
        with torch.no_grad():
            scaled.weight.copy_(source.weight * factor.view(-1, 1))
            scaled.bias.copy_(source.bias * factor.view(-1))
        return scaled


def _channel_norm(layer: nn.Module) -> nn.LayerNorm:
    """Return the package's ``LayerNorm2d`` as a norm of tokens."""
    source: Any = layer
    norm = nn.LayerNorm(len(source.weight), eps=source.eps)
    norm.load_state_dict({"weight": source.weight, "bias": source.bias})
    return norm


def _gelu_(x: Tensor) -> Tensor:
    # In place: a fresh map of this size costs as much as the function itself.
    activated: Tensor = torch.ops.aten.gelu_(x)
    return activated
