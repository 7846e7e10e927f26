"""Pixels to bytes and back: frames as HEVC, images as WebP or AVIF, label maps without loss.

Writing a video needs PyAV (extra ``train``); reading needs OpenCV alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import lzma
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.types import FrameArray, LabelArray, Size

PEAK = 255.0
BEST_PSNR = 100.0
"""Reported for frames without any error, whose PSNR has no bound."""
FRAME_RATE = 24
PixelFormat = Literal["webp", "avif"]
X265_PARAMS = "log-level=error:frame-threads=2:info=0"
SMALLEST_SIDE = 64
"""x265 writes beyond its buffers where both sides are below 32."""
REORDERED_FRAMES = 3
"""x265 leaves time stamps of shorter videos to chance where it may reorder frames."""
LABEL_FILTERS = ({"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0},)


@dataclass(frozen=True, slots=True)
class CodecOptions:
    """How strongly pixels are compressed.

    Attributes:
        crf: Constant rate factor of HEVC, 0 to 51; more is smaller and worse.
        speed: x265 preset, ``ultrafast`` to ``placebo``; slower is smaller.
        image_format: Format of still images.
        image_quality: Its quality, 0 to 100.
        long_side: Long side that larger still images are shrunk to, pixels; 0 keeps their size.
    """

    crf: int = 25
    speed: str = "medium"
    image_format: PixelFormat = "webp"
    image_quality: int = 55
    long_side: int = 640

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value, low, high in (
            ("crf", self.crf, 0, 51),
            ("image quality", self.image_quality, 0, 100),
        ):
            if not low <= value <= high:
                raise ConfigError(f"the {name} must be from {low} to {high}, got {value}")
        if self.long_side < 0:
            raise ConfigError(f"the long side must be 0 or more pixels, got {self.long_side}")
        if self.image_format not in ("webp", "avif"):
            raise ConfigError(f"the image format must be webp or avif, got {self.image_format!r}")


def require_av() -> None:
    """Demand PyAV with its HEVC encoder.

    Raises:
        ConfigError: It is not installed, or was built without x265.
    """
    if importlib.util.find_spec("av") is None:
        raise ConfigError(
            "packing videos needs PyAV, found none; install with: pip install 'vots-hqtrack[train]'"
        )
    import av

    if "libx265" not in av.codecs_available:
        raise ConfigError("packing videos needs a PyAV built with libx265, this one has none")


def encode_video(frames: Sequence[FrameArray], options: CodecOptions) -> bytes:
    """Encode frames of one size as HEVC in MP4.

    Odd sides are padded to even ones, and short ones to 64, with the last row or column;
    :func:`decode_video` cuts that off again.

    Args:
        frames: uint8 ``(H, W, 3)`` RGB, at least one.
        options: Rate factor and speed.

    Returns:
        The file's bytes, the same for the same frames, options and version of the encoder.

    Raises:
        ConfigError: PyAV is missing, or the speed is unknown to x265.
        InputError: There is no frame, or the frames differ in size.
    """
    require_av()
    import av

    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) != 1:
        raise InputError(f"a video needs frames of one size, got {len(frames)} of {sizes}")
    coded = _coded_size(sizes[0])
    buffer = io.BytesIO()
    params = X265_PARAMS + ("" if len(frames) >= REORDERED_FRAMES else ":bframes=0")
    settings = {"crf": str(options.crf), "preset": options.speed, "x265-params": params}
    try:
        with av.open(buffer, "w", format="mp4") as container:
            stream: Any = container.add_stream("libx265", rate=FRAME_RATE, options=settings)
            stream.pix_fmt, stream.codec_tag = "yuv420p", "hvc1"
            stream.height, stream.width = coded
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(_pad(frame, coded), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
    except av.FFmpegError as error:
        raise ConfigError(f"x265 refuses the speed {options.speed!r}: {error}") from error
    return buffer.getvalue()


def decode_video(content: bytes, num_frames: int, size: Size, name: str) -> FrameArray:
    """Decode all frames of a video in order.

    Args:
        content: A file as :func:`encode_video` makes it.
        num_frames: Frames that it must hold, ``T``.
        size: Size of the frames without padding, ``H`` and ``W``.
        name: What messages call it.

    Returns:
        uint8 ``(T, H, W, 3)`` RGB.

    Raises:
        InputError: It cannot be decoded, or holds other frames.
    """
    frames = np.empty((num_frames, *size, 3), np.uint8)
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        # OpenCV reads videos from files alone.
        path = Path(folder) / "video.mp4"
        path.write_bytes(content)
        with contextlib.closing(_Capture(path)) as capture:
            while (picture := capture.read()) is not None:
                if count == num_frames or picture.shape[:2] != _coded_size(size):
                    got = f"more, or one of {picture.shape[:2]}"
                    raise InputError(f"{name}: wanted {num_frames} frames of {size}, got {got}")
                frames[count] = picture[: size.height, : size.width, ::-1]
                count += 1
    if count < num_frames:
        raise InputError(f"{name}: wanted {num_frames} frames, could decode {count}")
    return frames


class _Capture:
    """OpenCV's reader of one video file."""

    def __init__(self, path: Path) -> None:
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)

    def read(self) -> FrameArray | None:
        """Return the next frame, BGR, or None after the last."""
        ok, picture = self._capture.read()
        return np.asarray(picture, np.uint8) if ok else None

    def close(self) -> None:
        self._capture.release()


