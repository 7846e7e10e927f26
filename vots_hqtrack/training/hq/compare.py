"""What an HQ head is worth: plain SAM, the HQ token alone, and their sum, on the same masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.devices import lower_precision
from vots_hqtrack.errors import InputError
from vots_hqtrack.masks import mask_iou
from vots_hqtrack.sam.candidates import decode_masks, encode_prompts
from vots_hqtrack.sam.geometry import SamGeometry, masks_in_frame
from vots_hqtrack.sam.models import Sam, build_sam
from vots_hqtrack.sam.prompts import make_prompts
from vots_hqtrack.sam.refiner import MASK_LOGIT
from vots_hqtrack.selector import select
from vots_hqtrack.training.hq.cache import HQPicture, read_picture
from vots_hqtrack.training.hq.degrade import DegradeConfig, degrade_mask
from vots_hqtrack.training.hq.samples import MASK_SIDE, SAM_SIDE, SMALLEST_OBJECT
from vots_hqtrack.types import ImageEmbedding, LabelArray, MaskArray


@dataclass(frozen=True, slots=True)
class HQComparison:
    """Mean region similarity J over the objects of some pictures, after the selector.

    Attributes:
        coarse: Of the masks that were to be refined.
        plain: Refined by plain SAM.
        sam_in_hq: By HQ-SAM's own SAM mask: what the HQ token's presence alone does to it.
        hq: By the HQ token's mask alone.
        both: By the sum.
        num_objects: How many objects that is.
    """

    coarse: float
    plain: float
    sam_in_hq: float
    hq: float
    both: float
    num_objects: int


THRESHOLD = 0.1
"""Of the selector: a refinement that is less like the coarse mask is not taken."""
NAMES = ("coarse", "plain", "sam_in_hq", "hq", "both")


def compare_head(
    head: dict[str, Tensor], paths: Iterable[Path], *, sam_weights: str, seed: int = 0
) -> HQComparison:
    """Refine masks of cached pictures in every way that a head allows.

    Args:
        head: The HQ head's tensors under the keys of a whole ``Sam``.
        paths: Cached pictures. VMOS's own coarse masks are refined where they were kept, degraded
            ground truth elsewhere.
        sam_weights: Weights of the plain SAM.
        seed: Of the degraded masks.

    Raises:
        InputError: No picture shows an object.
        WeightsError: The weights do not fit.
    """
    plain_weights = load_weights(sam_weights)
    plain, hq_sam = build_sam("vit_tiny"), build_sam("vit_tiny", hq=True)
    load_into(plain, plain_weights, source=sam_weights)
    load_into(hq_sam, {**plain_weights, **head}, source=f"{sam_weights} and the head")
    rows = []
    for number, path in enumerate(paths):
        picture = read_picture(path)
        masks, coarse = _objects(picture, np.random.default_rng((seed, number)))
        if len(masks):
            found = {"coarse": coarse, **_refine(plain, hq_sam, picture.embedding, coarse)}
            chosen = [select(coarse, found[name], iou_threshold=THRESHOLD).masks for name in NAMES]
            rows.append(torch.stack([mask_iou(masks, one) for one in chosen]))
    if not rows:
        raise InputError("no picture shows an object to compare refinements on")
    every = torch.cat(rows, dim=1)
    means = dict(zip(NAMES, every.mean(dim=1).tolist(), strict=True))
    return HQComparison(num_objects=every.shape[1], **means)


@torch.inference_mode()
def _refine(
    plain: Sam, hq_sam: Sam, embedding: ImageEmbedding, coarse: Tensor
) -> dict[str, Tensor]:
    """Refine as the lite preset does, with every single mask that the two networks make."""
    geometry = SamGeometry(
        embedding.frame_size, embedding.input_size, side=SAM_SIDE, mask_side=MASK_SIDE
    )
    prompts = make_prompts(coarse, geometry, kind="box+mask+point", mask_logit=MASK_LOGIT)
    with lower_precision(torch.device("cpu")):
        encoded = encode_prompts(plain.prompt_encoder, prompts)
        own = decode_masks(plain.mask_decoder, embedding, encoded)
        with_head = decode_masks(hq_sam.mask_decoder, embedding, encoded)
    if with_head.hq is None:
        raise InputError("wanted the weights of an HQ head")
    logits = {
        "plain": own.sam[:, 0],
        "sam_in_hq": with_head.sam[:, 0],
        "hq": with_head.hq[:, 0],
        "both": with_head.sam[:, 0] + with_head.hq[:, 0],
    }
    return {name: masks_in_frame(low, geometry) for name, low in logits.items()}


def _objects(picture: HQPicture, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return a picture's objects and their coarse masks, both ``(N, H, W)`` bool."""
    masks: list[MaskArray] = []
    coarse: list[MaskArray] = []
    for label in _large_labels(picture.labels):
        mask: MaskArray = picture.labels == label
        given = None if picture.coarse is None else picture.coarse == label
        if given is None or not given.any():
            given = degrade_mask(mask, rng, DegradeConfig())
        masks.append(mask)
        coarse.append(given)
    shape = (0, *picture.labels.shape)
    return (
        torch.from_numpy(np.stack(masks) if masks else np.zeros(shape, np.bool_)),
        torch.from_numpy(np.stack(coarse) if coarse else np.zeros(shape, np.bool_)),
    )


def _large_labels(labels: LabelArray) -> list[int]:
    counts = np.bincount(labels.ravel(), minlength=2)
    return [int(label) for label in np.flatnonzero(counts[1:] >= SMALLEST_OBJECT) + 1]
