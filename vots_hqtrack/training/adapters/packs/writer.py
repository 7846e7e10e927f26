"""Packs data sets: encodes images and videos, deals them out to parts of a chosen size."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.io import atomic_path
from vots_hqtrack.training.adapters.files import MAX_LABELS, list_folders
from vots_hqtrack.training.adapters.packs import codecs
from vots_hqtrack.training.adapters.packs.codecs import CodecOptions
from vots_hqtrack.training.adapters.packs.reader import (
    FORMAT,
    INDEX_NAME,
    LOCAL_HEADER,
    PART_PATTERN,
    VERSION,
    Layout,
    part_name,
)
from vots_hqtrack.training.adapters.photos import list_photos
from vots_hqtrack.training.adapters.vos import (
    LISTS,
    find_videos,
    list_videos,
    pair_paths,
    read_lists,
)
from vots_hqtrack.types import Size
from vots_hqtrack.video.label_maps import LabelMaps
from vots_hqtrack.video.reader import natural_key, read_frame
from vots_hqtrack.vot.import_vos import ANNOTATIONS, IMAGES

MIB = 1 << 20
WORK_FOLDER = ".encoded"
NOTE_PATTERNS = ("README*", "LICENSE*", "LICENCE*", "NOTICE*")
SAMPLED = 10
"""The PSNR of every tenth frame or image is measured; not of first frames, the best ones."""
CENTRAL_HEADER = 46
"""Bytes before the name in a zip archive's directory."""
SPARE = 64
"""Bytes that the number of parts may add to the compressed index."""

Progress = Callable[[str, int, int], None]
"""Called with a data set's name, the items encoded so far, and the number of all."""


@dataclass(frozen=True, slots=True)
class SetReport:
    """Sizes and losses of a data set: before packing, of its packed images and label maps.

    Items are images or videos, frames are images or annotated frames. PSNR is that of the sampled
    frames, decibels; 0 where the frames are another data set's.
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
class PackReport:
    """Result of packing: reports by data set, and paths of the parts."""

    sets: tuple[SetReport, ...]
    parts: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Item:
    """An image (one frame) or a video: its files; no frames if another set's video has them."""

    name: str
    frames: tuple[Path, ...]
    labels: tuple[Path, ...]
    frames_of: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """A data set to be packed; see `reader.PackedSet`."""

    name: str
    root: Path
    layout: Layout
    items: tuple[_Item, ...]
    lists: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class _Encoded:
    """An encoded item: a zip file in the work folder.

    Attributes:
        title: Data set and item, for messages.
        item: The item.
        path: The zip file; its members are those of a part.
        facts: Entry of the index.
        quality: PSNR of the sampled frames, decibels.
        sizes: Bytes of the members by name.
    """

    title: str
    item: _Item
    path: Path
    facts: dict[str, object]
    quality: list[float]
    sizes: dict[str, int]

    @property
    def packed_size(self) -> int:
        """Bytes that the item takes in a part."""
        headers = LOCAL_HEADER + CENTRAL_HEADER
        return sum(headers + 2 * len(name.encode()) + n for name, n in self.sizes.items())


