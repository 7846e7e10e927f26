"""Packs data sets: encodes what they hold, and deals it out to parts of a chosen size."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.training.adapters.packs import codecs
from vots_hqtrack.training.adapters.packs.codecs import CodecOptions
from vots_hqtrack.training.adapters.packs.encode import (
    Entry,
    Progress,
    SetReport,
    encode_set,
    report_on,
)
from vots_hqtrack.training.adapters.packs.parts import (
    FORMAT,
    PART_PATTERN,
    VERSION,
    Member,
    index_bytes,
    member_offsets,
    member_room,
    part_name,
    part_size,
    write_part,
)
from vots_hqtrack.training.adapters.packs.source import SourceSet, list_sets, read_notes

MIB = 1 << 20
WORK_FOLDER = ".encoded"
PHOTOS_NAME = "photos.bin"
"""All photographs of a data set in a part are one member, whose pieces the index tells apart."""
SUFFIXES = {"video": ".mp4", "labels": ".labels.xz"}
SPARE = 16
"""Bytes that a part's number and the number of parts may add to the index."""


@dataclass(frozen=True, slots=True)
class PackReport:
    """What was written.

    Attributes:
        sets: By data set.
        parts: Paths of the parts.
    """

    sets: tuple[SetReport, ...]
    parts: tuple[Path, ...]


@dataclass(slots=True)
class _PartPlan:
    """What one part will hold."""

    entries: list[Entry] = field(default_factory=list)
    num_bytes: int = 0


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
        out: Folder for ``part-00.tar``, ...; it must not hold parts yet.
        names: Data sets to take; none takes all.
        options: How strongly to compress.
        max_mib: Largest size of a part, MiB (2 ** 20 bytes).
        work: Folder for encoded items, which is kept; by default one in ``out`` that goes away at
            the end. A run cut short goes on with what is there.
        progress: Told of every encoded item.

    Returns:
        Sizes and losses by data set, and the parts.

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
    sets = list_sets(data, names)
    if any(one.layout == "davis" and one.has_frames for one in sets):
        codecs.require_av()
    kept = work or out / WORK_FOLDER
    for folder in (out, kept):
        folder.mkdir(parents=True, exist_ok=True)
    entries = [entry for one in sets for entry in encode_set(one, options, kept, progress)]
    reports = tuple(report_on(one, entries) for one in sets)
    common = _common_index(data, sets, options, reports, entries)
    base = part_size(len(index_bytes(common)) + SPARE, [])
    base += sum(member_room(f"{one.name}/{PHOTOS_NAME}") for one in sets if one.photos)
    plans = _deal_out(entries, int(max_mib * MIB), base)
    paths = _write_parts(out, plans, common, int(max_mib * MIB))
    if work is None:
        shutil.rmtree(kept)
    return PackReport(reports, paths)


def _common_index(
    data: Path,
    sets: Sequence[SourceSet],
    options: CodecOptions,
    reports: Sequence[SetReport],
    entries: Sequence[Entry],
) -> dict[str, object]:
    """Return what the indices of all parts say."""
    facts = [
        [entry.source.name, _index_item(entry, dict.fromkeys(entry.item.pieces, 0))]
        for entry in entries
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        "pack": hashlib.sha256(index_bytes({"entries": facts})).hexdigest()[:32],
        "part": 0,
        "num_parts": 0,
        "encoders": {**dataclasses.asdict(options), "label_maps": "lossless WebP; XZ of videos'"},
        "notes": read_notes(data, sets),
        "quality": [dataclasses.asdict(report) for report in reports],
        "sets": {
            one.name: {
                "layout": one.layout,
                "lists": None if one.lists is None else dict(one.lists),
                "items": [],
            }
            for one in sets
        },
    }


