"""Where a video frame lies in SAM's square input, and the ways there and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.types import Size


@dataclass(frozen=True, slots=True)
class SamGeometry:
    """How a video frame lies in SAM's square input: resized, then padded right and below.

    Attributes:
        frame_size: Size of the video frame.
        input_size: Size of the resized frame inside SAM's input.
        side: Side of SAM's input in pixels.
        mask_side: Side of SAM's low-resolution masks in cells.
    """

    frame_size: Size
    input_size: Size
    side: int
    mask_side: int

    @property
    def cell(self) -> int:
        """Pixels of SAM's input per cell of a low-resolution mask, in each direction."""
        return self.side // self.mask_side

    @property
    def covered(self) -> Size:
        """Low-resolution cells that the frame covers, the last ones perhaps in part."""
        height, width = self.input_size
        return Size(-(-height // self.cell), -(-width // self.cell))


def scale_points(points: Tensor, geometry: SamGeometry) -> Tensor:
    """Bring pixel indices from the frame into SAM's input, as SAM does.

    Args:
        points: ``(..., 2)`` float, ``(x, y)`` in frame pixels.
        geometry: Where the frame lies in SAM's input.

    Returns:
        ``(..., 2)`` float32, ``(x, y)`` in pixels of SAM's input.
    """
    scale = [
        geometry.input_size.width / geometry.frame_size.width,
        geometry.input_size.height / geometry.frame_size.height,
    ]
    # float64 as in the package's predictor: the same prompts to the last bit.
    scaled = points.to(torch.float64) * torch.tensor(
        scale, dtype=torch.float64, device=points.device
    )
    return scaled.to(torch.float32)


def masks_in_frame(logits: Tensor, geometry: SamGeometry) -> Tensor:
    """Bring low-resolution logits to the frame and threshold them, as SAM does.

    SAM's way is bilinear to its input's size, the padding cut off, bilinear to the frame. The cells
    that only make padding are left out before; the masks stay the same to the last pixel.

    Args:
        logits: ``(N, mask_side, mask_side)`` float.
        geometry: Where the frame lies in SAM's input.

    Returns:
        ``(N, H, W)`` bool, frame pixels.
    """
    masks = torch.zeros((len(logits), *geometry.frame_size), dtype=torch.bool, device=logits.device)
    height, width = geometry.input_size
    # Interpolation reaches one cell beyond the frame.
    rows, columns = (min(side + 1, geometry.mask_side) for side in geometry.covered)
    for low, mask in zip(logits[:, :rows, :columns], masks, strict=True):  # a stack would be large
        fine = F.interpolate(
            low[None, None],
            (rows * geometry.cell, columns * geometry.cell),
            mode="bilinear",
            align_corners=False,
        )
        frame = F.interpolate(
            fine[..., :height, :width], geometry.frame_size, mode="bilinear", align_corners=False
        )
        mask.copy_(frame[0, 0] > 0)
    return masks
