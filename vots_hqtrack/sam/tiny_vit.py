"""TinyViT, SAM's small image encoder: one pass serves VMOS and the refiner.

Two things differ from the published network. VMOS wants its maps at three strides. And a frame that
is not square need not be padded to SAM's 1024 x 1024: every attention stays inside windows of 7 or
14 tokens, so the input is padded to the next common border of the windows only. What depends on
weights alone is computed once: batch normalisation is folded into the convolution before it, and
the position bias is expanded.

SAM's strides are counted on its own 1024-pixel input. VMOS's network image is half of that, so
SAM's strides 8, 16 and 32 are VMOS's strides 4, 8 and 16
(docs/decisions/0002-lite-network-scale.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vots_hqtrack.encoder import register_encoder
from vots_hqtrack.errors import ShapeError
from vots_hqtrack.sam.layers import ChannelNorm, SamWeights, frozen, gelu
from vots_hqtrack.types import FrameFeatures, Size

SAM_INPUT = 1024
SAM_STRIDE = 16
WINDOW_BORDER = 224
"""Distance in pixels between common borders of the windows: 7 tokens at strides 8 and 16, and 14 at
stride 16."""
EMPTY_SIDE = 408
"""Side of an input of zeros, at which :meth:`TinyViT.encode_empty` looks in place of SAM's: 77
tokens less at stride 8, which are eleven windows."""
EMPTY_BORDER = 28
"""Tokens at stride 8, four windows, of which the last one is out of the border's reach."""

WIDTHS = (64, 128, 160, 320)
"""Channels of the stages at strides 4, 8, 16 and 16. The first one has convolutions alone."""
DEPTHS = (2, 2, 6, 2)
WINDOWS = (0, 7, 14, 7)
HEAD_WIDTH = 32
NECK_WIDTH = 256


@dataclass(frozen=True, slots=True)
class SharedFeatures(FrameFeatures):
    """Features of an image for VMOS and for SAM's mask decoder.

    ``s4`` has 128 channels, ``s8`` 576 (before the neck, then the neck), ``s16`` 256 (the neck
    averaged 2 x 2). Each of their maps is normalised over its channels without parameters, because
    only the neck's output has a bounded scale.

    Attributes:
        early: ``(B, 160, H/16, W/16)`` float, read by the HQ head.
        neck: ``(B, 256, H/16, W/16)`` float, read by SAM's mask decoder.
    """

    early: Tensor
    neck: Tensor


