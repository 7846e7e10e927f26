"""Label maps as image files, the colours of objects, and the boxes of masks.

Written files are indexed PNGs as in DAVIS and YouTube-VOS: the pixel value is the object id, 0 is
the background, and the palette only makes them pleasant to look at. Videos with an id above 255 get
grey PNGs of 16 bits.
"""

from __future__ import annotations

import functools
import io
import logging
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.io import atomic_path
from vots_hqtrack.types import (
    MAX_OBJECTS,
    VOID_LABEL,
    FrameArray,
    LabelArray,
    MaskArray,
    label_dtype,
)

_logger = logging.getLogger(__name__)

_LOSSLESS = ("PNG", "BMP", "TIFF", "GIF")
_ORIENTATION = 274
"""EXIF tag."""
_WHITE = (VOID_LABEL, 65535)
_MAX_COLOURS = 255
_DEEP = ("I;16", "I")
"""Pillow's modes of grey images of 16 bits; older versions have the second."""
_CODE = np.array([1 << 16, 1 << 8, 1])
_AROUND = np.ones((3, 3), np.uint8)
_MIN_SOFT_VALUES = 4
"""Values of a mask with soft edges, at least."""
_MIN_SOFT_TOP = 128
"""Brightest value of a mask with soft edges, at least: ids begin at 1."""
_MIN_SOFT_FRACTION = 0.9
"""Fraction of the edge's pixels that lie between a darker and a brighter neighbour, at least."""
_FAR = 0.1
_NOISE = 16
"""Values that lossy storage changes by less."""


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


class StoredValues(NamedTuple):
    """Content of a mask file.

    Attributes:
        values: ``(H, W)`` whole numbers, or colours ``(H, W, 3)``.
        is_by_colour: The file is indexed, but its colours count.
        is_rgb: The file stores colours, grey ones perhaps.
        is_indexed: The values are indices of the palette that annotations have, so none is a shade.
    """

    values: npt.NDArray[Any]
    is_by_colour: bool
    is_rgb: bool
    is_indexed: bool


