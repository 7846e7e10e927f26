"""Layers of clips, and the camera effects, as the arrays of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vots_hqtrack.synthetic.effects import sample_blur, sample_noise, sample_tones
from vots_hqtrack.synthetic.footage import level_size
from vots_hqtrack.synthetic.layers import Layer
from vots_hqtrack.synthetic.plan import MAX_PLANES, NOT_PART, NUM_WAVES, ClipPlan
from vots_hqtrack.types import SLOTS_PER_GROUP

Arrays = dict[str, npt.NDArray[Any]]


def plan_clips(
    clips: Sequence[tuple[Sequence[Layer], np.random.Generator]],
    num_frames: int,
    size: tuple[int, int],
    stride: int,
    *,
    shuffle_slots: bool,
) -> ClipPlan:
    """Write clips into a plan and sample their camera effects.

    Args:
        clips: For each clip the background and the foreground layers in the order of pasting, and
            its random generator.
        num_frames: ``T``.
        size: Height and width of the frames.
        stride: Frame pixels for each label pixel.
        shuffle_slots: Sample the slots of the objects; else they are ``1, 2, ...``.
    """
    arrays = _empty_arrays(len(clips), num_frames)
    arrays["num_planes"][:] = [len(layers) for layers, _ in clips]
    blurred: list[int] = []
    noisy: list[int] = []
    noise: list[float] = []
    kernels, starts = [np.zeros((0, 2, 15))], [np.zeros((0, 3), np.int64)]
    for index, (layers, generator) in enumerate(clips):
        for plane, layer in enumerate(layers):
            _write_plane(arrays, (index, plane), layer)
            arrays["boxes"][index, plane] = layer.output_boxes(size)
        arrays["boxes"][index, 0] = 0, 0, size[1], size[0]
        arrays["tones"][index] = sample_tones(generator, num_frames)
        chosen, chosen_kernels = sample_blur(generator, num_frames)
        first = index * num_frames
        blurred += [first + frame for frame in chosen]
        kernels.append(chosen_kernels)
        sigma, clip_starts = sample_noise(generator, num_frames)
        if sigma:
            noisy += range(first, first + num_frames)
            noise += [sigma] * num_frames
            starts.append(clip_starts)
        if shuffle_slots:
            arrays["slots"][index, 1:] = generator.permutation(np.arange(1, SLOTS_PER_GROUP + 1))
    return ClipPlan(
        **{name: torch.from_numpy(array) for name, array in arrays.items()},
        blurred=torch.tensor(blurred, dtype=torch.int64),
        kernels=torch.from_numpy(np.concatenate(kernels).astype(np.float32)),
        noisy=torch.tensor(noisy, dtype=torch.int64),
        noise=torch.tensor(noise, dtype=torch.float32),
        noise_starts=torch.from_numpy(np.concatenate(starts)),
        size=size,
        stride=stride,
    )


def _empty_arrays(num_clips: int, num_frames: int) -> Arrays:
    planes = (num_clips, MAX_PLANES)
    items = (*planes, num_frames)
    return {
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
        "slots": np.tile(np.arange(SLOTS_PER_GROUP + 1), (num_clips, 1)),
    }


def _write_plane(arrays: Arrays, plane: tuple[int, int], layer: Layer) -> None:
    """Write a layer at ``(clip, plane)``; plane 0 is the background."""
    footage, levels = layer.footage, layer.level()
    is_background = plane[1] == 0
    linear = layer.linear()
    shift = layer.source_centre - np.einsum("tij,tj->ti", linear, layer.centre)
    shrink = 0.5**levels
    affine = np.concatenate([linear, shift[..., None]], -1)
    arrays["matrices"][plane] = affine * shrink[:, None, None]
    for frame, level in enumerate(levels):
        rows, columns = level_size(footage.height, footage.width, int(level))
        start = footage.offsets[level] + int(layer.frames[frame]) * rows * columns
        arrays["offsets"][(*plane, frame)] = start
        arrays["sizes"][(*plane, frame)] = rows, columns
    arrays["waves"][plane] = layer.waves
    arrays["tables"][plane] = 0 if is_background else NOT_PART
    for position, label in layer.labels.items():
        arrays["tables"][plane][footage.ids[position]] = label
    nx, ny, offset = layer.split
    splits = arrays["splits"][plane]
    splits[:, 0], splits[:, 1] = nx / shrink, ny / shrink
    splits[:, 2] = -(nx * layer.source_centre[:, 0] + ny * layer.source_centre[:, 1]) - offset
    splits[:, 3] = layer.second_label
    arrays["colours"][plane] = layer.colour
