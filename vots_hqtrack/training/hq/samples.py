"""Cached images -> batches for the HQ head: an object, its prompts, a window and its target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.devices import TensorBatch
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.frame import plan_frame
from vots_hqtrack.sam.geometry import SamGeometry, scale_points
from vots_hqtrack.sam.prompts import Prompts, make_prompts
from vots_hqtrack.sam.refiner import MASK_LOGIT
from vots_hqtrack.training.hq.cache import MIN_PIXELS, HQImage, read_image
from vots_hqtrack.training.hq.degrade import degrade_mask
from vots_hqtrack.training.hq.recipe import HQPrompt, HQRecipe, HQSource
from vots_hqtrack.training.recipe_data import PhaseOptions
from vots_hqtrack.types import LabelArray, MaskArray, Size

SAM_SIDE, MASK_SIDE, TOKENS = 1024, 256, 64
"""Sides of SAM's input, of its masks, and of its embedding."""
TOKEN_STRIDE = SAM_SIDE // TOKENS
TARGET_SCALE = 8
"""Target pixels along a token of the embedding: half of SAM's own resolution."""
MARGIN = 1
"""Tokens at a window's border that are computed for their neighbours only."""
MAX_POINTS = 6
ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class HQBatch(TensorBatch):
    """Images of a step, one object each.

    Attributes:
        embedding: ``(B, 256, 64, 64)`` bfloat16, output of SAM's encoder.
        early: ``(B, C, 64, 64)`` bfloat16, its early features.
        boxes: ``(B, 4)`` float, boxes in SAM's input, or None.
        masks: ``(B, 1, 256, 256)`` float logits, or None.
        points: ``(B, P, 2)`` float, foreground points in SAM's input, or None.
        corners: First row and column of each image's window, in tokens.
        window: Side of the windows in tokens.
        target: ``(B, 1, T, T)`` float in ``[0, 1]``, ``T = 8 (window - 2)``: the object's coverage
            of each pixel of the windows without their margin.
        counted: ``(B, 1, T, T)`` bool, False beyond the image.
    """

    embedding: Tensor
    early: Tensor
    boxes: Tensor | None
    masks: Tensor | None
    points: Tensor | None
    corners: tuple[tuple[int, int], ...]
    window: int
    target: Tensor
    counted: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.embedding)


@dataclass(frozen=True, slots=True)
class _Sample:
    image: HQImage
    mask: MaskArray
    corner: tuple[int, int]
    prompts: Prompts | Tensor