def encode_image(image: FrameArray, options: CodecOptions) -> bytes:
    """Encode a still image.

    Args:
        image: uint8 ``(H, W, 3)`` RGB.
        options: Format and quality.

    Raises:
        ConfigError: This Pillow cannot write the format.
    """
    quality = options.image_quality
    special = {"method": 6} if options.image_format == "webp" else {"speed": 5}
    buffer = io.BytesIO()
    try:
        Image.fromarray(image).save(buffer, options.image_format, quality=quality, **special)
    except (KeyError, OSError) as error:
        raise ConfigError(f"this Pillow cannot write {options.image_format}: {error}") from error
    return buffer.getvalue()


def decode_image(content: bytes, size: Size, name: str) -> FrameArray:
    """Decode a still image.

    Args:
        content: A WebP or AVIF file.
        size: Size that it must have, ``H`` and ``W``.
        name: What messages call it.

    Returns:
        uint8 ``(H, W, 3)`` RGB.

    Raises:
        InputError: It cannot be decoded, or has another size.
    """
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if picture is not None:
        image = np.ascontiguousarray(picture[..., ::-1], dtype=np.uint8)
    else:  # OpenCV may lack AVIF
        try:
            with Image.open(io.BytesIO(content)) as opened:
                image = np.array(opened.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(
                f"{name}: neither OpenCV nor Pillow decodes the image; it is damaged, or they are "
                "too old for its format"
            ) from error
    if image.shape[:2] != tuple(size):
        raise InputError(f"{name}: wanted an image of {tuple(size)}, got {image.shape[:2]}")
    return image


def encode_label_map(label_map: LabelArray) -> bytes:
    """Encode one label map without loss, as a grey WebP: half of a PNG's bytes.

    Args:
        label_map: uint8 ``(H, W)``.
    """
    buffer = io.BytesIO()
    image = Image.fromarray(label_map).convert("RGB")
    image.save(buffer, "webp", lossless=True, quality=80, method=4)
    return buffer.getvalue()


def decode_label_map(content: bytes, size: Size, name: str) -> LabelArray:
    """Decode one label map; the counterpart of :func:`encode_label_map`.

    Returns:
        uint8 ``(H, W)``.

    Raises:
        InputError: It cannot be decoded, or has another size.
    """
    return np.ascontiguousarray(decode_image(content, size, name)[..., 0])


def encode_label_maps(label_maps: LabelArray) -> bytes:
    """Encode the label maps of a video without loss, as an XZ file of their bytes.

    Args:
        label_maps: uint8 ``(T, H, W)``.
    """
    content = np.ascontiguousarray(label_maps).tobytes()
    return lzma.compress(content, check=lzma.CHECK_CRC32, filters=list(LABEL_FILTERS))


def decode_label_maps(content: bytes, num_frames: int, size: Size, name: str) -> LabelArray:
    """Decode the label maps of a video; the counterpart of :func:`encode_label_maps`.

    Returns:
        uint8 ``(T, H, W)``.

    Raises:
        InputError: They cannot be decoded, or have another size.
    """
    try:
        flat = np.frombuffer(lzma.decompress(content), np.uint8)
    except (lzma.LZMAError, EOFError) as error:
        raise InputError(f"{name}: the label maps are damaged: {error}") from error
    shape = (num_frames, *size)
    if flat.size != np.prod(shape):
        raise InputError(f"{name}: wanted label maps of {shape}, got {flat.size} bytes")
    return flat.reshape(shape)


def shrink_to(image: FrameArray, ids: LabelArray, long_side: int) -> tuple[FrameArray, LabelArray]:
    """Shrink an image and its label map until the long side fits; smaller ones stay as they are.

    Args:
        image: uint8 ``(H, W, 3)``.
        ids: uint8 ``(H, W)``; every pixel takes the number at its middle.
        long_side: Pixels; 0 keeps the size.
    """
    height, width = ids.shape
    if not long_side or max(height, width) <= long_side:
        return image, ids
    scale = long_side / max(height, width)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
    nearest = cv2.resize(ids, shape, interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(small, np.uint8), np.asarray(nearest, np.uint8)


def psnr(original: FrameArray, decoded: FrameArray) -> float:
    """Peak signal-to-noise ratio of an image, decibels; 100 where nothing differs.

    Example:
        >>> black = np.zeros((2, 2, 3), np.uint8)
        >>> round(psnr(black, black + np.uint8(1)), 2)
        48.13
    """
    difference: npt.NDArray[np.float32] = original.astype(np.float32) - decoded
    error = float(np.square(difference).mean(dtype=np.float64))
    return min(BEST_PSNR, 10 * float(np.log10(PEAK**2 / error))) if error else BEST_PSNR


def _coded_size(size: tuple[int, ...]) -> tuple[int, int]:
    """Return the size that frames of a size are padded to."""
    height, width = (max(side + side % 2, SMALLEST_SIDE) for side in size)
    return height, width


def _pad(frame: FrameArray, coded: tuple[int, int]) -> FrameArray:
    rows, columns = (wanted - side for wanted, side in zip(coded, frame.shape[:2], strict=True))
    if rows or columns:
        frame = np.pad(frame, ((0, rows), (0, columns), (0, 0)), mode="edge")
    return np.ascontiguousarray(frame)
