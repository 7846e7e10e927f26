"""The renderer as a single Triton kernel; ``render`` has the reference.

A program owns a tile of one frame and walks through the planes of its clip; a plane with a box that
does not touch the tile costs one read of the box. Imported only where Triton is installed.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from vots_hqtrack.synthetic.plan import NOT_PART, ClipPlan
from vots_hqtrack.synthetic.render import SHARPNESS

TILE_ROWS, TILE_COLUMNS = 8, 64


def render_triton(pixels: Tensor, plan: ClipPlan) -> tuple[Tensor, Tensor]:
    """Render clips; arguments and results are those of ``render.render_reference``."""
    height, width = plan.size
    shape = (len(plan), plan.num_frames)
    frames = torch.empty(*shape, 3, height, width, dtype=torch.uint8, device=pixels.device)
    labels = torch.empty(*shape, height, width, dtype=torch.uint8, device=pixels.device)
    grid = (shape[0] * shape[1], triton.cdiv(height, TILE_ROWS), triton.cdiv(width, TILE_COLUMNS))
    _render[grid](
        pixels,
        plan.num_planes,
        plan.offsets,
        plan.sizes,
        plan.matrices,
        plan.waves,
        plan.boxes,
        plan.tables,
        plan.splits,
        plan.colours,
        plan.tones,
        frames,
        labels,
        height,
        width,
        shape[1],
        int(plan.offsets.shape[1]),
        sharpness=SHARPNESS,
        not_part=NOT_PART,
        rows=TILE_ROWS,
        columns=TILE_COLUMNS,
    )
    return frames, labels


@triton.jit  # type: ignore[untyped-decorator] # Triton has no annotations
def _reflect(position: tl.tensor, length: tl.tensor) -> tl.tensor:
    folded = position % (2 * length)
    folded = tl.where(folded < 0, folded + 2 * length, folded)
    return tl.minimum(folded, 2 * length - 1 - folded)


@triton.jit  # type: ignore[untyped-decorator]
def _corner(
    pixels: tl.tensor,
    table: tl.tensor,
    offset: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    x: tl.tensor,
    y: tl.tensor,
    is_background: tl.tensor,
    not_part: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """One of the four neighbours: its pixel, its label, and whether it is part of the plane."""
    is_inside = ((x >= 0) & (x < width) & (y >= 0) & (y < height)) | is_background
    x = tl.where(is_background, _reflect(x, width), tl.minimum(tl.maximum(x, 0), width - 1))
    y = tl.where(is_background, _reflect(y, height), tl.minimum(tl.maximum(y, 0), height - 1))
    pixel = tl.load(pixels + (offset + y * width + x))
    code = tl.load(table + ((pixel >> 24) & 255)).to(tl.int32)
    return pixel, code, is_inside & (code != not_part)


@triton.jit  # type: ignore[untyped-decorator]
def _source_coordinates(
    waves: tl.tensor, matrices: tl.tensor, item: tl.tensor, x: tl.tensor, y: tl.tensor
) -> tuple[tl.tensor, tl.tensor]:
    """Warp output coordinates and map them to the stored image."""
    moved_x, moved_y = x, y
    for wave in tl.static_range(2):
        at = waves + (item * 2 + wave) * 5
        swing = tl.sin(tl.load(at) * x + tl.load(at + 1) * y + tl.load(at + 2))
        moved_x = moved_x + tl.load(at + 3) * swing
        moved_y = moved_y + tl.load(at + 4) * swing
    at = matrices + item * 6
    u = tl.load(at) * moved_x + tl.load(at + 1) * moved_y + tl.load(at + 2)
    v = tl.load(at + 3) * moved_x + tl.load(at + 4) * moved_y + tl.load(at + 5)
    return u, v


@triton.jit  # type: ignore[untyped-decorator]
def _sample(
    pixels: tl.tensor,
    table: tl.tensor,
    offset: tl.tensor,
    size: tl.tensor,
    u: tl.tensor,
    v: tl.tensor,
    is_background: tl.tensor,
    not_part: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Weighted sums of red, green and blue, the weight itself, and the label of the nearest pixel.

    The reference takes the label with the largest weight: they may differ where two labels of one
    plane meet.
    """
    height, width = tl.load(size), tl.load(size + 1)
    left, top = tl.floor(u - 0.5), tl.floor(v - 0.5)
    across, down = u - 0.5 - left, v - 0.5 - top
    red, green, blue, total = u * 0.0, u * 0.0, u * 0.0, u * 0.0
    best = u * 0.0 - 1.0
    named = (u * 0.0).to(tl.int32)
    for corner in tl.static_range(4):
        weight_x = across if corner % 2 == 1 else 1.0 - across
        weight_y = down if corner // 2 == 1 else 1.0 - down
        pixel, code, is_part = _corner(
            pixels,
            table,
            offset,
            height,
            width,
            left.to(tl.int32) + corner % 2,
            top.to(tl.int32) + corner // 2,
            is_background,
            not_part,
        )
        weight = tl.where(is_part, weight_x * weight_y, 0.0)
        total += weight
        red += weight * (pixel & 255).to(tl.float32)
        green += weight * ((pixel >> 8) & 255).to(tl.float32)
        blue += weight * ((pixel >> 16) & 255).to(tl.float32)
        named = tl.where(weight > best, code, named)
        best = tl.maximum(best, weight)
    return red, green, blue, total, named


