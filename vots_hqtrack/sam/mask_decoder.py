"""SAM's and HQ-SAM's prompt encoder and mask decoder for inference.

The masks are those of the published networks at a part of the cost. What does not depend on an
object is computed once a frame. Linear layers between a map and the token that reads it are moved
to the token's side: HQ-SAM's last convolutions never run, because their weights times the token are
a kernel with one output. Only the part of SAM's square where the frame is gets upscaled to the
masks' resolution, and only for the masks that are asked for. Weights have the dtype that they are
multiplied in, whatever autocast says.

Tests compare it with the modules of ``segment_anything_hq`` (`tests/reference_sam.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.config import HQOutput
from vots_hqtrack.sam.geometry import SamGeometry, Window
from vots_hqtrack.sam.layers import ChannelNorm, Gelu, SamWeights, frozen
from vots_hqtrack.sam.prompts import Prompts
from vots_hqtrack.sam.two_way import WIDTH, TwoWayTransformer
from vots_hqtrack.types import ImageEmbedding, Size

SIDE, MASK_SIDE, MAP_SIDE = 1024, 256, 64
"""Sides of SAM's input, of its low-resolution masks and of its image embedding."""
NUM_MASK_TOKENS = 4
UPSCALING = 4
"""Mask pixels along one token of the embedding."""
SINGLE, MULTIMASK, ALL_MASKS = slice(0, 1), slice(1, 4), slice(0, 4)
"""SAM's mask tokens: one for clear prompts, three for prompts that could mean several things."""
OUTSIDE = -1.0
"""Logit of mask pixels that were not asked for: background."""
REACH = 2
"""Mask pixels on each side of its own that HQ-SAM's convolutions read."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidate masks of N objects.

    Attributes:
        logits: ``(N, K, H', W')`` float32, from the first row and column of SAM's square on: all of
            it, or the part that the frame covers and at least one mask pixel more.
        predicted_iou: ``(N, K)`` float32, SAM's IoU predictions; the HQ token has none of its own.
    """

    logits: Tensor
    predicted_iou: Tensor


@dataclass(frozen=True, slots=True)
class FrameCache:
    """Tensors of one frame that all its objects share.

    Attributes:
        tokens: ``(H' W', 256)`` float, the embedding row by row.
        needed: The part of it, from its first row and column, that the frame's masks come from.
        hq: ``(4 rows columns, C)`` float of that part, for the HQ head; None without one.
    """

    tokens: Tensor
    needed: Size
    hq: Tensor | None


