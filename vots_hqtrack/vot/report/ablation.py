"""Ablations: variants of one preset, and how much each changed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.vot.report.collect import ReportData
from vots_hqtrack.vot.report.contents import (
    DIFFERENCE_TITLES,
    MEASURE_COLUMNS,
    difference_values,
    measure_values,
    sequence_values,
)
from vots_hqtrack.vot.report.differences import paired_difference
from vots_hqtrack.vot.report.tables import Column, Table, Value
from vots_hqtrack.vot.results import read_regions, result_paths

_PRESET = "preset="


@dataclass(frozen=True, slots=True)
class Variant:
    """A preset with settings, under a name of its own.

    Attributes:
        identifier: Name of its results.
        preset: Preset.
        settings: ``section.option=value``.
        title: Row's name in the table.
    """

    identifier: str
    preset: str
    settings: tuple[str, ...]
    title: str


def make_variants(
    name: str, preset: str, settings: Sequence[str], variants: Sequence[str]
) -> list[Variant]:
    """Name the variants, of which the first is the preset with the common settings.

    Args:
        name: Name of the results of the first one; the others are ``name-what-changed``.
        preset: Preset of all variants that name no other one.
        settings: Settings that all have in common.
        variants: Settings with blanks between, each for one variant; ``preset=NAME`` among them
            takes another preset.

    Raises:
        ConfigError: Two variants have one name, or one changes nothing.

    Example:
        >>> [variant.identifier for variant in make_variants("A", "lite", [], ["memory.gap=5"])]
        ['A', 'A-memory-gap-5']
    """
    found = [Variant(name, preset, tuple(settings), preset)]
    for given in variants:
        words = given.split()
        if not words:
            raise ConfigError("a variant needs at least one setting, got an empty one")
        presets = [word.removeprefix(_PRESET) for word in words if word.startswith(_PRESET)]
        if len(presets) > 1:
            raise ConfigError(f"a variant takes one preset, got {', '.join(presets)}")
        changed = [word for word in words if not word.startswith(_PRESET)]
        slug = re.sub(r"[^A-Za-z0-9]+", "-", " ".join(words)).strip("-")
        chosen = presets[0] if presets else preset
        found.append(Variant(f"{name}-{slug}", chosen, (*settings, *changed), " ".join(words)))
    names = [variant.identifier for variant in found]
    twice = sorted({each for each in names if names.count(each) > 1})
    if twice:
        raise ConfigError(f"two variants have the name {twice[0]}: leave one of them out")
    return found


def count_changed(data: ReportData, first: str, second: str) -> tuple[int, int]:
    """Count the reported masks of all objects and frames that differ between two trackers.

    Returns:
        Masks that differ, and masks in all.

    Raises:
        InputError: Results are missing or damaged.
    """
    num_changed = num_all = 0
    for sequence in data.sequences:
        paths = [result_paths(data.workspace, name, sequence.folder) for name in (first, second)]
        for object_id in paths[0]:
            regions = zip(*(read_regions(each[object_id]) for each in paths), strict=True)
            for left, right in regions:
                num_changed += left != right
                num_all += 1
    return num_changed, num_all


def ablation_table(data: ReportData, variants: Sequence[Variant]) -> Table:
    """Measures of each variant, and its paired difference in quality to the first one."""
    base, *_ = variants
    rows = []
    for variant in variants:
        num_changed, num_all = count_changed(data, base.identifier, variant.identifier)
        share = None if variant is base else num_changed / num_all
        rows.append((variant.title, *_numbers(data, base, variant), share))
    measures = MEASURE_COLUMNS if data.measured else ()
    titles = DIFFERENCE_TITLES if data.measured else ()
    columns = (
        Column("Variant"),
        *measures,
        Column("s/frame", "low"),
        *map(Column, titles),
        Column("Masks changed"),
    )
    caption = (
        f"Variants of {base.title}: measures, difference in quality to the first row with its 95 % "
        "interval by bootstrap over the sequences, fraction of masks that differ from it."
    )
    return Table("ablation", caption, columns, tuple(rows))


def unchanged(table: Table) -> list[str]:
    """Titles of the variants of an ablation's table that changed no mask."""
    return [str(row[0]) for row in table.rows if row[-1] == 0]


def _numbers(data: ReportData, base: Variant, variant: Variant) -> tuple[Value, ...]:
    seconds = data.mean_seconds(variant.identifier)
    if not data.measured:
        return (seconds,)
    measures = measure_values(data, variant.identifier)
    pair = (sequence_values(data, each.identifier, "Quality") for each in (base, variant))
    found = None if variant is base else paired_difference(*pair)
    nothing = tuple(itertools.repeat(None, len(DIFFERENCE_TITLES)))
    return (*measures, seconds, *(nothing if found is None else difference_values(found)))
