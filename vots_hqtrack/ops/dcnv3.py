"""Sampling step of the deformable convolution DCNv3: reference and fast version.

Every pixel of the output reads a 3 x 3 neighbourhood of the input. Each of its nine points is
moved by a learnt offset; the samples are summed with learnt weights, group of channels by group:

    out[y, x, g] = sum_p weights[y, x, g, p] * value_g(y + dy_p + offset_y, x + dx_p + offset_x)

``value_g`` is bilinear between pixels and zero outside the map. Points are numbered column by
column: ``dx_p = p // side - 1`` and ``dy_p = p % side - 1`` for ``side`` 3; offsets are ``(x, y)``
in pixels.
"""

from __future__ import annotations

from math import isqrt

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.errors import ShapeError

MARGIN = 2
"""Pixels of zeros around the map: a point outside is between two of them."""


def deformable_sampling_reference(value: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Sample by PyTorch's own bilinear sampler, one map for each group.

    Args:
        value: ``(B, H', W', C)`` float; group ``g`` of ``G`` owns channels ``g * C / G`` to ``(g +
            1) * C / G - 1``.
        offsets: ``(B, H', W', G, P, 2)`` float, ``(x, y)`` in pixels; ``P`` is the square of an odd
            number.
        weights: ``(B, H', W', G, P)`` float.

    Returns:
        ``(B, H', W', C)`` in the dtype of ``value``.

    Raises:
        ShapeError: The shapes do not fit each other.
    """
    batch, height, width, groups, points = check_sampling(value, offsets, weights)
    at_row, at_column = _grid(height, width, points, value.device)
    # In full precision throughout: on the CPU, PyTorch's sampler is wrong for 16-bit floats.
    precise = torch.promote_types(value.dtype, torch.float32)
    x = (at_column + offsets[..., 0].to(precise) + 0.5) * (2 / width) - 1
    y = (at_row + offsets[..., 1].to(precise) + 0.5) * (2 / height) - 1
    grid = torch.stack([x, y], dim=-1).permute(0, 3, 1, 2, 4, 5)
    maps = value.to(precise).unflatten(-1, (groups, -1)).permute(0, 3, 4, 1, 2)
    found = F.grid_sample(
        maps.flatten(0, 1),
        grid.reshape(batch * groups, height * width, points, 2),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    point_weights = weights.permute(0, 3, 1, 2, 4).reshape(
        batch * groups, 1, height * width, points
    )
    total = (found * point_weights).sum(-1)
    return total.view(batch, -1, height, width).permute(0, 2, 3, 1).to(value.dtype)


def deformable_sampling(value: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Sample by one weighted sum of gathered rows, without a copy of what is gathered.

    A bilinear sample is a weighted sum of four pixels, so an output pixel and group is a weighted
    sum of ``4 * P`` rows of the input. Offsets are split into whole pixels and a fraction before
    the pixel's own position is added, so that the fraction does not lose digits far from the
    origin. A frame of zeros around the map stands for all outside, so no point needs a mask.

    Arguments, result and errors are those of :func:`deformable_sampling_reference`. It is fastest
    if the ``x`` of a pixel's offsets are side by side in memory, and the ``y`` too.
    """
    batch, height, width, groups, points = check_sampling(value, offsets, weights)
    precise = torch.promote_types(offsets.dtype, torch.float32)
    at_row, at_column = _grid(height, width, points, value.device)
    # Repeated for each group: adding long rows is much faster than adding rows of P.
    at_row, at_column = at_row.repeat(1, 1, groups, 1), at_column.repeat(1, groups, 1)
    left, to_the_right = _split(offsets[..., 0].to(precise), at_column, width)
    top, down = _split(offsets[..., 1].to(precise), at_row, height)
    row_step = (width + 2 * MARGIN) * groups
    origin = _origin(batch, height, width, groups, points, value.device)
    first = torch.add(left, top, alpha=width + 2 * MARGIN).mul_(groups).add_(origin)
    below = first + row_step
    rows = torch.cat([first, first + groups, below, below + groups], dim=-1)

    weights = weights.to(precise)
    low = weights * down
    high = weights - low
    low_right, high_right = low * to_the_right, high * to_the_right
    corner_weights = torch.cat([high - high_right, high_right, low - low_right, low_right], dim=-1)

    # In full precision: PyTorch sums rows of 16-bit floats more slowly.
    margins = (0, 0, MARGIN, MARGIN, MARGIN, MARGIN)
    table = F.pad(value.to(torch.promote_types(value.dtype, torch.float32)), margins)
    sampled = F.embedding_bag(
        rows.view(-1, 4 * points),
        table.view(-1, value.shape[-1] // groups),
        per_sample_weights=corner_weights.view(-1, 4 * points).to(table.dtype),
        mode="sum",
    )
    return sampled.view(batch, height, width, -1).to(value.dtype)


def check_sampling(value: Tensor, offsets: Tensor, weights: Tensor) -> tuple[int, ...]:
    """Return ``B, H', W', G, P``.

    Raises:
        ShapeError: The shapes do not fit each other.
    """
    positions = tuple(value.shape[:-1])
    shape = tuple(weights.shape)
    points = shape[-1] if shape else 0
    fits = (
        value.ndim == 4
        and shape[:3] == positions
        and len(shape) == 5
        and tuple(offsets.shape) == (*shape, 2)
        and value.shape[-1] % shape[3] == 0
        and isqrt(points) ** 2 == points
        and points % 2 == 1
    )
    if not fits:
        got = f"{tuple(value.shape)}, {tuple(offsets.shape)} and {shape}"
        raise ShapeError(
            "deformable sampling wants values (B, H', W', C), offsets (B, H', W', G, P, 2) and "
            "weights (B, H', W', G, P) with G dividing C and P the square of an odd number, "
            f"got {got}"
        )
    return shape


def _grid(height: int, width: int, points: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Float32 rows ``(H', 1, 1, P)`` and columns ``(W', 1, P)`` of all points without offsets."""
    side = isqrt(points)
    point = torch.arange(points, device=device, dtype=torch.int32)
    across = point.div(side, rounding_mode="floor") - side // 2
    down = point % side - side // 2
    rows = torch.arange(height, device=device, dtype=torch.int32)[:, None, None, None] + down
    columns = torch.arange(width, device=device, dtype=torch.int32)[:, None, None] + across
    return rows.float(), columns.float()


def _origin(
    batch: int, height: int, width: int, groups: int, points: int, device: torch.device
) -> Tensor:
    """Int32 rows ``(B, 1, 1, G, P)`` of the table, of the maps' first pixels."""
    image = torch.arange(batch, device=device, dtype=torch.int32)[:, None]
    group = torch.arange(groups, device=device, dtype=torch.int32)
    line = image * (height + 2 * MARGIN) + MARGIN
    first = (line * (width + 2 * MARGIN) + MARGIN) * groups + group
    return first[:, None, None, :, None].repeat(1, 1, 1, 1, points)


def _split(offset: Tensor, start: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Split positions along one axis into the pixel before each point and the distance from it.

    Args:
        offset: ``(B, H', W', G, P)`` float, in pixels.
        start: Float positions without offsets, of a shape that broadcasts to the offsets'.
        length: Number of pixels along the axis.

    Returns:
        Int32 pixels, from ``-MARGIN`` to ``length``: one beyond the map on either side stands for
        all further ones, and so does the one after it. The fraction has the offsets' dtype.
    """
    whole = offset.detach().floor()
    # Offsets that overflow int32 saturate, which is outside too.
    before = (whole + start).to(torch.int32).clamp_(-MARGIN, length)
    return before, offset - whole