class LabelMaps:
    """Label map files of one sequence.

    The meaning of a pixel depends on the file:

    - indexed (palette) and grey images: the value is the object id, whatever the colours; but where
      the palette paints another index than 0 black, and 0 not, the colours count;
    - black-and-white ones (1 bit, or no value but 0 and white): white is object 1;
    - 255 (or 65535) beside other ids is void, and becomes background; but 255 is an object where
      the sequence has higher ids;
    - soft edges between black and one other value: what is brighter than half of it is object 1;
    - coloured ones: black is the background. If every colour of the sequence is in the DAVIS
      palette, its index there is the object id; otherwise the colours of all the sequence's files
      become objects 1, 2, ... in ascending order of (R, G, B). Fully transparent pixels are
      background.

    What is decided so is logged once a sequence.

    Args:
        paths: All files of the sequence, of which colours get the same ids.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._colours: npt.NDArray[np.int64] | None = None
        self._has_colours: bool | None = None
        self._has_high_ids: bool | None = None
        self._notes: set[str] = set()

    def read(self, path: Path) -> LabelArray:
        """Read one of the files, a PNG, BMP, TIFF or GIF: ``(H, W)`` object ids, 0 = background.

        Raises:
            InputError: The file cannot be read, is stored with loss (JPEG, WebP), has soft edges
                between several objects, or holds ids above 1000 or more than 255 colours.
        """
        values, is_by_colour, is_rgb, is_indexed = _read_values(path)
        if is_rgb and values.ndim == 2 and self._is_coloured(path):
            values = np.repeat(values[..., None], 3, axis=2)
        if is_by_colour:
            self._note(
                path,
                "its palette paints the background with another index than 0; colours "
                "count, and black is the background",
            )
        if values.ndim == 3:
            labels = self._labels_of_colours(values, path)
        else:
            labels = self._labels_of_values(values, path, is_indexed=is_indexed)
        top = labels.max(initial=0)
        if top == VOID_LABEL and np.any((labels > 0) & (labels < top)):
            if not self._is_above_void(path, values):
                labels[labels == VOID_LABEL] = 0
                self._note(path, f"{VOID_LABEL} beside other ids is void, and left out")
        return labels

    def _labels_of_values(
        self, values: npt.NDArray[Any], path: Path, *, is_indexed: bool
    ) -> LabelArray:
        found = [int(value) for value in np.unique(values) if value != 0]
        threshold = None if is_indexed else _soft_threshold(values, found, path)
        if threshold is not None:
            self._note(
                path,
                f"{len(found)} grey values are soft edges of one object; what is "
                f"above {threshold:g} counts as the object",
            )
            return (values > threshold).astype(np.uint8)
        if found and found[-1] == _WHITE[1]:  # white in 16 bits: void, or the only object
            *found, white = found
            if found:
                self._note(path, f"{white} beside other ids is void, and left out")
            values, found = (values * (values != white), found) if found else (values != 0, [1])
        elif found == [VOID_LABEL] and not self._is_above_void(path, values):
            values, found = values != 0, [1]
        if found and not 1 <= min(found) <= max(found) <= MAX_OBJECTS:
            raise InputError(
                f"the mask {path} must hold object ids from 1 to {MAX_OBJECTS}, got {len(found)} "
                f"ids from {min(found)} to {max(found)}"
            )
        labels: LabelArray = values.astype(label_dtype(max(found, default=0)))
        return labels

    def _labels_of_colours(self, values: npt.NDArray[Any], path: Path) -> LabelArray:
        codes = _colour_codes(values, path)
        self._has_colours = True
        if self._colours is None:
            found = np.unique(codes)
            for other in self._paths:
                if other != path:
                    found = np.union1d(found, _colours_of(other))
            known = palette().astype(np.int64) @ _CODE
            self._colours = known if np.isin(found, known).all() else np.union1d([0], found)
        colours = self._colours
        if len(colours) > _MAX_COLOURS + 1:
            raise InputError(
                f"the mask {path} must have at most {_MAX_COLOURS} colours besides black, one an "
                f"object, got {len(colours) - 1}; is it a photo, or are its edges soft?"
            )
        order = np.argsort(colours)
        indices = order[np.searchsorted(colours, codes, sorter=order).clip(max=len(order) - 1)]
        if (colours[indices] != codes).any():
            raise InputError(f"the mask {path} has colours that its sequence did not have before")
        labels: LabelArray = indices.astype(np.uint8)
        return labels

    def _is_coloured(self, path: Path) -> bool:
        """Check whether a file without colours belongs to a sequence that has some."""
        if self._has_colours is None:
            others = (other for other in self._paths if other != path)
            self._has_colours = any(_read_values(other).values.ndim == 3 for other in others)
        return self._has_colours

    def _is_above_void(self, path: Path, values: npt.NDArray[Any]) -> bool:
        """Check whether a file of 16 bits belongs to a sequence with ids above the mark of void."""
        if values.dtype.itemsize == 1:
            return False
        if self._has_high_ids is None:
            others = (_read_values(other).values for other in self._paths if other != path)
            self._has_high_ids = any(
                bool(((values > VOID_LABEL) & (values <= MAX_OBJECTS)).any()) for values in others
            )
        return self._has_high_ids

    def _note(self, path: Path, text: str) -> None:
        kind = text.split()[-1]
        if kind not in self._notes:
            _logger.warning("the mask %s: %s", path, text)
        self._notes.add(kind)


def read_label_map(path: str | Path) -> LabelArray:
    """Read a label map that is alone, ``(H, W)``, 0 = background; see `LabelMaps`.

    Raises:
        InputError: As `LabelMaps.read`.
    """
    return LabelMaps([Path(path)]).read(Path(path))


def write_label_map(path: str | Path, label_map: LabelArray) -> None:
    """Write a label map as a PNG, which appears whole or not at all.

    Args:
        path: The file.
        label_map: ``(H, W)`` uint8, for an indexed PNG, or uint16, for a grey one of 16 bits.

    Raises:
        ShapeError: The label map has another shape or dtype.
    """
    if label_map.ndim != 2 or label_map.dtype not in (np.uint8, np.uint16):
        raise ShapeError(
            f"a label map must be uint8 (H, W), or uint16, got {label_map.dtype} {label_map.shape}"
        )
    image, options = Image.fromarray(label_map), {}
    if label_map.dtype == np.uint8:
        image.putpalette(palette().tobytes())
        # Looking for repeated values alone takes half the time; with many objects the file is a
        # fifth larger.
        options["compress_type"] = zlib.Z_RLE
    encoded = io.BytesIO()  # Pillow's own writing does not tell why it failed
    image.save(encoded, format="PNG", **options)
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(encoded.getvalue())


def read_written_map(path: Path) -> LabelArray:
    """Read what :func:`write_label_map` wrote: ``(H, W)``, every value an object id.

    Raises:
        InputError: The file is missing, damaged, or another kind of image.
    """
    try:
        with Image.open(path) as image:
            mode, label_map = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read the label map {path}: {error}") from error
    if mode == "P":
        return label_map
    if mode not in _DEEP:
        wanted = "an indexed PNG, or grey of 16 bits"
        raise InputError(f"the label map {path} must be {wanted}, got mode {mode}")
    if (highest := label_map.max(initial=0)) > MAX_OBJECTS:
        raise InputError(f"the label map {path} must hold ids up to {MAX_OBJECTS}, got {highest}")
    return label_map.astype(np.uint16)


def mask_box(mask: MaskArray) -> tuple[int, int, int, int] | None:
    """Tight box ``(x, y, width, height)`` of a bool ``(H, W)`` mask; None if it is empty.

    Example:
        >>> mask_box(np.array([[False, False, False], [False, True, True]]))
        (1, 1, 2, 1)
    """
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    return (x, y, width, height) if width and height else None


def _read_values(path: Path) -> StoredValues:
    """Read a mask's values or colours; colours that are all grey become values."""
    is_by_colour = is_indexed = False
    try:
        with Image.open(path) as opened:
            image: Image.Image = opened
            file_format, mode = opened.format, opened.mode
            orientation = opened.getexif().get(_ORIENTATION, 1)  # TIFF's goes with the decoding
            is_animated = bool(getattr(opened, "is_animated", False))
            if file_format in _LOSSLESS and not is_animated and mode in ("P", "PA"):
                is_by_colour = _is_background_elsewhere(image)
                is_indexed = image.mode == "P" and _has_palette(image) and not is_by_colour
                image = _without_palette(image, is_by_colour)
                mode = image.mode
            values = np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "not an image, or a damaged one"
        raise InputError(f"cannot read the mask {path}: {reason}") from error
    if file_format not in _LOSSLESS:
        raise InputError(
            f"the mask {path} must be lossless ({', '.join(_LOSSLESS)}), got {file_format}"
        )
    if orientation != 1:
        raise InputError(
            f"the mask {path} must be stored upright, got the EXIF orientation {orientation}, by "
            "which viewers turn it"
        )
    if is_animated:
        raise InputError(f"the mask {path} must hold one image, got {file_format} with several")
    if mode in ("LA", "RGBA"):
        values = values[..., :-1] * (values[..., -1:] > 0)
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim == 2 and values.dtype.kind not in "bui":
        raise InputError(f"the mask {path} must hold whole numbers, got {values.dtype}")
    return StoredValues(values, is_by_colour, mode in ("RGB", "RGBA"), is_indexed)


