"""A batch of clips before rendering: numbers only, small enough to send between processes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vots_hqtrack.devices import TensorBatch

MAX_PLANES = 15
"""Planes of a clip: the background and at most 14 foreground layers."""
NUM_WAVES = 2
"""Sine waves that warp a plane."""
NOT_PART = 255
"""Entry of a plane's table for pixels that do not belong to it."""
BLUR_REACH = 7
"""Radius of the blur kernels in pixels."""


@dataclass(frozen=True, slots=True)
class ClipPlan(TensorBatch):
    """Parameters of the renderer for ``B`` clips of ``T`` frames with ``K`` planes.

    Output coordinates are pixels of the frame, ``(x, y)``, the first pixel's centre at
    ``(0.5, 0.5)``; source coordinates are the same in the stored image. Plane 0 is the background;
    later planes cover earlier ones.

    Attributes:
        num_planes: ``(B,)`` int32, planes in use.
        offsets: ``(B, K, T)`` int64, first pixel of the stored image.
        sizes: ``(B, K, T, 2)`` int32, its height and width.
        matrices: ``(B, K, T, 2, 3)`` float32, from output to source coordinates.
        waves: ``(B, K, T, 2, 5)`` float32: ``kx, ky, phase, ax, ay`` of each wave, which shifts
            output coordinates by ``(ax, ay) * sin(kx x + ky y + phase)`` before the matrix.
        boxes: ``(B, K, T, 4)`` int32, ``x0, y0, x1, y1`` in output pixels: the plane is visible
            only inside. Empty where the plane is hidden.
        tables: ``(B, K, 256)`` uint8: label by object number of the source; ``NOT_PART`` where
            pixels of that number do not belong to the plane.
        splits: ``(B, K, T, 4)`` float32 ``nx, ny, c, label``: where ``nx x + ny y + c > 0`` in
            source coordinates, labelled pixels of the plane take ``label`` instead; -1 for none.
        colours: ``(B, K, 6)`` float32: gain and shift of red, green and blue.
        tones: ``(B, T, 3, 4)`` float32: colour matrix of the finished frame, with an offset.
        blurred: ``(n,)`` int64, frames to be blurred, counted through the batch.
        kernels: ``(n, 2, 15)`` float32, their blur along x and y.
        noisy: ``(m,)`` int64, frames that get noise.
        noise: ``(m,)`` float32, standard deviation in grey levels.
        noise_starts: ``(m, 3)`` int64, start of each channel in the noise table.
        size: Height and width of the frames.
        stride: Frame pixels for each label pixel.
        slots: ``(B, 11)`` int64, slot of each label.
    """

    num_planes: Tensor
    offsets: Tensor
    sizes: Tensor
    matrices: Tensor
    waves: Tensor
    boxes: Tensor
    tables: Tensor
    splits: Tensor
    colours: Tensor
    tones: Tensor
    blurred: Tensor
    kernels: Tensor
    noisy: Tensor
    noise: Tensor
    noise_starts: Tensor
    size: tuple[int, int]
    stride: int
    slots: Tensor

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.num_planes)

    @property
    def num_frames(self) -> int:
        """Frames of each clip."""
        return int(self.offsets.shape[2])