class HQSampler:
    """A source of batches; see ``ClipSource``.

    Args:
        cache: Folder of the sources.
        recipe: Recipe of the run.

    Raises:
        InputError: A folder holds no image.
        ConfigError: No prompt or source has a weight.
    """

    def __init__(self, cache: Path, recipe: HQRecipe) -> None:
        self._recipe = recipe
        self._paths = [_list_images(cache, source) for source in recipe.sources]
        self._source_weights = _normalized("source", [each.weight for each in recipe.sources])
        self._prompt_weights = _normalized("prompt", list(recipe.samples.prompt_weights))

    def draw(self, step: int, places: Sequence[int], phase: PhaseOptions) -> HQBatch:
        """Sample a part of a step's batch; all prompts of a step are of one kind."""
        seed, options = self._recipe.train.seed, self._recipe.samples
        generator = np.random.default_rng((seed, step))
        kind = options.prompts[int(generator.choice(len(options.prompts), p=self._prompt_weights))]
        num_points = int(generator.integers(1, MAX_POINTS + 1))
        samples = [
            self._sample(np.random.default_rng((seed, step, place)), kind, num_points)
            for place in places
        ]
        targets = [_target(each.mask, each.corner, options.window) for each in samples]
        embeddings = [each.image.embedding for each in samples]
        prompts = [each.prompts for each in samples]
        found = {
            name: _cat([getattr(each, name) for each in prompts if isinstance(each, Prompts)])
            for name in ("boxes", "masks", "points")
        }
        if kind == "points":
            found["points"] = _cat([each for each in prompts if isinstance(each, Tensor)])
        return HQBatch(
            embedding=torch.cat([each.embedding for each in embeddings]),
            early=torch.cat([each.early for each in embeddings]).permute(0, 3, 1, 2).contiguous(),
            corners=tuple(each.corner for each in samples),
            window=options.window,
            target=torch.stack([target for target, _ in targets]),
            counted=torch.stack([counted for _, counted in targets]),
            **found,
        )

    def finish(self, drawn: HQBatch, device: torch.device) -> HQBatch:
        """Bring a batch to the device."""
        return drawn.to(device)

    def _sample(self, generator: np.random.Generator, kind: HQPrompt, num_points: int) -> _Sample:
        number = int(generator.choice(len(self._paths), p=self._source_weights))
        source, paths = self._recipe.sources[number], self._paths[number]
        for _ in range(ATTEMPTS):
            image = read_image(paths[int(generator.integers(len(paths)))])
            joined = generator.random() < source.joined
            mask = _choose_object(image.labels, generator, joined=joined)
            if mask is not None:
                initial = self._initial_mask(image, mask, generator)
                prompts = _prompts(mask, initial, kind, num_points, generator)
                corner = self._corner(mask, initial, generator)
                return _Sample(image, mask, corner, prompts)
        raise InputError(f"{ATTEMPTS} images of {source.folder} show no object")

    def _initial_mask(
        self, image: HQImage, mask: MaskArray, generator: np.random.Generator
    ) -> MaskArray:
        options, degrade = self._recipe.samples, self._recipe.degrade
        if image.initial is not None and generator.random() < options.tracked_masks:
            tracked: MaskArray = image.initial > 0
            if np.count_nonzero(tracked & mask) >= MIN_PIXELS:
                if generator.random() < options.degrade_tracked:
                    return degrade_mask(tracked, generator, degrade)
                return tracked
        return degrade_mask(mask, generator, degrade)

    def _corner(
        self, mask: MaskArray, initial: MaskArray, generator: np.random.Generator
    ) -> tuple[int, int]:
        """Place a window over a random spot of the object's box, or anywhere in the image."""
        options, size = self._recipe.samples, Size(*mask.shape)
        input_size = plan_frame(size).input_size
        if generator.random() < options.near_object:
            spots = np.argwhere(mask | initial)
            low, high = spots.min(axis=0), spots.max(axis=0) + 1
        else:
            low, high = np.zeros(2), np.array(size, dtype=np.float64)
        spot = generator.uniform(low, high) * np.array(input_size) / np.array(size) / TOKEN_STRIDE
        # Windows stay on the image, if it is large enough.
        limits = [max(-(-side // TOKEN_STRIDE) - options.window, 0) for side in input_size]
        first = np.round(spot - options.window / 2)
        top, left = np.clip(first, 0, limits).astype(int).tolist()
        return top, left


def _list_images(cache: Path, source: HQSource) -> tuple[Path, ...]:
    folder = cache / source.folder
    paths = tuple(
        path
        for path in sorted(folder.glob(source.pattern))
        if not path.name.startswith(source.excluded or ("\0",))
    )
    if not paths:
        raise InputError(f"wanted cached images {folder / source.pattern}, found none")
    return paths


def _normalized(what: str, weights: list[float]) -> np.ndarray:
    total = sum(weights)
    if not weights or min(weights) < 0 or total <= 0:
        raise ConfigError(f"{what} weights must be 0 or more, one of them above, got {weights}")
    return np.array(weights) / total


def _choose_object(
    labels: LabelArray, generator: np.random.Generator, *, joined: bool
) -> MaskArray | None:
    """Choose an instance that is large enough, or all of them as one; None if there is none."""
    if joined:
        whole: MaskArray = labels > 0
        return whole if np.count_nonzero(whole) >= MIN_PIXELS else None
    counts = np.bincount(labels.ravel(), minlength=2)
    large = np.flatnonzero(counts[1:] >= MIN_PIXELS) + 1
    if not large.size:
        return None
    mask: MaskArray = labels == large[int(generator.integers(large.size))]
    return mask


def _prompts(
    mask: MaskArray,
    initial: MaskArray,
    kind: HQPrompt,
    num_points: int,
    generator: np.random.Generator,
) -> Prompts | Tensor:
    """Return the prompts of an object, or ``(1, P, 2)`` points alone."""
    size = Size(*mask.shape)
    input_size = plan_frame(size).input_size
    geometry = SamGeometry(size, input_size, side=SAM_SIDE, mask_side=MASK_SIDE)
    if kind == "points":
        places = np.argwhere(mask)[generator.integers(0, mask.sum(), num_points)]
        return scale_points(torch.from_numpy(places[:, ::-1].copy()).float(), geometry)[None]
    return make_prompts(torch.from_numpy(initial)[None], geometry, kind=kind, mask_logit=MASK_LOGIT)


def _cat(parts: list[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None


def _target(mask: MaskArray, corner: tuple[int, int], window: int) -> tuple[Tensor, Tensor]:
    """Return the object's coverage of each target pixel, and which of them are in the image."""
    input_size = plan_frame(Size(*mask.shape)).input_size
    scale = TOKEN_STRIDE // TARGET_SCALE
    rows, columns = (max(round(side / scale), 1) for side in input_size)
    small = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    side = TOKENS * TARGET_SCALE
    coverage, inside = np.zeros((side, side), np.float32), np.zeros((side, side), np.bool_)
    coverage[:rows, :columns], inside[:rows, :columns] = small.reshape(rows, columns), True
    top, left = ((place + MARGIN) * TARGET_SCALE for place in corner)
    length = (window - 2 * MARGIN) * TARGET_SCALE
    cut = slice(top, top + length), slice(left, left + length)
    return torch.from_numpy(coverage[cut].copy())[None], torch.from_numpy(inside[cut].copy())[None]
