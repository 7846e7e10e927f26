"""COCO's JSON for video: tracks by video (YouTube-VIS, SA-Co), or masks by image (CocoVID, TAO).

Masks are run lengths, boxes ``x, y, width, height`` in pixels. Beside the ids of the annotations,
which are unique in a file, ``track_id`` has the object's id in its video.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.files import read_json, take
from vots_hqtrack.formats.rle import decode_runs, decode_segmentation, encode_mask
from vots_hqtrack.formats.stream import (
    DEFAULT_NAME,
    FrameMasks,
    FrameName,
    MaskVideo,
    Overlaps,
    check_size,
)
from vots_hqtrack.io import to_json
from vots_hqtrack.types import MaskArray, Size
from vots_hqtrack.video.label_maps import mask_box

_VIS, _COCO = "youtube-vis", "coco"
_SCORE_DIGITS = 4
_FRAME_KEYS = ("frame_id", "frame_index")
"""Keys of an image's index in its video: CocoVID's and TAO's."""
BOX_KEY = "bboxes".removesuffix("es")
"""COCO's key of a box."""


def write_youtube_vis(videos: Sequence[MaskVideo], out: Path, overlaps: Overlaps) -> None:
    """Write one annotation a track, with run lengths in numbers or null for each frame."""
    del overlaps
    categories = _Categories()
    entries, tracks = _read_tracks(videos, categories)
    annotations = (track.to_json() | {"segmentations": track.in_numbers()} for track in tracks)
    _write(out, {"videos": entries, "annotations": annotations}, categories)


def write_sa_co(videos: Sequence[MaskVideo], out: Path, overlaps: Overlaps) -> None:
    """Write the same with packed run lengths, and names of objects as noun phrases."""
    del overlaps
    categories = _Categories()
    entries, tracks = _read_tracks(videos, categories)
    phrases = {entry["id"]: entry["name"] for entry in categories.to_json()}
    counts = Counter((track.head["video_id"], track.head["category_id"]) for track in tracks)
    pairs = [
        {
            "id": number,
            "video_id": video_id,
            "category_id": category,
            "noun_phrase": phrases[category],
            "num_masklets": count,
        }
        for number, ((video_id, category), count) in enumerate(counts.items(), start=1)
    ]
    tables = {
        "videos": [entry | {"video_name": entry["name"]} for entry in entries],
        "annotations": (
            track.to_json() | {"noun_phrase": phrases[track.head["category_id"]]}
            for track in tracks
        ),
        "video_np_pairs": pairs,
    }
    _write(out, tables, categories)


def _read_tracks(
    videos: Sequence[MaskVideo], categories: _Categories
) -> tuple[list[dict[str, Any]], list[_Track]]:
    """Describe the videos, and pack the masks of their tracks."""
    entries: list[dict[str, Any]] = []
    all_tracks: list[_Track] = []
    for video_id, video in enumerate(videos, start=1):
        entries.append(_video_entry(video_id, video))
        tracks: dict[int, _Track] = {}
        for number, name in video.objects.items():
            head = {
                "id": len(all_tracks) + len(tracks) + 1,
                "video_id": video_id,
                "track_id": number,
                "category_id": categories.number(name),
                "iscrowd": 0,
                "height": video.size.height,
                "width": video.size.width,
            }
            tracks[number] = _Track(head, len(video.frames))
        for position, (_, found) in enumerate(video):
            for number, mask in found.masks.items():
                tracks[number].set(position, _describe(mask), found.scores.get(number))
        all_tracks += tracks.values()
    return entries, all_tracks


