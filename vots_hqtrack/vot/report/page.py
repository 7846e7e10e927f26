"""One HTML page with everything in it: it needs no network and no other file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jinja2

import vots_hqtrack
from vots_hqtrack.vot.report.collect import ReportData
from vots_hqtrack.vot.report.frames import WorstFrame
from vots_hqtrack.vot.report.plots import Plot
from vots_hqtrack.vot.report.tables import Table

_SECTIONS: Sequence[tuple[str, str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = (
    (
        "Variants",
        "",
        ("ablation",),
        (),
        (),
    ),
    (
        "Measures",
        "The frame where an object is given counts as a miss in the toolkit, so a perfect tracker "
        "has a quality just below 1.",
        ("measures",),
        ("quality", "accuracy-robustness"),
        ("sequences", "objects"),
    ),
    ("Outcomes", "", ("failures",), ("failures",), ()),
    (
        "Differences",
        "An interval that leaves out 0 is a difference that other sequences of the same kind "
        "would show too; with few sequences the intervals are too narrow.",
        ("differences",),
        (),
        (),
    ),
    (
        "Attributes",
        "",
        (),
        ("attributes",),
        ("by-size", "by-absence", "by-objects", "by-overlap", "by-speed", "attributes"),
    ),
    ("Without truth", "", ("agreement",), (), ("outputs",)),
)
"""Title, note, tables, plots and folded tables of each section, by the names of their files."""


@dataclass(frozen=True, slots=True)
class SequencePart:
    """A measured sequence on the page.

    Attributes:
        name: Its name.
        plot: Overlap over frames.
        frames: Worst frames.
    """

    name: str
    plot: Plot
    frames: Sequence[WorstFrame]


@dataclass(frozen=True, slots=True)
class _Section:
    title: str
    note: str
    tables: Sequence[Table]
    plots: Sequence[Plot]
    folded: Sequence[Table]

    @property
    def anchor(self) -> str:
        return self.title.lower().replace(" ", "-")


def render_page(
    data: ReportData,
    tables: Sequence[Table],
    plots: Sequence[Plot],
    sequences: Sequence[SequencePart],
) -> str:
    """Render the page of a report as HTML."""
    loader = jinja2.PackageLoader("vots_hqtrack.vot.report", "")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    return environment.get_template("page.html.j2").render(
        title="VOTS report",
        trackers=data.trackers,
        num_sequences=len(data.sequences),
        num_measured=len(data.measured),
        version=vots_hqtrack.__version__,
        sections=_sections(
            {table.name: table for table in tables}, {plot.name: plot for plot in plots}
        ),
        sequences=sequences,
    )


def _sections(tables: Mapping[str, Table], plots: Mapping[str, Plot]) -> list[_Section]:
    """Return the sections for which there is something."""
    found = []
    for title, note, *names in _SECTIONS:
        shown, drawn, folded = names
        section = _Section(
            title,
            note,
            [tables[name] for name in shown if name in tables],
            [plots[name] for name in drawn if name in plots],
            [tables[name] for name in folded if name in tables],
        )
        if section.tables or section.plots or section.folded:
            found.append(section)
    return found
