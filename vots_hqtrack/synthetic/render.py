"""Renderer of planned clips: the reference in plain PyTorch, and the choice of the kernel.

Every plane is an image under an affine map, warped by two sine waves. A foreground plane shows only
the pixels of its objects, with soft edges; planes cover one another in order.
"""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.ops import resolve_backend
from vots_hqtrack.synthetic.effects import apply_effects
from vots_hqtrack.synthetic.plan import NOT_PART, ClipPlan

SHARPNESS = 1.5
"""Slope of the soft edge of a foreground plane."""


def render(pixels: Tensor, plan: ClipPlan) -> tuple[Tensor, Tensor]:
    """Render clips with their effects, by the Triton kernel where Triton and CUDA are available.

    Arguments and results are those of :func:`render_reference`.
    """
    has_kernel = pixels.is_cuda and importlib.util.find_spec("triton") is not None
    if has_kernel and resolve_backend() == "triton":
        from vots_hqtrack.synthetic.triton_render import render_triton

        frames, labels = render_triton(pixels, plan)
    else:
        frames, labels = render_reference(pixels, plan)
    return apply_effects(frames, plan), labels


def render_reference(pixels: Tensor, plan: ClipPlan) -> tuple[Tensor, Tensor]:
    """Render clips plane by plane, each inside its box only.

    Args:
        pixels: ``(P,)`` int32, all stored images; red in the lowest byte, the object number in the
            highest.
        plan: Clips to render, on the pixels' device.

    Returns:
        ``(B, T, 3, H, W)`` uint8 frames and ``(B, T, H, W)`` uint8 labels.
    """
    height, width = plan.size
    shape = (len(plan), plan.num_frames)
    frames = torch.empty(*shape, 3, height, width, dtype=torch.uint8, device=pixels.device)
    labels = torch.empty(*shape, height, width, dtype=torch.uint8, device=pixels.device)
    boxes, counts = plan.boxes.tolist(), plan.num_planes.tolist()
    for clip in range(shape[0]):
        for frame in range(shape[1]):
            colour = torch.zeros(3, height, width, device=pixels.device)
            label = torch.zeros(height, width, dtype=torch.uint8, device=pixels.device)
            for plane in range(counts[clip]):
                item = (clip, plane, frame)
                _paste(pixels, plan, item, boxes[clip][plane][frame], colour, label)
            tone = plan.tones[clip, frame]
            toned = torch.einsum("ij,jhw->ihw", tone[:, :3], colour) + tone[:, 3, None, None]
            frames[clip, frame] = (toned + 0.5).floor().clamp(0, 255).to(torch.uint8)
            labels[clip, frame] = label
    return frames, labels


def _paste(
    pixels: Tensor,
    plan: ClipPlan,
    item: tuple[int, int, int],
    box: list[int],
    colour: Tensor,
    label: Tensor,
) -> None:
    """Paste one plane into ``(3, H, W)`` colours and ``(H, W)`` labels."""
    clip, plane, _ = item
    height, width = label.shape
    x0, y0, x1, y1 = max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)
    if x0 >= x1 or y0 >= y1:
        return
    u, v = _source_coordinates(plan, item, (x0, y0, x1, y1))
    found, alpha, named = _sample(pixels, plan, item, u, v)
    split = plan.splits[item]
    is_beyond = split[0] * u + split[1] * v + split[2] > 0
    named = torch.where(is_beyond & (split[3] >= 0) & (named > 0), split[3].to(torch.uint8), named)
    gain, shift = plan.colours[clip, plane].view(2, 3, 1, 1)
    found = ((found - 128) * gain + 128 + shift).clamp(0, 255)
    window = colour[:, y0:y1, x0:x1]
    window += alpha * (found - window)
    label_window = label[y0:y1, x0:x1]
    label_window[:] = torch.where(alpha > 0.5, named, label_window)


def _source_coordinates(
    plan: ClipPlan, item: tuple[int, int, int], box: tuple[int, int, int, int]
) -> tuple[Tensor, Tensor]:
    """Source coordinates ``u, v`` of the output pixels of a box."""
    x0, y0, x1, y1 = box
    device = plan.matrices.device
    x = torch.arange(x0, x1, device=device)[None, :] + 0.5
    y = torch.arange(y0, y1, device=device)[:, None] + 0.5
    moved_x, moved_y = x, y
    for wave in plan.waves[item]:
        swing = torch.sin(wave[0] * x + wave[1] * y + wave[2])
        moved_x, moved_y = moved_x + wave[3] * swing, moved_y + wave[4] * swing
    matrix = plan.matrices[item]
    u = matrix[0, 0] * moved_x + matrix[0, 1] * moved_y + matrix[0, 2]
    v = matrix[1, 0] * moved_x + matrix[1, 1] * moved_y + matrix[1, 2]
    return u, v


def _sample(
    pixels: Tensor, plan: ClipPlan, item: tuple[int, int, int], u: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Bilinear colours ``(3, h, w)``, opacity and label ``(h, w)`` of the plane's own pixels."""
    is_background = item[1] == 0
    stored, x0, y0 = _crop(pixels, plan, item, u, v)
    codes = plan.tables[item[:2]][(stored >> 24 & 255).long()]
    part = (codes != NOT_PART).float()
    channels = [(stored >> shift & 255) * part for shift in (0, 8, 16)]
    scale = torch.tensor(stored.shape[::-1], device=u.device) / 2
    grid = torch.stack([u - x0, v - y0], dim=-1)[None] / scale - 1
    padding = "reflection" if is_background else "zeros"

    def sample(maps: list[Tensor], mode: str) -> Tensor:
        sampled: Tensor = F.grid_sample(
            torch.stack(maps)[None], grid, mode=mode, padding_mode=padding, align_corners=False
        )
        return sampled[0]

    *colours, total = sample([*channels, part], "bilinear")
    found = torch.stack(colours) / total.clamp(min=1e-6)
    if is_background:
        return found, torch.ones_like(total), sample([codes.float()], "nearest")[0].to(torch.uint8)
    alpha = ((total - 0.5) * SHARPNESS + 0.5).clamp(0, 1)
    labels = [label for label in codes.unique() if label != NOT_PART]
    if len(labels) < 2:
        named = labels[0] if labels else codes.new_zeros(())
        return found, alpha, named.expand(total.shape)
    weights = [sample([(codes == label).float()], "bilinear")[0] for label in labels]
    return found, alpha, torch.stack(labels)[torch.stack(weights).argmax(0)]


def _crop(
    pixels: Tensor, plan: ClipPlan, item: tuple[int, int, int], u: Tensor, v: Tensor
) -> tuple[Tensor, int, int]:
    """Cut the part of the stored image to read, ``(h, w)`` int32, with its left and top."""
    start, (height, width) = int(plan.offsets[item]), plan.sizes[item].tolist()
    image = pixels[start : start + height * width].view(height, width)
    if item[1] == 0:
        return image, 0, 0
    x0, x1 = (int(side) for side in u.aminmax())
    y0, y1 = (int(side) for side in v.aminmax())
    x0, y0 = min(max(x0 - 2, 0), width - 1), min(max(y0 - 2, 0), height - 1)
    return image[y0 : max(y1 + 3, y0 + 1), x0 : max(x1 + 3, x0 + 1)], x0, y0