def write_coco(videos: Sequence[MaskVideo], out: Path, overlaps: Overlaps) -> None:
    """Write one annotation a mask, and one image a frame."""
    del overlaps
    categories = _Categories()
    entries: list[dict[str, object]] = []
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for video_id, video in enumerate(videos, start=1):
        entries.append({"id": video_id, "name": video.name})
        for frame, found in video:
            size = {"height": video.size.height, "width": video.size.width}
            name = f"{video.name}/{video.image_name(frame)}"
            head: dict[str, object] = {"id": len(images) + 1, "file_name": name, **size}
            images.append(head | {"video_id": video_id, "frame_id": frame.index})
            for number, mask in found.masks.items():
                entry: dict[str, object] = {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "video_id": video_id,
                    "category_id": categories.number(video.objects[number]),
                    "track_id": number,
                    "instance_id": number,
                    "iscrowd": 0,
                    **_describe(mask),
                }
                if number in found.scores:
                    entry["score"] = round(found.scores[number], _SCORE_DIGITS)
                annotations.append(entry)
    content = {"videos": entries, "images": images, "annotations": annotations}
    _write(out, content, categories)


def is_youtube_vis(path: Path) -> bool:
    """Whether a file has tracks by video."""
    return _first_has(path, "videos", "file_names")


def is_coco(path: Path) -> bool:
    """Whether a file has masks by image."""
    return _first_has(path, "images", "file_name")


def read_youtube_vis(path: Path) -> list[MaskVideo]:
    """Read the videos of a file; crowds are left out.

    An object's id is its ``track_id``, or the annotation's ``id``.

    Raises:
        InputError: The JSON has another form, or a track has not one entry for each frame.
    """
    table = read_json(path, _VIS)
    names = _category_names(table, path)
    by_video: dict[int, dict[int, Any]] = {}
    for entry in _annotations(table, path):
        number = take(entry, "track_id" if "track_id" in entry else "id", int, path)
        tracks = by_video.setdefault(take(entry, "video_id", int, path), {})
        _add_once(tracks, number, entry, path)
    videos = []
    for entry in take(table, "videos", list, path):
        tracks = by_video.pop(take(entry, "id", int, path), {})
        videos.append(_read_vis_video(entry, dict(sorted(tracks.items())), names, path))
    if by_video:
        raise InputError(f"{path}: wanted a video of id {min(by_video)}, found none")
    return videos


def read_coco(path: Path) -> list[MaskVideo]:
    """Read the videos of a file: the images of a ``video_id``, by ``frame_id`` or ``frame_index``.

    Without video ids all images are one video, in their order.

    Raises:
        InputError: The JSON has another form, or an annotation has no ``track_id``.
    """
    table = read_json(path, _COCO)
    names = _category_names(table, path)
    by_image: dict[int, dict[int, Any]] = {}
    for entry in _annotations(table, path):
        key = "instance_id" if "instance_id" in entry else "track_id"
        masks = by_image.setdefault(take(entry, "image_id", int, path), {})
        _add_once(masks, take(entry, key, int, path), entry, path)
    titles = {
        take(entry, "id", int, path): take(entry, "name", str, path)
        for entry in (take(table, "videos", list, path) if table.get("videos") else ())
    }
    by_video: dict[int, list[Any]] = {}
    for entry in take(table, "images", list, path):
        take(entry, "id", int, path)
        video_id = take(entry, "video_id", int, path) if "video_id" in entry else 0
        by_video.setdefault(video_id, []).append(entry)
    known = {image["id"] for images in by_video.values() for image in images}
    if lost := by_image.keys() - known:
        raise InputError(f"{path}: wanted an image of id {min(lost)}, found none")
    return [
        _read_coco_video(titles.get(number, path.stem), images, by_image, names, path)
        for number, images in by_video.items()
    ]


