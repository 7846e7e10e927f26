"""``hqtrack calibrate``: fits the scores of a preset, and checks them."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from vots_hqtrack.cli.console import out, say, show
from vots_hqtrack.cli.options import (
    DeviceOption,
    PresetOption,
    SettingsOption,
    WeightsOption,
    refuse_needless,
    refuse_set_too,
)
from vots_hqtrack.errors import ConfigError

if TYPE_CHECKING:
    from vots_hqtrack.training.calibrate import Observation, Reliability
    from vots_hqtrack.training.stress_clips import StressClip

calibrate_app = typer.Typer(
    name="calibrate",
    help="Fit the scores, so that 0.8 means that 8 of 10 such masks are good.",
    no_args_is_help=True,
)

CLIP_SIZE = 480, 854
COMPOSED_CLIPS = 60
ALL_MASKS = ["confidence.kind=probability", "tracking.absence_score=0"]
"""Settings by which every mask is reported, whatever its score."""
ABSENCE_SCORES = 0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Observations.")]
PlainOption = Annotated[
    bool, typer.Option("--without-refiner", help="As if VMOS's own masks had been reported.")
]

StepOption = Annotated[
    int,
    typer.Option(
        "--step", min=0, max=10**9, help="Track the videos as they are, one frame in so many."
    ),
]
FramesOption = Annotated[
    int, typer.Option("--frames", min=0, max=10**4, help="Most frames of a clip; 0 is all.")
]
ClipsOption = Annotated[
    int | None,
    typer.Option("--clips", min=1, max=10**6, help="Most clips. [default: all, or 60 composed]"),
]


@calibrate_app.command(no_args_is_help=True)
def observe(
    ctx: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder that holds the data sets.")],
    to: Annotated[Path, typer.Option("--out", metavar="FILE", help="Observations are added here.")],
    preset: PresetOption = "lite",
    weights: WeightsOption = None,
    recipe: Annotated[
        str,
        typer.Option(metavar="NAME", help="Recipe that says how data sets are read: name or file."),
    ] = "lite-gpu",
    sets: Annotated[
        str, typer.Option(metavar="A,B", help="Data sets, as the recipe's `root`. [default: all]")
    ] = "",
    sequences: Annotated[
        str, typer.Option(metavar="A,B:N", help="Videos, B from frame N. [default: not held out]")
    ] = "",
    step: StepOption = 0,
    composed: Annotated[
        bool, typer.Option("--composed", help="Track clips of several objects, composed of all.")
    ] = False,
    frames: FramesOption = 9,
    most: ClipsOption = None,
    seed: Annotated[int, typer.Option(min=0, max=10**9, help="Seed of the random generators.")] = 1,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
) -> None:
    """Track stress-test clips made of videos, and record evidence and quality of the masks.

    As they are (--step), videos show all their objects; composed clips (--composed) show several;
    otherwise each video counts as one of one object, and is thinned, crossed, occluded and
    interrupted. Videos that the recipe holds out are tracked only where --sequences names them.
    """
    from vots_hqtrack.tracker import HQTracker
    from vots_hqtrack.training import calibrate, stress_clips
    from vots_hqtrack.training.recipe_files import load_recipe
    from vots_hqtrack.types import Size

    _check_options(ctx, settings)
    _check_out(to)
    chosen = _split(sets), _split(sequences)
    opened = stress_clips.open_stress_data(load_recipe(recipe), data, *chosen)
    size = Size(*CLIP_SIZE)
    clips: Iterator[StressClip]
    if composed:
        sources, count = opened.sources(), most or COMPOSED_CLIPS
        clips = stress_clips.composed_clips(sources, count, frames, size, seed=seed)
    elif step:
        clips = stress_clips.real_clips(opened.parts(step), frames)
    else:
        clips = stress_clips.stress_clips(opened.single_objects(), frames, size, seed=seed)
    options = [*(settings or []), *ALL_MASKS]
    tracker = HQTracker.from_preset(preset, device=device, weights=weights, settings=options)
    for clip in itertools.islice(clips, most):
        found = list(calibrate.observe(tracker, clip))
        calibrate.write_observations(to, found)
        good = f"{sum(each.is_good for each in found)} of {len(found)} masks good"
        say(f"{clip.kind} {clip.origin}: {good}")
    show(to)


def _check_options(ctx: typer.Context, settings: list[str] | None) -> None:
    if ctx.params["step"]:
        if ctx.params["composed"]:
            raise ConfigError("wanted either --step or --composed, got both")
        refuse_needless(ctx, ("--seed",), "with --step, which samples nothing")
    for text in ALL_MASKS:
        refuse_set_too(settings, "observe", text.partition("=")[0])


def _check_out(path: Path) -> None:
    """Refuse a file that no observations could be added to, before they are made."""
    from vots_hqtrack.training.calibrate import read_observations

    if path.exists():
        read_observations(path)
    elif not path.absolute().parent.is_dir():
        raise ConfigError(f"--out wants a file in a folder that exists, got {path}")


def _split(names: str) -> tuple[str, ...]:
    return tuple(name for name in names.split(",") if name)


@calibrate_app.command(no_args_is_help=True)
def fit(file: FileArgument, without_refiner: PlainOption = False) -> None:
    """Fit a model and print it as a table for a configuration file, checked on videos left out."""
    from vots_hqtrack.training import calibrate

    found = _read(file, without_refiner)
    show("[confidence]")
    for name, value in dataclasses.asdict(calibrate.fit(found)).items():
        show(f"{name} = {json.dumps(value)}")
    scores = calibrate.cross_score(found)
    _print_absences(found, scores)
    _print_reliability(found, scores)


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
    """Compare a preset's scores with the quality of the masks."""
    from vots_hqtrack.presets import load_preset
    from vots_hqtrack.scoring import calibrated_score
    from vots_hqtrack.settings import apply_settings
    from vots_hqtrack.training.reliability_diagram import draw_reliability

    config = apply_settings(load_preset(preset), settings or []).confidence
    found = _read(file, without_refiner)
    scores = None
    if config.kind == "calibrated":
        scores = [calibrated_score(each.evidence, config) for each in found]
        _print_absences(found, scores)
    measures = _print_reliability(found, scores)
    if picture is not None:
        draw_reliability(picture, list(measures.items()))


