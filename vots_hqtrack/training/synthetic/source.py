"""The composer as a source of batches: workers plan clips, the device renders their frames."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.ops import resolve_backend
from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.training.recipe_data import PhaseOptions
from vots_hqtrack.training.synthetic.effects import (
    apply_effects,
    sample_blur,
    sample_noise,
    sample_tones,
)
from vots_hqtrack.training.synthetic.footage import Footage
from vots_hqtrack.training.synthetic.kinds import DEFAULT_WEIGHTS, KINDS
from vots_hqtrack.training.synthetic.layers import Layer, write_plane
from vots_hqtrack.training.synthetic.plan import MAX_PLANES, NUM_WAVES, ClipPlan
from vots_hqtrack.training.synthetic.render import render_reference
from vots_hqtrack.training.synthetic.scene import SceneSampler
from vots_hqtrack.types import SLOTS_PER_GROUP

MIN_PIXELS = 24
"""Label pixels that an object needs in the first frame; a smaller one becomes background."""


class ComposedClips:
    """Endless clips, every one new.

    A clip depends on the seed, the step and its index in the batch alone.

    Args:
        footage: What clips are made of.
        pixels: ``(P,)`` int32 pixels of the footage, on the device that renders.
        seed: Seed of the run.
        stride: Frame pixels for each label pixel.
        weights: How often each kind of clip is composed, by its name; None takes the default.
        shuffle_slots: Objects take random slots, anew for every clip.

    Raises:
        ConfigError: A kind is unknown, or no weight is above 0.
    """

    def __init__(
        self,
        footage: Sequence[Footage],
        pixels: Tensor,
        *,
        seed: int,
        stride: int,
        weights: Mapping[str, float] | None = None,
        shuffle_slots: bool = True,
    ) -> None:
        weights = dict(weights or DEFAULT_WEIGHTS)
        unknown = sorted(set(weights) - set(KINDS))
        if unknown or min(weights.values()) < 0 or sum(weights.values()) <= 0:
            got = unknown[0] if unknown else weights
            raise ConfigError(
                f"kinds of composed clips must be weights of {', '.join(KINDS)}, got {got!r}"
            )
        self.kinds = tuple(weights)
        self.odds = np.array(list(weights.values())) / sum(weights.values())
        self.sampler = SceneSampler(footage)
        self.pixels: Tensor | None = pixels
        self.seed = seed
        self.stride = stride
        self.shuffle_slots = shuffle_slots

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pixels behind: workers only plan."""
        return {**self.__dict__, "pixels": None}

    def draw(self, step: int, places: Sequence[int], phase: PhaseOptions) -> ClipPlan:
        """Plan a part of a step's batch; see `vots_hqtrack.training.batch.ClipSource`."""
        size = (phase.crop[0] * self.stride, phase.crop[1] * self.stride)
        builder = PlanBuilder(len(places), phase.num_frames, size, self.stride)
        for index, place in enumerate(places):
            generator = np.random.default_rng((self.seed, step, place))
            kind = KINDS[self.kinds[int(generator.choice(len(self.kinds), p=self.odds))]]
            layers = self.sampler.sample(generator, phase.num_frames, size, kind)
            builder.add(index, layers, generator, shuffle_slots=self.shuffle_slots)
        return builder.finish()

    def finish(self, batch: ClipPlan, device: torch.device) -> ClipBatch:
        """Render planned clips on the device, without waiting for it."""
        plan = batch.to(device)
        frames, labels = self.render(plan)
        return ClipBatch(
            labels, plan.slots, frames=frames, num_objects=SLOTS_PER_GROUP, has_void=False
        )

    def render(self, plan: ClipPlan) -> tuple[Tensor, Tensor]:
        """Render planned clips.

        Args:
            plan: From :meth:`draw`, on the pixels' device.

        Returns:
            ``(B, T, 3, H, W)`` uint8 frames and ``(B, T, H', W')`` uint8 labels at network size,
            objects numbered from 1 in the first frame.
        """
        if self.pixels is None:
            raise RuntimeError("clips are rendered in the process that holds the pixels")
        frames, labels = render(self.pixels, plan)
        apply_effects(frames, plan)
        first = plan.stride // 2
        return frames, number_labels(labels[:, :, first :: plan.stride, first :: plan.stride])

    def only(self, kind: str) -> ComposedClips:
        """Return the same source with one kind of clip."""
        chosen = copy.copy(self)
        chosen.pixels = self.pixels  # which pickling, and so copying, leaves behind
        chosen.kinds, chosen.odds = (kind,), np.ones(1)
        return chosen


