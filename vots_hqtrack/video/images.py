"""Image files as frames: uint8 ``(H, W, 3)`` RGB, whatever is stored."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import FrameArray
from vots_hqtrack.video.losses import Losses

_logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

_OTHER_SUFFIXES = frozenset(
    ".avif .heic .heif .jp2 .j2k .jxl .gif .jfif .jpe .ppm .pgm .pnm .tga .exr .hdr .dng "
    ".part .partial .crdownload .download .tmp".split()
)
"""Images of formats that are not read as frames, and files that did not arrive whole."""

ExifRule = Literal["apply", "ignore"]
"""Whether a frame is turned as its EXIF orientation says, as viewers do, or left as stored."""

_ORIENTATION, _PHOTOMETRIC, _BITS = 274, 262, 258
_WHITE_IS_ZERO, _CMYK = 0, 5
_MASK_NAME = re.compile(r"(?:^|[^a-z])(?:masks?|annotations?|labels?|groundtruth|gt)(?:[^a-z]|$)")
_MASK_MODES = ("1", "P", "L", "I;16", "I")
_MASK_VALUES = 16
"""A grey or indexed image among colour frames with at most so many values is a mask."""


class ImageFiles(NamedTuple):
    """Image files of a folder in natural order, and names that promise one and hold none."""

    paths: list[Path]
    lost: list[str]


class StoredImage(NamedTuple):
    """Header of an image file.

    Attributes:
        image: Opened by Pillow; its pixels are not decoded yet.
        orientation: EXIF orientation, 1..8; 1 is upright.
    """

    image: Image.Image
    orientation: int


def read_frame(
    path: str | Path, *, exif: ExifRule = "ignore", losses: Losses | None = None
) -> FrameArray:
    """Read an image file as a frame.

    Grey and indexed images become RGB, 16-bit ones are scaled to 8 bits (65535 becomes 255), and
    alpha is dropped.

    Args:
        path: Image file; its name may hold any characters.
        exif: Whether to apply the EXIF orientation. Masks and annotations of data sets are stored
            unrotated, as their frames are.
        losses: Gets the damage that the decoder reports; None logs it.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        InputError: The file is missing, damaged so that it gives no image, cut short, an animation,
            or not an 8- or 16-bit image.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the frame {path}: {error.strerror or error}") from error
    stored = open_image(data, path)
    if stored is None:
        return _decode_with_opencv(data, path)
    kind, image = stored.image.format, stored.image
    is_small_tiff = kind == "TIFF" and max(_tiff_tag(image, _BITS, (1,))) <= 8
    if is_small_tiff or image.mode == "CMYK":
        return _decode_with_pillow(stored, path, exif)
    if kind in ("JPEG", "MPO"):
        frame = _decode_jpeg(data, path, losses)
    else:
        is_negative = _tiff_tag(image, _PHOTOMETRIC, (1,))[0] == _WHITE_IS_ZERO
        frame = _decode_with_opencv(data, path, is_negative=is_negative)
    return turn_upright(frame, stored.orientation) if exif == "apply" else frame


def open_image(data: bytes, path: Path) -> StoredImage | None:
    """Read an image's header; None if Pillow does not know the format.

    Raises:
        InputError: The header is damaged, or there are several images.
    """
    try:
        image = Image.open(io.BytesIO(data))
        is_animated = image.format != "MPO" and getattr(image, "is_animated", False)
        number = getattr(image, "n_frames", 1) if is_animated else 1
        orientation = _read_orientation(image)
    except UnidentifiedImageError:
        return None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = "not an image, or a damaged one"
        if isinstance(error, Image.DecompressionBombError):
            reason = str(error)
        raise InputError(f"cannot read the frame {path}: {reason}") from error
    if number > 1:
        raise InputError(
            f"cannot read the frame {path}: wanted one image, got {image.format} with {number}; "
            "give its images as files of their own"
        )
    return StoredImage(image, orientation)


def turn_upright(frame: FrameArray, orientation: int) -> FrameArray:
    """Turn and mirror a stored frame as its EXIF orientation says.

    Args:
        frame: ``(H, W, 3)`` uint8.
        orientation: 1..8; 1 leaves the frame as it is.

    Example:
        >>> frame = np.zeros((2, 5, 3), np.uint8)
        >>> turn_upright(frame, 6).shape
        (5, 2, 3)
    """
    if orientation in (5, 6, 7, 8):
        frame = frame.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        frame = frame[:, ::-1]
    if orientation in (3, 4, 7, 8):
        frame = frame[::-1]
    return np.ascontiguousarray(frame)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sorting key by which numbers inside names count as numbers.

    Example:
        >>> sorted(["10.jpg", "9.jpg", "1.jpg"], key=natural_key)
        ['1.jpg', '9.jpg', '10.jpg']
    """
    parts = re.split(r"([0-9]+)", name.lower())
    return [int(part) if part.isdecimal() else part for part in parts], name


def find_images(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> ImageFiles:
    """Find the image files of a folder, hidden ones left out.

    Links that lead nowhere or to themselves, folders, pipes and devices that are named like images
    count as lost, and so do images of other formats that are named and numbered like the others.
    """
    paths, lost, others = [], [], []
    # A leading dot marks other systems' side files, such as "._00000.jpg".
    for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            try:
                is_file = path.is_file()
            except OSError:  # a link to itself, before Python 3.13
                is_file = False
            paths.append(path) if is_file else lost.append(path.name)
        elif path.suffix.lower() in _OTHER_SUFFIXES:
            others.append(path.name)
    patterns, stems = {_pattern(path.stem) for path in paths}, {path.stem for path in paths}
    for name in others:
        stem = Path(name).stem
        if Path(stem).suffix.lower() in suffixes:  # 00001.png.part
            stem = Path(stem).stem
        if _pattern(stem) in patterns and "#" in _pattern(stem) and stem not in stems:
            lost.append(name)
    return ImageFiles(paths, lost)


def list_images(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Image files of a folder in natural order, hidden ones left out.

    Raises:
        InputError: A name promises an image and holds none; see `find_images`.
    """
    found = find_images(folder, suffixes)
    if found.lost:
        raise InputError(describe_lost(folder, found.lost))
    return found.paths