class _Categories:
    """Numbers of the objects' names, from 1."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers) + 1)

    def to_json(self) -> list[dict[str, Any]]:
        return [{"id": number, "name": name} for name, number in self._numbers.items()]


class _Track:
    """Packed masks of an object, frame by frame."""

    def __init__(self, head: dict[str, Any], num_frames: int) -> None:
        self.head = head
        self._masks: list[Mapping[str, Any] | None] = [None] * num_frames
        self._scores: list[float | None] = [None] * num_frames

    def set(self, position: int, mask: Mapping[str, Any], score: float | None) -> None:
        self._masks[position] = mask
        self._scores[position] = None if score is None else round(score, _SCORE_DIGITS)

    def to_json(self) -> dict[str, Any]:
        shown = [score for score in self._scores if score is not None]
        content = dict(self.head)
        for key, plural in (
            ("segmentation", "segmentations"),
            (BOX_KEY, "bboxes"),
            ("area", "areas"),
        ):
            content[plural] = [None if mask is None else mask[key] for mask in self._masks]
        if shown:
            mean = round(sum(shown) / len(shown), _SCORE_DIGITS)
            content |= {"scores": self._scores, "score": mean}
        return content

    def in_numbers(self) -> list[dict[str, object] | None]:
        packed = [None if mask is None else mask["segmentation"] for mask in self._masks]
        return [
            None if mask is None else {**mask, "counts": decode_runs(mask["counts"])}
            for mask in packed
        ]


def _describe(mask: MaskArray) -> dict[str, Any]:
    box = mask_box(mask)
    area = int(np.count_nonzero(mask))
    return {"segmentation": encode_mask(mask), BOX_KEY: list(box or (0, 0, 0, 0)), "area": area}


def _video_entry(video_id: int, video: MaskVideo) -> dict[str, Any]:
    return {
        "id": video_id,
        "name": video.name,
        "height": video.size.height,
        "width": video.size.width,
        "length": len(video.frames),
        "file_names": [f"{video.name}/{video.image_name(frame)}" for frame in video.frames],
        "frame_indices": [frame.index for frame in video.frames],
    }


def _write(
    out: Path, tables: Mapping[str, Iterable[Mapping[str, object]]], categories: _Categories
) -> None:
    """Write the tables of a file, one entry a line and none longer in memory than needed."""
    with out.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"info": {"description": "masks by hqtrack"}')
        for name, entries in tables.items():
            file.write(f', "{name}": [')
            for number, entry in enumerate(entries):
                file.write(("," if number else "") + "\n" + to_json(entry))
            file.write("]")
        file.write(f', "categories": {to_json(categories.to_json())}}}\n')


def _annotations(table: object, path: Path) -> list[dict[str, Any]]:
    entries = take(table, "annotations", list, path)
    for entry in entries:
        if not isinstance(entry, dict):
            raise InputError(f"{path}: wanted a table for each annotation, got {str(entry)[:60]}")
    return [entry for entry in entries if not entry.get("iscrowd", 0)]


def _category_names(table: Mapping[str, object], path: Path) -> dict[int, str]:
    found = take(table, "categories", list, path) if "categories" in table else []
    return {take(entry, "id", int, path): take(entry, "name", str, path) for entry in found}


def _add_once(masks: dict[int, Any], number: int, entry: object, path: Path) -> None:
    if number < 1:
        raise InputError(f"{path}: wanted track ids from 1, got {number}")
    if number in masks:
        raise InputError(f"{path}: the object {number} is there twice in one video or image")
    masks[number] = entry


def _name_of(entry: Mapping[str, Any], names: Mapping[int, str]) -> str:
    category = entry.get("category_id")
    return names.get(category, DEFAULT_NAME) if isinstance(category, int) else DEFAULT_NAME


def _read_vis_video(
    entry: dict[str, Any],
    tracks: Mapping[int, Any],
    names: Mapping[int, str],
    path: Path,
) -> MaskVideo:
    files = [str(name) for name in take(entry, "file_names", list, path)]
    title = str(entry.get("name") or (Path(files[0]).parent.name if files else "video"))
    size = check_size(take(entry, "height", int, path), take(entry, "width", int, path), path)
    indices = entry.get("frame_indices", list(range(len(files))))
    lists = [("frame_indices", indices)]
    for number, track in tracks.items():
        found = take(track, "segmentations", object, path)
        lists.append((f"segmentations of the object {number}", found))
        if track.get("scores") is not None:
            lists.append((f"scores of the object {number}", track["scores"]))
    for what, values in lists:
        if not isinstance(values, list) or len(values) != len(files):
            raise InputError(
                f"{path}: wanted {what} for the {len(files)} frames of {title}, "
                f"got {len(values) if isinstance(values, list) else values}"
            )
    _check_indices(indices, title, path)
    return MaskVideo(
        title,
        size,
        tuple(FrameName(*pair) for pair in zip(indices, _stems(files), strict=True)),
        {number: _name_of(track, names) for number, track in tracks.items()},
        partial(_read_vis_frame, tracks, size, path),
        has_scores=any(track.get("scores") is not None for track in tracks.values()),
    )


def _read_vis_frame(tracks: Mapping[int, Any], size: Size, path: Path, position: int) -> FrameMasks:
    masks, scores = {}, {}
    for number, track in tracks.items():
        packed = track["segmentations"][position]
        if packed is None:
            continue
        where = f"{path}: object {number}, frame {position}"
        mask = decode_segmentation(packed, size, where)
        if mask.any():
            masks[number] = mask
            score = (track.get("scores") or {position: None})[position]
            if score is not None:
                scores[number] = _score(score, where)
    return FrameMasks(masks, scores)


def _read_coco_video(
    title: str,
    images: list[Any],
    by_image: Mapping[int, Mapping[int, Any]],
    names: Mapping[int, str],
    path: Path,
) -> MaskVideo:
    keys = (key for key in _FRAME_KEYS if all(key in image for image in images))
    if (key := next(keys, None)) is not None:
        images = sorted(images, key=lambda image: take(image, key, int, path))
        indices = [image[key] for image in images]
    else:
        indices = list(range(len(images)))
    _check_indices(indices, title, path)
    sizes = {
        check_size(take(image, "height", int, path), take(image, "width", int, path), path)
        for image in images
    }
    if len(sizes) != 1:
        raise InputError(f"{path}: wanted frames of one size in {title}, got {sorted(sizes)}")
    frames = [by_image.get(take(image, "id", int, path), {}) for image in images]
    objects = {
        number: _name_of(entry, names) for found in frames for number, entry in found.items()
    }
    stems = _stems([take(image, "file_name", str, path) for image in images])
    size = sizes.pop()
    return MaskVideo(
        title,
        size,
        tuple(FrameName(*pair) for pair in zip(indices, stems, strict=True)),
        dict(sorted(objects.items())),
        partial(_read_coco_frame, frames, size, path),
        has_scores=any("score" in entry for found in frames for entry in found.values()),
    )


def _read_coco_frame(
    frames: Sequence[Mapping[int, Any]], size: Size, path: Path, position: int
) -> FrameMasks:
    masks, scores = {}, {}
    for number, entry in frames[position].items():
        where = f"{path}: object {number}, image {entry['image_id']}"
        mask = decode_segmentation(take(entry, "segmentation", object, where), size, where)
        if mask.any():
            masks[number] = mask
            if entry.get("score") is not None:
                scores[number] = _score(entry["score"], where)
    return FrameMasks(masks, scores)


def _score(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"{where}: wanted a score from 0 to 1, got {value!r}")
    return float(value)


def _check_indices(indices: Sequence[object], title: str, path: Path) -> None:
    numbers = [index for index in indices if isinstance(index, int)]
    if (
        len(numbers) != len(indices)
        or numbers != sorted(set(numbers))
        or min(numbers, default=0) < 0
    ):
        raise InputError(f"{path}: wanted ascending frame numbers from 0 in {title}")


def _stems(names: Sequence[str]) -> list[str]:
    return [Path(name).stem for name in names]


def _first_has(path: Path, key: str, wanted: str) -> bool:
    """Whether the first entry of a list of a JSON file has a key."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        return wanted in json.loads(path.read_text(encoding="utf-8"))[key][0]
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return False
