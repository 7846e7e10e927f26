"""Plots of a report, with legends, from its numbers."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vots_hqtrack.vot.measures import mean_of
from vots_hqtrack.vot.report.attributes import ATTRIBUTES
from vots_hqtrack.vot.report.collect import ReportData
from vots_hqtrack.vot.report.contents import objects_of_class

FORMATS = ("png", "pdf", "svg")
_Place = Literal["best", "lower left"]
_SIZE = (6.4, 4.4)
_WIDE = (9.6, 2.6)
_DPI = 150
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours of Okabe and Ito, which colour-blind readers can tell apart."""
_LINES = ("-", "--", ":", "-.")
_MARKERS = "osD^vP*X"
_OUTCOMES = (
    ("tracked", "tracked", "#0072B2"),
    ("noticed", "absence noticed", "#56B4E9"),
    ("missed", "missed", "#E69F00"),
    ("drifted", "drifted", "#D55E00"),
    ("false_alarms", "false alarms", "#CC79A7"),
)
# Texts of an SVG are outlines, so that it looks the same everywhere; its ids are the same each
# time; a dollar sign in a name does not begin a formula.
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "report",
    "pdf.fonttype": 42,
    "text.parse_math": False,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot in all formats.

    Attributes:
        name: Name of its files, without an ending.
        caption: A sentence that says what it shows.
        files: Content by format.
    """

    name: str
    caption: str
    files: dict[str, bytes]


def overview_plots(data: ReportData) -> list[Plot]:
    """Draw the plots over all measured sequences."""
    if not data.measured:
        return []
    with rc_context(_STYLE):
        caption = "Quality plot: fraction of frames with an overlap above the threshold."
        quality = _save("quality", caption, quality_figure(data))
        return [quality, _accuracy_robustness(data), _failures(data), _attributes(data)]


def sequence_plot(data: ReportData, sequence: str, index: int) -> Plot:
    """Draw the overlap over the frames of a measured sequence, a line for each tracker.

    Args:
        data: Numbers of the report.
        sequence: Name of the sequence.
        index: Its index, which names the files: a name may hold anything.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=_WIDE, layout="constrained")
        axes = figure.subplots()
        for number, tracker in enumerate(data.trackers):
            found = data.overlap_over_frames(tracker, sequence)
            # A frame without a known truth breaks the line.
            frames = np.arange(max(found) + 1)
            values = np.array([found.get(int(frame), np.nan) for frame in frames])
            axes.plot(frames, values, label=_label(tracker), linewidth=1.3, **_line(number))
        axes.set(xlabel="Frame", ylabel="Overlap", ylim=(-0.03, 1.03), title=sequence)
        _finish(axes)
        return _save(
            f"sequence-{index:03d}",
            f"{sequence}: overlap with the truth over the frames, mean of the objects.",
            figure,
        )


def quality_figure(data: ReportData) -> Figure:
    """Draw the quality plot of the paper's Figures 3 and 4, the quality in its legend."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    quality = {t: data.analyses[t].measures.overall.quality or 0.0 for t in data.trackers}
    for tracker in sorted(data.trackers, key=lambda name: -quality[name]):
        number = data.trackers.index(tracker)
        x, y = zip(*data.analyses[tracker].curve, strict=True)
        axes.plot(x, y, label=f"{_label(tracker)} ({quality[tracker]:.3f})", **_line(number))
    axes.set(xlabel="Threshold", ylabel="Success", xlim=(0, 1), ylim=(0, 1), title="Quality plot")
    _finish(axes, title="Tracker (quality, the area below)")
    return figure


def _accuracy_robustness(data: ReportData) -> Plot:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    for number, tracker in enumerate(data.trackers):
        measures = data.analyses[tracker].measures.overall
        marker, colour = _MARKERS[number % len(_MARKERS)], _COLOURS[number % len(_COLOURS)]
        point = ([measures.robustness or 0.0], [measures.accuracy or 0.0])
        axes.plot(*point, marker, color=colour, markersize=9, label=_label(tracker))
    axes.set(xlabel="Robustness", ylabel="Accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title("A-R plot")
    _finish(axes, place="lower left")  # where no tracker should be
    return _save("accuracy-robustness", "Accuracy and robustness; the best is top right.", figure)


def _failures(data: ReportData) -> Plot:
    height = 1.6 + 0.4 * len(data.trackers)
    figure = Figure(figsize=(_WIDE[0], height), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(data.trackers))
    for field, label, colour in _OUTCOMES:
        values = np.array([getattr(data.counts(t), field) for t in data.trackers], dtype=float)
        totals = np.array([_total(data, t) for t in data.trackers])
        axes.barh(range(len(left)), values / totals, left=left, color=colour, label=label)
        left = left + values / totals
    axes.set_yticks(range(len(left)), data.trackers)
    axes.invert_yaxis()
    axes.set(xlabel="Fraction of the frames of all objects", xlim=(0, 1))
    figure.legend(loc="outside upper center", ncols=len(_OUTCOMES), frameon=False)
    caption = "Outcomes: frames of all objects by what the tracker made of them."
    return _save("failures", caption, figure)


def _attributes(data: ReportData) -> Plot:
    figure = Figure(figsize=(_WIDE[0], 5.6), layout="constrained")
    panels = figure.subplots(2, 3, sharey=True)
    width = 0.8 / len(data.trackers)
    for axes, attribute in zip(panels.flat, ATTRIBUTES, strict=False):
        for number, tracker in enumerate(data.trackers):
            values = [
                mean_of(each.quality for each, _ in objects_of_class(data, tracker, attribute, n))
                for n in attribute.classes
            ]
            places = np.arange(len(values)) + (number - (len(data.trackers) - 1) / 2) * width
            heights = [0.0 if value is None else value for value in values]
            colour = _COLOURS[number % len(_COLOURS)]
            axes.bar(places, heights, width, color=colour, label=_label(tracker))
        axes.set_xticks(range(len(attribute.classes)), attribute.classes, fontsize=8)
        axes.set_title(f"{attribute.name}\n{attribute.meaning}", fontsize=8)
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3, axis="y")
    panels.flat[-1].axis("off")
    panels.flat[-1].legend(*panels.flat[0].get_legend_handles_labels(), loc="center")
    figure.supylabel("Quality")
    caption = "Quality by attributes of the objects, which are computed from the truth."
    return _save("attributes", caption, figure)


def _total(data: ReportData, tracker: str) -> int:
    counts = data.counts(tracker)
    return sum(int(getattr(counts, field)) for field, _, _ in _OUTCOMES)


def _label(tracker: str) -> str:
    """Name in a legend, which leaves out names that begin with an underscore."""
    return f" {tracker}" if tracker.startswith("_") else tracker


def _line(number: int) -> dict[str, Any]:
    """Style of a tracker's line: colours first, then kinds of lines."""
    kind = _LINES[number // len(_COLOURS) % len(_LINES)]
    return {"color": _COLOURS[number % len(_COLOURS)], "linestyle": kind}


def _finish(axes: Axes, *, title: str | None = None, place: _Place = "best") -> None:
    axes.grid(alpha=0.3)
    axes.legend(title=title, loc=place, fontsize=9)


def _save(name: str, caption: str, figure: Figure) -> Plot:
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # it is laid out now, once for all formats
    files = {}
    for kind in FORMATS:
        buffer = io.BytesIO()
        # Without dates: the same numbers make the same files.
        metadata = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
        figure.savefig(buffer, format=kind, dpi=_DPI, metadata=metadata)
        files[kind] = buffer.getvalue()
    return Plot(name, caption, files)
