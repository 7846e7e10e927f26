"""Counts over composed clips: objects, meetings, absences and returns, areas, speeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.types import SLOTS_PER_GROUP

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(slots=True)
class ClipCounts:
    """Counts over clips.

    Attributes:
        objects: For each clip, its objects.
        meetings: For each clip, pairs of objects that touch in some frame.
        absent: Objects that a later frame lacks.
        returned: Absent objects that a later frame shows again.
        gone: Absent objects that the last frame lacks.
        areas: For each object, its area in the first frame, relative to the frame.
        growths: For each object, its largest area relative to its smallest, while it is seen.
        speeds: For each object, its mean step from frame to frame, relative to the frame's short
            side.
    """

    objects: list[int] = field(default_factory=list)
    meetings: list[int] = field(default_factory=list)
    absent: int = 0
    returned: int = 0
    gone: int = 0
    areas: list[float] = field(default_factory=list)
    growths: list[float] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)

    def add(self, labels: Tensor) -> None:
        """Count one clip.

        Args:
            labels: ``(T, H', W')`` uint8, objects numbered from 1 in the first frame.
        """
        masks = F.one_hot(labels.long(), SLOTS_PER_GROUP + 1).movedim(-1, 0)[1:].bool()
        masks = masks[masks[:, 0].flatten(1).any(1)]
        self.objects.append(len(masks))
        self.meetings.append(_count_meetings(masks))
        for mask in masks:
            self._add_object(mask)

    def _add_object(self, mask: Tensor) -> None:
        areas = mask.flatten(1).sum(1).double().numpy()
        seen = np.flatnonzero(areas)
        self.areas.append(float(areas[0] / mask[0].numel()))
        self.growths.append(float(areas[seen].max() / areas[seen].min()))
        missing = np.flatnonzero(areas == 0)
        if len(missing):
            self.absent += 1
            self.gone += int(areas[-1] == 0)
            self.returned += int(seen[-1] > missing[0])
        centres = np.array([torch.nonzero(mask[frame]).double().mean(0).numpy() for frame in seen])
        if len(seen) > 1:
            steps = np.linalg.norm(np.diff(centres, axis=0), axis=1) / np.diff(seen)
            self.speeds.append(float(steps.mean() / min(mask.shape[1:])))

    def rows(self) -> list[tuple[str, str]]:
        """Return the counts as pairs of a name and a value."""
        total = len(self.areas)
        counts = np.bincount(self.objects, minlength=SLOTS_PER_GROUP + 1)
        fractions = counts / max(len(self.objects), 1)
        histogram = ", ".join(f"{n}: {part:.0%}" for n, part in enumerate(fractions) if part)
        return [
            ("clips", str(len(self.objects))),
            ("objects a clip", f"{np.mean(self.objects):.1f} ({histogram})"),
            ("clips in which objects touch", f"{np.mean(np.array(self.meetings) > 0):.0%}"),
            ("touching pairs a clip", f"{np.mean(self.meetings):.1f}"),
            ("objects absent from a later frame", f"{self.absent / max(total, 1):.1%}"),
            ("objects that vanish and return", f"{self.returned / max(total, 1):.1%}"),
            ("objects absent from the last frame", f"{self.gone / max(total, 1):.1%}"),
            ("area in the first frame", _quantiles(self.areas, "{:.1%}")),
            ("largest area over smallest", _quantiles(self.growths, "{:.1f}")),
            ("step, relative to the short side", _quantiles(self.speeds, "{:.1%}")),
        ]


def count_clips(clips: Iterable[Tensor]) -> ClipCounts:
    """Count over label maps ``(T, H', W')`` of clips."""
    counts = ClipCounts()
    for labels in clips:
        counts.add(labels)
    return counts


def _count_meetings(masks: Tensor) -> int:
    """Count pairs that touch in some frame; masks ``(N, T, H', W')`` bool."""
    grown = F.max_pool2d(masks.float(), 3, stride=1, padding=1).bool()
    return sum(bool((grown[a] & masks[b]).any()) for a, b in combinations(range(len(masks)), 2))


def _quantiles(values: list[float], form: str) -> str:
    found = np.quantile(values or [0.0], QUANTILES)
    return " / ".join(form.format(value) for value in found) + " (10 % / median / 90 %)"