def describe_lost(folder: Path, lost: list[str]) -> str:
    """Say which image files of a folder are lost."""
    names = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    why = "not a file, a link to nothing, or of another format"
    return f"files of {folder} cannot be read: {names} ({why})"


def _pattern(name: str) -> str:
    """Return a name with a # for each number."""
    return re.sub(r"[0-9]+", "#", name.lower())


def leave_out_masks(paths: list[Path], mask_path: Path | None = None) -> list[Path]:
    """Leave out, with a warning, mask files among the frames of a folder.

    A file is a mask if it is the given mask, or if its name or its content says so while most files
    of the folder are named otherwise.

    Args:
        paths: Image files of a folder.
        mask_path: Mask that was given for the first frame.
    """
    patterns = [_pattern(path.name) for path in paths]
    main = max(sorted(set(patterns)), key=patterns.count, default="")
    kept = []
    for path, pattern in zip(paths, patterns, strict=True):
        is_given = mask_path is not None and mask_path.exists() and path.samefile(mask_path)
        is_odd = len(paths) > 1 and pattern != main
        if is_given or (is_odd and (_MASK_NAME.search(pattern) or _looks_like_mask(path))):
            why = "the given mask" if is_given else "a mask by its name or content"
            _logger.warning("%s is left out of the frames: it is %s", path, why)
        else:
            kept.append(path)
    return kept


def _looks_like_mask(path: Path) -> bool:
    """Check whether a file is a lossless grey or indexed image of few values."""
    try:
        with Image.open(path) as image:
            if image.format not in ("PNG", "BMP", "TIFF") or image.mode not in _MASK_MODES:
                return False
            return len(np.unique(np.asarray(image))) <= _MASK_VALUES
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def _decode_jpeg(data: bytes, path: Path, losses: Losses | None) -> FrameArray:
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, "RGB"), dtype=np.uint8)
    except ValueError as error:
        reason = str(error)
    # OpenCV 4 and libjpeg pad what is cut off with grey.
    if data.rfind(b"\xff\xd9", _end_of_header(data)) < 0:
        raise InputError(f"cannot read the frame {path}: the JPEG file is cut short")
    try:
        frame = np.asarray(simplejpeg.decode_jpeg(data, "RGB", strict=False), dtype=np.uint8)
    except ValueError:
        raise InputError(f"cannot read the frame {path}: {reason}") from None
    if losses is None:
        _logger.warning("the frame %s is damaged: %s", path, reason)
    else:
        losses.add_errors([f"{path.name}: {reason}"])
    return frame


def _decode_with_pillow(stored: StoredImage, path: Path, exif: ExifRule) -> FrameArray:
    """Decode where OpenCV takes colours for others: CMYK, TIFF that is turned."""
    try:
        stored.image.load()
        frame: FrameArray = np.array(stored.image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read the frame {path}: {error}") from error
    # Pillow turns TIFF images itself, and then drops the tag.
    is_turned = stored.orientation != 1 and stored.image.getexif().get(_ORIENTATION, 1) == 1
    if is_turned == (exif == "apply"):
        return frame
    undo = {6: 8, 8: 6}.get(stored.orientation, stored.orientation)
    return turn_upright(frame, undo if is_turned else stored.orientation)


def _decode_with_opencv(data: bytes, path: Path, *, is_negative: bool = False) -> FrameArray:
    """Decode what has up to 16 bits a channel; ``is_negative``: 0 is white in 16-bit files."""
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error as error:
        raise InputError(f"cannot read the frame {path}: {error.err}") from error
    if values is None:
        reason = "not an image, or a damaged one"
        raise InputError(f"cannot read the frame {path}: {reason}")
    if is_negative and values.dtype == np.uint16:
        values = 65535 - values
    return to_rgb8(values, f"the frame {path}")


def to_rgb8(image: npt.NDArray[Any], what: str) -> FrameArray:
    """Turn what OpenCV read, ``(H, W)`` or ``(H, W, 1 | 3 | 4)`` BGR(A), into a frame.

    Raises:
        InputError: It has another number of channels, or not 8 or 16 bits.
    """
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise InputError(f"{what} must have 8 or 16 bits a channel, got {image.dtype}")
    channels = 1 if image.ndim == 2 else image.shape[2]
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    if channels not in codes:
        raise InputError(f"{what} must have 1, 3 or 4 channels, got {channels}")
    return np.ascontiguousarray(cv2.cvtColor(image, codes[channels]), dtype=np.uint8)


def _read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, 1..8."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # what may follow the pixels is not looked for: Pillow would decode them
    found = image.getexif().get(_ORIENTATION, 1)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _tiff_tag(image: Image.Image, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return a tag of a TIFF file as a tuple."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return value if isinstance(value, tuple) else (value,)


def _end_of_header(data: bytes) -> int:
    """Position of a JPEG file's scan: segments before it, such as thumbnails, are skipped."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        is_padding = data[position + 1] == 0xFF
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        position += 1 if is_padding else 2 + length
    return position
