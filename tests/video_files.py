"""Small video files for tests, written with PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIZE = (48, 64)
MILLISECONDS = Fraction(1, 1000)


def picture(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Draw a frame that differs from all others: a square moves over coloured blocks."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (size[0] // 8 + 1, size[1] // 8 + 1, 3), dtype=np.uint8)
    frame = blocks.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    left = 3 * index % (size[1] - 16)
    frame[8:24, left : left + 16] = (250, index * 10 % 256, 30)
    return frame


def write_video(
    path: Path,
    codec: str = "libx264",
    num_frames: int = 20,
    *,
    size: tuple[int, int] = SIZE,
    pixels: str = "yuv420p",
    times: list[float] | None = None,
    sound_seconds: int = 0,
    rotation: int = 0,
    **options: str,
) -> Path:
    """Write a video of 10 frames a second, or one with given times; sound is samples."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        if times is not None:
            stream.codec_context.time_base = MILLISECONDS
        if rotation:
            stream.set_display_rotation(rotation)
        if sound_seconds:
            sound = container.add_stream("libopus", rate=48000)
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(1000 * times[index]), MILLISECONDS
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound_seconds:
            samples = np.zeros((1, 960), np.float32)
            for start in range(0, sound_seconds * 48000, 960):
                part = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
                part.sample_rate, part.pts, part.time_base = 48000, start, Fraction(1, 48000)
                container.mux(sound.encode(part))
            container.mux(sound.encode())
    return path
