"""Rendering of composed training clips as one Triton kernel; ``render`` says what of.

A program owns a tile of one frame and walks through the planes of its clip; a plane whose box does
not touch the tile costs one look at the box. Imported only where Triton is installed.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from vots_hqtrack.training.synthetic.plan import NOT_PART, ClipPlan
from vots_hqtrack.training.synthetic.render import SHARPNESS

TILE_ROWS, TILE_COLUMNS = 8, 64


def render_triton(pixels: Tensor, plan: ClipPlan) -> tuple[Tensor, Tensor]:
    """Render clips; arguments and results are those of ``render.render_reference``."""
    height, width = plan.size
    shape = (plan.num_clips, plan.num_frames)
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
    line = tl.program_id(0)
    clip, frame = line // num_frames, line % num_frames
    top, left = tl.program_id(1) * rows, tl.program_id(2) * columns
    row = top + tl.arange(0, rows)[:, None]
    column = left + tl.arange(0, columns)[None, :]
    x = column.to(tl.float32) + 0.5 + tl.zeros([rows, columns], tl.float32)
    y = row.to(tl.float32) + 0.5 + tl.zeros([rows, columns], tl.float32)
    red = tl.zeros([rows, columns], tl.float32)
    green = tl.zeros([rows, columns], tl.float32)
    blue = tl.zeros([rows, columns], tl.float32)
    label = tl.zeros([rows, columns], tl.int32)
    count = tl.load(num_planes + clip)
    for plane in range(0, count):
        number = clip * max_planes + plane
        item = (number * num_frames + frame).to(tl.int64)
        x0, y0 = tl.load(boxes + item * 4), tl.load(boxes + item * 4 + 1)
        x1, y1 = tl.load(boxes + item * 4 + 2), tl.load(boxes + item * 4 + 3)
        if (x0 < left + columns) & (x1 > left) & (y0 < top + rows) & (y1 > top):
            moved_x, moved_y = x, y
            for wave in tl.static_range(2):
                at = waves + (item * 2 + wave) * 5
                swing = tl.sin(tl.load(at) * x + tl.load(at + 1) * y + tl.load(at + 2))
                moved_x = moved_x + tl.load(at + 3) * swing
                moved_y = moved_y + tl.load(at + 4) * swing
            at = matrices + item * 6
            u = tl.load(at) * moved_x + tl.load(at + 1) * moved_y + tl.load(at + 2)
            v = tl.load(at + 3) * moved_x + tl.load(at + 4) * moved_y + tl.load(at + 5)
            offset = tl.load(offsets + item)
            stored_height, stored_width = tl.load(sizes + item * 2), tl.load(sizes + item * 2 + 1)
            table = tables + number * 256
            u0, v0 = tl.floor(u - 0.5), tl.floor(v - 0.5)
            across, down = u - 0.5 - u0, v - 0.5 - v0
            total = tl.zeros([rows, columns], tl.float32)
            sum_red = tl.zeros([rows, columns], tl.float32)
            sum_green = tl.zeros([rows, columns], tl.float32)
            sum_blue = tl.zeros([rows, columns], tl.float32)
            best = tl.zeros([rows, columns], tl.float32) - 1.0
            named = tl.zeros([rows, columns], tl.int32)
            for corner in tl.static_range(4):
                weight_x = across if corner % 2 == 1 else 1.0 - across
                weight_y = down if corner // 2 == 1 else 1.0 - down
                pixel, code, is_part = _corner(
                    pixels,
                    table,
                    offset,
                    stored_height,
                    stored_width,
                    u0.to(tl.int32) + corner % 2,
                    v0.to(tl.int32) + corner // 2,
                    plane == 0,
                    not_part,
                )
                weight = tl.where(is_part, weight_x * weight_y, 0.0)
                total += weight
                sum_red += weight * (pixel & 255).to(tl.float32)
                sum_green += weight * ((pixel >> 8) & 255).to(tl.float32)
                sum_blue += weight * ((pixel >> 16) & 255).to(tl.float32)
                named = tl.where(weight > best, code, named)
                best = tl.maximum(best, weight)
            total = tl.maximum(total, 1e-6)
            alpha = tl.minimum(tl.maximum((total - 0.5) * sharpness + 0.5, 0.0), 1.0)
            alpha = tl.where(plane == 0, 1.0, alpha)
            is_in_box = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
            alpha = tl.where(is_in_box, alpha, 0.0)
            at = splits + item * 4
            other = tl.load(at + 3)
            beyond = tl.load(at) * u + tl.load(at + 1) * v + tl.load(at + 2)
            # A negative label means that there is no second one.
            second = tl.where(named > 0, other, -1.0)
            named = tl.where((beyond > 0.0) & (second >= 0.0), second.to(tl.int32), named)
            at = colours + number * 6
            new_red = (sum_red / total - 128.0) * tl.load(at) + 128.0 + tl.load(at + 3)
            new_green = (sum_green / total - 128.0) * tl.load(at + 1) + 128.0 + tl.load(at + 4)
            new_blue = (sum_blue / total - 128.0) * tl.load(at + 2) + 128.0 + tl.load(at + 5)
            red += alpha * (tl.minimum(tl.maximum(new_red, 0.0), 255.0) - red)
            green += alpha * (tl.minimum(tl.maximum(new_green, 0.0), 255.0) - green)
            blue += alpha * (tl.minimum(tl.maximum(new_blue, 0.0), 255.0) - blue)
            label = tl.where(alpha > 0.5, named, label)
    is_pixel = (row < height) & (column < width)
    spot = row * width + column
    line = line.to(tl.int64)
    for channel in tl.static_range(3):
        at = tones + line * 12 + channel * 4
        value = tl.load(at) * red + tl.load(at + 1) * green + tl.load(at + 2) * blue
        value = tl.floor(value + tl.load(at + 3) + 0.5)
        value = tl.minimum(tl.maximum(value, 0.0), 255.0)
        target = frames + (line * 3 + channel) * height * width + spot
        tl.store(target, value.to(tl.uint8), mask=is_pixel)
    tl.store(labels + line * height * width + spot, label.to(tl.uint8), mask=is_pixel)
