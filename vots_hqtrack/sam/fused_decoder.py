"""SAM's and HQ-SAM's mask decoder fused for inference: the same masks at a part of the cost.

What does not depend on an object is computed once a frame. What is linear between a map and the
token that reads it is moved to the token's side: HQ-SAM's last convolutions never run, because
their weights times the token are a kernel with one output. Only the part of SAM's square where the
frame is gets upscaled to the masks' resolution, and only for the masks that are asked for. Weights
have the dtype that they are multiplied in, whatever autocast says.

The package's own modules, called by `sam.candidates`, are the reference.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own spelling
from torch import Tensor, nn

from vots_hqtrack.config import HQOutput
from vots_hqtrack.sam.candidates import MULTIMASK, SINGLE, Candidates, encode_tokens
from vots_hqtrack.sam.channels_last import centred, channel_norm, gelu_, norm_centred_
from vots_hqtrack.sam.fused_transformer import FusedTwoWayTransformer
from vots_hqtrack.sam.geometry import SamGeometry, input_sides
from vots_hqtrack.sam.models import MaskDecoderHQ
from vots_hqtrack.sam.prompts import Prompts
from vots_hqtrack.types import ImageEmbedding, Size

UPSCALING = 4
"""Mask pixels along one token of the embedding."""
REACH = 2
"""Mask pixels on each side of its own that HQ-SAM's convolutions read."""


@dataclass(frozen=True, slots=True)
class FrameCache:
    """What the decoder computes of one frame, for all objects.

    Attributes:
        tokens: ``(H' W', 256)`` float, the embedding row by row.
        map_size: Size of the embedding.
        needed: The part of it, from its first row and column, that the frame's masks come from.
        hq: ``(4 rows columns, C)`` float of that part, for the HQ head; None without one.
    """

    tokens: Tensor
    map_size: Size
    needed: Size
    hq: Tensor | None


class FusedMaskDecoder(nn.Module):
    """The package's ``MaskDecoder`` or ``MaskDecoderHQ``, and its ``PromptEncoder``.

    Args:
        decoder: In evaluation mode; it is not changed.
        prompt_encoder: It is not changed; boxes and points are encoded by it in float32.
        dtype: Of weights and maps.
        hq_output: An HQ decoder's masks: SAM's plus the HQ token's, or the latter alone.
    """

    def __init__(
        self,
        decoder: nn.Module,
        prompt_encoder: nn.Module,
        dtype: torch.dtype,
        *,
        hq_output: HQOutput = "sum",
    ) -> None:
        super().__init__()
        source: Any = decoder
        encoder: Any = prompt_encoder
        self.dtype = dtype
        self.hq_output = hq_output
        self.side, self.mask_side = input_sides(prompt_encoder)
        self.transformer = FusedTwoWayTransformer(source.transformer, encoder.get_dense_pe(), dtype)
        tokens = [source.iou_token.weight, source.mask_tokens.weight]
        is_hq = isinstance(decoder, MaskDecoderHQ)
        if is_hq:
            tokens.append(source.hf_token.weight)
        self.tokens = nn.Parameter(torch.cat(tokens).detach(), requires_grad=False)
        self.upscale_2x = TransposedConv(source.output_upscaling[0], source.output_upscaling[1])
        self.upscale_4x = TransposedConv(source.output_upscaling[3])
        self.readers = copy.deepcopy(source.output_hypernetworks_mlps)
        self.scorer = copy.deepcopy(source.iou_prediction_head)
        self.requires_grad_(False).to(dtype)
        # These keep some or all of their weights in float32.
        self.prompts = DensePrompts(prompt_encoder, dtype)
        self.head = FusedHQHead(decoder, dtype) if is_hq else None
        self.prompt_encoder = prompt_encoder

    def precompute(self, embedding: ImageEmbedding, geometry: SamGeometry) -> FrameCache:
        """Compute what all objects of a frame share.

        Args:
            embedding: SAM's image embedding of the frame.
            geometry: Where the frame is in SAM's input.
        """
        map_size = Size(*embedding.embedding.shape[-2:])
        with torch.autocast(embedding.embedding.device.type, enabled=False):
            tokens = embedding.embedding.to(self.dtype).flatten(2).transpose(1, 2)[0]
            needed = _needed(geometry, map_size)
            hq = None if self.head is None else self.head.precompute(embedding, needed)
        return FrameCache(tokens.contiguous(), map_size, needed, hq)

    def forward(self, cache: FrameCache, prompts: Prompts, *, multimask: bool) -> Candidates:
        """Decode the prompts of N objects, N at least 1.

        Args:
            cache: Of the frame.
            prompts: Boxes, and masks and points if there are any.
            multimask: True for SAM's three masks, False for its single one.

        Returns:
            3 candidates of each object, or 1. The logits end a little beyond the frame.
        """
        chosen = range(*(MULTIMASK if multimask else SINGLE).indices(len(self.readers)))
        sparse = encode_tokens(self.prompt_encoder, prompts)
        with torch.autocast(sparse.device.type, enabled=False):
            image = self.prompts(cache.tokens, prompts.masks, len(sparse))
            tokens = self.tokens.expand(len(sparse), -1, -1)
            wanted = [0, *(1 + index for index in chosen)]
            if self.head is not None:
                wanted.append(tokens.shape[1] - 1)
            tokens, image = self.transformer(
                image, torch.cat([tokens, sparse.to(self.dtype)], dim=1), wanted
            )
            scores = self.scorer(tokens[:, 0])[:, list(chosen)].float()
            fine = self._upscale(image, cache)
            readers = [
                self.readers[index](tokens[:, row]) for row, index in enumerate(chosen, start=1)
            ]
            logits = _read(fine, torch.stack(readers, dim=1))
            if self.head is not None and cache.hq is not None:
                own = self.head(cache.hq, fine, tokens[:, -1])
                logits = logits + own if self.hq_output == "sum" else own.expand_as(logits)
        return Candidates(logits, scores)

    def _upscale(self, image: Tensor, cache: FrameCache) -> Tensor:
        """Upscale the needed tokens to the masks' resolution: ``(N, 32, 4 rows, 4 columns)``."""
        rows, columns = cache.needed
        part = image.unflatten(1, tuple(cache.map_size))[:, :rows, :columns].contiguous()
        fine: Tensor = self.upscale_4x(self.upscale_2x(part.permute(0, 3, 1, 2)))
        return fine


