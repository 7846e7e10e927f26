"""HQ-SAM's decoder in training: the head learns on windows of the image, all else is frozen.

Everything but the transformer works token by token or on near neighbours, so the costly maps are
computed only in a window that the loss looks at. The loss is cross-entropy and dice on the points
where a mask is least sure, as in PointRend and HQ-SAM. The head begins so that the HQ token's mask
is SAM's own single mask, and learns where that mask is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.errors import ShapeError
from vots_hqtrack.sam.models import HQ_DECODER_PARTS, Sam, build_sam
from vots_hqtrack.training.hq.cache import fill_cache
from vots_hqtrack.training.hq.recipe import HQLossOptions, HQRecipe
from vots_hqtrack.training.hq.samples import MARGIN, HQBatch, HQSampler
from vots_hqtrack.training.losses import Loss, StepOptions
from vots_hqtrack.training.task import Task, TrainedNetwork

UPSCALE = 4
"""Pixels of a low-resolution mask along a token of the embedding."""
FEATURE_SCALE = 0.105
"""Standard deviation of SAM's upscaled features over their channels (mean over training images):
divided out by the normalisation, and restored by its gain."""
NOISE = 0.01
"""Noise of the kernels that begin as identities, so that their channels can part."""
OVERSAMPLE = 3
UNSURE_FRACTION = 0.75
SMOOTH = 1.0


class HQHeadNetwork(TrainedNetwork):
    """Prompt encoder and HQ mask decoder of a SAM.

    Args:
        sam: With HQ decoder, from :func:`hq_sam_from_plain`; its head requires gradients from now.
        loss: Options of the loss.
    """

    def __init__(self, sam: Sam, loss: HQLossOptions) -> None:
        super().__init__()
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder
        self._loss = loss
        self.learning_modules().requires_grad_(True)

    def learning_modules(self) -> nn.ModuleDict:
        """Return the HQ token, its MLP, and the convolutions that fuse features."""
        return nn.ModuleDict({part: getattr(self.mask_decoder, part) for part in HQ_DECODER_PARTS})

    def export_tensors(self, learnt: nn.ModuleDict) -> dict[str, Tensor]:
        """Return the head under the keys of a whole ``Sam``."""
        return {f"mask_decoder.{name}": value for name, value in learnt.state_dict().items()}

    def load_export(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Load what :meth:`export_tensors` returned."""
        head = {name.removeprefix("mask_decoder."): value for name, value in tensors.items()}
        load_into(self.learning_modules(), head, source=source)

    @torch.no_grad()
    def encode_prompts(self, batch: HQBatch) -> tuple[Tensor, Tensor]:
        """Return prompt tokens ``(B, K, 256)`` and dense prompts ``(B, 256, 64, 64)``, float32."""
        points = batch.points
        labelled = None
        if points is not None:
            ones = torch.ones(points.shape[:2], dtype=torch.int, device=points.device)
            labelled = (points, ones)
        # Autocast would round coordinates to a hundredth of the frame and worse.
        with torch.autocast(batch.embedding.device.type, enabled=False):
            sparse, dense = self.prompt_encoder(
                points=labelled, boxes=batch.boxes, masks=batch.masks
            )
        return sparse, dense

    def forward(self, batch: HQBatch, options: StepOptions) -> list[Tensor]:
        """Decode the windows of a batch.

        Args:
            batch: Images on the network's device.
            options: Not used.

        Returns:
            The HQ token's mask and SAM's single mask, the latter without gradient, both
            ``(B, 1, S, S)`` float32 logits, ``S = 4 (window - 2)``.
        """
        parts: Any = self.mask_decoder
        encoder: Any = self.prompt_encoder
        sparse, dense = self.encode_prompts(batch)
        embedding, early = batch.embedding.float(), batch.early.float()
        output = torch.cat(
            [parts.iou_token.weight, parts.mask_tokens.weight, parts.hf_token.weight]
        )
        tokens = torch.cat([output.expand(len(batch), -1, -1), sparse], dim=1)
        source = embedding + dense
        queries, keys = parts.transformer(source, encoder.get_dense_pe().expand_as(source), tokens)
        with torch.no_grad():
            maps = keys.transpose(1, 2).reshape(source.shape)
            upscaled = parts.output_upscaling(_windows(maps, batch))
            sam = _masks(parts.output_hypernetworks_mlps[0](queries[:, 1]), upscaled)
        features = parts.embedding_encoder(_windows(embedding, batch))
        features = features + parts.compress_vit_feat(_windows(early, batch))
        features = features + parts.embedding_maskfeature(upscaled)
        hq_token = 1 + len(parts.mask_tokens.weight)
        return [_masks(parts.hf_mlp(queries[:, hq_token]), features), sam]

    def loss(self, predicted: Sequence[Tensor], batch: HQBatch, options: StepOptions) -> Loss:
        """Return the loss of the HQ token's mask and of its sum with SAM's, on unsure points."""
        size = batch.target.shape[-2:]
        hq, sam = (
            F.interpolate(masks, size, mode="bilinear", align_corners=False).flatten(1)
            for masks in predicted
        )
        target, counted = batch.target.flatten(1), batch.counted.flatten(1)
        places = sample_points(hq.detach() + sam, counted, min(self._loss.points, target.shape[1]))
        picked, truth, counts = (part.gather(1, places) for part in (hq, target, counted))
        alone = point_loss(picked, truth, counts)
        summed = point_loss(picked + sam.gather(1, places), truth, counts)
        weight = self._loss.sum_weight
        total = (1 - weight) * alone.total + weight * summed.total
        return Loss(total, summed.cross_entropy, summed.jaccard)


