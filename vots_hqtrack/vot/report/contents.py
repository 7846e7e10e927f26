"""Tables of a report, from its numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from vots_hqtrack.measures import SegmentationMeasures
from vots_hqtrack.vot.measures import Measures, mean_of
from vots_hqtrack.vot.report.attributes import ATTRIBUTES, AttributeClasses
from vots_hqtrack.vot.report.collect import ReportData
from vots_hqtrack.vot.report.differences import Difference, paired_difference
from vots_hqtrack.vot.report.tables import Column, Table, Value

MEASURE_COLUMNS = (
    Column("Quality", "high"),
    Column("Accuracy", "high"),
    Column("Robustness", "high"),
    Column("NRE", "low"),
    Column("DRE", "low"),
    Column("ADQ", "high"),
    Column("J", "high"),
    Column("F", "high"),
    Column("J&F", "high"),
)
_PLAIN = tuple(Column(column.title) for column in MEASURE_COLUMNS)


def make_tables(data: ReportData) -> list[Table]:
    """Make all tables for which there are numbers."""
    tables = []
    if data.measured:
        tables = [
            overall_table(data),
            sequence_table(data),
            object_table(data),
            counts_table(data),
            *(attribute_table(data, attribute) for attribute in ATTRIBUTES),
            attributes_of_objects(data),
        ]
    if len(data.trackers) > 1:
        tables += [difference_table(data)] if data.measured else []
        tables.append(agreement_table(data))
    return [*tables, output_table(data)]


def overall_table(data: ReportData) -> Table:
    """Measures of each tracker over all sequences."""
    rows = [
        (tracker, *measure_values(data, tracker), data.mean_seconds(tracker))
        for tracker in data.trackers
    ]
    columns = (Column("Tracker"), *MEASURE_COLUMNS, Column("s/frame", "low"))
    num = len(data.measured)
    caption = f"Measures over {num} sequence{'s' if num > 1 else ''}."
    return Table("measures", caption, columns, tuple(rows))


def sequence_table(data: ReportData) -> Table:
    """Measures of each tracker on each sequence."""
    rows = []
    for sequence, tracker in itertools.product(data.measured, data.trackers):
        measures = data.analyses[tracker].measures.sequences[sequence.name]
        means = data.sequence_segmentation(tracker, sequence.name)
        rows.append((sequence.name, tracker, *_measures(measures, means)))
    columns = (Column("Sequence"), Column("Tracker"), *_PLAIN)
    return Table("sequences", "Measures by sequence.", columns, tuple(rows))


def object_table(data: ReportData) -> Table:
    """Measures of each tracker on each object."""
    rows = []
    for sequence, tracker in itertools.product(data.measured, data.trackers):
        for object_id, found in data.analyses[tracker].objects[sequence.name].items():
            means = data.segmentation[tracker][sequence.name][object_id]
            numbers = _measures(found.measures, means)
            rows.append((sequence.name, int(object_id), tracker, *numbers))
    columns = (Column("Sequence"), Column("Object"), Column("Tracker"), *_PLAIN)
    return Table("objects", "Measures by object.", columns, tuple(rows))


def counts_table(data: ReportData) -> Table:
    """Frames of all objects by what each tracker made of them."""
    rows = []
    for tracker in data.trackers:
        counts = data.counts(tracker)
        numbers = (counts.tracked, counts.missed, counts.drifted)
        rows.append((tracker, *numbers, counts.noticed, counts.false_alarms))
    titles = ("Tracker", "Tracked", "Missed", "Drifted", "Absence noticed", "False alarms")
    caption = "Frames of all objects: the object was there (three columns), or absent (two)."
    return Table("failures", caption, tuple(map(Column, titles)), tuple(rows))


def attribute_table(data: ReportData, attribute: AttributeClasses) -> Table:
    """Measures by the classes of an attribute: means over the objects in each."""
    rows: list[tuple[Value, ...]] = []
    for name, tracker in itertools.product(attribute.classes, data.trackers):
        pairs = objects_of_class(data, tracker, attribute, name)
        if pairs:
            rows.append((name, len(pairs), tracker, *_means(pairs)))
    columns = (Column(attribute.name.capitalize()), Column("Objects"), Column("Tracker"), *_PLAIN)
    caption = f"Measures by {attribute.name} ({attribute.meaning}): means over the objects."
    return Table(f"by-{attribute.name}", caption, columns, tuple(rows))


def attributes_of_objects(data: ReportData) -> Table:
    """Attributes of every object."""
    rows = [
        (sequence, int(number), found.size, found.absence, found.overlap, found.speed)
        for sequence, objects in data.attributes.items()
        for number, found in objects.items()
    ]
    titles = ("Sequence", "Object", "Size", "Absence", "Overlap", "Speed")
    caption = (
        "Attributes of the objects, from the truth: mean area as a fraction of the frame, fraction "
        "of frames without the object, part of its box in the box of another object, way in a "
        "frame in lengths of the object."
    )
    return Table("attributes", caption, tuple(map(Column, titles)), tuple(rows))


def difference_table(data: ReportData) -> Table:
    """Paired differences of all pairs of trackers."""
    rows: list[tuple[Value, ...]] = []
    for first, second in itertools.combinations(data.trackers, 2):
        for title in ("Quality", "Accuracy", "Robustness", "J&F"):
            values = [sequence_values(data, tracker, title) for tracker in (first, second)]
            found = paired_difference(*values)
            if found is not None:
                rows.append((second, first, title, *difference_values(found)))
    titles = ("Tracker", "minus", "Measure", *DIFFERENCE_TITLES)
    caption = (
        "Paired differences, first tracker minus second: mean over the sequences, and its 95 % "
        "interval by bootstrap over the sequences."
    )
    return Table("differences", caption, tuple(map(Column, titles)), tuple(rows))


DIFFERENCE_TITLES = ("Difference", "from", "to", "better on", "worse on", "equal on")


def difference_values(found: Difference) -> tuple[Value, ...]:
    """Return a difference as the values of a row."""
    counts = (found.num_higher, found.num_lower, found.num_equal)
    return (found.mean, found.low, found.high, *counts)


def agreement_table(data: ReportData) -> Table:
    """Mean overlap of the masks of two trackers."""
    pairs = data.agreement
    columns = (Column("Sequence"), *(Column(f"{left}, {right}") for left, right in pairs))
    rows = [
        (sequence.name, *(values.get(sequence.name) for values in pairs.values()))
        for sequence in data.sequences
    ]
    means = (mean_of(values.values()) for values in pairs.values())
    caption = "Agreement: mean overlap of the masks of two trackers; it needs no truth."
    return Table("agreement", caption, columns, (("all sequences", *means), *rows))


def output_table(data: ReportData) -> Table:
    """Speed, areas and absences of the results, which need no truth."""
    rows = []
    for sequence, tracker in itertools.product(data.sequences, data.trackers):
        output = data.outputs[tracker][sequence.name]
        for number, found in output.objects.items():
            size = (sequence.name, int(number), tracker, sequence.num_frames)
            rows.append((*size, output.seconds, found.area, found.absence))
    titles = ("Sequence", "Object", "Tracker", "Frames", "s/frame", "Mean area", "Reported absent")
    caption = (
        "Results as such; they need no truth. Mean area of the masks with pixels as a fraction of "
        "the frame, fraction of frames on which the object was reported absent."
    )
    return Table("outputs", caption, tuple(map(Column, titles)), tuple(rows))


def objects_of_class(
    data: ReportData, tracker: str, attribute: AttributeClasses, name: str
) -> list[tuple[Measures, SegmentationMeasures | None]]:
    """Measures of a tracker on the objects of one class of an attribute."""
    return [
        (data.analyses[tracker].objects[sequence][number].measures, means)
        for sequence, objects in data.segmentation[tracker].items()
        for number, means in objects.items()
        if attribute.class_of(data.attributes[sequence][number]) == name
    ]


def measure_values(data: ReportData, tracker: str) -> tuple[float | None, ...]:
    """Measures of a tracker over all sequences, as ``MEASURE_COLUMNS`` names them."""
    return _measures(data.analyses[tracker].measures.overall, data.mean_segmentation(tracker))


def sequence_values(data: ReportData, tracker: str, title: str) -> list[float | None]:
    """Measure of a tracker by measured sequence; the title is that of a column."""
    index = [column.title for column in MEASURE_COLUMNS].index(title)
    measures = data.analyses[tracker].measures.sequences
    return [
        _measures(measures[each.name], data.sequence_segmentation(tracker, each.name))[index]
        for each in data.measured
    ]


def _means(
    pairs: Sequence[tuple[Measures, SegmentationMeasures | None]],
) -> tuple[float | None, ...]:
    columns = zip(*(_measures(*pair) for pair in pairs), strict=True)
    return tuple(mean_of(column) for column in columns)


def _measures(measures: Measures, means: SegmentationMeasures | None) -> tuple[float | None, ...]:
    """Return the values of ``MEASURE_COLUMNS``."""
    found = (None, None, None) if means is None else (means.region, means.boundary, means.mean)
    return (
        measures.quality,
        measures.accuracy,
        measures.robustness,
        measures.nre,
        measures.dre,
        measures.adq,
        *found,
    )
