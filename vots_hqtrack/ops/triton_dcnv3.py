"""Sampling of the deformable convolution DCNv3 as one Triton kernel; ``ops.dcnv3`` says what of.

A program owns some pixels and one group of channels. It reads offsets and weights of its points
once and gathers rows of the map from anywhere; nothing but the result is written. Imported by
``ops`` alone, and only where Triton is installed.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS = 64
"""Pixels of a program."""


def deformable_sampling_triton(value: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Sample without gradients.

    Arguments, checked ones, and result are those of ``deformable_sampling_reference``.
    """
    batch, height, width, groups, points = weights.shape
    value = value.contiguous()
    if not _is_flat(offsets):
        offsets = offsets.contiguous()
    if not _is_flat(weights):
        weights = weights.contiguous()
    sampled = torch.empty_like(value)
    pixels = batch * height * width
    channels = value.shape[-1] // groups
    _sample[(triton.cdiv(pixels, PIXELS), groups)](
        value,
        offsets,
        weights,
        sampled,
        pixels,
        height,
        width,
        offsets.stride(2),
        offsets.stride(3),
        offsets.stride(4),
        offsets.stride(5),
        weights.stride(2),
        weights.stride(3),
        weights.stride(4),
        groups=groups,
        channels=channels,
        channels_padded=triton.next_power_of_2(channels),
        points=points,
        side=round(points**0.5),
        block=PIXELS,
        enable_fp_fusion=True,
    )
    return sampled


def _is_flat(x: Tensor) -> bool:
    """Return whether the pixels ``(B, H', W')`` of a tensor follow each other at even steps."""
    return x.stride(1) == x.shape[2] * x.stride(2) and (
        x.shape[0] == 1 or x.stride(0) == x.shape[1] * x.stride(1)
    )


@triton.jit  # type: ignore[untyped-decorator] # Triton has no annotations
def _sample(
    value: tl.tensor,
    offsets: tl.tensor,
    weights: tl.tensor,
    sampled: tl.tensor,
    num_pixels: int,
    height: int,
    width: int,
    offset_pixel_step: int,
    offset_group_step: int,
    offset_point_step: int,
    offset_axis_step: int,
    weight_pixel_step: int,
    weight_group_step: int,
    weight_point_step: int,
    groups: tl.constexpr,
    channels: tl.constexpr,
    channels_padded: tl.constexpr,
    points: tl.constexpr,
    side: tl.constexpr,
    block: tl.constexpr,
) -> None:
    pixel = (tl.program_id(0) * block + tl.arange(0, block)).to(tl.int64)
    group = tl.program_id(1)
    is_pixel = pixel < num_pixels
    column = (pixel % width).to(tl.int32)
    row = (pixel // width % height).to(tl.int32)
    image = pixel // (width * height)
    channel = tl.arange(0, channels_padded)
    is_channel = channel < channels
    offset_at = offsets + pixel * offset_pixel_step + group * offset_group_step
    weight_at = weights + pixel * weight_pixel_step + group * weight_group_step
    total = tl.zeros((block, channels_padded), dtype=tl.float32)
    for point in range(points):
        at = offset_at + point * offset_point_step
        shift_x = tl.load(at, mask=is_pixel, other=0.0).to(tl.float32)
        shift_y = tl.load(at + offset_axis_step, mask=is_pixel, other=0.0).to(tl.float32)
        weight = tl.load(weight_at + point * weight_point_step, mask=is_pixel, other=0.0)
        whole_x, whole_y = tl.floor(shift_x), tl.floor(shift_y)
        right, down = shift_x - whole_x, shift_y - whole_y
        # Far outside is far enough: a huge offset would not fit an integer.
        left = column + point // side - side // 2
        left += tl.minimum(tl.maximum(whole_x, -2.0 * width - 2), 2.0 * width + 2).to(tl.int32)
        top = row + point % side - side // 2
        top += tl.minimum(tl.maximum(whole_y, -2.0 * height - 2), 2.0 * height + 2).to(tl.int32)
        for corner in tl.static_range(4):
            x, y = left + corner % 2, top + corner // 2
            weight_x = right if corner % 2 else 1 - right
            weight_y = down if corner // 2 else 1 - down
            is_inside = is_pixel & (x >= 0) & (x < width) & (y >= 0) & (y < height)
            line = ((image * height + y) * width + x) * (groups * channels) + group * channels
            source = value + line[:, None] + channel[None, :]
            found = tl.load(source, mask=is_inside[:, None] & is_channel[None, :], other=0.0)
            scale = weight.to(tl.float32) * weight_x * weight_y
            total += scale[:, None] * found.to(tl.float32)
    place = sampled + pixel[:, None] * (groups * channels) + group * channels + channel[None, :]
    is_stored = is_pixel[:, None] & is_channel[None, :]
    tl.store(place, total.to(sampled.dtype.element_ty), mask=is_stored)
