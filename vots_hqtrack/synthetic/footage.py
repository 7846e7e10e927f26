"""Footage for composed clips: still images and videos, all pixels in one tensor on the device.

A pixel is an int32: red, green, blue, and the number of the object that it belongs to. Each image
is stored with halved copies, so that objects can shrink without flicker. Boxes and areas of the
objects, which the sampler of clips needs, stay on the host.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vots_hqtrack.errors import InputError

NUM_LEVELS = 3
"""Full size, half and quarter."""
MIN_CUT_AREA, MIN_CUT_SIDE = 500, 20
"""Pixels that an object needs to be cut out."""
MAX_CUT_FRACTION = 0.8
"""Larger objects, relative to the image, stay background."""
MIN_VISIBLE_AREA = 30
"""Pixels below which an object counts as absent from a frame."""

Floats = npt.NDArray[np.float32]
LabelledFrames = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
"""Frames ``(T, H, W, 3)`` RGB and object numbers ``(T, H, W)``."""


@dataclass(frozen=True, slots=True)
class Footage:
    """A still image (``T = 1``) or video with ``N`` objects.

    Attributes:
        name: Name for messages.
        num_frames: ``T``.
        height: Height in pixels.
        width: Width in pixels.
        offsets: First pixel of each level in the store.
        weight: Frequency of choice, relative to others.
        ids: ``(N,)`` object numbers.
        boxes: ``(T, N, 4)`` ``x0, y0, x1, y1`` in pixels, right and bottom exclusive; NaN where
            absent.
        areas: ``(T, N)`` in pixels.
        can_cut: ``(N,)`` bool, objects that can be pasted elsewhere.
    """

    name: str
    num_frames: int
    height: int
    width: int
    offsets: tuple[int, ...]
    weight: float
    ids: npt.NDArray[np.int64]
    boxes: Floats
    areas: Floats
    can_cut: npt.NDArray[np.bool_]

    @property
    def is_video(self) -> bool:
        """Whether there is more than one frame."""
        return self.num_frames > 1

    def present(self, frame: int) -> npt.NDArray[np.int64]:
        """Return the positions (not numbers) of the objects visible in a frame."""
        return np.flatnonzero(~np.isnan(self.boxes[frame, :, 0]))


@dataclass(frozen=True, slots=True)
class Source:
    """Footage not read yet.

    Attributes:
        name: Name for messages.
        read: Reads its frames and object numbers.
        weight: Frequency of choice, relative to others.
    """

    name: str
    read: Callable[[], LabelledFrames]
    weight: float


def load_footage(
    sources: Sequence[Source], device: torch.device, *, max_side: int, threads: int
) -> tuple[list[Footage], Tensor]:
    """Read footage and put its pixels on the device.

    Args:
        sources: Footage to read.
        device: Device of the pixels.
        max_side: Larger images are scaled down to this long side.
        threads: Number of threads that read files.

    Returns:
        The footage that shows an object, and ``(P,)`` int32 pixels.

    Raises:
        InputError: A file is damaged, or nothing shows an object.
    """
    footage: list[Footage] = []
    chunks: list[npt.NDArray[np.int32]] = []
    total = 0

    def prepare(source: Source) -> tuple[Footage | None, list[npt.NDArray[np.int32]]]:
        frames, ids = _fit(*source.read(), max_side)
        item = _describe(source, ids)
        return item, _pack(frames, ids) if item else []

    with ThreadPoolExecutor(threads) as pool:
        for item, levels in pool.map(prepare, sources):
            if item:
                starts = tuple(total + offset for offset in item.offsets)
                footage.append(dataclasses.replace(item, offsets=starts))
                total += sum(level.size for level in levels)
                chunks += levels
    if not footage:
        raise InputError("composed clips need footage that shows an object, found none")
    pixels = torch.empty(total, dtype=torch.int32, device=device)
    start = 0
    chunks.reverse()
    while chunks:  # one at a time, so that nothing is twice in the same memory for long
        chunk = torch.from_numpy(chunks.pop().reshape(-1))
        pixels[start : start + len(chunk)] = chunk
        start += len(chunk)
    return footage, pixels


def level_size(height: int, width: int, level: int) -> tuple[int, int]:
    """Return the size of a halved image.

    Example:
        >>> level_size(481, 640, 2)
        (120, 160)
    """
    return max(height >> level, 1), max(width >> level, 1)


def _fit(
    frames: npt.NDArray[np.uint8], ids: npt.NDArray[np.uint8], max_side: int
) -> LabelledFrames:
    height, width = ids.shape[1:]
    if max(height, width) <= max_side:
        return frames, ids
    scale = max_side / max(height, width)
    size = (round(width * scale), round(height * scale))
    small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    small_ids = [cv2.resize(numbers, size, interpolation=cv2.INTER_NEAREST) for numbers in ids]
    return np.stack(small).astype(np.uint8), np.stack(small_ids).astype(np.uint8)


def _pack(frames: npt.NDArray[np.uint8], ids: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.int32]]:
    """Pack all levels: each ``(T, H_l, W_l)`` int32."""
    levels: list[npt.NDArray[np.int32]] = []
    for level in range(NUM_LEVELS):
        if level:
            height, width = level_size(ids.shape[1], ids.shape[2], 1)
            even = frames[:, : 2 * height, : 2 * width]
            halved = [cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in even]
            frames = np.asarray(halved, np.uint8)
            ids = ids[:, : 2 * height : 2, : 2 * width : 2]
        joined = np.concatenate([frames, ids[..., None]], axis=-1)
        levels.append(np.ascontiguousarray(joined).view(np.int32)[..., 0])
    return levels


def _describe(source: Source, ids: npt.NDArray[np.uint8]) -> Footage | None:
    """Describe footage as if its pixels were the first of the store; None without an object."""
    num_frames, height, width = ids.shape
    counts = np.stack([np.bincount(numbers.ravel(), minlength=256) for numbers in ids])
    numbers = np.flatnonzero((counts >= MIN_VISIBLE_AREA).any(0))
    numbers = numbers[(numbers > 0) & (numbers < 255)]
    if not len(numbers):
        return None
    boxes = np.full((num_frames, len(numbers), 4), np.nan, np.float32)
    for frame, position in np.argwhere(counts[:, numbers] >= MIN_VISIBLE_AREA):
        mask = (ids[frame] == numbers[position]).view(np.uint8)
        x, y, box_width, box_height = cv2.boundingRect(mask)
        boxes[frame, position] = x, y, x + box_width, y + box_height
    areas = counts[:, numbers].astype(np.float32)
    offsets, start = [], 0
    for level in range(NUM_LEVELS):
        offsets.append(start)
        rows, columns = level_size(height, width, level)
        start += num_frames * rows * columns
    return Footage(
        source.name,
        num_frames,
        height,
        width,
        tuple(offsets),
        source.weight,
        numbers.astype(np.int64),
        boxes,
        areas,
        _can_cut(boxes, areas, height, width),
    )


def _can_cut(boxes: Floats, areas: Floats, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Find the objects that are large and whole enough to be pasted elsewhere: ``(N,)`` bool."""
    sides = np.minimum(boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1])
    border: npt.NDArray[np.int64] = (
        (boxes[..., 0] <= 0).astype(int)
        + (boxes[..., 1] <= 0)
        + (boxes[..., 2] >= width)
        + (boxes[..., 3] >= height)
    )
    good = (areas >= MIN_CUT_AREA) & (np.nan_to_num(sides) >= MIN_CUT_SIDE) & (border <= 1)
    good &= areas < MAX_CUT_FRACTION * height * width
    present = ~np.isnan(boxes[..., 0])
    enough: npt.NDArray[np.bool_] = good.sum(0) >= np.maximum(0.5 * present.sum(0), 1)
    return enough
