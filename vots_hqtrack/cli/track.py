"""``hqtrack track``: from videos and prompts for their objects to results on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from vots_hqtrack.cli import signals
from vots_hqtrack.cli.options import (
    ConfigOption,
    DeviceOption,
    ModelOption,
    PresetOption,
    RefineOption,
    SettingsOption,
    WeightsOption,
    build_config,
    find_model,
    refuse_nan,
)
from vots_hqtrack.cli.prompts import FramePrompt, frame_prompt
from vots_hqtrack.cli.spans import Span
from vots_hqtrack.cli.track_job import GivenPrompts, Prepared, RunOptions, prepare, result_folders
from vots_hqtrack.errors import HQTrackError, InputError

if TYPE_CHECKING:
    from vots_hqtrack.video.result_folder import Earlier

CHECKPOINT_GAP = 50
"""Frames between two checkpoints."""
_Value = TypeVar("_Value")

MaskOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--mask",
        metavar="FILE",
        help="Mask image of the first frame: indexed or grey with object ids as values, "
        "black and white, or with a colour for every object. Once, or once for each SOURCE.",
    ),
]
BoxOption = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        metavar="X,Y,W,H",
        help="Box around an object of the first frame, in pixels; repeat it for more objects.",
    ),
]
PointOption = Annotated[
    list[str] | None,
    typer.Option(
        "--point",
        metavar="X,Y[,+|-][@OBJECT]",
        help="Point in an object of the first frame, or beside it (-); repeat it. Object 1 by "
        "default; points of an object with a box refine it.",
    ),
]
PromptsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--prompts",
        metavar="FILE.json",
        help="Points, boxes and masks for any frames; docs/correcting.md has the format. Once, or "
        "once for each SOURCE.",
    ),
]
StartOption = Annotated[
    int | None,
    typer.Option(
        "--start",
        min=0,
        max=10**9,
        metavar="N",
        help="Frame to begin with, from 0, which is the first frame of --mask, --box and --point.",
    ),
]
StopOption = Annotated[
    int | None,
    typer.Option("--stop", min=0, max=10**9, metavar="N", help="Last frame to track."),
]
ReverseOption = Annotated[
    bool,
    typer.Option(
        "--reverse", help="Track backward; without --start, from the last frame with prompts."
    ),
]
BothOption = Annotated[
    bool,
    typer.Option("--both", help="Track forward and backward; --stop ends the direction it is in."),
]
OverlayOption = Annotated[
    bool, typer.Option("--overlay/--no-overlay", help="Write the overlay video.")
]
CutoutOption = Annotated[
    Literal["png", "webm", "mp4"] | None,
    typer.Option(
        "--cutout",
        help="Write the objects without their background, too: transparent images, a transparent "
        "video, or a video on black.",
    ),
]
FpsOption = Annotated[
    float | None,
    typer.Option(
        "--fps",
        min=0.001,
        max=10_000,
        callback=refuse_nan,
        help="Frame rate of written videos instead of the source's.",
    ),
]
ExifOption = Annotated[
    Literal["apply", "ignore"],
    typer.Option(
        "--exif", help="Turn frames as their EXIF orientation says, as viewers do, or not."
    ),
]
SkipMissingOption = Annotated[
    bool,
    typer.Option(
        "--skip-missing", help="Leave out frames that cannot be read; the result is partial then."
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, max=10**9, metavar="N", help="Stop after N frames, in each direction."
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace earlier results in DIR.")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in DIR, if it was cut; else begin one.")
]
CheckpointOption = Annotated[
    int,
    typer.Option(
        "--checkpoint",
        min=0,
        max=10**9,
        metavar="N",
        help="Save the memory every N frames, for --resume; 0 never does.",
    ),
]
TogetherOption = Annotated[
    int | None,
    typer.Option(
        "--together",
        min=1,
        max=64,
        metavar="N",
        help="Track up to N of several SOURCEs at once; cameras, and what goes backward or has "
        "prompts on other frames than the first, one by one. [default: 8 on a GPU, else 1]",
    ),
]


def track(
    ctx: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders of frames, video files, or the number of a camera.",
        ),
    ],
    out_folder: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="Folder for the results; of several SOURCEs one below it."
        ),
    ],
    mask: MaskOption = None,
    box: BoxOption = None,
    point: PointOption = None,
    prompts: PromptsOption = None,
    start: StartOption = None,
    stop: StopOption = None,
    reverse: ReverseOption = False,
    both: BothOption = False,
    preset: PresetOption = "lite",
    model: ModelOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    config: ConfigOption = None,
    settings: SettingsOption = None,
    refine: RefineOption = True,
    overlay: OverlayOption = True,
    cutout: CutoutOption = None,
    fps: FpsOption = None,
    exif: ExifOption = "apply",
    skip_missing: SkipMissingOption = False,
    limit: LimitOption = None,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = False,
    checkpoint: CheckpointOption = CHECKPOINT_GAP,
    together: TogetherOption = None,
) -> None:
    """Track objects through videos.

    Writes DIR/masks/<frame>.png (values are object ids), DIR/overlay.mp4 and DIR/tracks.json.
    An error, Ctrl-C or SIGTERM midway loses nothing of what was done; --resume goes on.
    Lost or damaged frames make the result "partial", with exit code 5.
    Of several videos one that fails does not stop the others; the exit code is 5 then.
    """
    with signals.on_signal("leave"):
        given = _read_given(mask, box, point, prompts, len(sources))
        span = _read_span(start, stop, limit, reverse=reverse, both=both)
        earlier = _choose_earlier(overwrite=overwrite, resume=resume)
        base, weights = find_model(ctx, model, weights) if model is not None else (preset, weights)
        built = build_config(base, config=config, settings=settings, refine=refine)
        files = tuple(filter(None, (config, weights)))
        shared = (fps, exif, skip_missing, overlay, cutout, earlier, checkpoint, files, together)
        options = RunOptions(built, device, weights, span, *shared)
        prepared = _prepare_all(sources, out_folder, given, options)
        from vots_hqtrack.cli.track_run import run_all
    run_all(prepared)


def _choose_earlier(*, overwrite: bool, resume: bool) -> Earlier:
    if overwrite and resume:
        raise InputError("wanted either --overwrite or --resume, got both")
    return "overwrite" if overwrite else "resume" if resume else "refuse"


def _prepare_all(
    sources: Sequence[str], out_folder: Path, given: Sequence[GivenPrompts], options: RunOptions
) -> list[Prepared]:
    """Check all sources; of several a bad one is kept as its error."""
    from vots_hqtrack.checkpoints.manifest import resolve

    folders = result_folders(sources, out_folder)
    prepared: list[Prepared] = []
    for source, folder, prompts in zip(sources, folders, given, strict=True):
        try:
            prepared.append((source, prepare(source, folder, prompts, options)))
        except (HQTrackError, OSError) as error:
            if len(sources) == 1:
                raise
            prepared.append((source, error))
    resolve(options.config.weights, options.weights)
    return prepared


def _read_given(
    mask: list[Path] | None,
    box: list[str] | None,
    point: list[str] | None,
    prompts: list[Path] | None,
    num_sources: int,
) -> list[GivenPrompts]:
    """Read the prompts of each source, from exactly one of the kinds."""
    num_kinds = sum(bool(values) for values in (mask, box or point, prompts))
    if not num_kinds:
        raise InputError("wanted either --mask or --box for the first frame, got neither")
    if num_kinds > 1:
        raise InputError("wanted either --mask, or --box and --point, or --prompts, got both")
    if mask:
        given = [GivenPrompts(FramePrompt(mask_path=path)) for path in mask]
        return _one_each(given, num_sources, "--mask")
    if prompts:
        return _one_each([GivenPrompts.read(path) for path in prompts], num_sources, "--prompts")
    return [GivenPrompts(frame_prompt(box or [], point or []))] * num_sources


def _one_each(given: list[_Value], num_sources: int, option: str) -> list[_Value]:
    if len(given) == 1:
        return given * num_sources
    if len(given) != num_sources:
        raise InputError(
            f"wanted {option} once, or once for each of {num_sources} sources, got {len(given)}"
        )
    return given


def _read_span(
    start: int | None, stop: int | None, limit: int | None, *, reverse: bool, both: bool
) -> Span:
    if reverse and both:
        raise InputError("wanted either --reverse or --both, got both")
    return Span(start, stop, limit, "both" if both else "reverse" if reverse else "forward")
