"""``hqtrack weights score``: J, F and J&F of weights on sequences that training never sees."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from vots_hqtrack.cli.console import out, say
from vots_hqtrack.cli.options import DeviceOption, SettingsOption, build_config

if TYPE_CHECKING:
    from vots_hqtrack.measures import SegmentationMeasures
    from vots_hqtrack.training.dev import DevSplit, SequenceScore

Scores = dict[str, dict[str, "SequenceScore"]]
LimitOption = Annotated[
    int,
    typer.Option("--limit", min=0, max=10**9, metavar="N", help="Frames of a sequence; 0 is all."),
]


def score(
    weights: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="VMOS weights; left out, the preset's are scored."),
    ] = None,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Folder that holds the data sets.")
    ] = Path("data"),
    preset: Annotated[
        str, typer.Option("--preset", metavar="NAME", help="Preset; lite refines the masks.")
    ] = "lite-vmos",
    target: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.json", help="File for all numbers.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="A sequence to track; may be repeated."),
    ] = None,
    frame_step: Annotated[
        int,
        typer.Option("--frame-step", min=1, max=10**9, metavar="N", help="Track every N-th frame."),
    ] = 1,
    limit: LimitOption = 0,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
) -> None:
    """Measure weights on the dev sets: J, F and J&F of each sequence, as DAVIS defines them.

    One object: eight sequences of davis2016-train. Several objects: stroller and hike of
    davis16-split, highway-5 of cdnet-highway, the last 40 frames of camvid-15hz. Means go over all
    frames but the first, then over objects, then over sequences. Scores that were fitted to other
    weights decide nothing with --set tracking.absence_score=0.
    """
    from vots_hqtrack.checkpoints.manifest import resolve, sha256_of
    from vots_hqtrack.tracker import HQTracker

    config = build_config(preset, config=None, settings=settings, refine=True)
    path = resolve(config.weights, weights)
    splits = _open_splits(data, set(only or ()), frame_step, limit)
    tracker = HQTracker.from_config(config, device=device, weights=weights)
    found: Scores = {}
    for name, split in splits:
        for sequence, score in split.measure(tracker, split.videos):
            found.setdefault(name, {})[sequence] = score
            say(f"{sequence}: {_line(score)}")
    facts = {
        "weights": str(path),
        "sha256": sha256_of(path),
        "preset": preset,
        "settings": settings or [],
        "frame_step": frame_step,
        "limit": limit,
    }
    if target is not None:
        text = json.dumps({**facts, "sets": _to_json(found)}, indent=2)
        target.write_text(text + "\n", encoding="utf-8")
    out.print(_table(found))


def _open_splits(
    data: Path, only: set[str], frame_step: int, limit: int
) -> list[tuple[str, DevSplit]]:
    """Open the parts of the dev sets that have chosen sequences, each with its set's name."""
    from vots_hqtrack.errors import InputError
    from vots_hqtrack.training.dev import DEV_SETS, DevSplit

    splits: list[tuple[str, DevSplit]] = []
    known = [entry for parts in DEV_SETS.values() for part in parts for entry in part.sequences]
    if unknown := only.difference(known):
        raise InputError(f"no dev sequence {min(unknown)!r}; wanted one of: {', '.join(known)}")
    for name, parts in DEV_SETS.items():
        for part in parts:
            chosen = tuple(entry for entry in part.sequences if not only or entry in only)
            options = dataclasses.replace(
                part, sequences=chosen, frame_step=frame_step, max_frames=limit
            )
            if chosen:
                splits.append((name, DevSplit(options, data)))
    return splits


def _table(found: Scores) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "objects", "J", "F", "J&F", "s/frame"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, sequences in found.items():
        seconds = sum(score.seconds for score in sequences.values())
        num_frames = sum(score.num_frames for score in sequences.values())
        table.add_row(
            name, "", *_format(_mean(sequences)), f"{seconds / num_frames:.3f}", style="bold"
        )
        for sequence, score in sequences.items():
            columns = (
                str(len(score.objects)),
                *_format(score.mean),
                f"{score.seconds / score.num_frames:.3f}",
            )
            table.add_row(f"  {sequence}", *columns)
        table.add_section()
    return table


def _line(score: SequenceScore) -> str:
    numbers = "  ".join(f"{name} {value:.3f}" for name, value in score.mean.to_dict().items())
    return f"{numbers}  {score.num_frames} frames, {score.seconds / score.num_frames:.2f} s each"


def _mean(sequences: Mapping[str, SequenceScore]) -> SegmentationMeasures:
    from vots_hqtrack.measures import mean_measures

    mean = mean_measures(score.mean for score in sequences.values())
    assert mean is not None  # noqa: S101 - a set without sequences is not kept
    return mean


def _format(measures: SegmentationMeasures) -> list[str]:
    return [f"{value:.3f}" for value in measures.to_dict().values()]


def _to_json(found: Scores) -> dict[str, object]:
    return {
        name: {
            "mean": _mean(sequences).to_dict(),
            "sequences": {
                sequence: {
                    **score.mean.to_dict(),
                    "frames": score.num_frames,
                    "seconds_per_frame": score.seconds / score.num_frames,
                    "objects": {str(key): value.to_dict() for key, value in score.objects.items()},
                }
                for sequence, score in sequences.items()
            },
        }
        for name, sequences in found.items()
    }
