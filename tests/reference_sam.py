"""SAM by the modules of ``segment_anything_hq``, with which the package's own ones are compared."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.config import HQOutput, RefinerConfig
from vots_hqtrack.sam.candidates import decode_masks, encode_prompts
from vots_hqtrack.sam.geometry import SamGeometry
from vots_hqtrack.sam.mask_decoder import MULTIMASK, SINGLE, Candidates
from vots_hqtrack.sam.prompts import Prompts
from vots_hqtrack.sam.refiner import SamRefiner, sam_refiner
from vots_hqtrack.sam.tiny_vit import WINDOW_BORDER, SharedFeatures, share_maps
from vots_hqtrack.types import ImageEmbedding, Size


class ReferenceDecoder(nn.Module):
    """Prompt encoder and mask decoder of a ``Sam``, as they are."""

    side, mask_side = 1024, 256

    def __init__(self, sam: Any, *, hq_output: HQOutput = "sum") -> None:
        super().__init__()
        self.decoder = sam.mask_decoder
        self.prompt_encoder = sam.prompt_encoder
        self.hq_output = hq_output

    def precompute(self, embedding: ImageEmbedding, geometry: SamGeometry) -> ImageEmbedding:
        return embedding

    def forward(self, cache: ImageEmbedding, prompts: Prompts, *, multimask: bool) -> Candidates:
        chosen = MULTIMASK if multimask else SINGLE
        masks = decode_masks(self.decoder, cache, encode_prompts(self.prompt_encoder, prompts))
        logits = masks.sam[:, chosen]
        if masks.hq is not None:
            is_sum = self.hq_output == "sum"
            logits = logits + masks.hq if is_sum else masks.hq.expand_as(logits)
        return Candidates(logits, masks.predicted_iou[:, chosen])


def reference_refiner(config: RefinerConfig, sam: Any, **options: Any) -> SamRefiner:
    """Build the refiner of a configuration on the modules of ``segment_anything_hq``."""
    return sam_refiner(ReferenceDecoder(sam, hq_output=config.hq_output), config, **options)


class ReferenceTinyViT(nn.Module):
    """TinyViT of a ``Sam``, walked module by module, as it takes square images only."""

    def __init__(self, sam: Any) -> None:
        super().__init__()
        self.image_encoder = sam.image_encoder

    def forward(self, image: Tensor) -> SharedFeatures:
        height, width = image.shape[-2:]
        encoder: Any = self.image_encoder
        missing = (
            min(-(-side // WINDOW_BORDER) * WINDOW_BORDER, 1024) - side for side in (width, height)
        )
        right, below = missing
        x = encoder.patch_embed(F.pad(image, (0, right, 0, below)))
        for block in encoder.layers[0].blocks:
            x = block(x)
        maps = []
        for finer, layer in zip(encoder.layers[:3], encoder.layers[1:], strict=True):
            x = _downsample(finer.downsample, x)
            maps.append(x)
            for block in layer.blocks:
                x = _block_in_windows(block, x)
            if len(maps) == 1:
                stride8 = x
        return share_maps(stride8, maps[1], x, encoder.neck(x), Size(height, width))


def _downsample(module: Any, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    stride = module.conv2.c.stride[0]
    tokens: Tensor = module(x).transpose(1, 2)
    return tokens.reshape(*tokens.shape[:2], -(-height // stride), -(-width // stride))


def _block_in_windows(block: Any, x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    side = int(block.window_size)
    tokens = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, -width % side, 0, -height % side))
    rows, columns = tokens.shape[1] // side, tokens.shape[2] // side
    windows = tokens.reshape(batch, rows, side, columns, side, channels).transpose(2, 3)
    attended: Tensor = block.attn(windows.reshape(-1, side * side, channels))
    attended = attended.reshape(batch, rows, columns, side, side, channels).transpose(2, 3)
    attended = attended.reshape(batch, rows * side, columns * side, channels)[:, :height, :width]
    x = block.local_conv(x + attended.permute(0, 3, 1, 2))
    tokens = x.permute(0, 2, 3, 1)
    mixed: Tensor = tokens + block.mlp(tokens)
    return mixed.permute(0, 3, 1, 2)