def _print_absences(found: list[Observation], scores: list[float]) -> None:
    from vots_hqtrack.training import calibrate

    table = Table("absence_score", "Quality", "NRE", "ADQ", title=f"{len(found)} objects on frames")
    for threshold in ABSENCE_SCORES:
        effect = calibrate.trade_absence(found, scores, threshold)
        numbers = effect.quality, effect.nre, effect.adq
        table.add_row(f"{threshold:g}", *(f"{number:.4f}" for number in numbers))
    out.print(table)


def _read(file: Path, without_refiner: bool) -> list[Observation]:
    from vots_hqtrack.training import calibrate

    found = calibrate.read_observations(file)
    return calibrate.without_refiner(found) if without_refiner else found


def _print_reliability(
    found: list[Observation], scores: list[float] | None
) -> dict[str, Reliability]:
    """Print the reliability of scores, for clips of one and of several objects.

    Args:
        found: Observations.
        scores: Their scores, in the same order; None shows the mean probability alone.

    Returns:
        The measures over all clips, by the kind of score.
    """
    from vots_hqtrack.training import calibrate

    kinds = {"probability": [each.probability for each in found]}
    if scores is not None:
        kinds["calibrated"] = scores
    table = Table("masks", "score", "error", "Brier", "ranking", "good of those above 0.9")
    overall: dict[str, Reliability] = {}
    groups = calibrate.split_by_count(found)
    for name, chosen in {"all": found, **(groups if len(groups) > 1 else {})}.items():
        keys = {id(each) for each in chosen if each.is_reported}
        for kind, values in kinds.items():
            pairs = zip(found, values, strict=True)
            rows = [(score, each.is_good) for each, score in pairs if id(each) in keys]
            measured = calibrate.measure_reliability(
                [score for score, _ in rows], [good for _, good in rows]
            )
            overall.setdefault(kind, measured)
            numbers = measured.calibration_error, measured.brier, measured.ranking
            columns = [f"{number:.4f}" for number in (*numbers, measured.sure_good)]
            table.add_row(f"{len(rows)} of {name}", kind, *columns)
    out.print(table)
    return overall
