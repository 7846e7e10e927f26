"""Encodes the photographs and videos of a data set, and says what was lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.adapters.files import read_ids
from vots_hqtrack.training.adapters.packs import codecs
from vots_hqtrack.training.adapters.packs.codecs import CodecOptions
from vots_hqtrack.training.adapters.packs.items import (
    EncodedItem,
    ItemContent,
    digest_of,
    encoded_item,
)
from vots_hqtrack.training.adapters.packs.parts import VERSION
from vots_hqtrack.training.adapters.packs.source import SourceSet, VideoFiles
from vots_hqtrack.training.adapters.photos import PhotoFiles
from vots_hqtrack.types import FrameArray, LabelArray, Size
from vots_hqtrack.video.reader import read_frame

SAMPLED = 10
"""The PSNR of every tenth frame or photograph is measured; not of first frames, the best ones."""

Progress = Callable[[str, int, int], None]
"""Called with a data set's name, the items encoded so far, and how many it has."""


@dataclass(frozen=True, slots=True)
class SetReport:
    """What became of a data set.

    Attributes:
        name: Its name.
        num_items: Its photographs or videos.
        num_frames: Its photographs or annotated frames.
        source_bytes: Bytes of its images and label maps.
        image_bytes: Bytes of the packed images or videos.
        label_bytes: Bytes of the packed label maps.
        mean_psnr: PSNR of the sampled frames, mean, decibels; 0 if frames are another set's.
        min_psnr: The least of them.
    """

    name: str
    num_items: int
    num_frames: int
    source_bytes: int
    image_bytes: int
    label_bytes: int
    mean_psnr: float
    min_psnr: float


@dataclass(frozen=True, slots=True)
class Entry:
    """An encoded item of a data set.

    Attributes:
        source: The data set.
        item: The item.
    """

    source: SourceSet
    item: EncodedItem


def encode_set(
    source: SourceSet, options: CodecOptions, work: Path, progress: Progress | None
) -> list[Entry]:
    """Encode what a data set holds.

    Args:
        source: The data set.
        options: How strongly to compress.
        work: Folder of encoded items; what is there is taken from there.
        progress: Told of every item.

    Raises:
        ConfigError: PyAV is missing.
        InputError: A file is damaged, or sizes differ.
    """
    entries: list[Entry] = []
    total = len(source.photos) + len(source.videos)
    for number, photo in enumerate(source.photos):
        entries.append(Entry(source, _encode_photo(source, number, photo, options, work)))
        if progress is not None:
            progress(source.name, len(entries), total)
    for number, video in enumerate(source.videos):
        entries.append(Entry(source, _encode_video(source, number, video, options, work)))
        if progress is not None:
            progress(source.name, len(entries), total)
    return entries


def _encode_photo(
    source: SourceSet, number: int, photo: PhotoFiles, options: CodecOptions, work: Path
) -> EncodedItem:
    def encode() -> ItemContent:
        image, ids = photo.read()
        image, labels = codecs.shrink_to(image, ids.astype(np.uint8), options.long_side)
        content = codecs.encode_image(image, options)
        quality = []
        if number % SAMPLED == 0:
            decoded = codecs.decode_image(content, Size(*labels.shape), photo.name)
            quality = [codecs.psnr(image, decoded)]
        facts = {"name": photo.name, "number": number, "size": list(labels.shape)}
        pieces = {"image": content, "labels": codecs.encode_label_map(labels)}
        return ItemContent(facts, quality, pieces)

    still = [options.image_format, options.image_quality, options.long_side]
    digest = digest_of(
        [VERSION, source.name, number, photo.name, *still], [photo.image_path, photo.labels_path]
    )
    return encoded_item(work, digest, encode)


def _encode_video(
    source: SourceSet, number: int, video: VideoFiles, options: CodecOptions, work: Path
) -> EncodedItem:
    def encode() -> ItemContent:
        labels = _read_labels(source, video)
        facts: dict[str, object] = {
            "name": video.name,
            "number": number,
            "size": list(labels.shape[1:]),
            "frames": video.frame_names,
        }
        pieces = {"labels": codecs.encode_label_maps(labels)}
        quality: list[float] = []
        if video.frames_of is None:
            pieces["video"], quality = _encode_frames(source, video, labels, options)
        else:
            facts["frames_of"] = list(video.frames_of)
        return ItemContent(facts, quality, pieces)

    moving = [options.crf, options.speed] if video.frames_of is None else [*video.frames_of]
    digest = digest_of(
        [VERSION, source.name, number, video.name, *moving],
        [*video.frame_paths, *video.mask_paths],
    )
    return encoded_item(work, digest, encode)


def _read_labels(source: SourceSet, video: VideoFiles) -> LabelArray:
    maps = [read_ids(path).astype(np.uint8) for path in video.mask_paths]
    sizes = sorted({one.shape for one in maps})
    if len(sizes) > 1:
        raise InputError(f"the label maps of {source.name}/{video.name} differ in size: {sizes}")
    return np.stack(maps)


def _encode_frames(
    source: SourceSet, video: VideoFiles, labels: LabelArray, options: CodecOptions
) -> tuple[bytes, list[float]]:
    name = f"{source.name}/{video.name}"
    frames: list[FrameArray] = []
    for path in video.frame_paths:
        frame = read_frame(path)
        if frame.shape[:2] != labels.shape[1:]:
            wanted, got = labels.shape[1:], frame.shape[:2]
            raise InputError(f"{path}: wanted the label maps' size {wanted}, got {got}")
        frames.append(frame)
    content = codecs.encode_video(frames, options)
    decoded = codecs.decode_video(content, len(frames), Size(*labels.shape[1:]), name)
    sampled = range(min(len(frames), SAMPLED) // 2, len(frames), SAMPLED)
    return content, [codecs.psnr(frames[place], decoded[place]) for place in sampled]


def report_on(source: SourceSet, entries: Sequence[Entry]) -> SetReport:
    """Sum up sizes and losses of a data set."""
    items = [entry.item for entry in entries if entry.source is source]
    quality = [value for item in items for value in item.quality]
    files = [path for one in source.photos for path in (one.image_path, one.labels_path)]
    files += [path for one in source.videos for path in (*one.frame_paths, *one.mask_paths)]
    labels = sum(item.pieces["labels"][1] for item in items)
    frames = len(source.photos) + sum(len(video.mask_paths) for video in source.videos)
    return SetReport(
        name=source.name,
        num_items=len(items),
        num_frames=frames,
        source_bytes=sum(path.stat().st_size for path in files),
        image_bytes=sum(item.num_bytes for item in items) - labels,
        label_bytes=labels,
        mean_psnr=round(float(np.mean(quality)), 2) if quality else 0.0,
        min_psnr=round(min(quality), 2) if quality else 0.0,
    )
