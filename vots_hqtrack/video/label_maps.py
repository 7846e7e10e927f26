"""Label maps as image files, the colours of objects, and the boxes of masks.

Written files are indexed PNGs as in DAVIS and YouTube-VOS: the pixel value is the object id, 0 is
the background, and the palette only makes them pleasant to look at.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.io import atomic_path
from vots_hqtrack.types import MAX_OBJECTS, FrameArray, LabelArray, MaskArray

_LOSSLESS = ("PNG", "BMP", "TIFF", "GIF")
_WHITE = (255, 65535)


@functools.lru_cache(maxsize=1)
def palette() -> FrameArray:
    """Colours of the labels in DAVIS and PASCAL VOC annotations: ``(256, 3)`` uint8 RGB, read-only.

    The bits of a label go to red, green and blue in turn, the lowest bits becoming the highest ones
    of the colour, so that neighbouring labels look far apart. Label 0 is black.

    Example:
        >>> palette()[:4].tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= ((labels >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    colours.setflags(write=False)
    return colours


def read_label_map(path: Path) -> LabelArray:
    """Read a label map from an image file.

    The meaning of a pixel depends on the file:

    - indexed (palette) and grey images: the value is the object id, whatever the colours;
    - black-and-white ones (1 bit, or no value but 0 and white): white is object 1;
    - coloured ones: black is the background. If every colour is in the DAVIS palette, its index
      there is the object id; otherwise the colours become objects 1, 2, ... in ascending order of
      (R, G, B). Fully transparent pixels are background.

    Args:
        path: A PNG, BMP, TIFF or GIF file.

    Returns:
        ``(H, W)`` uint8, 0 = background.

    Raises:
        InputError: The file cannot be read, is stored with loss (JPEG, WebP), or holds ids above
            255 or more than 255 objects.
    """
    try:
        with Image.open(path) as image:
            file_format, mode = image.format, image.mode
            values = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "not an image, or a damaged one"
        raise InputError(f"cannot read the mask {path}: {reason}") from error
    if file_format not in _LOSSLESS:
        raise InputError(
            f"the mask {path} must be lossless ({', '.join(_LOSSLESS)}), got {file_format}"
        )
    if mode in ("LA", "RGBA"):
        values = values[..., :-1] * (values[..., -1:] > 0)
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim == 3:
        return _labels_of_colours(values, path)
    if values.dtype.kind not in "bui":
        raise InputError(f"the mask {path} must hold whole numbers, got {values.dtype}")
    return _labels_of_values(values, path)


def write_label_map(path: Path, label_map: LabelArray) -> None:
    """Write a uint8 ``(H, W)`` label map as an indexed PNG, which appears whole or not at all.

    Raises:
        ShapeError: The label map has another shape or dtype.
    """
    if label_map.ndim != 2 or label_map.dtype != np.uint8:
        raise ShapeError(
            f"a label map must be uint8 (H, W), got {label_map.dtype} {label_map.shape}"
        )
    image = Image.fromarray(label_map)
    image.putpalette(palette().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def mask_box(mask: MaskArray) -> tuple[int, int, int, int] | None:
    """Tight box ``(x, y, width, height)`` of a bool ``(H, W)`` mask; None if it is empty.

    Example:
        >>> mask_box(np.array([[False, False, False], [False, True, True]]))
        (1, 1, 2, 1)
    """
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    return (x, y, width, height) if width and height else None


def _labels_of_values(values: npt.NDArray[Any], path: Path) -> LabelArray:
    found = [int(value) for value in np.unique(values) if value != 0]
    if len(found) == 1 and found[0] in _WHITE:
        values, found = values != 0, [1]
    if found and not 1 <= min(found) <= max(found) <= MAX_OBJECTS:
        raise InputError(
            f"the mask {path} must hold object ids from 1 to {MAX_OBJECTS}, got {len(found)} ids "
            f"from {min(found)} to {max(found)}"
        )
    labels: LabelArray = values.astype(np.uint8)
    return labels


def _labels_of_colours(values: npt.NDArray[Any], path: Path) -> LabelArray:
    if values.shape[2] != 3 or values.dtype != np.uint8:
        raise InputError(f"the mask {path} must be indexed, grey or RGB, got shape {values.shape}")
    codes = values.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    found = np.unique(codes)
    known = palette().astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    colours = known if np.isin(found, known).all() else np.union1d([0], found)
    if len(colours) > MAX_OBJECTS + 1:
        raise InputError(
            f"the mask {path} must have at most {MAX_OBJECTS} colours besides black, one an "
            f"object, got {len(colours) - 1}; is it a photo?"
        )
    order = np.argsort(colours)
    labels: LabelArray = order[np.searchsorted(colours, codes, sorter=order)].astype(np.uint8)
    return labels