def pack_data(
    data: Path,
    out: Path,
    names: Sequence[str] = (),
    *,
    options: CodecOptions | None = None,
    max_mib: float = 28.0,
    work: Path | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Pack data sets into parts that the adapters read in place.

    Args:
        data: Folder that holds the data sets' folders, each in the layout ``folder`` or ``davis``.
        out: Folder for ``part-00.zip``, ...; it must not hold parts yet.
        names: Data sets to take; none takes all.
        options: Strength of the compression.
        max_mib: Largest size of a part, MiB (2 ** 20 bytes).
        work: Folder for encoded items, which is kept; by default one in ``out`` that is removed at
            the end. A run cut short continues from it.
        progress: Called after every encoded item.

    Raises:
        ConfigError: PyAV is missing, or an option is unusable.
        InputError: A data set is missing or has another layout, an item does not fit a part, or
            ``out`` holds parts.
    """
    options = options or CodecOptions()
    if max_mib <= 0:
        raise ConfigError(f"the size of a part must be above 0 MiB, got {max_mib}")
    if out.exists() and (not out.is_dir() or any(out.glob(PART_PATTERN))):
        raise InputError(f"{out} is there already: wanted a folder without parts of a pack")
    sources = _list_sources(data, names)
    kept = work or out / WORK_FOLDER
    for folder in (out, kept):
        folder.mkdir(parents=True, exist_ok=True)
    encoded = [list(_encode_all(source, options, kept, progress)) for source in sources]
    reports = tuple(map(_report_on, sources, encoded))
    index: dict[str, object] = {
        "format": FORMAT,
        "version": VERSION,
        "num_parts": 0,
        "encoders": {**dataclasses.asdict(options), "label_maps": "lossless WebP; XZ of videos'"},
        "notes": _read_notes(data, sources),
        "quality": [dataclasses.asdict(report) for report in reports],
        "sets": dict(map(_index_set, sources, encoded)),
    }
    buffer = io.BytesIO()
    _write_part(buffer, index, [])
    limit = int(max_mib * MIB)
    parts = _deal_out(itertools.chain(*encoded), limit, limit - buffer.tell() - SPARE)
    index["num_parts"] = len(parts)
    paths = tuple(out / part_name(number) for number in range(len(parts)))
    with contextlib.ExitStack() as stack:  # all parts get their names, or none
        for path, entries in zip(paths, parts, strict=True):
            _write_part(stack.enter_context(atomic_path(path, durable=True)), index, entries)
    if work is None:
        shutil.rmtree(kept)
    return PackReport(reports, paths)


def _list_sources(data: Path, names: Sequence[str]) -> list[_Source]:
    """List data sets of a folder; those without frames take them from another of the list."""
    if not data.is_dir():
        raise InputError(f"wanted a folder of data sets, found no folder {data}")
    known = sorted(list_folders(data), key=natural_key)
    chosen = [Path(name).as_posix() for name in names] or known
    unknown = [name for name in chosen if not (data / name).is_dir()]
    if unknown or not chosen:
        what = f"the data set {unknown[0]}" if unknown else "data sets"
        raise InputError(f"wanted {what} in {data}; it has {', '.join(known) or 'no folder'}")
    sources = [_list_source(data, name) for name in dict.fromkeys(chosen)]
    return [_find_frames(source, sources) for source in sources]


def _list_source(data: Path, name: str) -> _Source:
    root, labels = data / name, data / name / ANNOTATIONS
    if not labels.is_dir():
        raise InputError(
            f"{root} cannot be packed: wanted {ANNOTATIONS} and {IMAGES} in it (the layouts folder "
            f"and davis), found no folder {ANNOTATIONS}"
        )
    if any(path.suffix == ".png" for path in labels.iterdir()) or (root / "index.csv").is_file():
        files = list_photos(root).items()
        items = [_Item(photo, (image,), (mask,)) for photo, (image, mask) in files]
        return _Source(name, root, "folder", tuple(items), None)
    frames = find_videos(root, IMAGES) if (root / IMAGES).is_dir() else None
    items = []
    for video, masks in list_videos(root).items():
        # Label maps without frames are their own frames for the moment.
        pairs = pair_paths(video, masks if frames is None else frames / video, masks)
        images = () if frames is None else tuple(frame for frame, _ in pairs)
        items.append(_Item(video, images, tuple(mask for _, mask in pairs)))
    return _Source(name, root, "davis", tuple(items), read_lists(root / LISTS))


def _find_frames(source: _Source, sources: Sequence[_Source]) -> _Source:
    """Name the data set that has all frames of one that has none itself."""
    if all(item.frames for item in source.items):
        return source
    fitting = []
    for other in sources:
        known = {item.name: {path.stem for path in item.frames} for item in other.items}
        if other.layout == "davis" and all(
            known.get(item.name, set()).issuperset(path.stem for path in item.labels)
            for item in source.items
        ):
            fitting.append(other.name)
    if len(fitting) != 1:
        found = ", ".join(fitting) or "none"
        raise InputError(
            f"{source.root} has no {IMAGES}: wanted one data set to be packed with it that has "
            f"all its frames by their names, found {found}"
        )
    items = (dataclasses.replace(i, frames_of=(fitting[0], i.name)) for i in source.items)
    return dataclasses.replace(source, items=tuple(items))


def _read_notes(data: Path, sources: Iterable[_Source]) -> dict[str, str]:
    """Return the README, LICENSE and NOTICE files by their paths in the data folder."""
    folders = [data, *(source.root for source in sources)]
    paths = [p for f in folders for pattern in NOTE_PATTERNS for p in sorted(f.glob(pattern))]
    return {
        path.relative_to(data).as_posix(): path.read_text(encoding="utf-8", errors="replace")
        for path in paths
        if path.is_file()
    }


def _encode_all(
    source: _Source, options: CodecOptions, work: Path, progress: Progress | None
) -> Iterator[_Encoded]:
    """Encode the items of a data set that the work folder does not hold yet."""
    for number, item in enumerate(source.items):
        is_sampled = number % SAMPLED == 0
        path = work / f"{_digest(source, item, options, is_sampled=is_sampled)}.zip"
        if not path.exists():
            facts, quality, pieces = _encode(source, item, options, is_sampled=is_sampled)
            pieces[INDEX_NAME] = json.dumps([facts, quality]).encode()
            with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
                for member, content in pieces.items():
                    archive.writestr(member, content)
        with zipfile.ZipFile(path) as archive:
            facts, quality = json.loads(archive.read(INDEX_NAME))
            sizes = {info.filename: info.file_size for info in archive.infolist()}
        del sizes[INDEX_NAME]
        yield _Encoded(f"{source.name}/{item.name}", item, path, facts, quality, sizes)
        if progress is not None:
            progress(source.name, number + 1, len(source.items))


def _digest(source: _Source, item: _Item, options: CodecOptions, *, is_sampled: bool) -> str:
    """Return a name for the encoded item, which changes with all that decides its content."""
    chosen: list[object] = [options.crf, options.speed] if item.frames else [item.frames_of]
    if source.layout == "folder":
        chosen = [options.image_format, options.image_quality, options.long_side, is_sampled]
    try:
        stats = [(path, path.stat()) for path in (*item.frames, *item.labels)]
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error
    files = [(path.name, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    facts = [VERSION, source.name, source.layout, item.name, chosen, files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _encode(
    source: _Source, item: _Item, options: CodecOptions, *, is_sampled: bool
) -> tuple[dict[str, object], list[float], dict[str, bytes]]:
    """Encode an item: its entry of the index, its PSNR values, its pieces by name."""
    name = f"{source.name}/{item.name}"
    reader = LabelMaps(item.labels)
    maps = [reader.read(path) for path in item.labels]
    if (highest := max(int(labels.max(initial=0)) for labels in maps)) > MAX_LABELS:
        raise InputError(f"packs hold object ids up to {MAX_LABELS}, got {highest} in {name}")
    sizes = sorted({labels.shape for labels in maps})
    if len(sizes) > 1:
        raise InputError(f"the label maps of {name} differ in size: {sizes}")
    frames = [read_frame(path) for path in item.frames]
    for path, frame in zip(item.frames, frames, strict=True):
        if frame.shape[:2] != sizes[0]:
            raise InputError(
                f"{path}: wanted the label maps' size {sizes[0]}, got {frame.shape[:2]}"
            )
    images, labels = (f"{source.name}/{kind}/{item.name}" for kind in ("images", "labels"))
    pieces: dict[str, bytes] = {}
    quality: list[float] = []
    if source.layout == "folder":
        image, label_map = codecs.shrink_to(frames[0], maps[0], options.long_side)
        content = codecs.encode_image(image, options)
        if is_sampled:
            quality = [cv2.PSNR(image, codecs.decode_image(content, name))]
        pieces[f"{images}.{options.image_format}"] = content
        pieces[f"{labels}.webp"] = codecs.encode_label_map(label_map)
        return {}, quality, pieces
    facts: dict[str, object] = {"size": sizes[0], "frames": [path.stem for path in item.labels]}
    pieces[f"{labels}.xz"] = codecs.encode_label_maps(np.stack(maps))
    if item.frames_of is not None:
        return {**facts, "frames_of": item.frames_of}, quality, pieces
    content = pieces[f"{images}.mp4"] = codecs.encode_video(frames, options)
    decoded = codecs.decode_video(content, len(frames), Size(*sizes[0]), name)
    for position in range(min(len(frames), SAMPLED) // 2, len(frames), SAMPLED):
        quality.append(cv2.PSNR(frames[position], decoded[position]))
    return facts, quality, pieces


def _index_set(source: _Source, entries: Sequence[_Encoded]) -> tuple[str, dict[str, object]]:
    items = {entry.item.name: entry.facts for entry in entries}
    return source.name, {"layout": source.layout, "lists": source.lists, "items": items}


def _report_on(source: _Source, entries: Sequence[_Encoded]) -> SetReport:
    """Sum up sizes and losses of a data set."""
    quality = [value for entry in entries for value in entry.quality]
    files = [path for item in source.items for path in (*item.frames, *item.labels)]
    sizes = {name: size for entry in entries for name, size in entry.sizes.items()}
    labels = f"{source.name}/labels/"
    label_bytes = sum(size for name, size in sizes.items() if name.startswith(labels))
    return SetReport(
        name=source.name,
        num_items=len(entries),
        num_frames=sum(len(item.labels) for item in source.items),
        source_bytes=sum(path.stat().st_size for path in files),
        image_bytes=sum(sizes.values()) - label_bytes,
        label_bytes=label_bytes,
        mean_psnr=round(float(np.mean(quality)), 2) if quality else 0.0,
        min_psnr=round(min(quality), 2) if quality else 0.0,
    )


def _deal_out(entries: Iterable[_Encoded], limit: int, room: int) -> list[list[_Encoded]]:
    """Give each item to the first part that has room for it beside the index."""
    parts: list[list[_Encoded]] = []
    left: list[int] = []
    for entry in entries:
        size = entry.packed_size
        if size > room:
            raise InputError(
                f"{entry.title} takes {(size + limit - room) / MIB:.1f} MiB with the index, "
                f"more than a part's {limit / MIB:.1f}; allow larger parts, or compress more"
            )
        number = next((n for n, free in enumerate(left) if size <= free), len(parts))
        if number == len(parts):
            parts.append([])
            left.append(room)
        parts[number].append(entry)
        left[number] -= size
    return parts


def _write_part(file: Path | io.BytesIO, index: object, entries: Sequence[_Encoded]) -> None:
    """Write a part, the same bytes for the same content."""
    content = json.dumps(index, ensure_ascii=False, separators=(",", ":")).encode()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(INDEX_NAME), content, zipfile.ZIP_DEFLATED, 9)
        for entry in entries:
            with zipfile.ZipFile(entry.path) as encoded:
                for member in entry.sizes:
                    archive.writestr(zipfile.ZipInfo(member), encoded.read(member))