class FusedHQHead(nn.Module):
    """The HQ part of the package's ``MaskDecoderHQ`` (HQ-SAM, section 3).

    Three maps make the HQ token's mask: SAM's upscaled embedding through two 3 x 3 convolutions,
    the encoder's last features and its early ones through two transposed convolutions each. Their
    last convolutions are linear, and so is the token's reading of the sum; the token's product with
    their weights comes first, and each of them has one output instead of 32.

    Args:
        decoder: In evaluation mode; it is not changed.
        dtype: Of weights and maps.
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

    def precompute(self, embedding: ImageEmbedding, needed: Size) -> Tensor:
        """Upscale the encoder's features 2x, once for all objects.

        Args:
            embedding: SAM's image embedding of the frame.
            needed: Rows and columns to take, from the first.

        Returns:
            ``(4 rows columns, C)`` float, the two chains side by side in C.
        """
        rows, columns = needed
        last = embedding.embedding[:, :, :rows, :columns].to(
            self.dtype, memory_format=torch.channels_last
        )
        early = embedding.early[:, :rows, :columns].to(self.dtype).contiguous()
        maps = self.from_last(last), self.from_early(early.permute(0, 3, 1, 2))
        return torch.cat([part.permute(0, 2, 3, 1).flatten(0, 2) for part in maps], dim=1)

    def forward(self, features: Tensor, fine: Tensor, token: Tensor) -> Tensor:
        """Make the token's masks of N objects.

        Args:
            features: ``(H' W' / 4, C)`` float, from `precompute`.
            fine: ``(N, 32, H', W')`` float, SAM's upscaled embedding, channels last.
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