class HQHeadTask(Task):
    """Training of the HQ head on cached images.

    Args:
        recipe: Recipe of the run.
        data: Folder that the cache is filled from.
    """

    def __init__(self, recipe: HQRecipe, data: Path) -> None:
        self._recipe = recipe
        self._data = data

    def build_network(self, dtype: torch.dtype) -> HQHeadNetwork:
        """Build the decoder on the weights of the recipe's SAM."""
        sam = hq_sam_from_plain(self._recipe.cache.sam_weights)
        return HQHeadNetwork(sam, self._recipe.loss)

    def open_source(
        self,
        cache: Path,
        accelerator: Any,  # noqa: ANN401 - Accelerate is not annotated
        report: Callable[[str, int, int], None],
    ) -> HQSampler:
        """Fill the cache and open it."""
        options = self._recipe.cache
        folder = Path(options.folder).expanduser() if options.folder else cache
        with accelerator.main_process_first():
            fill_cache(options, self._data, folder, report)
        return HQSampler(folder, self._recipe)


def _masks(weights: Tensor, features: Tensor) -> Tensor:
    """Weigh the channels, ``(B, C)`` and ``(B, C, H, W)``, and cut off the margin."""
    masks = weights[:, None] @ features.flatten(2)
    border = MARGIN * UPSCALE
    whole = masks.view(len(masks), 1, *features.shape[2:]).float()
    return whole[..., border:-border, border:-border]


def _windows(maps: Tensor, batch: HQBatch) -> Tensor:
    side = batch.window
    pairs = zip(maps, batch.corners, strict=True)
    return torch.stack(
        [each[:, top : top + side, left : left + side] for each, (top, left) in pairs]
    )