class TinyViT(nn.Module):
    """TinyViT in one dtype, whatever autocast says.

    Args:
        weights: Weights of the image encoder.
        dtype: Dtype of weights and maps.
    """

    def __init__(self, weights: SamWeights, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        stem = weights.part("patch_embed.seq")
        self.stem = ConvChain(
            conv_norm(stem, "0", 3, WIDTHS[0] // 2, 3, stride=2),
            conv_norm(stem, "2", WIDTHS[0] // 2, WIDTHS[0], 3, stride=2),
        )
        self.stages, self.downsamples = nn.ModuleList(), nn.ModuleList()
        for number, (width, depth, window) in enumerate(zip(WIDTHS, DEPTHS, WINDOWS, strict=True)):
            part = weights.part(f"layers.{number}")
            blocks = [part.part(f"blocks.{index}") for index in range(depth)]
            self.stages.append(
                nn.Sequential(
                    *(
                        WindowBlock(block, width, window) if window else Bottleneck(block, width)
                        for block in blocks
                    )
                )
            )
            if number + 1 < len(WIDTHS):
                # The last stage keeps the stride of the one before it.
                stride = 2 if number + 2 < len(WIDTHS) else 1
                down = part.part("downsample")
                self.downsamples.append(_downsample(down, width, WIDTHS[number + 1], stride))
        neck = weights.part("neck")
        self.neck = nn.Sequential(
            neck.load("0", nn.Conv2d(WIDTHS[-1], NECK_WIDTH, 1, bias=False)),
            neck.load("1", ChannelNorm(NECK_WIDTH)),
            neck.load("2", nn.Conv2d(NECK_WIDTH, NECK_WIDTH, 3, padding=1, bias=False)),
            neck.load("3", ChannelNorm(NECK_WIDTH)),
        )
        self.to(dtype).to(memory_format=torch.channels_last)

    def forward(self, image: Tensor, *, is_padded: bool = True) -> SharedFeatures:
        """Encode images.

        Args:
            image: ``(B, 3, H, W)`` float, SAM-normalised RGB, sides multiples of 32 up to 1024.
            is_padded: Pad the input as if it were a part of SAM's own, which gives SAM's features.
                False saves up to half of the time; features at the right and bottom differ.

        Returns:
            The features, cut to the input's size: float32 for VMOS, of the encoder's dtype for SAM.

        Raises:
            ShapeError: A side is not a multiple of 32, or larger than 1024.
        """
        height, width = image.shape[-2:]
        if height % 32 or width % 32 or max(height, width) > SAM_INPUT:
            wanted = f"multiples of 32 up to {SAM_INPUT}"
            raise ShapeError(f"SAM's encoder wants sides that are {wanted}, got {width}x{height}")
        if is_padded:
            image = F.pad(image, (0, _missing(width), 0, _missing(height)))
        with torch.autocast(image.device.type, enabled=False):
            return self._encode_stride8(self._to_stride8(image), Size(height, width))

    def encode_empty(self) -> SharedFeatures:
        """Encode SAM's input without a frame, 1024 x 1024 zeros, in half the time of ``forward``.

        Up to stride 8 a window reaches its neighbours only, so that all windows of zeros are equal
        but those near a border: a few are computed, and repeated.
        """
        image = torch.zeros(1, 3, EMPTY_SIDE, EMPTY_SIDE, device=next(self.parameters()).device)
        with torch.autocast(image.device.type, enabled=False):
            stride8 = self._to_stride8(image)
            missing = SAM_INPUT // 8 - stride8.shape[-1]
            index = torch.arange(stride8.shape[-1], device=image.device)
            inside = index[EMPTY_BORDER - 7 : EMPTY_BORDER].repeat(missing // 7)
            index = torch.cat([index[:EMPTY_BORDER], inside, index[EMPTY_BORDER:]])
            stride8 = stride8.index_select(2, index).index_select(3, index)
            stride8 = stride8.contiguous(memory_format=torch.channels_last)
            return self._encode_stride8(stride8, Size(SAM_INPUT, SAM_INPUT))

    def _to_stride8(self, image: Tensor) -> Tensor:
        """Map ``(B, 3, H, W)`` to ``(B, 128, H/8, W/8)``."""
        x = image.to(self.dtype, memory_format=torch.channels_last)
        stride8: Tensor = self.stages[1](self.downsamples[0](self.stages[0](self.stem(x))))
        return stride8

    def _encode_stride8(self, stride8: Tensor, size: Size) -> SharedFeatures:
        """Make the features of an input of a size from its map at stride 8."""
        early = self.downsamples[1](stride8)
        last = self.stages[3](self.downsamples[2](self.stages[2](early)))
        return share_maps(stride8, early, last, self.neck(last), size)


@register_encoder("sam", channels=(128, 576, 256), strides=(8, 16, 32), of_refiner="sam")
def build_tiny_vit() -> TinyViT:
    """Build SAM's TinyViT with random weights, apart from a refiner."""
    return TinyViT(SamWeights(None)).requires_grad_(True)


class ConvChain(nn.Sequential):
    """Convolutions with GELU between them."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H', W')`` to ``(B, C', H'', W'')``."""
        first, *rest = self
        x = first(x)
        for conv in rest:
            x = conv(gelu(x))
        return x


class Bottleneck(nn.Module):
    """Inverted bottleneck: expand, depthwise convolution, project, with a residual.

    Args:
        weights: Weights of the block.
        width: Channels.
    """

    def __init__(self, weights: SamWeights, width: int) -> None:
        super().__init__()
        inner = 4 * width
        self.chain = ConvChain(
            conv_norm(weights, "conv1", width, inner),
            conv_norm(weights, "conv2", inner, inner, 3, groups=inner),
            conv_norm(weights, "conv3", inner, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H', W')`` to the same shape."""
        change: Tensor = self.chain(x)
        return gelu(change.add_(x))


class WindowBlock(nn.Module):
    """Attention inside windows, a depthwise convolution, and an MLP.

    Args:
        weights: Weights of the block.
        width: Channels.
        side: Side of the windows in tokens.
    """

    def __init__(self, weights: SamWeights, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.heads = width // HEAD_WIDTH
        attention, mlp = weights.part("attn"), weights.part("mlp")
        self.norm = attention.load("norm", nn.LayerNorm(width))
        self.qkv = attention.load("qkv", nn.Linear(width, 3 * width))
        self.project = attention.load("proj", nn.Linear(width, width))
        biases = attention.tensor("attention_biases", torch.zeros(self.heads, side * side))
        self.bias = frozen(biases[:, _distances(side)])
        self.local = conv_norm(weights, "local_conv", width, width, 3, groups=width)
        self.mlp_norm = mlp.load("norm", nn.LayerNorm(width))
        self.expand = mlp.load("fc1", nn.Linear(width, 4 * width))
        self.reduce = mlp.load("fc2", nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H', W')``, channels last, to the same shape."""
        x = self.local(x + self._attend(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        tokens = x.permute(0, 2, 3, 1)
        mixed: Tensor = self.reduce(gelu(self.expand(self.mlp_norm(tokens))))
        return mixed.add_(tokens).permute(0, 3, 1, 2)

    def _attend(self, tokens: Tensor) -> Tensor:
        """Attend inside windows: ``(B, H', W', C)`` to the same shape."""
        batch, height, width, channels = tokens.shape
        side = self.side
        padded = F.pad(tokens, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = padded.shape[1] // side, padded.shape[2] // side
        qkv = self.qkv(self.norm(padded)).view(
            batch, rows, side, columns, side, self.heads, 3, HEAD_WIDTH
        )
        # One copy makes queries, keys and values of a window and head contiguous.
        qkv = qkv.permute(6, 0, 1, 3, 5, 2, 4, 7).reshape(3, -1, self.heads, side**2, HEAD_WIDTH)
        query, key, value = qkv
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self.bias[None])
        mixed = mixed.view(batch, rows, columns, self.heads, side, side, HEAD_WIDTH)
        mixed = mixed.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, rows * side, -1, channels)
        attended: Tensor = self.project(mixed[:, :height, :width])
        return attended


def conv_norm(
    weights: SamWeights,
    name: str,
    inputs: int,
    outputs: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
) -> nn.Conv2d:
    """Build a convolution with the batch normalisation after it folded in.

    Args:
        weights: Weights of the part that it belongs to.
        name: Name of the pair in it.
        inputs: Input channels.
        outputs: Output channels.
        kernel: Side of the kernel.
        stride: Stride in each direction.
        groups: Groups of channels.
    """
    part = weights.part(name)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    norm = part.load("bn", nn.BatchNorm2d(outputs))
    return fuse_conv_bn_eval(part.load("c", conv), norm).requires_grad_(False)


def share_maps(
    stride8: Tensor, early: Tensor, before_neck: Tensor, neck: Tensor, size: Size
) -> SharedFeatures:
    """Arrange TinyViT's maps of a padded input as features for both stages.

    Args:
        stride8: ``(B, 128, ...)`` float at stride 8.
        early: ``(B, 160, ...)`` float at stride 16; so are those that follow.
        before_neck: ``(B, 320, ...)`` float.
        neck: ``(B, 256, ...)`` float.
        size: Size of the input without padding.
    """
    rows, columns = size.height // SAM_STRIDE, size.width // SAM_STRIDE
    neck = neck[..., :rows, :columns]
    normal = _normalise_channels(neck)
    return SharedFeatures(
        s4=_normalise_channels(stride8[..., : 2 * rows, : 2 * columns]),
        s8=torch.cat([_normalise_channels(before_neck[..., :rows, :columns]), normal], dim=1),
        s16=F.avg_pool2d(normal, 2),
        early=early[..., :rows, :columns],
        neck=neck,
    )


def _downsample(weights: SamWeights, inputs: int, outputs: int, stride: int) -> ConvChain:
    return ConvChain(
        conv_norm(weights, "conv1", inputs, outputs),
        conv_norm(weights, "conv2", outputs, outputs, 3, stride=stride, groups=outputs),
        conv_norm(weights, "conv3", outputs, outputs),
    )


def _distances(side: int) -> Tensor:
    """Return ``(side^2, side^2)``: which position bias a query and a key of a window have."""
    index = torch.arange(side)
    apart = (index[:, None] - index).abs()
    return (side * apart[:, None, :, None] + apart[None, :, None, :]).view(side**2, side**2)


def _missing(length: int) -> int:
    """Return the pixels from a side to the next common border of the windows."""
    padded = -(-length // WINDOW_BORDER) * WINDOW_BORDER
    return min(padded, SAM_INPUT) - length


def _normalise_channels(x: Tensor) -> Tensor:
    tokens = x.permute(0, 2, 3, 1).float()
    return F.layer_norm(tokens, tokens.shape[-1:]).permute(0, 3, 1, 2)