def _has_palette(image: Image.Image) -> bool:
    """Check whether an indexed image has the first colours of the palette of annotations."""
    colours = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    return len(colours) > 1 and bool((colours == palette()[: len(colours)]).all())


def _is_background_elsewhere(image: Image.Image) -> bool:
    """Check whether a used index of an indexed image, but not index 0, is black."""
    used = np.unique(np.asarray(image if image.mode == "P" else image.getchannel("P")))
    colours = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    is_black = [index < len(colours) and not colours[index].any() for index in used]
    return any(is_black) and not (used[0] == 0 and is_black[0])


def _without_palette(image: Image.Image, is_by_colour: bool) -> Image.Image:
    """Turn an indexed image into its colours, or its indices; what is transparent becomes 0."""
    if is_by_colour:
        return image.convert("RGBA")
    if "transparency" not in image.info and image.mode == "P":
        return Image.fromarray(np.asarray(image))
    indices = image if image.mode == "P" else image.getchannel("P")
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
    return Image.fromarray(np.where(alpha > 0, np.asarray(indices), 0).astype(np.uint8))


def _soft_threshold(values: npt.NDArray[Any], found: list[int], path: Path) -> float | None:
    """Return the threshold between an object and its background if its edges are soft, else None.

    Raises:
        InputError: There are soft edges, but several values might be objects.
    """
    if len(found) < 2 or found[-1] < _MIN_SOFT_TOP:
        return None
    top = found[-1]
    is_consecutive = found == list(range(1, len(found) + 1)) and top != VOID_LABEL
    if is_consecutive:
        return None
    grey = np.asarray(values, dtype=np.float32)
    low, high = cv2.erode(grey, _AROUND), cv2.dilate(grey, _AROUND)
    # A plateau is a value with a pixel all neighbours of which have it too.
    plateaus = {int(value) for value in np.unique(values[low == high])}
    steps = [value for value in found if value not in plateaus and value != top]
    is_step = np.isin(values, steps)
    is_between = (low < grey) & (grey < high)
    smooth = int((is_step & is_between).sum()) / max(1, int(is_step.sum()))
    # Ids beside a border that is void are low: edges are also far between black and white.
    num_far = sum(value > _FAR * top for value in steps)
    if len(found) < _MIN_SOFT_VALUES:
        is_soft = top in _WHITE and num_far == len(found) - 1 and smooth == 1
    else:
        is_soft = 2 * num_far > len(steps) >= _MIN_SOFT_VALUES - 1 and smooth >= _MIN_SOFT_FRACTION
    # A file that was stored with loss meanwhile has many values near black, and many near white.
    dark = [value for value in found if value <= _NOISE]
    bright = [value for value in found if value >= top - _NOISE]
    in_noise = int(np.isin(values, dark + bright).sum()) / max(1, int((values != 0).sum()))
    is_noisy = min(len(dark), len(bright)) >= _MIN_SOFT_VALUES and in_noise > _MIN_SOFT_FRACTION
    fills_area = any(_NOISE < value < top - _NOISE for value in plateaus)
    if VOID_LABEL < top <= MAX_OBJECTS:  # of 16 bits: ids, unless all between is an edge
        is_soft, is_noisy = is_soft and not fills_area, False
    if not is_soft and not is_noisy:
        return None
    if fills_area:
        raise InputError(
            f"the mask {path} has soft edges: {len(found)} values, of which {len(plateaus)} fill "
            "an area; save it without smoothing (anti-aliasing), each object with one value"
        )
    return top / 2


def _colour_codes(values: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int64]:
    if values.ndim != 3 or values.shape[2] != 3 or values.dtype != np.uint8:
        raise InputError(f"the mask {path} must be indexed, grey or RGB, got shape {values.shape}")
    codes: npt.NDArray[np.int64] = values.astype(np.int64) @ _CODE
    return codes


def _colours_of(path: Path) -> npt.NDArray[np.int64]:
    """Return the colours of a file of a sequence, ascending; grey ones that are black or white."""
    values = _read_values(path).values
    if values.ndim == 2:  # black only, or an object that happens to be grey
        values = np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)
    return np.unique(_colour_codes(values, path))
