"""SVG over the frame and below it: prompts, strokes, and the scores of each object over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vots_hqtrack.refiner import Box
from vots_hqtrack.session.project import FrameRecord
from vots_hqtrack.types import ObjectId, Size
from vots_hqtrack.video.overlay import outline_colour

STRIP_SIZE = Size(16, 1000)
"""Size of one object's strip in SVG units."""
DOUBTFUL = 0.5
"""An object with a lower score is drawn in red."""
_RED, _UNKNOWN, _INSIDE = "#e5484d", "#2b323b", "#46d37e"
Point = tuple[float, float]


def colour_of(object_id: int) -> str:
    """Return the colour of an object's outline as CSS has it."""
    red, green, blue = outline_colour(object_id)
    return f"#{red:02x}{green:02x}{blue:02x}"


def draw_prompts(record: FrameRecord, size: Size, selected: ObjectId | None) -> str:
    """Draw the clicks and boxes of a frame; those of other objects than the selected one faintly.

    Args:
        record: The frame's record.
        size: Size of the frame.
        selected: The selected object.
    """
    unit = max(size) / 160
    parts = []
    for number, found in sorted(record.objects.items()):
        if found.prompt is None:
            continue
        opacity = 1 if number == selected else 0.35
        if found.prompt.box is not None:
            parts.append(draw_box(found.prompt.box, colour_of(number), size, opacity=opacity))
        for x, y, is_inside in found.prompt.clicks:
            colour = _INSIDE if is_inside else _RED
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{unit:.1f}" fill="{colour}" stroke="white"'
                f' stroke-width="{unit / 3:.1f}" opacity="{opacity}"/>'
            )
    return "".join(parts)


def box_of(way: Sequence[Point]) -> tuple[float, float, float, float]:
    """Return the box ``(x, y, width, height)`` from the first to the last point of a drag."""
    (x0, y0), (x1, y1) = way[0], way[-1]
    return min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)


def draw_box(box: Box, colour: str, size: Size, *, opacity: float = 1.0) -> str:
    """Draw a box ``(x, y, width, height)``."""
    x, y, width, height = box
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="none"'
        f' stroke="{colour}" stroke-width="{max(size) / 400:.1f}" opacity="{opacity}"/>'
    )


def draw_stroke(points: Sequence[Point], radius: float, colour: str) -> str:
    """Draw the way of a brush."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*points, points[-1]])
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{2 * radius:.1f}"'
        ' stroke-linecap="round" stroke-linejoin="round" opacity="0.55"/>'
    )


def draw_note(note: str, size: Size) -> str:
    """Draw a short note in the upper left corner of a frame."""
    unit = max(size) / 100
    return (
        f'<text x="{unit:.1f}" y="{3 * unit:.1f}" font-size="{2 * unit:.1f}" fill="white"'
        f' stroke="black" stroke-width="{unit / 3:.1f}" paint-order="stroke">{note}</text>'
    )


def draw_strip(
    records: Mapping[int, FrameRecord], object_ids: Sequence[ObjectId], num_frames: int, now: int
) -> str:
    """Draw the scores of objects over time, one row each, and where the tab is.

    A row has the object's colour, red where its score is low or it is not seen, dark where nothing
    is known, and a white mark where it was given. Several frames that share a place show the worst.

    Args:
        records: Records by frame.
        object_ids: The objects, the first on top.
        num_frames: Number of frames of the video.
        now: Frame that the tab shows.
    """
    height, width = STRIP_SIZE
    num_bins = min(num_frames, width)
    scale = width / num_bins
    parts = []
    for row, number in enumerate(object_ids):
        kinds, given = _bins(records, number, num_frames, num_bins)
        top = row * height
        start = 0
        for index in range(1, num_bins + 1):
            if index == num_bins or kinds[index] != kinds[start]:
                colour = (_UNKNOWN, colour_of(number), _RED)[kinds[start]]
                inset = 1 if colour == _RED else 4  # it stands out beside any colour
                parts.append(
                    f'<rect x="{start * scale:.2f}" y="{top + inset}" fill="{colour}"'
                    f' width="{(index - start) * scale:.2f}" height="{height - 2 * inset}"/>'
                )
                start = index
        parts += [
            f'<rect x="{index * scale + scale / 2 - 1.5:.2f}" y="{top + 1}" width="3"'
            f' height="{height - 2}" fill="white"/>'
            for index in given
        ]
    x = (now + 0.5) * width / num_frames
    bottom = max(len(object_ids), 1) * height
    parts.append(f'<line x1="{x:.2f}" y1="0" x2="{x:.2f}" y2="{bottom}" stroke="#ffd166" />')
    return "".join(parts)


def _bins(
    records: Mapping[int, FrameRecord], number: ObjectId, num_frames: int, num_bins: int
) -> tuple[list[int], list[int]]:
    """Return each bin's kind, 0 unknown, 1 good or 2 doubtful, and the bins with given masks."""
    kinds, given = [0] * num_bins, []
    # A run adds records meanwhile. Listing pairs makes objects, so Python may turn to its thread
    # in the middle; copying a dict does not.
    for index, record in dict(records).items():
        found = record.objects.get(number)
        if found is None:
            continue
        place = index * num_bins // num_frames
        kinds[place] = max(kinds[place], 1 if found.score >= DOUBTFUL else 2)
        if found.is_given:
            given.append(place)
    return kinds, given
