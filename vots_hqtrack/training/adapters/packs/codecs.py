"""Encoding and decoding: frames as HEVC, images as WebP or AVIF, label maps without loss."""

from __future__ import annotations

import io
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.types import FrameArray, LabelArray, Size

FRAME_RATE = 24
X265_PARAMS = "log-level=error:frame-threads=2:info=0"
MIN_SIDE = 64
"""x265 writes beyond its buffers where both sides are below 32."""
REORDERED_FRAMES = 3
"""x265 gives shorter videos undefined time stamps where it may reorder frames."""
LABEL_FILTERS = ({"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0},)


@dataclass(frozen=True, slots=True)
class CodecOptions:
    """Strength of the compression.

    Attributes:
        crf: Constant rate factor of HEVC, 0 to 51; more is smaller and worse.
        speed: x265 preset, ``ultrafast`` to ``placebo``; slower is smaller.
        image_format: Format of still images.
        image_quality: Its quality, 0 to 100.
        long_side: Long side that larger still images are shrunk to, pixels; 0 keeps their size.
    """

    crf: int = 25
    speed: str = "medium"
    image_format: Literal["webp", "avif"] = "webp"
    image_quality: int = 55
    long_side: int = 640

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value, high in (
            ("crf", self.crf, 51),
            ("image quality", self.image_quality, 100),
        ):
            if not 0 <= value <= high:
                raise ConfigError(f"the {name} must be from 0 to {high}, got {value}")
        if self.long_side < 0:
            raise ConfigError(f"the long side must be 0 or more pixels, got {self.long_side}")
        if self.image_format not in ("webp", "avif"):
            raise ConfigError(f"the image format must be webp or avif, got {self.image_format!r}")


def _import_av(codec: str) -> Any:  # noqa: ANN401 - a module
    import av

    if codec not in av.codecs_available:
        raise ConfigError(f"packed videos need a PyAV built with {codec}, this one has none")
    return av


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
    """
    av = _import_av("libx265")
    height, width = frames[0].shape[:2]
    rows, columns = (max(side + side % 2, MIN_SIDE) for side in (height, width))
    padding = ((0, rows - height), (0, columns - width), (0, 0))
    params = X265_PARAMS + ("" if len(frames) >= REORDERED_FRAMES else ":bframes=0")
    settings = {"crf": str(options.crf), "preset": options.speed, "x265-params": params}
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="mp4") as container:
            stream = container.add_stream("libx265", rate=FRAME_RATE, options=settings)
            stream.pix_fmt, stream.codec_tag = "yuv420p", "hvc1"
            stream.height, stream.width = rows, columns
            for frame in frames:
                padded = np.ascontiguousarray(np.pad(frame, padding, mode="edge"))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
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
        name: Name for messages.

    Returns:
        uint8 ``(T, H, W, 3)`` RGB.

    Raises:
        ConfigError: PyAV is missing.
        InputError: The video cannot be decoded, or holds other frames.
    """
    av = _import_av("hevc")
    frames = np.empty((num_frames, *size, 3), np.uint8)
    count = 0
    try:
        with av.open(io.BytesIO(content)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                if count < num_frames:
                    frames[count] = frame.to_ndarray(format="rgb24")[: size.height, : size.width]
                count += 1
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise InputError(f"{name}: cannot decode the video: {error}") from error
    if count != num_frames:
        raise InputError(f"{name}: wanted {num_frames} frames, could decode {count}")
    return frames


def encode_image(image: FrameArray, options: CodecOptions) -> bytes:
    """Encode a still image, uint8 ``(H, W, 3)`` RGB.

    Raises:
        ConfigError: This Pillow cannot write the format.
    """
    effort = {"method": 6} if options.image_format == "webp" else {"speed": 5}
    buffer = io.BytesIO()
    try:
        Image.fromarray(image).save(
            buffer, options.image_format, quality=options.image_quality, **effort
        )
    except (KeyError, OSError) as error:
        raise ConfigError(f"this Pillow cannot write {options.image_format}: {error}") from error
    return buffer.getvalue()


def decode_image(content: bytes, name: str) -> FrameArray:
    """Decode a still image to uint8 ``(H, W, 3)`` RGB.

    Raises:
        InputError: It cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"{name}: Pillow cannot decode the image; it is damaged, or Pillow is too old for it"
        ) from error


def encode_label_map(label_map: LabelArray) -> bytes:
    """Encode a uint8 ``(H, W)`` label map without loss, as a grey WebP: half of a PNG's bytes."""
    buffer = io.BytesIO()
    image = Image.fromarray(label_map).convert("RGB")
    image.save(buffer, "webp", lossless=True, quality=80, method=4)
    return buffer.getvalue()


def encode_label_maps(label_maps: LabelArray) -> bytes:
    """Encode the uint8 ``(T, H, W)`` label maps of a video without loss, as an XZ file."""
    content = np.ascontiguousarray(label_maps).tobytes()
    return lzma.compress(content, check=lzma.CHECK_CRC32, filters=list(LABEL_FILTERS))


def decode_label_maps(content: bytes, num_frames: int, size: Size, name: str) -> LabelArray:
    """Decode the label maps of a video to uint8 ``(T, H, W)``.

    Raises:
        InputError: They cannot be decoded, or have another size.
    """
    try:
        flat = np.frombuffer(lzma.decompress(content), np.uint8)
        return flat.reshape(num_frames, *size)
    except (lzma.LZMAError, EOFError, ValueError) as error:
        raise InputError(f"{name}: the label maps are damaged: {error}") from error


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