class MaskDecoder(nn.Module):
    """SAM's mask decoder, with its prompt encoder and the HQ head if there is one.

    Args:
        weights: Weights of a whole ``Sam``.
        dtype: Dtype of weights and maps.
        hq: True with an HQ head.
        hq_output: Masks of an HQ decoder: SAM's plus the HQ token's, or the latter alone.
        early_channels: Channels of the encoder's early features, which the HQ head reads.
    """

    side = SIDE
    mask_side = MASK_SIDE

    def __init__(
        self,
        weights: SamWeights,
        dtype: torch.dtype,
        *,
        hq: bool = False,
        hq_output: HQOutput = "sum",
        early_channels: int = 160,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.hq_output = hq_output
        prompts = PromptEncoder(weights.part("prompt_encoder"))
        part = weights.part("mask_decoder")
        names = {"iou_token": 1, "mask_tokens": NUM_MASK_TOKENS, **({"hf_token": 1} if hq else {})}
        rows = [part.load(name, nn.Embedding(count, WIDTH)) for name, count in names.items()]
        self.tokens = frozen(torch.cat([row.weight for row in rows]))
        self.transformer = TwoWayTransformer(part.part("transformer"), prompts.image_positions())
        upscaling = part.part("output_upscaling")
        self.upscaling = nn.Sequential(
            *_upscaling(upscaling, WIDTH, WIDTH // 4),
            upscaling.load("3", nn.ConvTranspose2d(WIDTH // 4, WIDTH // 8, 2, 2)),
            Gelu(),
        )
        self.readers = nn.ModuleList(
            _mlp(part.part(f"output_hypernetworks_mlps.{index}"), WIDTH // 8)
            for index in range(NUM_MASK_TOKENS)
        )
        self.scorer = _mlp(part.part("iou_prediction_head"), NUM_MASK_TOKENS)
        self.to(dtype)
        # These keep some or all of their weights in float32.
        self.prompts = prompts
        self.head = HQHead(part, early_channels, dtype) if hq else None

    def precompute(self, embedding: ImageEmbedding, geometry: SamGeometry) -> FrameCache:
        """Compute what all objects of a frame share.

        Args:
            embedding: SAM's image embedding of the frame.
            geometry: The frame's position in SAM's input.
        """
        needed = _needed(geometry)
        with torch.autocast(embedding.embedding.device.type, enabled=False):
            last, early = embedding.embedding.to(self.dtype), embedding.early.to(self.dtype)
            tokens = last.flatten(2).transpose(1, 2)[0].contiguous()
            hq = None if self.head is None else self.head.precompute(last, early, needed)
        return FrameCache(tokens, needed, hq)

    def forward(
        self,
        cache: FrameCache,
        prompts: Prompts,
        *,
        multimask: bool | None,
        window: Window | None = None,
    ) -> Candidates:
        """Decode the prompts of N objects, N at least 1.

        Args:
            cache: Cache of the frame.
            prompts: Boxes or points or both, and masks if there are any.
            multimask: True for SAM's three masks, False for its single one, None for that and then
                the three.
            window: Rows and columns of the low-resolution masks that are needed; elsewhere the
                masks are background. None for all that the frame covers.

        Returns:
            3 candidates of each object, 1 or 4. The logits end a little beyond the frame.
        """
        asked = {True: MULTIMASK, False: SINGLE, None: ALL_MASKS}[multimask]
        chosen = range(NUM_MASK_TOKENS)[asked]
        rows, columns = _tokens_of(window, cache.needed)
        with torch.autocast(cache.tokens.device.type, enabled=False):
            sparse = self.prompts.tokens(prompts).to(self.dtype)
            image = self.prompts.add_masks(cache.tokens, prompts.masks, prompts.num_objects)
            tokens = self.tokens.expand(len(sparse), -1, -1)
            wanted = [0, *(1 + index for index in chosen)]
            if self.head is not None:
                wanted.append(tokens.shape[1] - 1)
            tokens, image = self.transformer(image, torch.cat([tokens, sparse], dim=1), wanted)
            scores = self.scorer(tokens[:, 0])[:, chosen.start : chosen.stop].float()
            part = image.unflatten(1, (MAP_SIDE, MAP_SIDE))[:, rows, columns].contiguous()
            fine = self.upscaling(part.permute(0, 3, 1, 2))
            readers = [
                self.readers[index](tokens[:, row]) for row, index in enumerate(chosen, start=1)
            ]
            logits = _read(fine, torch.stack(readers, dim=1))
            if self.head is not None and cache.hq is not None:
                own = self.head(_cut_hq(cache, rows, columns), fine, tokens[:, -1])
                logits = logits + own if self.hq_output == "sum" else own.expand_as(logits)
        return Candidates(_in_frame(logits, cache.needed, rows, columns), scores)


class PromptEncoder(nn.Module):
    """SAM's prompt encoder, in float32: it is small, and coordinates need the precision.

    Args:
        weights: Weights of the prompt encoder.
    """

    frequencies: Tensor

    def __init__(self, weights: SamWeights) -> None:
        super().__init__()
        frequencies = weights.tensor(
            "pe_layer.positional_encoding_gaussian_matrix", torch.randn(2, WIDTH // 2)
        )
        self.register_buffer("frequencies", frequencies.clone())
        kinds = [f"point_embeddings.{index}" for index in range(4)] + ["not_a_point_embed"]
        rows = [weights.load(kind, nn.Embedding(1, WIDTH)).weight for kind in kinds]
        self.background, self.foreground = frozen(rows[0]), frozen(rows[1])
        self.corners, self.padding = frozen(torch.cat(rows[2:4])), frozen(rows[4])
        self.without_mask = frozen(weights.load("no_mask_embed", nn.Embedding(1, WIDTH)).weight)
        masks = weights.part("mask_downscaling")
        self.downscaling = nn.Sequential(
            masks.load("0", nn.Conv2d(1, 4, 2, 2)),
            masks.load("1", ChannelNorm(4)),
            nn.GELU(),
            masks.load("3", nn.Conv2d(4, 16, 2, 2)),
            masks.load("4", ChannelNorm(16)),
            nn.GELU(),
        )
        self.widening = masks.load("6", nn.Conv2d(16, WIDTH, 1))

    def tokens(self, prompts: Prompts) -> Tensor:
        """Encode points and boxes, if there are any: ``(N, K, 256)`` float32."""
        if prompts.boxes is None:
            # SAM has learnt points without a box with a padding in its stead.
            rest = self.padding.expand(prompts.num_objects, 1, -1)
        else:
            rest = self._positions((prompts.boxes.view(-1, 2, 2) + 0.5) / SIDE) + self.corners
        if prompts.points is None:
            return rest
        kind: Tensor = self.foreground
        if prompts.labels is not None:
            kind = torch.where(prompts.labels[..., None], self.foreground, self.background)
        points = self._positions((prompts.points + 0.5) / SIDE) + kind
        return torch.cat([points, rest], dim=1)

    def add_masks(self, tokens: Tensor, masks: Tensor | None, num_objects: int) -> Tensor:
        """Add each object's mask prompt to the tokens of the image.

        Args:
            tokens: ``(L, C)`` float, row by row.
            masks: ``(N, 1, mask_side, mask_side)`` float32 logits, or None.
            num_objects: N.

        Returns:
            ``(N, L, C)`` of the tokens' dtype.
        """
        if masks is None:
            return (tokens + self.without_mask.to(tokens.dtype)).expand(num_objects, -1, -1)
        narrow: Tensor = self.downscaling(masks)
        # Of tokens, the convolution is a product; of maps, it would have to be turned round.
        weight, bias = self.widening.weight.flatten(1), self.widening.bias
        dense = F.linear(narrow.flatten(2).transpose(1, 2), weight, bias)
        return tokens + dense.to(tokens.dtype)

    def image_positions(self) -> Tensor:
        """Return the positional encoding of the image's tokens: ``(1, H' W', 256)`` float32."""
        steps = (torch.arange(MAP_SIDE, dtype=torch.float32) + 0.5) / MAP_SIDE
        rows, columns = torch.meshgrid(steps, steps, indexing="ij")
        return self._positions(torch.stack([columns, rows], dim=-1)).flatten(0, 1)[None]

    def _positions(self, points: Tensor) -> Tensor:
        """Encode ``(..., 2)`` points in ``[0, 1]``: ``(..., 256)``."""
        angles = 2 * math.pi * ((2 * points - 1) @ self.frequencies)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class HQHead(nn.Module):
    """HQ-SAM's head (HQ-SAM, section 3).

    Three maps make the HQ token's mask: SAM's upscaled embedding through two 3 x 3 convolutions,
    the encoder's last features and its early ones through two transposed convolutions each. Their
    last convolutions are linear, and so is the token's reading of the sum; the token's product with
    their weights comes first, and each of them has one output instead of 32.

    Args:
        weights: Weights of the mask decoder.
        early_channels: Channels of the encoder's early features.
        dtype: Dtype of the maps.
    """

    def __init__(self, weights: SamWeights, early_channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        narrow = WIDTH // 8
        last, early, fine = (
            weights.part(name)
            for name in ("embedding_encoder", "compress_vit_feat", "embedding_maskfeature")
        )
        self.from_last = nn.Sequential(*_upscaling(last, WIDTH, WIDTH // 4))
        self.from_early = nn.Sequential(*_upscaling(early, early_channels, WIDTH))
        self.sharpen = nn.Sequential(
            fine.load("0", nn.Conv2d(narrow, WIDTH // 4, 3, padding=1)),
            fine.load("1", ChannelNorm(WIDTH // 4)),
            Gelu(),
        )
        self.reader = _mlp(weights.part("hf_mlp"), narrow)
        self.to(dtype)
        self.sharpen.to(memory_format=torch.channels_last)
        # Multiplied with the token in float32; they are small.
        convs = (
            last.load("3", nn.ConvTranspose2d(WIDTH // 4, narrow, 2, 2)),
            early.load("3", nn.ConvTranspose2d(WIDTH, narrow, 2, 2)),
            fine.load("3", nn.Conv2d(WIDTH // 4, narrow, 3, padding=1)),
        )
        self.fused = frozen(torch.cat([conv.weight for conv in convs[:2]]))
        self.fine = frozen(convs[2].weight)
        biases = [conv.bias for conv in convs if conv.bias is not None]
        self.bias = frozen(torch.stack(biases).sum(0))

    def precompute(self, last: Tensor, early: Tensor, needed: Size) -> Tensor:
        """Upscale the encoder's features 2x, once for all objects.

        Args:
            last: ``(1, 256, 64, 64)`` float, SAM's image embedding.
            early: ``(1, 64, 64, C)`` float, early features.
            needed: Rows and columns to take, from the first.

        Returns:
            ``(4 rows columns, C)`` float, the two chains side by side in C.
        """
        rows, columns = needed
        last = last[:, :, :rows, :columns].contiguous(memory_format=torch.channels_last)
        early = early[:, :rows, :columns].contiguous().permute(0, 3, 1, 2)
        maps = self.from_last(last), self.from_early(early)
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
        kernels = torch.einsum("no,coij->nijc", read, self.fused).flatten(0, 2)
        # A product with few rows, one after another in memory, takes the least time.
        quads = kernels.to(fine.dtype).contiguous() @ features.t()
        quads = quads.view(len(read), 2, 2, height // 2, width // 2)
        masks = quads.permute(0, 3, 1, 4, 2).reshape(len(read), height, width).float()
        masks += (read @ self.bias)[:, None, None]
        kernels = torch.einsum("no,ocij->nijc", read, self.fine).flatten(1, 2)
        sharp = self.sharpen(fine).permute(0, 2, 3, 1).flatten(1, 2)
        planes = kernels.to(fine.dtype) @ sharp.transpose(1, 2)
        return (masks + _add_shifted(planes.unflatten(2, (height, width)).float())).unsqueeze(1)


def _upscaling(weights: SamWeights, inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """Return layers that map ``(N, C, H', W')`` to ``(N, C', 2 H', 2 W')``."""
    return (
        weights.load("0", nn.ConvTranspose2d(inputs, outputs, 2, 2)),
        weights.load("1", ChannelNorm(outputs)),
        Gelu(),
    )


def _mlp(weights: SamWeights, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        weights.load("layers.0", nn.Linear(WIDTH, WIDTH)),
        nn.ReLU(),
        weights.load("layers.1", nn.Linear(WIDTH, WIDTH)),
        nn.ReLU(),
        weights.load("layers.2", nn.Linear(WIDTH, outputs)),
    )


def _read(fine: Tensor, tokens: Tensor) -> Tensor:
    """Read ``(N, C, H', W')`` maps by ``(N, K, C)`` tokens: ``(N, K, H', W')`` float32."""
    planes = tokens @ fine.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)
    return planes.view(*tokens.shape[:2], *fine.shape[-2:]).float()


def _tokens_of(window: Window | None, needed: Size) -> Window:
    """Return the rows and columns of the embedding that a window of the masks comes from."""
    if window is None:
        return slice(0, needed.height), slice(0, needed.width)
    rows, columns = (
        slice(
            max(part.start - REACH, 0) // UPSCALING, min(-(-(part.stop + REACH) // UPSCALING), end)
        )
        for part, end in zip(window, needed, strict=True)
    )
    return rows, columns


def _cut_hq(cache: FrameCache, rows: slice, columns: slice) -> Tensor | None:
    """Return the HQ head's features of some rows and columns of the embedding."""
    if cache.hq is None or (rows.stop - rows.start, columns.stop - columns.start) == cache.needed:
        return cache.hq
    height, width = cache.needed
    part = cache.hq.view(2 * height, 2 * width, -1)
    return part[2 * rows.start : 2 * rows.stop, 2 * columns.start : 2 * columns.stop].flatten(0, 1)


def _in_frame(logits: Tensor, needed: Size, rows: slice, columns: slice) -> Tensor:
    """Put the masks of some rows and columns of the embedding where they are in the frame."""
    height, width = (UPSCALING * side for side in needed)
    if logits.shape[-2:] == (height, width):
        return logits
    whole = logits.new_full((*logits.shape[:2], height, width), OUTSIDE)
    whole[
        ...,
        UPSCALING * rows.start : UPSCALING * rows.stop,
        UPSCALING * columns.start : UPSCALING * columns.stop,
    ] = logits
    return whole


def _needed(geometry: SamGeometry) -> Size:
    """Return the rows and columns of the embedding that the masks inside the frame come from."""
    # Interpolation to the frame reads one mask pixel beyond it, the HQ head's convolutions more.
    rows, columns = (
        min(-(-(side + 1 + REACH) // UPSCALING), MAP_SIDE) for side in geometry.covered
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
