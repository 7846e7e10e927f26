"""SAM by the modules of ``segment_anything_hq``, with which the package's own ones are compared."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.config import HQOutput, RefinerConfig
from vots_hqtrack.sam.geometry import SamGeometry, Window
from vots_hqtrack.sam.mask_decoder import ALL_MASKS, MULTIMASK, SINGLE, Candidates
from vots_hqtrack.sam.models import ImageEncoderViT, Sam, build_sam
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

    def forward(
        self,
        cache: ImageEmbedding,
        prompts: Prompts,
        *,
        multimask: bool | None,
        window: Window | None = None,
    ) -> Candidates:
        chosen = ALL_MASKS if multimask is None else MULTIMASK if multimask else SINGLE
        points = None
        if prompts.points is not None:
            labels = torch.ones_like(prompts.points[..., 0], dtype=torch.int)
            if prompts.labels is not None:
                labels = prompts.labels.int()
            points = prompts.points, labels
        encoder = self.prompt_encoder
        sparse, dense = encoder(points=points, boxes=prompts.boxes, masks=prompts.masks)
        is_hq = hasattr(self.decoder, "hf_token")
        masks, predicted_iou = self.decoder.predict_masks(
            image_embeddings=cache.embedding.float(),
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            **({"hq_features": self._hq_features(cache)} if is_hq else {}),
        )
        logits = masks.float()
        if is_hq:
            sam, hq = logits[:, :-1], logits[:, -1:]
            logits = sam + hq if self.hq_output == "sum" else hq.expand_as(sam)
        return Candidates(logits[:, chosen], predicted_iou[:, chosen].float())

    def _hq_features(self, cache: ImageEmbedding) -> Tensor:
        early = cache.early.float().permute(0, 3, 1, 2)
        last: Tensor = self.decoder.embedding_encoder(cache.embedding.float())
        return last + self.decoder.compress_vit_feat(early)


def narrow_sam(*, hq: bool) -> Sam:
    """SAM with a narrow ViT: a block with windows, and one with global attention."""
    sam: Any = build_sam("vit_tiny", hq=hq)
    sam.image_encoder = ImageEncoderViT(
        depth=2, embed_dim=96, num_heads=2, mlp_ratio=4, out_chans=256, use_rel_pos=True,
        window_size=14, global_attn_indexes=(1,),
    )  # fmt: skip
    if hq:
        compress = sam.mask_decoder.compress_vit_feat
        compress[0] = nn.ConvTranspose2d(96, compress[0].out_channels, 2, stride=2)
    narrow: Sam = sam.eval()
    return narrow


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

    def encode_empty(self) -> SharedFeatures:
        return self(torch.zeros(1, 3, 1024, 1024))


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
