"""The source's sound for a video that was drawn: its packets are copied, not encoded again."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.packet import Packet

from vots_hqtrack.errors import InputError
from vots_hqtrack.io import atomic_path

MP4_CODECS = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})
"""Codecs of sound that an MP4 holds."""
TimedPacket = tuple[Fraction, int, "Packet[Any]"]
"""Time in seconds, number of the stream, and the packet."""


def copy_sound(source: Path, video: Path, *, start: float = 0.0) -> bool:
    """Put the sound of a video file into an MP4 that was drawn of its frames.

    Args:
        source: The video file with the sound.
        video: The MP4, which is replaced.
        start: Seconds from the source's first frame to the first frame that was drawn.

    Returns:
        Whether the source has sound.

    Raises:
        InputError: An MP4 cannot hold such sound, or a file is damaged; the MP4 is as it was.
        OSError: The file cannot be written.
    """
    try:
        # FFmpeg reads open files, the names of which may hold any bytes.
        with (
            source.open("rb") as heard,
            video.open("rb") as seen,
            av.open(heard, "r") as given,
            av.open(seen, "r") as drawn,
        ):
            if not (given.streams.audio and given.streams.video):
                return False
            sound, images = given.streams.audio[0], drawn.streams.video[0]
            if sound.codec_context.name not in MP4_CODECS:
                raise InputError(f"an MP4 cannot hold sound as {sound.codec_context.name}")
            first = given.streams.video[0]
            origin = (first.start_time or 0) * (first.time_base or Fraction(0)) + Fraction(start)
            stop = (images.duration or 0) * (images.time_base or Fraction(0))
            with (
                atomic_path(video) as temporary,
                temporary.open("wb") as file,
                av.open(file, "w", format="mp4") as target,
            ):
                copies = [target.add_stream_from_template(part) for part in (images, sound)]
                parts = [
                    _timed(drawn.demux(images), 0),
                    _shifted(given.demux(sound), sound, origin, stop),
                ]
                for _, index, packet in heapq.merge(*parts, key=lambda part: part[:2]):
                    packet.stream = copies[index]
                    target.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"the sound of {source} cannot be copied: {reason}") from error
    return True


def _timed(packets: Iterator[Packet[Any]], index: int) -> Iterator[TimedPacket]:
    """Yield packets with the time of their decoding in seconds, and their stream's number."""
    for packet in packets:
        if packet.dts is not None and packet.time_base is not None:
            yield packet.dts * packet.time_base, index, packet


def _shifted(
    packets: Iterator[Packet[Any]], sound: AudioStream, origin: Fraction, stop: Fraction
) -> Iterator[TimedPacket]:
    """Yield the packets of sound between two times, the first of which becomes 0."""
    ticks = round(origin / (sound.time_base or Fraction(1)))
    for seconds, index, packet in _timed(packets, 1):
        if seconds >= origin + stop:
            return
        if seconds >= origin and packet.pts is not None and packet.dts is not None:
            packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
            yield seconds - origin, index, packet
