"""Cached pictures -> batches for the HQ head: an object, its prompts, a window and its target.

A batch depends only on the seed and the step, so a resumed run sees what an uninterrupted one does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.frame import plan_frame
from vots_hqtrack.sam.candidates import encode_prompts
from vots_hqtrack.sam.geometry import SamGeometry, scale_points
from vots_hqtrack.sam.prompts import make_prompts
from vots_hqtrack.sam.refiner import MASK_LOGIT
from vots_hqtrack.training.hq.cache import HQPicture, read_picture
from vots_hqtrack.training.hq.degrade import DegradeConfig, degrade_mask
from vots_hqtrack.training.hq.forward import MARGIN, DecoderInput
from vots_hqtrack.types import LabelArray, MaskArray, Size

HQPrompt = Literal["box", "box+mask", "box+mask+point", "points"]

SAM_SIDE, MASK_SIDE, CELLS = 1024, 256, 64
TARGET_CELL = 8
"""Target pixels along a cell of the embedding: half of SAM's own resolution."""
SMALLEST_OBJECT = 64
NUM_TRIALS = 20


@dataclass(frozen=True, slots=True)
class HQSource:
    """A folder of cached pictures.

    Attributes:
        folder: The folder, below the cache.
        weight: How often it is drawn from, against the others.
        excluded: Pictures whose names begin with one of these are left out.
        joined: Share of the pictures whose instances are taken as one object.
        pattern: Pictures that are taken, in the words of a shell.
    """

    folder: str
    weight: float
    excluded: tuple[str, ...] = ()
    joined: float = 0.0
    pattern: str = "*.safetensors"


@dataclass(frozen=True, slots=True)
class HQSampleConfig:
    """How batches are drawn.

    Attributes:
        batch_size: Pictures a step, one object each.
        window: Side of the windows in cells of the embedding.
        prompts: Kinds of prompts; one kind a step.
        prompt_weights: How often each kind is given, against the others.
        near_object: Share of the windows that lie on the object's box.
        real_coarse: Share of the tracked frames whose coarse mask is VMOS's own.
        spoil_real: Share of those that are degraded on top.
    """

    batch_size: int = 8
    window: int = 34
    prompts: tuple[HQPrompt, ...] = ("box+mask+point", "box+mask", "box", "points")
    prompt_weights: tuple[float, ...] = (0.65, 0.1, 0.15, 0.1)
    near_object: float = 0.8
    real_coarse: float = 0.5
    spoil_real: float = 0.4

    def __post_init__(self) -> None:
        """Check the values."""
        if len(self.prompts) != len(self.prompt_weights):
            got = f"{len(self.prompts)} and {len(self.prompt_weights)}"
            raise ConfigError(f"samples: wanted as many prompt_weights as prompts, got {got}")


@dataclass(frozen=True, slots=True)
class HQBatch:
    """One step's pictures.

    Attributes:
        inputs: What the decoder reads.
        target: ``(B, 1, T, T)`` float in ``[0, 1]``, ``T = 8 (window - 2)``: the object's share of
            each pixel of the windows without their margin.
        counted: ``(B, 1, T, T)`` bool, False beyond the picture.
    """

    inputs: DecoderInput
    target: Tensor
    counted: Tensor


@dataclass(frozen=True, slots=True)
class _Sample:
    picture: HQPicture
    mask: MaskArray
    coarse: MaskArray