def sample_points(logits: Tensor, counted: Tensor, num: int) -> Tensor:
    """Sample the points of a mask's loss: three quarters are the least sure of a random set.

    Args:
        logits: ``(B, P)`` float; no gradient goes through the choice.
        counted: ``(B, P)`` bool; other points are taken only if there are too few of these.
        num: Points to sample, at most P.

    Returns:
        ``(B, num)`` int64 indices in ``0..P-1``.

    Raises:
        ShapeError: ``num`` is not in 1..P.
    """
    batch, total = logits.shape
    if not 1 <= num <= total:
        raise ShapeError(f"wanted 1 to {total} points, got {num}")
    order = torch.rand(batch, total, device=logits.device)
    # Points that do not count come last in the random order, and are surest.
    order = torch.where(counted, order, order + 1.0)
    candidates = order.topk(min(OVERSAMPLE * num, total), dim=1, largest=False).indices
    sureness = torch.where(counted, logits.detach().abs().float(), torch.inf)
    num_unsure = int(num * UNSURE_FRACTION)
    by_sureness = sureness.gather(1, candidates).argsort(dim=1, stable=True)
    unsure = candidates.gather(1, by_sureness[:, :num_unsure])
    return torch.cat([unsure, candidates[:, : num - num_unsure]], dim=1)


def point_loss(logits: Tensor, target: Tensor, counted: Tensor) -> Loss:
    """Cross-entropy plus dice loss on some points of each mask, mean over the masks.

    Args:
        logits: ``(B, P)`` float.
        target: ``(B, P)`` float in ``[0, 1]``: the object's coverage of the point's pixel.
        counted: ``(B, P)`` bool; other points are left out.

    Example:
        >>> ones = torch.ones(1, 2)
        >>> point_loss(20 * ones, ones, ones.bool()).total.item() < 1e-3
        True
    """
    weight = counted.to(torch.float32)
    logits = logits.float()
    losses = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="none")
    entropy = losses.sum(1) / weight.sum(1).clamp(min=1)
    prob, truth = logits.sigmoid() * weight, target * weight
    shared, sizes = 2 * (prob * truth).sum(1) + SMOOTH, prob.sum(1) + truth.sum(1) + SMOOTH
    jaccard = 1 - shared / (2 * sizes - shared)
    total = (entropy + 1 - shared / sizes).mean()
    return Loss(total, entropy.detach().mean(), jaccard.detach().mean())


def hq_sam_from_plain(weights: str) -> Sam:
    """Build an HQ-SAM vit_tiny on a plain SAM's weights, with a head that is about to learn.

    Args:
        weights: Name of the plain SAM's weights.

    Returns:
        The network; no parameter requires a gradient.

    Raises:
        WeightsError: The weights are missing, damaged, or do not fit.
    """
    patterns = tuple(f"mask_decoder.{part}.*" for part in HQ_DECODER_PARTS)
    sam = build_sam("vit_tiny", hq=True)
    load_into(sam, load_weights(weights), source=weights, allow_missing=patterns)
    start_as_single_mask(sam.mask_decoder)
    return sam.requires_grad_(False)


@torch.no_grad()
def start_as_single_mask(decoder: nn.Module) -> None:
    """Make the HQ token's mask SAM's single mask, up to rounding and a positive factor per pixel.

    The token and its MLP are copies of the single mask's. The convolutions over SAM's features
    begin as an identity: the first gives each channel and its negative, of which the normalisation
    changes no sign, and as ``GELU(x) - GELU(-x) = x`` the second puts them together again. The
    fused encoder features begin as zeros.
    """
    parts: Any = decoder
    parts.hf_token.weight.copy_(parts.mask_tokens.weight[:1])
    parts.hf_mlp.load_state_dict(parts.output_hypernetworks_mlps[0].state_dict())
    first, norm, _, second = parts.embedding_maskfeature
    nn.init.constant_(norm.weight, FEATURE_SCALE)
    channels = first.in_channels
    eye = torch.eye(channels)
    both = torch.cat([eye, -eye])
    for conv, centre in ((first, both), (second, both.T)):
        nn.init.normal_(conv.weight, std=NOISE / channels**0.5)
        nn.init.zeros_(conv.bias)
        conv.weight[:, :, 1, 1] += centre
    for branch in (parts.compress_vit_feat, parts.embedding_encoder):
        nn.init.zeros_(branch[-1].weight)
        nn.init.zeros_(branch[-1].bias)
