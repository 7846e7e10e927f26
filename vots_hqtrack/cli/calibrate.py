"""``hqtrack calibrate``: makes the scores of a preset mean something."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from vots_hqtrack.cli.console import err, out
from vots_hqtrack.cli.options import DeviceOption, PresetOption, SettingsOption, WeightsOption
from vots_hqtrack.errors import InputError

if TYPE_CHECKING:
    from vots_hqtrack.training.calibrate import Observation, Reliability

calibrate_app = typer.Typer(
    name="calibrate",
    help="Fit the scores, so that 0.8 means that 8 of 10 such masks are good.",
    no_args_is_help=True,
)

TRIAL_SIZE = 480, 854
ABSENCE_SCORES = 0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Observations.")]
PlainOption = Annotated[
    bool, typer.Option("--without-refiner", help="As if VMOS's own masks had been reported.")
]


@calibrate_app.command(no_args_is_help=True)
def observe(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder in DAVIS's layout.")],
    to: Annotated[Path, typer.Option("--out", metavar="FILE", help="Observations are added here.")],
    preset: PresetOption = "lite",
    weights: WeightsOption = None,
    sequences: Annotated[
        str,
        typer.Option(metavar="A,B", help="Videos. [default: all but the project's dev split]"),
    ] = "",
    frames: Annotated[int, typer.Option(min=2, help="Most frames of a clip.")] = 9,
    step: Annotated[
        int, typer.Option(min=0, help="Track the videos as they are, one frame in so many.")
    ] = 0,
    most: Annotated[
        int | None, typer.Option("--clips", min=1, help="Most clips. [default: all]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all chance.")] = 1,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
) -> None:
    """Track hard clips made of videos, and note what the tracker knew and what came of it."""
    from vots_hqtrack.composites.shots import open_videos
    from vots_hqtrack.tracker import HQTracker
    from vots_hqtrack.training import calibrate, trial_clips
    from vots_hqtrack.training.datasets import DEV_SPLIT
    from vots_hqtrack.types import Size

    wanted = [name for name in sequences.split(",") if name]
    videos = open_videos(data, wanted)
    if not wanted:
        videos = [video for video in videos if video.name not in DEV_SPLIT]
    least = 1 if step else trial_clips.LEAST_VIDEOS
    if len(videos) < least:
        raise InputError(f"wanted {least} videos in {data}, got {len(videos)}")
    # All masks are wanted, and nobody's scores.
    neutral = ["confidence.kind=probability", "tracking.absence_score=0"]
    options = [*(settings or []), *neutral]
    tracker = HQTracker.from_preset(preset, device=device, weights=weights, settings=options)
    clips = (
        trial_clips.plain_trials(videos, frames, step)
        if step
        else trial_clips.draw_trials(videos, frames, Size(*TRIAL_SIZE), seed=seed)
    )
    for clip in itertools.islice(clips, most):
        found = list(calibrate.observe(tracker, clip))
        calibrate.write_observations(to, found)
        good = sum(one.is_good for one in found)
        err.print(f"{clip.kind} {clip.origin}: {good} of {len(found)} masks good", markup=False)
    out.print(to, soft_wrap=True)


@calibrate_app.command(no_args_is_help=True)
def fit(
    file: FileArgument,
    without_refiner: PlainOption = False,
    evidence: Annotated[
        str, typer.Option(metavar="A,B", help="Evidence to use. [default: VMOS's logits]")
    ] = "",
) -> None:
    """Fit a model and print it as a table for a configuration file, checked on videos left out."""
    from vots_hqtrack.training import calibrate

    found = _read(file, without_refiner)
    seen = calibrate.reported(found)
    parts = [name for name in evidence.split(",") if name] or calibrate.LOGIT_PARTS
    model = calibrate.fit(seen, parts)
    out.print("[confidence]", markup=False)
    for option in dataclasses.fields(model):
        value = getattr(model, option.name)
        out.print(
            f'{option.name} = "{value}"' if isinstance(value, str) else f"{option.name} = {value}"
        )
    truth = [one.is_good for one in seen]
    _print_measures(
        {
            "probability": calibrate.measure_reliability([o.probability for o in seen], truth),
            "videos left out": calibrate.measure_reliability(
                calibrate.cross_score(seen, parts), truth
            ),
        },
        len(seen),
    )


@calibrate_app.command(no_args_is_help=True)
def check(
    file: FileArgument,
    preset: PresetOption = "lite",
    without_refiner: PlainOption = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the reliability diagram there.")
    ] = None,
    settings: SettingsOption = None,
) -> None:
    """Compare a preset's scores with what came true."""
    from PIL import Image

    from vots_hqtrack.confidence import score_evidence
    from vots_hqtrack.presets import load_preset
    from vots_hqtrack.settings import apply_settings
    from vots_hqtrack.training import calibrate
    from vots_hqtrack.training.reliability_picture import draw_reliability

    config = apply_settings(load_preset(preset), settings or []).confidence
    found = _read(file, without_refiner)
    seen = calibrate.reported(found)
    truth = [one.is_good for one in seen]
    measures = {
        "probability": calibrate.measure_reliability([one.probability for one in seen], truth)
    }
    if config.kind == "calibrated":
        scores = [score_evidence(one.evidence, config) for one in seen]
        measures["calibrated"] = calibrate.measure_reliability(scores, truth)
        _print_absences(found, [score_evidence(one.evidence, config) for one in found])
    _print_measures(measures, len(seen))
    if picture is not None:
        Image.fromarray(draw_reliability(list(measures.items()))).save(picture)


def _print_absences(found: list[Observation], scores: list[float]) -> None:
    from vots_hqtrack.training import calibrate

    table = Table("absence_score", "Quality", "NRE", "ADQ", title=f"{len(found)} objects on frames")
    for threshold in ABSENCE_SCORES:
        one = calibrate.trade_absence(found, scores, threshold)
        table.add_row(f"{threshold:g}", f"{one.quality:.4f}", f"{one.nre:.4f}", f"{one.adq:.4f}")
    out.print(table)


def _read(file: Path, without_refiner: bool) -> list[Observation]:
    from vots_hqtrack.training import calibrate

    found = calibrate.read_observations(file)
    return calibrate.without_refiner(found) if without_refiner else found


def _print_measures(measures: dict[str, Reliability], num_masks: int) -> None:
    table = Table(
        "score", "calibration error", "Brier score", "ranking", title=f"{num_masks} masks"
    )
    for name, one in measures.items():
        table.add_row(
            name, f"{one.calibration_error:.4f}", f"{one.brier:.4f}", f"{one.ranking:.4f}"
        )
    out.print(table)