def _deal_out(entries: Sequence[Entry], limit: int, base: int) -> list[_PartPlan]:
    """Give each entry to the first part that has room."""
    plans: list[_PartPlan] = []
    for entry in entries:
        needed = _room_for(entry)
        if base + needed > limit:
            name = f"{entry.source.name}/{entry.item.facts['name']}"
            raise InputError(
                f"{name} takes {(base + needed) / MIB:.1f} MiB with its index, more than a part's "
                f"{limit / MIB:.1f}; allow larger parts, or compress more"
            )
        for plan in plans:
            if plan.num_bytes + needed <= limit:
                break
        else:
            plan = _PartPlan(num_bytes=base)
            plans.append(plan)
        plan.entries.append(entry)
        plan.num_bytes += needed
    return plans


def _room_for(entry: Entry) -> int:
    """Most bytes that an entry adds to a part: content, index entry, headers, padding."""
    index = len(index_bytes(_index_item(entry, dict.fromkeys(entry.item.pieces, 1 << 33)))) + 1
    members = entry.item.pieces if entry.source.layout == "davis" else ()
    rooms = sum(member_room(_member_name(entry, piece)) for piece in members)
    return entry.item.num_bytes + index + rooms


def _member_name(entry: Entry, piece: str) -> str:
    return f"{entry.source.name}/{entry.item.facts['name']}{SUFFIXES[piece]}"


def _index_item(entry: Entry, offsets: Mapping[str, int]) -> dict[str, object]:
    pieces = {
        name: [offsets[name], size, crc] for name, (_, size, crc) in entry.item.pieces.items()
    }
    return {**entry.item.facts, "pieces": pieces}


def _write_parts(
    out: Path, plans: Sequence[_PartPlan], common: dict[str, object], limit: int
) -> tuple[Path, ...]:
    """Write all parts under other names, then give them theirs."""
    paths = [out / part_name(number) for number in range(len(plans))]
    temporary = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in paths]
    try:
        for number, (plan, path) in enumerate(zip(plans, temporary, strict=True)):
            members, index = _lay_out(plan, common)
            index |= {"part": number, "num_parts": len(plans)}
            size = part_size(len(index_bytes(index)), members)
            if size > limit:
                raise InputError(
                    f"{part_name(number)} would have {size} bytes, the limit is {limit}"
                )
            write_part(path, index, members)
        for path, final in zip(temporary, paths, strict=True):
            path.replace(final)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)
    return tuple(paths)


def _lay_out(
    plan: _PartPlan, common: Mapping[str, object]
) -> tuple[list[Member], dict[str, object]]:
    """Return a part's members and its index."""
    members: list[Member] = []
    homes: list[tuple[Entry, dict[str, tuple[int, int]]]] = []
    photos: dict[str, list[Entry]] = {}
    for entry in plan.entries:
        if entry.source.layout == "folder":
            photos.setdefault(entry.source.name, []).append(entry)
            continue
        home = {}
        for name, (offset, size, _) in entry.item.pieces.items():
            home[name] = (len(members), 0)
            chunk = (entry.item.path, offset, size)
            members.append(Member(_member_name(entry, name), size, (chunk,)))
        homes.append((entry, home))
    for name, group in photos.items():
        chunks, position = [], 0
        for entry in group:
            home = {}
            for piece, (offset, size, _) in entry.item.pieces.items():
                home[piece] = (len(members), position)
                chunks.append((entry.item.path, offset, size))
                position += size
            homes.append((entry, home))
        members.append(Member(f"{name}/{PHOTOS_NAME}", position, tuple(chunks)))
    starts = member_offsets(members)
    sets: dict[str, dict[str, object]] = {
        name: {**table, "items": []} for name, table in _tables(common).items()
    }
    for entry, home in homes:
        offsets = {name: starts[number] + place for name, (number, place) in home.items()}
        items = sets[entry.source.name]["items"]
        assert isinstance(items, list)  # noqa: S101 - made above
        items.append(_index_item(entry, offsets))
    return members, {**common, "sets": sets}


def _tables(common: Mapping[str, object]) -> dict[str, dict[str, object]]:
    tables = common["sets"]
    assert isinstance(tables, dict)  # noqa: S101 - made in _common_index
    return tables