class HQSampler:
    """Draws batches from cached pictures.

    Args:
        cache: Folder that the sources lie in.
        sources: Folders of pictures.
        config: How to draw.
        degrade: How the coarse masks are made that VMOS did not give.
        prompt_encoder: SAM's frozen prompt encoder.
        seed: Of all chance.

    Raises:
        InputError: A folder holds no picture.
        ConfigError: No prompt or source has a weight.
    """

    def __init__(
        self,
        cache: Path,
        sources: tuple[HQSource, ...],
        config: HQSampleConfig,
        degrade: DegradeConfig,
        prompt_encoder: nn.Module,
        seed: int,
    ) -> None:
        self._sources = sources
        self._config = config
        self._degrade = degrade
        self._prompt_encoder = prompt_encoder
        self._seed = seed
        self._pictures = [_list_pictures(cache, source) for source in sources]
        self._source_share = _shares("source", [source.weight for source in sources])
        self._kind_share = _shares("prompt", list(config.prompt_weights))

    @property
    def num_pictures(self) -> tuple[int, ...]:
        """Number of pictures of each source."""
        return tuple(len(paths) for paths in self._pictures)

    @torch.no_grad()
    def draw(self, step: int) -> HQBatch:
        """Draw a step's batch.

        Raises:
            InputError: No picture with an object was found.
        """
        rng = np.random.default_rng((self._seed, step))
        kinds = self._config.prompts
        kind = kinds[int(rng.choice(len(kinds), p=self._kind_share))]
        num_points = int(rng.integers(1, 7))
        samples = [self._draw_sample(rng) for _ in range(self._config.batch_size)]
        encoded = [self._encode(sample, kind, num_points, rng) for sample in samples]
        corners = tuple(self._draw_corner(sample, rng) for sample in samples)
        targets = [
            _target(one.mask, corner, self._config.window)
            for one, corner in zip(samples, corners, strict=True)
        ]
        encoder: Any = self._prompt_encoder
        embeddings = [sample.picture.embedding for sample in samples]
        inputs = DecoderInput(
            embedding=torch.cat([one.embedding for one in embeddings]).float(),
            early=torch.cat([one.early for one in embeddings]).float().permute(0, 3, 1, 2),
            sparse=torch.cat([sparse for sparse, _ in encoded]),
            dense=torch.cat([dense for _, dense in encoded]),
            image_pe=encoder.get_dense_pe(),
            corners=corners,
        )
        return HQBatch(
            inputs,
            torch.stack([target for target, _ in targets]),
            torch.stack([counted for _, counted in targets]),
        )

    def _draw_sample(self, rng: np.random.Generator) -> _Sample:
        number = int(rng.choice(len(self._sources), p=self._source_share))
        for _ in range(NUM_TRIALS):
            paths = self._pictures[number]
            picture = read_picture(paths[int(rng.integers(len(paths)))])
            joined = rng.random() < self._sources[number].joined
            mask = _draw_object(picture.labels, rng, joined=joined)
            if mask is not None:
                return _Sample(picture, mask, self._draw_coarse(picture, mask, rng))
        raise InputError(f"{NUM_TRIALS} pictures of {self._sources[number].folder} show no object")

    def _draw_coarse(
        self, picture: HQPicture, mask: MaskArray, rng: np.random.Generator
    ) -> MaskArray:
        config = self._config
        if picture.coarse is not None and rng.random() < config.real_coarse:
            real: MaskArray = picture.coarse > 0
            if np.count_nonzero(real & mask) >= SMALLEST_OBJECT:
                if rng.random() < config.spoil_real:
                    return degrade_mask(real, rng, self._degrade)
                return real
        return degrade_mask(mask, rng, self._degrade)

    def _encode(
        self, sample: _Sample, kind: HQPrompt, num_points: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return prompt tokens ``(1, K, 256)`` and the dense map ``(1, 256, 64, 64)``."""
        encoder: Any = self._prompt_encoder
        geometry = _sam_geometry(Size(*sample.mask.shape))
        if kind == "points":
            places = np.argwhere(sample.mask)[rng.integers(0, sample.mask.sum(), num_points)]
            points = scale_points(torch.from_numpy(places[:, ::-1].copy()).float(), geometry)[None]
            labels = torch.ones(points.shape[:2], dtype=torch.int)
            sparse, dense = encoder(points=(points, labels), boxes=None, masks=None)
            return sparse, dense
        coarse = torch.from_numpy(sample.coarse)[None]
        prompts = make_prompts(coarse, geometry, kind=kind, mask_logit=MASK_LOGIT)
        encoded = encode_prompts(encoder, prompts)
        return encoded.sparse, encoded.dense

    def _draw_corner(self, sample: _Sample, rng: np.random.Generator) -> tuple[int, int]:
        """Place a window over a random spot of the object's box, or anywhere in the picture."""
        size, window = Size(*sample.mask.shape), self._config.window
        cell = SAM_SIDE // CELLS
        input_size = plan_frame(size).input_size
        covered = [-(-side // cell) for side in input_size]
        if rng.random() < self._config.near_object:
            spots = np.argwhere(sample.mask | sample.coarse)
            low, high = spots.min(axis=0), spots.max(axis=0) + 1
        else:
            low, high = np.zeros(2), np.array(size, dtype=np.float64)
        spot = rng.uniform(low, high) * np.array(input_size) / np.array(size) / cell
        # Windows stay on the picture, so far as it is large enough.
        limits = [max(side - window, 0) for side in covered]
        corner = [
            int(min(max(round(place - window / 2), 0), limit))
            for place, limit in zip(spot, limits, strict=True)
        ]
        return corner[0], corner[1]


def _list_pictures(cache: Path, source: HQSource) -> tuple[Path, ...]:
    folder = cache / source.folder
    paths = tuple(
        path
        for path in sorted(folder.glob(source.pattern))
        if not path.name.startswith(source.excluded or ("\0",))
    )
    if not paths:
        raise InputError(f"wanted cached pictures {folder / source.pattern}, found none")
    return paths


def _shares(what: str, weights: list[float]) -> np.ndarray:
    total = sum(weights)
    if not weights or min(weights) < 0 or total <= 0:
        raise ConfigError(f"{what} weights must be 0 or more, one of them above, got {weights}")
    return np.array(weights) / total


def _draw_object(labels: LabelArray, rng: np.random.Generator, *, joined: bool) -> MaskArray | None:
    """Pick an instance that is large enough, or all of them as one; None if there is none."""
    if joined:
        whole: MaskArray = labels > 0
        return whole if np.count_nonzero(whole) >= SMALLEST_OBJECT else None
    counts = np.bincount(labels.ravel(), minlength=2)
    large = np.flatnonzero(counts[1:] >= SMALLEST_OBJECT) + 1
    if not large.size:
        return None
    mask: MaskArray = labels == large[int(rng.integers(large.size))]
    return mask


def _sam_geometry(frame_size: Size) -> SamGeometry:
    input_size = plan_frame(frame_size).input_size
    return SamGeometry(frame_size, input_size, side=SAM_SIDE, mask_side=MASK_SIDE)


def _target(mask: MaskArray, corner: tuple[int, int], window: int) -> tuple[Tensor, Tensor]:
    """Cut the object's share of each target pixel, and which of them lie in the picture."""
    input_size = plan_frame(Size(*mask.shape)).input_size
    scale = SAM_SIDE // CELLS // TARGET_CELL
    rows, columns = (max(round(side / scale), 1) for side in input_size)
    share = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    side = CELLS * TARGET_CELL
    square, inside = np.zeros((side, side), np.float32), np.zeros((side, side), np.bool_)
    square[:rows, :columns], inside[:rows, :columns] = share.reshape(rows, columns), True
    top, left = ((place + MARGIN) * TARGET_CELL for place in corner)
    length = (window - 2 * MARGIN) * TARGET_CELL
    cut = slice(top, top + length), slice(left, left + length)
    return torch.from_numpy(square[cut].copy())[None], torch.from_numpy(inside[cut].copy())[None]
