"""``hqtrack calibrate``: makes the scores of a preset mean something."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from vots_hqtrack.cli.console import err, out
from vots_hqtrack.cli.options import DeviceOption, PresetOption, SettingsOption, WeightsOption

if TYPE_CHECKING:
    from vots_hqtrack.training.calibrate import Observation, Reliability
    from vots_hqtrack.training.stress_clips import StressClip

calibrate_app = typer.Typer(
    name="calibrate",
    help="Fit the scores, so that 0.8 means that 8 of 10 such masks are good.",
    no_args_is_help=True,
)

TRIAL_SIZE = 480, 854
COMPOSED_CLIPS = 60
ABSENCE_SCORES = 0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Observations.")]
PlainOption = Annotated[
    bool, typer.Option("--without-refiner", help="As if VMOS's own masks had been reported.")
]


@dataclasses.dataclass(frozen=True, slots=True)
class ClipChoice:
    """Which clips to track."""

    data: Path
    recipe: str
    sets: tuple[str, ...]
    sequences: tuple[str, ...]
    frames: int
    step: int
    composed: bool
    count: int | None
    seed: int


@calibrate_app.command(no_args_is_help=True)
def observe(
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
    step: Annotated[
        int, typer.Option(min=0, help="Track the videos as they are, one frame in so many.")
    ] = 0,
    composed: Annotated[
        bool, typer.Option("--composed", help="Track clips of several objects, composed of all.")
    ] = False,
    frames: Annotated[int, typer.Option(min=0, help="Most frames of a clip; 0 is all.")] = 9,
    most: Annotated[
        int | None,
        typer.Option("--clips", min=1, help="Most clips. [default: all, or 60 composed]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random generators.")] = 1,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
) -> None:
    """Track hard clips made of videos, and note what the tracker knew and what came of it.

    As they are (--step), videos show all their objects; composed clips (--composed) show several;
    otherwise each video counts as one of one object, and is thinned, crossed, occluded and
    interrupted. Videos that the recipe holds out are tracked only where --sequences names them.
    """
    from vots_hqtrack.tracker import HQTracker
    from vots_hqtrack.training import calibrate

    choice = ClipChoice(
        data, recipe, _split(sets), _split(sequences), frames, step, composed, most, seed
    )
    clips = _open_clips(choice)
    # All masks are wanted, and nobody's scores.
    neutral = ["confidence.kind=probability", "tracking.absence_score=0"]
    options = [*(settings or []), *neutral]
    tracker = HQTracker.from_preset(preset, device=device, weights=weights, settings=options)
    for clip in itertools.islice(clips, most):
        found = list(calibrate.observe(tracker, clip))
        calibrate.write_observations(to, found)
        good = sum(one.is_good for one in found)
        err.print(f"{clip.kind} {clip.origin}: {good} of {len(found)} masks good", markup=False)
    out.print(to, soft_wrap=True)


def _split(names: str) -> tuple[str, ...]:
    return tuple(name for name in names.split(",") if name)


def _open_clips(choice: ClipChoice) -> Iterator[StressClip]:
    """Open the data sets and say which clips they give."""
    from vots_hqtrack.training import stress_clips
    from vots_hqtrack.training.recipe_files import load_recipe
    from vots_hqtrack.types import Size

    recipe = load_recipe(choice.recipe)
    opened = stress_clips.open_stress_data(recipe, choice.data, choice.sets, choice.sequences)
    size = Size(*TRIAL_SIZE)
    if choice.composed:
        count = choice.count or COMPOSED_CLIPS
        sources = opened.sources()
        return stress_clips.composed_clips(sources, count, choice.frames, size, seed=choice.seed)
    if choice.step:
        return stress_clips.real_clips(opened.parts(choice.step), choice.frames)
    videos = opened.single_objects()
    return stress_clips.stress_clips(videos, choice.frames, size, seed=choice.seed)


@calibrate_app.command(no_args_is_help=True)
def fit(file: FileArgument, without_refiner: PlainOption = False) -> None:
    """Fit a model and print it as a table for a configuration file, checked on videos left out."""
    from vots_hqtrack.training import calibrate

    found = _read(file, without_refiner)
    seen = calibrate.reported(found)
    model = calibrate.fit(seen)
    out.print("[confidence]", markup=False)
    for option in dataclasses.fields(model):
        value = getattr(model, option.name)
        out.print(
            f'{option.name} = "{value}"' if isinstance(value, str) else f"{option.name} = {value}"
        )
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
    """Compare a preset's scores with what came true."""
    from PIL import Image

    from vots_hqtrack.presets import load_preset
    from vots_hqtrack.scoring import calibrated_score
    from vots_hqtrack.settings import apply_settings
    from vots_hqtrack.training.reliability_picture import draw_reliability

    config = apply_settings(load_preset(preset), settings or []).confidence
    found = _read(file, without_refiner)
    scores = None
    if config.kind == "calibrated":
        scores = [calibrated_score(one.evidence, config) for one in found]
        _print_absences(found, scores)
    measures = _print_reliability(found, scores)
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


def _print_reliability(
    found: list[Observation], scores: list[float] | None
) -> dict[str, Reliability]:
    """Print how scores compare with the truth, for clips of one and of several objects.

    Args:
        found: Observations.
        scores: Theirs, in the same order; None shows the mean probability alone.

    Returns:
        The measures over all clips, by the kind of score.
    """
    from vots_hqtrack.training import calibrate

    kinds = {"probability": [one.probability for one in found]}
    if scores is not None:
        kinds["calibrated"] = scores
    table = Table("masks", "score", "error", "Brier", "ranking", "good of those above 0.9")
    overall: dict[str, Reliability] = {}
    groups = calibrate.split_by_count(found)
    for name, chosen in {"all": found, **(groups if len(groups) > 1 else {})}.items():
        keys = {id(one) for one in chosen}
        for kind, values in kinds.items():
            pairs = zip(found, values, strict=True)
            rows = [
                (score, one.is_good) for one, score in pairs if id(one) in keys and one.is_reported
            ]
            measured = calibrate.measure_reliability(
                [s for s, _ in rows], [good for _, good in rows]
            )
            overall[kind] = measured if name == "all" else overall[kind]
            table.add_row(f"{len(rows)} of {name}", kind, *_cells(measured))
    out.print(table)
    return overall


def _cells(one: Reliability) -> list[str]:
    numbers = one.calibration_error, one.brier, one.ranking, one.sure_good
    return [f"{number:.4f}" for number in numbers]
