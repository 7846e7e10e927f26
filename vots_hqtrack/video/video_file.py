"""Video files, read with PyAV: every frame in order, and any frame at random access.

The packets are listed once, without decoding, which gives the number of frames and their exact
times. A frame's index is its position in the order of presentation. Random access decodes from the
last keyframe before the frame, and goes further back if that does not give the frame.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import av.error
import av.logging
import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import FrameArray
from vots_hqtrack.video.losses import Losses

_logger = logging.getLogger(__name__)

DEFAULT_FPS = 25.0
"""Frame rate of a source that has none of its own."""
CACHE_BYTES = 256 * 2**20
"""Decoded frames that random access keeps, in bytes."""

_RATE_TOLERANCE = 0.01
_FOREIGN_FORMATS = frozenset({"tty", "hls", "concat", "dash", "image2", "lavfi", "sdp", "rtsp"})
"""FFmpeg's readers of plain text, and of lists that name other files or addresses."""
_SHOWN_BIT_VP8 = 0x10
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""First bytes of a Matroska file, and of the element that holds all the rest."""
_HEAD_BYTES = 4096
_OPENED, _CUT = "opened", "cut"


@dataclass(frozen=True, slots=True)
class _Packets:
    """Frames of a stream by its packets.

    Attributes:
        stamps: Presentation times of the frames, ascending, in units of the time base; empty where
            a packet has none or two have the same.
        keyframes: Presentation and decoding times of the keyframes, ascending.
        num_frames: Frames that the packets should give.
        num_announced: Frames that the header announces; 0 if it announces none.
        num_packets: Packets with data, those that are not shown included.
        messages: Errors that the container's reader reported.
    """

    stamps: tuple[int, ...]
    keyframes: tuple[tuple[int, int], ...]
    num_frames: int
    num_announced: int
    num_packets: int
    messages: tuple[str, ...]


class VideoFile:
    """A video file as a sequence of frames.

    Each iteration decodes from the first frame. ``video[i]`` gives any frame, the same as
    iterating does, and keeps the frames decoded last. One thread may use it at a time.

    Args:
        path: The file.
        cache_bytes: Decoded frames that random access keeps, in bytes; at least one is kept.

    Attributes:
        path: The file.
        codec: Name of the video's codec.
        fps: Frames per second: the container's own rate, or the mean if its times say otherwise.
        times: Seconds from the first frame, by frame, as the container stores them.

    Raises:
        InputError: The file cannot be opened, or has no video that can be decoded.
    """

    def __init__(self, path: Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.path = path
        self._losses = Losses()
        with _open(path) as container:
            stream = _video_stream(container, path)
            self.codec = stream.codec_context.codec.name
            self._time_base = stream.time_base or Fraction(1, 1000)
            rate = stream.average_rate or stream.guessed_rate
            own_rate = float(rate) if rate else 0.0
            self._packets = _list_packets(container, stream)
        if not self._packets.messages and _is_cut_matroska(path):
            self._packets = replace(self._packets, messages=("the file is cut short",))
        if not self._packets.num_frames:
            raise InputError(f"no frame could be read from {path} (codec {self.codec})")
        self.fps, self.times = self._rate_and_times(own_rate)
        self._cache: OrderedDict[int, FrameArray] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._reading: Generator[tuple[int, Any], None, None] | None = None
        self._position = -1
        self._noted: set[object] = set()
        self._doubtful: tuple[int, int] | None = None

    def __len__(self) -> int:
        """Return the number of frames."""
        return self._packets.num_frames

    def __iter__(self) -> Generator[FrameArray, None, None]:
        """Decode all frames in order; `losses` has afterwards what was lost.

        Yields:
            ``(H, W, 3)`` uint8 RGB.

        Raises:
            InputError: The codec cannot decode a single frame.
        """
        packets = self._packets
        self._losses = losses = self._losses_of_packets()
        self._noted.clear()
        self._doubtful = None
        num_read = 0
        with _open(self.path) as container:
            for frame in _decode(container, _video_stream(container, self.path), self._note):
                yield _to_rgb(frame)
                num_read += 1
        if not num_read:
            reason = next(iter(losses.messages), "the decoder gave no frame")
            raise InputError(f"cannot decode {self.path} (codec {self.codec}): {reason}")
        losses.num_missing = max(0, packets.num_frames - num_read)
        self._note_cut()

    def __getitem__(self, index: int) -> FrameArray:
        """Return any frame, ``(H, W, 3)`` uint8 RGB, read-only; -1 is the last.

        `losses` notes each damage that is met on the way to it once.

        Raises:
            IndexError: The video is shorter.
            InputError: The frame is damaged, so that it cannot be decoded.
        """
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"frame {index} of {self.path}, which has {length} frames")
        index %= length
        if index not in self._cache:
            if not self._noted:
                self._losses = self._losses_of_packets()
                self._noted.add(_OPENED)
            if index == length - 1:
                self._note_cut()
            self._fetch(index)
        self._cache.move_to_end(index)
        return self._cache[index]

    @property
    def losses(self) -> Losses:
        """Losses of the newest pass over all frames; before any, of what random access read."""
        if self._doubtful is not None:
            # Decoders also complain where they begin in the middle of a sound video.
            with closing(self._read_from(None)) as frames:
                while self._doubtful not in self._noted and next(frames, None):
                    pass
            self._doubtful = None
        return self._losses

    def close(self) -> None:
        """Close the file that random access holds open; it opens again when asked."""
        if self._reading is not None:
            self._reading.close()
        self._reading, self._position = None, -1

    def _losses_of_packets(self) -> Losses:
        """Return the losses that are known without decoding."""
        packets = self._packets
        losses = Losses(max(packets.num_frames, packets.num_announced))
        losses.add_errors(packets.messages)
        return losses

    def _note(
        self,
        messages: list[str],
        packet: Any,  # noqa: ANN401 - PyAV's class
        number: int,
        start: int | None = None,
    ) -> None:
        """Note what the decoder reported of a packet, once; after a seek that it is doubtful.

        Args:
            messages: Its reports.
            packet: The packet; None for the end of the stream.
            number: Packets before it.
            start: Time where decoding began; None is the beginning.
        """
        stamps = self._packets.stamps
        key = None if packet is None else (packet.pts, packet.dts) if stamps else (number, number)
        if start is not None:
            if messages and key is not None and key not in self._noted:
                self._doubtful = max(key, self._doubtful or key)
            return
        where = ""
        if packet is not None:
            shown = bisect_left(stamps, packet.pts) if stamps else number
            where = f" near frame {shown}"
        if key not in self._noted:
            self._losses.add_errors(f"{message}{where}" for message in messages)
        self._noted.add(key)

    def _note_cut(self) -> None:
        """Note once, at the end of the video, the frames that were cut off."""
        if _CUT not in self._noted:
            self._losses.num_missing += self._num_cut()
        self._noted.add(_CUT)

    def _num_cut(self) -> int:
        """Frames that the header announces beyond the packets that are there."""
        packets = self._packets
        cut = packets.num_announced - packets.num_packets
        if cut <= 0 or not packets.stamps:
            return max(0, cut)
        # AVI counts a frame that stands still as announced, and stores no packet for it.
        shown = round(self.times[-1] * self.fps) + 1
        return max(0, min(cut, packets.num_announced - shown))

    def _rate_and_times(self, own_rate: float) -> tuple[float, tuple[float, ...]]:
        stamps = self._packets.stamps
        if not stamps:
            fps = own_rate or DEFAULT_FPS
            return fps, tuple(index / fps for index in range(len(self)))
        times = tuple(float((stamp - stamps[0]) * self._time_base) for stamp in stamps)
        if len(times) == 1:
            return own_rate or DEFAULT_FPS, times
        mean = (len(times) - 1) / times[-1]
        is_own = abs(mean - own_rate) <= _RATE_TOLERANCE * mean
        return (own_rate if is_own else mean), times

    def _fetch(self, index: int) -> None:
        """Decode up to a frame, and cache it with as many frames before it as fit."""
        if self._reading is not None and 0 <= self._position < index:
            key = self._keyframe_before(index)
            if key <= self._position + 1 and self._read_to(index):
                return
        for start in self._starts(index):
            self.close()
            self._reading = self._read_from(start)
            if self._read_to(index):
                return
        self.close()
        raise InputError(f"cannot decode frame {index} of {self.path} (codec {self.codec})")

    def _read_to(self, index: int) -> bool:
        """Read on until a frame; return whether it came."""
        assert self._reading is not None  # noqa: S101 - for the type checker
        for position, frame in self._reading:
            is_late = position > index
            self._position = position
            if position >= index - self._capacity(frame) and not is_late:
                self._keep(position, frame)
            if position >= index:
                return not is_late
        return False

    def _capacity(self, frame: Any) -> int:  # noqa: ANN401 - PyAV's frame
        frame_bytes = max(1, 3 * int(frame.width) * int(frame.height))
        return max(1, self._cache_bytes // frame_bytes) - 1

    def _keep(self, position: int, frame: Any) -> None:  # noqa: ANN401 - PyAV's frame
        array = _to_rgb(frame)
        array.setflags(write=False)
        self._cache[position] = array
        self._cache.move_to_end(position)
        while len(self._cache) > self._capacity(frame) + 1:
            self._cache.popitem(last=False)

    def _keyframe_before(self, index: int) -> int:
        """Index of the last keyframe at or before a frame; 0 where that is not known."""
        stamps, keyframes = self._packets.stamps, self._packets.keyframes
        if not stamps:
            return 0
        number = bisect_right([shown for shown, _ in keyframes], stamps[index]) - 1
        return bisect_left(stamps, keyframes[max(0, number)][0])

    def _starts(self, index: int) -> Iterator[int | None]:
        """Times to seek to for a frame, the nearest first; None is the beginning."""
        stamps, keyframes = self._packets.stamps, self._packets.keyframes
        if stamps:
            number = bisect_right([shown for shown, _ in keyframes], stamps[index]) - 1
            for shown, decoded in keyframes[number : max(0, number - 2) : -1]:
                yield shown
                if decoded < shown:
                    yield decoded
        yield None

    def _read_from(self, stamp: int | None) -> Generator[tuple[int, Any], None, None]:
        """Decode from a time on; yields frames with their index."""
        stamps = self._packets.stamps
        note = partial(self._note, start=stamp)
        with _open(self.path) as container:
            stream = _video_stream(container, self.path)
            if stamp is not None:
                try:
                    container.seek(stamp, stream=stream)
                except (av.error.FFmpegError, OSError):
                    return
            for number, frame in enumerate(_decode(container, stream, note)):
                if not stamps:
                    yield number, frame
                    continue
                position = bisect_left(stamps, frame.pts) if frame.pts is not None else len(stamps)
                if position < len(stamps) and stamps[position] == frame.pts:
                    yield position, frame


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a container; what it names beside itself is not opened."""
    if not path.is_file():
        raise InputError(f"a video must be a regular file, got {path}")
    # As a file object: no name is taken for an address, and any bytes may be in it.
    reports: list[str] = []
    with path.open("rb") as file:
        try:
            with _reports(reports, level=av.logging.WARNING):
                container = av.open(file, buffer_size=1 << 18, metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = "; ".join([str(getattr(error, "strerror", None) or error), *reports[-1:]])
            raise InputError(f"cannot open the video file {path}: {reason}") from error
        with closing(container):
            if any(video.codec_context is None for video in container.streams.video):
                reason = next((text for text in reports if "codec" in text), "unknown codec")
                raise InputError(f"cannot decode the video file {path}: {reason}")
            if not _FOREIGN_FORMATS.isdisjoint(container.format.name.split(",")):
                name = container.format.name
                raise InputError(f"cannot open the video file {path}: {name} is not a video format")
            yield container


def _video_stream(container: Any, path: Path) -> Any:  # noqa: ANN401 - PyAV's classes
    """Return the container's main video stream, made ready for decoding."""
    covers = av.stream.Disposition.attached_pic
    videos = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not videos:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no stream"
        raise InputError(f"cannot open the video file {path}: it has no video, only {kinds}")
    best = container.streams.best("video")
    stream = next((video for video in videos if best and video.index == best.index), videos[0])
    # One thread: what a decoder makes of damaged data must not depend on the timing of threads.
    stream.codec_context.thread_count = 1
    return stream


def _list_packets(container: Any, stream: Any) -> _Packets:  # noqa: ANN401 - PyAV's classes
    """List a stream's packets without decoding them."""
    shown: list[int | None] = []
    keyframes: list[tuple[int, int]] = []
    messages: list[str] = []
    num_packets, num_announced = 0, int(stream.frames or 0)
    is_vp8 = stream.codec_context.name == "vp8"
    with closing(_demux(container, stream, messages)) as packets:
        for packet in packets:
            num_packets += 1
            if packet.is_corrupt:
                messages.append("a packet is cut short")
            if packet.pts is not None and packet.is_keyframe:
                keyframes.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
            is_hidden = is_vp8 and not bytes(packet)[0] & _SHOWN_BIT_VP8
            if not packet.is_discard and not is_hidden:
                shown.append(packet.pts)
    stamps = tuple(sorted(stamp for stamp in shown if stamp is not None))
    if len(set(stamps)) < len(shown) or not keyframes:
        return _Packets((), (), len(shown), num_announced, num_packets, tuple(messages))
    # Frames shown before the first keyframe need one that is not in the file.
    stamps = stamps[bisect_left(stamps, min(keyframes)[0]) :]
    ordered = tuple(sorted(keyframes))
    return _Packets(stamps, ordered, len(stamps), num_announced, num_packets, tuple(messages))


def _is_cut_matroska(path: Path) -> bool:
    """Check whether a Matroska or WebM file is shorter than its segment announces.

    FFmpeg says so only where the cut is not between two blocks.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        size = file.seek(0, os.SEEK_END)
    start = head.find(_SEGMENT)
    if not head.startswith(_EBML) or start < 0 or len(head) < start + 12:
        return False
    width = 9 - head[start + 4].bit_length()  # of a number that begins with zeros for its bytes
    announced = int.from_bytes(head[start + 4 : start + 4 + width], "big") - (1 << 7 * width)
    is_known = announced != (1 << 7 * width) - 1
    return is_known and start + 4 + width + announced > size


def _demux(
    container: Any,  # noqa: ANN401 - PyAV's class
    stream: Any,  # noqa: ANN401 - PyAV's class
    messages: list[str],
) -> Generator[Any, None, None]:
    """Yield a stream's packets that hold data; errors of the container end it and are noted."""
    packets = container.demux(stream)
    while True:
        with _reports(messages):
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                messages.append(str(getattr(error, "strerror", None) or error))
                packet = None
        if packet is None:
            return
        if packet.size:
            yield packet


def _decode(
    container: Any,  # noqa: ANN401 - PyAV's class
    stream: Any,  # noqa: ANN401 - PyAV's class
    note: Callable[[list[str], Any, int], None],
) -> Generator[Any, None, None]:
    """Decode a stream from where it stands; damaged packets are noted and left out.

    Args:
        container: The open file.
        stream: Its video stream.
        note: Called for each packet, with what the decoder reported of it, the packet, None for the
            end, and the number of packets before it.
    """
    codec = stream.codec_context
    packets = itertools.chain(_demux(container, stream, []), [None])
    for number, packet in enumerate(packets):
        messages: list[str] = []
        frames = []
        with _reports(messages):
            try:
                frames = codec.decode(packet)
            except av.error.EOFError:
                pass
            except (av.error.FFmpegError, OSError) as error:
                messages.append(str(getattr(error, "strerror", None) or error))
        if not messages and any(frame.is_corrupt for frame in frames):
            messages.append(f"{codec.name}: a frame is damaged")
        note(messages, packet, number)
        yield from frames


_REPORTS_LOCK = threading.Lock()
_reports_state: dict[str, Any] = {"users": 0, "level": None}


@contextmanager
def _reports(messages: list[str], *, level: int = av.logging.ERROR) -> Iterator[None]:
    """Collect what FFmpeg logs in this thread; its level stays as the caller has it."""
    with _REPORTS_LOCK:
        if not _reports_state["users"]:
            _reports_state["level"] = av.logging.get_level()
            _reports_state["skip"] = av.logging.get_skip_repeated()
            av.logging.set_level(av.logging.WARNING)
            av.logging.set_skip_repeated(False)
        _reports_state["users"] += 1
    with av.logging.Capture(local=True) as logs:
        try:
            yield
        finally:
            found = [(name, text.split()) for rank, name, text in logs if rank <= level]
            messages.extend(f"{name}: {' '.join(words)}" for name, words in found)
            with _REPORTS_LOCK:
                _reports_state["users"] -= 1
                if not _reports_state["users"]:
                    av.logging.set_level(_reports_state["level"])
                    av.logging.set_skip_repeated(_reports_state["skip"])


def _to_rgb(frame: Any) -> FrameArray:  # noqa: ANN401 - PyAV's class
    """Turn a decoded frame into RGB as players show it: colours by its tags, rotated, mirrored."""
    # Bicubic, which leaves frames of odd sizes in their place; the default shifts their chroma.
    rgb: FrameArray = frame.to_ndarray(format="rgb24", interpolation="BICUBIC")
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        values = np.frombuffer(bytes(matrix), np.dtype("=i4"))
        rgb = _orient(rgb, *(int(value) for value in values[[0, 1, 3, 4]]))
    return np.ascontiguousarray(rgb)


def _orient(rgb: FrameArray, a: int, b: int, c: int, d: int) -> FrameArray:
    """Apply a display matrix: ``(x, y)`` goes to ``(a x + c y, b x + d y)``."""
    if abs(b) > abs(a):
        rgb, a, d = rgb.transpose(1, 0, 2), c, b
    if a < 0:
        rgb = rgb[:, ::-1]
    return rgb[::-1] if d < 0 else rgb