@triton.jit  # type: ignore[untyped-decorator]
def _second_label(split: tl.tensor, u: tl.tensor, v: tl.tensor, named: tl.tensor) -> tl.tensor:
    """Give labelled pixels beyond the plane's line its second label; a negative one is none."""
    beyond = tl.load(split) * u + tl.load(split + 1) * v + tl.load(split + 2)
    second = tl.where(named > 0, tl.load(split + 3), -1.0)
    return tl.where((beyond > 0.0) & (second >= 0.0), second.to(tl.int32), named)


@triton.jit  # type: ignore[untyped-decorator]
def _blend(below: tl.tensor, found: tl.tensor, colours: tl.tensor, alpha: tl.tensor) -> tl.tensor:
    """Paste one colour channel with the plane's gain and shift over what is below."""
    changed = (found - 128.0) * tl.load(colours) + 128.0 + tl.load(colours + 3)
    return below + alpha * (tl.minimum(tl.maximum(changed, 0.0), 255.0) - below)


@triton.jit  # type: ignore[untyped-decorator]
def _store(
    tones: tl.tensor,
    frames: tl.tensor,
    red: tl.tensor,
    green: tl.tensor,
    blue: tl.tensor,
    plane_size: tl.tensor,
    spot: tl.tensor,
    is_pixel: tl.tensor,
) -> None:
    """Write a frame's colours through its colour matrix."""
    for channel in tl.static_range(3):
        at = tones + channel * 4
        value = tl.load(at) * red + tl.load(at + 1) * green + tl.load(at + 2) * blue
        value = tl.floor(value + tl.load(at + 3) + 0.5)
        value = tl.minimum(tl.maximum(value, 0.0), 255.0)
        tl.store(frames + channel * plane_size + spot, value.to(tl.uint8), mask=is_pixel)


@triton.jit  # type: ignore[untyped-decorator]
def _render(
    pixels: tl.tensor,
    num_planes: tl.tensor,
    offsets: tl.tensor,
    sizes: tl.tensor,
    matrices: tl.tensor,
    waves: tl.tensor,
    boxes: tl.tensor,
    tables: tl.tensor,
    splits: tl.tensor,
    colours: tl.tensor,
    tones: tl.tensor,
    frames: tl.tensor,
    labels: tl.tensor,
    height: int,
    width: int,
    num_frames: int,
    max_planes: int,
    sharpness: tl.constexpr,
    not_part: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
) -> None:
    line = tl.program_id(0).to(tl.int64)
    clip, frame = line // num_frames, line % num_frames
    top, left = tl.program_id(1) * rows, tl.program_id(2) * columns
    row = top + tl.arange(0, rows)[:, None]
    column = left + tl.arange(0, columns)[None, :]
    nothing = tl.zeros([rows, columns], tl.float32)
    x, y = column.to(tl.float32) + 0.5 + nothing, row.to(tl.float32) + 0.5 + nothing
    red, green, blue = nothing, nothing, nothing
    label = tl.zeros([rows, columns], tl.int32)
    for plane in range(0, tl.load(num_planes + clip)):
        number = clip * max_planes + plane
        item = number * num_frames + frame
        box = boxes + item * 4
        x0, y0, x1, y1 = tl.load(box), tl.load(box + 1), tl.load(box + 2), tl.load(box + 3)
        if (x0 < left + columns) & (x1 > left) & (y0 < top + rows) & (y1 > top):
            u, v = _source_coordinates(waves, matrices, item, x, y)
            offset, size, table = tl.load(offsets + item), sizes + item * 2, tables + number * 256
            found_red, found_green, found_blue, total, named = _sample(
                pixels, table, offset, size, u, v, plane == 0, not_part
            )
            named = _second_label(splits + item * 4, u, v, named)
            alpha = tl.minimum(tl.maximum((total - 0.5) * sharpness + 0.5, 0.0), 1.0)
            alpha = tl.where(plane == 0, 1.0, alpha)
            alpha = tl.where((x >= x0) & (x < x1) & (y >= y0) & (y < y1), alpha, 0.0)
            total = tl.maximum(total, 1e-6)
            colour = colours + number * 6
            red = _blend(red, found_red / total, colour, alpha)
            green = _blend(green, found_green / total, colour + 1, alpha)
            blue = _blend(blue, found_blue / total, colour + 2, alpha)
            label = tl.where(alpha > 0.5, named, label)
    is_pixel = (row < height) & (column < width)
    spot, plane_size = row * width + column, height * width
    target = frames + line * 3 * plane_size
    _store(tones + line * 12, target, red, green, blue, plane_size, spot, is_pixel)
    tl.store(labels + line * plane_size + spot, label.to(tl.uint8), mask=is_pixel)
