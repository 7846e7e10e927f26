"""The overlay has its source's sound, at the time at which the source has it."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import Size
from vots_hqtrack.video.overlay import OverlayWriter
from vots_hqtrack.video.sound import copy_sound

RATE, FPS = 8000, 10
BEEP = 1.0
"""Second at which the sound begins to be heard."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two seconds of video: silence, then a tone."""
    path = tmp_path / "source.mp4"
    with av.open(str(path), "w") as target:
        images = target.add_stream("mpeg4", rate=FPS)
        images.width, images.height, images.pix_fmt = 64, 48, "yuv420p"
        sound = target.add_stream("aac", rate=RATE, layout="mono")
        for _ in range(2 * FPS):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            target.mux(images.encode(frame))
        times = np.arange(2 * RATE) / RATE
        tone = np.where(times < BEEP, 0, 0.5 * np.sin(2 * np.pi * 440 * times))
        heard = av.AudioFrame.from_ndarray(tone.astype(np.float32)[None], "fltp", "mono")
        heard.sample_rate, heard.pts = RATE, 0
        for stream, last in ((sound, heard), (sound, None), (images, None)):
            target.mux(stream.encode(last))
    return path


def draw(path: Path, num_frames: int) -> Path:
    with OverlayWriter(path, FPS, Size(48, 64)) as writer:
        for index in range(num_frames):
            writer.write(np.zeros((48, 64, 3), np.uint8), {}, seconds=index / FPS)
    return path


def beep_of(path: Path) -> tuple[float, float]:
    """Return when the tone begins and how long the sound is, in seconds."""
    with av.open(str(path)) as video:
        stream = video.streams.audio[0]
        parts = [(frame.time, frame.to_ndarray()[0]) for frame in video.decode(stream)]
    loud = [time + np.argmax(abs(part) > 0.2) / RATE for time, part in parts if (part > 0.2).any()]
    return loud[0], parts[-1][0] + len(parts[-1][1]) / RATE


def num_frames_of(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


@pytest.mark.parametrize(("start", "num_frames"), [(0.0, 20), (0.5, 10), (0.7, 13)])
def test_sound_is_heard_at_its_frame(
    source: Path, tmp_path: Path, start: float, num_frames: int
) -> None:
    drawn = draw(tmp_path / "overlay.mp4", num_frames)
    assert copy_sound(source, drawn, start=start)
    begins, ends = beep_of(drawn)
    assert begins == pytest.approx(BEEP - start, abs=0.15)
    assert ends == pytest.approx(num_frames / FPS, abs=0.3)
    assert num_frames_of(drawn) == num_frames


def test_a_source_without_sound_changes_nothing(tmp_path: Path) -> None:
    silent, drawn = draw(tmp_path / "a.mp4", 3), draw(tmp_path / "b.mp4", 3)
    before = drawn.read_bytes()
    assert not copy_sound(silent, drawn)
    assert drawn.read_bytes() == before


def test_exception_sound_that_no_mp4_holds_and_damaged_files(tmp_path: Path, source: Path) -> None:
    drawn, other = draw(tmp_path / "b.mp4", 3), tmp_path / "other.mkv"
    with av.open(str(source)) as given, av.open(str(other), "w") as target:
        images = target.add_stream_from_template(given.streams.video[0])
        sound = target.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = images
                target.mux(packet)
        heard = av.AudioFrame.from_ndarray(np.zeros((1, RATE), np.int16), "s16", "mono")
        heard.sample_rate, heard.pts = RATE, 0
        target.mux(sound.encode(heard))
    before = drawn.read_bytes()
    with pytest.raises(InputError, match="an MP4 cannot hold sound as pcm_s16le"):
        copy_sound(other, drawn)
    other.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"the sound of .*other\.mkv cannot be copied: "):
        copy_sound(other, drawn)
    assert drawn.read_bytes() == before