class PlanBuilder:
    """Collects clips in the arrays of a plan.

    Args:
        num_clips: ``B``.
        num_frames: ``T``.
        size: Height and width of the frames.
        stride: Frame pixels for each label pixel.
    """

    def __init__(self, num_clips: int, num_frames: int, size: tuple[int, int], stride: int) -> None:
        self.num_frames, self.size, self.stride = num_frames, size, stride
        planes = (num_clips, MAX_PLANES)
        items = (*planes, num_frames)
        self.arrays: dict[str, npt.NDArray[Any]] = {
            "num_planes": np.zeros(num_clips, np.int32),
            "offsets": np.zeros(items, np.int64),
            "sizes": np.ones((*items, 2), np.int32),
            "matrices": np.zeros((*items, 2, 3), np.float32),
            "waves": np.zeros((*items, NUM_WAVES, 5), np.float32),
            "boxes": np.zeros((*items, 4), np.int32),
            "tables": np.zeros((*planes, 256), np.uint8),
            "splits": np.zeros((*items, 4), np.float32),
            "colours": np.zeros((*planes, 6), np.float32),
            "tones": np.zeros((num_clips, num_frames, 3, 4), np.float32),
            "slots": np.zeros((num_clips, SLOTS_PER_GROUP + 1), np.int64),
        }
        self._blurred: list[int] = []
        self._kernels: list[npt.NDArray[Any]] = []
        self._noisy: list[int] = []
        self._noise: list[float] = []
        self._starts: list[npt.NDArray[Any]] = []

    def add(
        self,
        index: int,
        layers: Sequence[Layer],
        generator: np.random.Generator,
        *,
        shuffle_slots: bool,
    ) -> None:
        """Add the clip at an index of the batch."""
        arrays, num_frames = self.arrays, self.num_frames
        arrays["num_planes"][index] = len(layers)
        for plane, layer in enumerate(layers):
            write_plane(arrays, (index, plane), layer)
            arrays["boxes"][index, plane] = layer.output_boxes(self.size)
        arrays["boxes"][index, 0] = 0, 0, self.size[1], self.size[0]
        arrays["tones"][index] = sample_tones(generator, num_frames)
        chosen, kernels = sample_blur(generator, num_frames)
        first = index * num_frames
        self._blurred += [first + frame for frame in chosen]
        self._kernels.append(kernels)
        sigma, starts = sample_noise(generator, num_frames)
        if sigma:
            self._noisy += range(first, first + num_frames)
            self._noise += [sigma] * num_frames
            self._starts.append(starts)
        slots = np.arange(1, SLOTS_PER_GROUP + 1)
        arrays["slots"][index, 1:] = generator.permutation(slots) if shuffle_slots else slots

    def finish(self) -> ClipPlan:
        """Return the plan."""
        starts = np.concatenate(self._starts) if self._starts else np.zeros((0, 3), np.int64)
        return ClipPlan(
            **{name: torch.from_numpy(array) for name, array in self.arrays.items()},
            blurred=torch.tensor(self._blurred, dtype=torch.int64),
            kernels=torch.from_numpy(np.concatenate(self._kernels).astype(np.float32)),
            noisy=torch.tensor(self._noisy, dtype=torch.int64),
            noise=torch.tensor(self._noise, dtype=torch.float32),
            noise_starts=torch.from_numpy(starts),
            size=self.size,
            stride=self.stride,
        )


def render(pixels: Tensor, plan: ClipPlan) -> tuple[Tensor, Tensor]:
    """Render by one kernel where Triton and CUDA are there, else plane by plane.

    Arguments and results are those of :func:`render_reference`.
    """
    has_kernel = pixels.is_cuda and importlib.util.find_spec("triton") is not None
    if has_kernel and resolve_backend() == "triton":
        from vots_hqtrack.training.synthetic.triton_render import render_triton

        return render_triton(pixels, plan)
    return render_reference(pixels, plan)


def number_labels(labels: Tensor) -> Tensor:
    """Number the objects that a clip's first frame shows from 1; others become background.

    Args:
        labels: ``(B, T, H', W')`` uint8, at most 10 objects in a first frame.

    Returns:
        The same shape and dtype.
    """
    batch = len(labels)
    first = labels[:, 0].flatten(1).long()
    counts = torch.zeros(batch, 256, dtype=torch.int64, device=labels.device)
    counts.scatter_add_(1, first, torch.ones_like(first))
    is_kept = counts >= MIN_PIXELS
    is_kept[:, 0] = False
    numbers = is_kept.cumsum(1)
    is_kept &= numbers <= SLOTS_PER_GROUP
    table = (numbers * is_kept).to(torch.uint8)
    numbered = table.gather(1, labels.flatten(1).long())
    return numbered.view_as(labels)