class DensePrompts(nn.Module):
    """The mask part of the package's ``PromptEncoder``, added to the image's tokens.

    Two strided convolutions with a norm each make 16 channels of a mask, in float32: they are few.
    The norms' means are taken out of the convolutions' weights. The last matmul, which expands to
    the tokens' channels, adds the tokens in the same pass.

    Args:
        prompt_encoder: The package's, in evaluation mode; it is not changed.
        dtype: Of the tokens.
    """

    def __init__(self, prompt_encoder: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        source: Any = prompt_encoder
        layers = source.mask_downscaling
        self.steps = nn.ModuleList(
            _DownscaleStep(layers[index], layers[index + 1]) for index in (0, 3)
        )
        self.expand = _constant(layers[6].weight.flatten(1).t().to(dtype))
        self.bias = _constant(layers[6].bias.to(dtype))
        self.without = _constant(source.no_mask_embed.weight.to(dtype))

    def forward(self, tokens: Tensor, masks: Tensor | None, num_objects: int) -> Tensor:
        """Add each object's mask prompt to the tokens of the image.

        Args:
            tokens: ``(L, C)`` float, row by row.
            masks: ``(N, 1, mask_side, mask_side)`` float32 logits; None adds what SAM adds without
                a mask.
            num_objects: N.

        Returns:
            ``(N, L, C)`` of the tokens' dtype.
        """
        if masks is None:
            return (tokens + self.without).expand(num_objects, -1, -1)
        maps = masks
        for step in self.steps:
            maps = step(maps)
        hidden = maps.flatten(2).transpose(1, 2).to(tokens.dtype)
        shape = num_objects, -1, -1
        return torch.baddbmm((tokens + self.bias).expand(shape), hidden, self.expand.expand(shape))


class _DownscaleStep(nn.Module):
    """A strided convolution, the norm of its channels, GELU.

    Args:
        conv: Its means over the output channels are taken out, so the norm need not.
        norm: The package's ``LayerNorm2d``.
    """

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        parts: Any = centred(conv)
        layer: Any = norm
        self.weight, self.bias = parts.weight, parts.bias
        self.factor = _constant(layer.weight[:, None, None])
        self.shift = _constant(layer.bias[:, None, None])
        self.stride = parts.stride
        self.eps = float(layer.eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H', W')`` to ``(N, C', H'/2, W'/2)``, float32."""
        x = F.conv2d(x, self.weight, self.bias, self.stride)
        scale = torch.rsqrt((x * x).sum(1, keepdim=True) / x.shape[1] + self.eps)
        return gelu_(torch.addcmul(self.shift, x.mul_(scale), self.factor))


class TransposedConv(nn.Module):
    """A transposed convolution and the norm of its channels, if there is one, then GELU.

    Args:
        conv: Stride and kernel are equal; it is copied.
        norm: The package's ``LayerNorm2d``, or None.
    """

    def __init__(self, conv: nn.Module, norm: nn.Module | None = None) -> None:
        super().__init__()
        source: Any = copy.deepcopy(conv) if norm is None else centred(conv, outputs=1)
        self.weight = nn.Parameter(source.weight, requires_grad=False)
        self.bias = nn.Parameter(source.bias, requires_grad=False)
        self.stride = source.stride
        self.norm = None if norm is None else channel_norm(norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H', W')``, channels last, to ``(N, C', 2 H', 2 W')``, the same layout."""
        x = F.conv_transpose2d(x, self.weight, self.bias, self.stride)
        if self.norm is not None:
            x = norm_centred_(x, self.norm)
        return gelu_(x)


def _read(fine: Tensor, tokens: Tensor) -> Tensor:
    """Read ``(N, C, H', W')`` maps by ``(N, K, C)`` tokens: ``(N, K, H', W')`` float32."""
    planes = tokens @ fine.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)
    return planes.view(*tokens.shape[:2], *fine.shape[-2:]).float()


def _needed(geometry: SamGeometry, map_size: Size) -> Size:
    """Return the rows and columns of the embedding that the masks inside the frame come from."""
    # Interpolation to the frame reads one mask pixel beyond it, the HQ head's convolutions more.
    rows, columns = (
        min(-(-(side + 1 + REACH) // UPSCALING), whole)
        for side, whole in zip(geometry.covered, map_size, strict=True)
    )
    return Size(rows, columns)


def _add_shifted(planes: Tensor) -> Tensor:
    """Add up ``(N, 9, H', W')``, each plane shifted by its offset in a 3 x 3 kernel."""
    height, width = planes.shape[-2:]
    padded = F.pad(planes, (1, 1, 1, 1))
    total = planes[:, 4].clone()
    for index in (0, 1, 2, 3, 5, 6, 7, 8):
        row, column = divmod(index, 3)
        total += padded[:, index, row : row + height, column : column + width]
    return total


def _constant(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad=False)
