"""Encoder features of training clips, computed once and kept on disk while the encoder is frozen.

A clip's file holds, in bfloat16 and channels last so that a window is a short read: ``s4``
``(T, 2h, 2w, 128)``, ``s8`` ``(T, h, w, 576)`` and ``labels`` uint8 ``(T, 8h, 8w)`` at network
size. The map at 1/16 is the mean of four pixels of the second half of ``s8`` and is not stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vots_hqtrack.frame import frame_to_image, labels_to_network, plan_frame
from vots_hqtrack.io import atomic_path
from vots_hqtrack.types import FrameArray, FrameFeatures, LabelArray, Size, check_frame

NECK_CHANNELS = 256
STRIDE_S8 = 8
"""Network pixels of a pixel of ``s8``, each way."""


def cache_clip(
    encoder: nn.Module,
    frames: Iterable[tuple[FrameArray, LabelArray]],
    path: Path,
    *,
    long_edge: int = 1024,
) -> None:
    """Encode the frames of a clip and write its file; an existing file is kept.

    Args:
        encoder: Frozen encoder in evaluation mode, as the tracker runs it.
        frames: Frames with their label maps, all of one size.
        path: File to write; it gets its name only when it is complete.
        long_edge: Long side that frames are resized to.
    """
    if path.exists():
        return
    columns: dict[str, list[Tensor]] = {"s4": [], "s8": [], "labels": []}
    device = next(encoder.parameters()).device
    for frame, labels in frames:
        geometry = plan_frame(check_frame(frame), long_edge)
        image = frame_to_image(frame, geometry, device)
        with torch.inference_mode():
            features: FrameFeatures = encoder(image)
        columns["s4"].append(features.s4[0].permute(1, 2, 0).bfloat16().cpu())
        columns["s8"].append(features.s8[0].permute(1, 2, 0).bfloat16().cpu())
        columns["labels"].append(labels_to_network(torch.from_numpy(labels), geometry))
    with atomic_path(path) as temporary:
        save_file({name: torch.stack(parts) for name, parts in columns.items()}, temporary)


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle in pixels of ``s8``; sides and corners are even for whole pixels of 1/16."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class CachedClip:
    """A clip's file, read window by window."""

    path: Path

    @property
    def shape(self) -> tuple[int, Size]:
        """Number of frames, and size in pixels of ``s8``."""
        with safe_open(self.path, framework="pt") as file:
            frames, height, width, _ = file.get_slice("s8").get_shape()
        return frames, Size(height, width)

    def labels(self) -> npt.NDArray[np.uint8]:
        """Read all label maps: uint8 ``(T, 8h, 8w)``."""
        with safe_open(self.path, framework="pt") as file:
            array: npt.NDArray[np.uint8] = file.get_tensor("labels").numpy()
        return array

    def read(self, frames: Sequence[int], window: Window) -> tuple[FrameFeatures, Tensor]:
        """Read some frames inside a window.

        Args:
            frames: Frame numbers in the order wanted.
            window: Rectangle in ``s8``.

        Returns:
            Features with the frames along the batch axis, bfloat16, and labels uint8 ``(T, 8h,
            8w)``.
        """
        with safe_open(self.path, framework="pt") as file:
            s8 = _cut(file.get_slice("s8"), frames, window, 1)
            s4 = _cut(file.get_slice("s4"), frames, window, 2)
            labels = _cut(file.get_slice("labels"), frames, window, STRIDE_S8)
        features = features_from_cache(s4.permute(0, 3, 1, 2), s8.permute(0, 3, 1, 2))
        return features, labels


def features_from_cache(s4: Tensor, s8: Tensor) -> FrameFeatures:
    """Complete stored maps ``(T, C, H', W')`` by the one at 1/16."""
    return FrameFeatures(s4=s4, s8=s8, s16=F.avg_pool2d(s8[:, -NECK_CHANNELS:], 2))


def _cut(stored: object, frames: Sequence[int], window: Window, stride: int) -> Tensor:
    rows = slice(window.top * stride, (window.top + window.height) * stride)
    columns = slice(window.left * stride, (window.left + window.width) * stride)
    return torch.cat([stored[i : i + 1, rows, columns] for i in frames])  # type: ignore[index]
