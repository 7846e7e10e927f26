"""``hqtrack bench``: measures the stages of a frame, and compares two measurements."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from vots_hqtrack.allocation import keep_freed_memory
from vots_hqtrack.cli.console import err, out, show
from vots_hqtrack.cli.options import (
    DeviceOption,
    SettingsOption,
    given_options,
    refuse_nan,
    refuse_set_too,
    refuse_unread,
)
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.io import atomic_path

if TYPE_CHECKING:
    from vots_hqtrack.bench.run import Case, CaseResult
    from vots_hqtrack.types import FrameArray, MaskArray, Size

EXIT_REGRESSION = 1

_MAX_FRAMES = 12
_NUM_CORRECTIONS = 3
_MIB = 2**20
_OTHER_KINDS = {
    "--compare": ("--tolerance",),
    "--interactive": ("--source", "--preset", "--device", "--set", "--references"),
}
"""Options that ask for something else than the speed of a frame, with those that they read."""
_NEEDS = {"--tolerance": "--compare", "--references": "--interactive", "--mask": "--source"}
_INSTEAD = {"--size": "--source", "--objects": "--mask"}


PresetsOption = Annotated[
    list[str] | None,
    typer.Option("--preset", metavar="NAME", help="Preset; may be repeated. [default: lite]"),
]
SizesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        metavar="WIDTHxHEIGHT",
        help="Size of synthetic frames; may be repeated. [default: 854x480]",
    ),
]
ObjectsOption = Annotated[
    list[int] | None,
    typer.Option(
        "--objects", min=1, max=1000, metavar="N", help="Objects; may be repeated. [default: 3]"
    ),
]
MemoryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--memory",
        metavar="full|N",
        help="Memory frames; may be repeated. [default: full]",
    ),
]
FormatsOption = Annotated[
    list[str] | None,
    typer.Option("--dtype", help="auto, float32, bfloat16, float16; may be repeated."),
]
FrameIndexOption = Annotated[
    int | None,
    typer.Option(
        "--frame-index", min=1, max=10**9, help="Number that the first measured frame gets."
    ),
]
FramesOption = Annotated[int, typer.Option("--frames", min=1, max=10**9, help="Frames to measure.")]
SquareOption = Annotated[
    int, typer.Option("--square", min=0, max=10**9, help="Side of the matrices for the throughput.")
]
ProcessorTimeOption = Annotated[
    bool,
    typer.Option(
        "--processor-time",
        help="Count the time of all threads together instead of the clock's: for busy machines, "
        "best with --set runtime.threads=1.",
    ),
]
ToolkitOption = Annotated[
    bool,
    typer.Option("--toolkit", help="Write the VOT toolkit's regions, no files of masks."),
]
VideosOption = Annotated[
    int,
    typer.Option(
        "--together", min=1, max=1024, metavar="N", help="Also N videos in one batch, by the ratio."
    ),
]
SourceOption = Annotated[
    str | None,
    typer.Option("--source", metavar="SOURCE", help="Video or folder instead of synthetic ones."),
]
MaskOption = Annotated[
    Path | None,
    typer.Option("--mask", metavar="FILE", help="Objects of the source's first frame."),
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers there too.")
]
CompareOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        "--compare", metavar="OLD.json NEW.json", help="Measure nothing; compare two runs."
    ),
]
ToleranceOption = Annotated[
    float,
    typer.Option(
        "--tolerance",
        min=1,
        max=1e6,
        callback=refuse_nan,
        help="Ratio from which on --compare fails.",
    ),
]


InteractiveOption = Annotated[
    Path | None,
    typer.Option(
        "--interactive",
        metavar="DIR",
        help="True label maps of --source, named as its frames: an automatic user corrects the "
        "worst frame, three times; measures J, not speed.",
    ),
]
ReferencesOption = Annotated[
    int,
    typer.Option("--references", min=1, max=10**9, help="Given frames that --interactive keeps."),
]


def bench(
    ctx: typer.Context,
    preset: PresetsOption = None,
    size: SizesOption = None,
    objects: ObjectsOption = None,
    memory: MemoryOption = None,
    dtype: FormatsOption = None,
    frame_index: FrameIndexOption = None,
    frames: FramesOption = 8,
    square: SquareOption = 0,
    processor_time: ProcessorTimeOption = False,
    toolkit: ToolkitOption = False,
    together: VideosOption = 1,
    source: SourceOption = None,
    mask: MaskOption = None,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
    json_path: JsonOption = None,
    compare: CompareOption = None,
    tolerance: ToleranceOption = 1.15,
    interactive: InteractiveOption = None,
    references: ReferencesOption = 8,
) -> None:
    """Measure every stage of a frame, or compare two measurements.

    Weights that are not here are replaced by random ones: right for speed only.
    """
    _check_options(ctx, json_path)
    if compare is not None:
        _compare(*compare, tolerance=tolerance)
        return
    keep_freed_memory()
    if interactive is not None:
        for name in preset or ["lite"]:
            _play_user(source, interactive, name, settings or (), device, references)
        return
    from vots_hqtrack.bench.run import run_case

    done: list[CaseResult] = []
    for name, capacity, number_type, frame_size, num_objects in itertools.product(
        preset or ["lite"],
        memory or ["full"],
        dtype or ["auto"],
        size or ["854x480"],
        objects or [3],
    ):
        case = dataclasses.replace(
            _make_case(name, capacity, number_type, settings or (), device),
            num_frames=frames,
            frame_index=frame_index,
            square=square,
            uses_processor_time=processor_time,
            for_toolkit=toolkit,
            num_videos=together,
        )
        video = _read_video(source, mask, _parse_size(frame_size), num_objects)
        with err.status(f"measuring {name}"):
            done.append(run_case(case, *video))
        _show(done[-1])
    _finish(done, device, json_path)


def _check_options(ctx: typer.Context, json_path: Path | None) -> None:
    """Refuse options that this kind of measurement would not read, before it begins."""
    given = given_options(ctx)
    for kind, read in _OTHER_KINDS.items():
        if kind in given:
            refuse_unread(ctx, kind, read)
    for name, other in _NEEDS.items():
        if name in given and other not in given:
            raise ConfigError(f"{name} goes with {other}")
    for name, other in _INSTEAD.items():
        if name in given and other in given:
            raise ConfigError(f"wanted either {name} or {other}, got both")
    if json_path is not None and (json_path.is_dir() or not json_path.absolute().parent.is_dir()):
        raise ConfigError(f"--json wants a file in a folder that exists, got {json_path}")


def _play_user(
    source: str | None,
    truth: Path,
    preset: str,
    settings: Sequence[str],
    device: str,
    references: int,
) -> None:
    """Let an automatic user correct the worst frames, and show J after each correction."""
    from vots_hqtrack.bench.interactive import play_user, read_truth
    from vots_hqtrack.session import InteractivePredictor
    from vots_hqtrack.tracker import HQTracker
    from vots_hqtrack.video.reader import open_source

    if source is None:
        raise InputError("--interactive needs the frames as --source")
    opened = open_source(source)
    labels = read_truth([named.name for named in opened], truth)
    tracker = HQTracker.from_preset(preset, device=device, settings=settings)
    predictor = InteractivePredictor(tracker, max_references=references)
    table = Table(title=f"{preset}, {references} references", title_justify="left")
    for column in ("corrected", "J", "J elsewhere", "lowest J on corrected"):
        table.add_column(column, justify="right")
    with err.status("tracking and correcting"):
        for found in play_user(predictor, source, labels, _NUM_CORRECTIONS):
            numbers = (found.overlap, found.overlap_elsewhere, found.corrected_overlap)
            frames = ", ".join(map(str, found.corrected)) or "none"
            table.add_row(frames, *(f"{number:.3f}" for number in numbers))
    out.print(table)


def _make_case(preset: str, memory: str, dtype: str, settings: Sequence[str], device: str) -> Case:
    from vots_hqtrack.bench.run import Case
    from vots_hqtrack.presets import load_preset
    from vots_hqtrack.settings import apply_settings

    if memory != "full" and not memory.isdecimal():
        raise ConfigError(f"--memory must be full or a number of frames, got {memory!r}")
    wanted = {"--memory": ("memory.capacity", memory), "--dtype": ("runtime.dtype", dtype)}
    changes = []
    for option, (changed, value) in wanted.items():
        if value not in ("full", "auto"):
            refuse_set_too(settings, option, changed)
            changes.append(f"{changed}={value}")
    return Case(apply_settings(load_preset(preset), [*changes, *settings]), device)


def _parse_size(text: str) -> Size:
    from vots_hqtrack.types import Size

    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ConfigError(f"--size must be WIDTHxHEIGHT such as 854x480, got {text!r}")
    return Size(int(height), int(width))


def _read_video(
    source: str | None, mask: Path | None, size: Size, num_objects: int
) -> tuple[list[FrameArray], Mapping[int, MaskArray]]:
    """Read or make the first frames; without a mask the objects are discs."""
    from vots_hqtrack.masks import split_label_map
    from vots_hqtrack.synthetic.discs import SyntheticVideo
    from vots_hqtrack.types import check_frame
    from vots_hqtrack.video.label_maps import read_label_map
    from vots_hqtrack.video.reader import open_source

    if source is None:
        video = SyntheticVideo(size, num_objects)
        return [video.frame(index) for index in range(_MAX_FRAMES)], video.masks(0)
    frames = [named.frame for named in itertools.islice(open_source(source), _MAX_FRAMES)]
    if not frames:
        raise InputError(f"no frame could be read from {source}")
    if mask is not None:
        return frames, dict(split_label_map(read_label_map(mask)).items())
    return frames, SyntheticVideo(check_frame(frames[0]), num_objects).masks(0)


def _finish(cases: Sequence[CaseResult], device: str, json_path: Path | None) -> None:
    """Show how the cases differ, and write the report."""
    from vots_hqtrack.bench.machine import describe_hardware
    from vots_hqtrack.bench.report import Report
    from vots_hqtrack.devices import pick_device
    from vots_hqtrack.versions import installed_versions

    _show_growth(cases)
    if json_path is not None:
        made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        hardware = describe_hardware(pick_device(device))
        text = Report(made, hardware, installed_versions(), cases).to_json()
        with atomic_path(json_path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _show(result: CaseResult) -> None:
    weights = "" if result.weights == "preset" else "; random weights: speed only"
    table = Table(title=f"{result.name}{weights}", title_justify="left")
    table.add_column("stage")
    for column in ("ms, median", "fastest", "slowest", "GFLOP", "GB", "floor, ms"):
        table.add_column(column, justify="right")
    for name, stage in result.stages.items():
        if name == "total":
            table.add_section()
        times = (f"{1000 * value:.1f}" for value in (stage.median, stage.fastest, stage.slowest))
        work = (f"{stage.gflop:.1f}", f"{stage.gbyte:.2f}", f"{1000 * stage.floor:.1f}")
        table.add_row(name, *times, *(work if stage.gbyte >= 0.005 else ()))
    out.print(table)
    peak = ", ".join(f"{place} {number / _MIB:.0f} MiB" for place, number in result.peak.items())
    show(
        f"matrix product in {result.dtype}: {result.throughput:.0f} GFLOP/s; "
        f"copy: {result.copy_rate:.0f} GB/s; "
        f"memory {result.memory_bytes / _MIB:.1f} MiB; peak {peak}; "
        f"objects seen {result.seen:.0%}; {result.operators} operators a frame; "
        f"{result.num_frames} frames; {result.clock} time\n"
    )
    if result.together:
        show(f"several videos in one batch: {result.together:.2f} of one after another\n")


def _show_growth(results: Sequence[CaseResult]) -> None:
    """Put several cases side by side, the first one as 1."""
    if len(results) < 2:
        return
    first = results[0]
    table = Table("case", title="against the first case", title_justify="left")
    for column in ("ms, median", "ratio", "ratio per throughput"):
        table.add_column(column, justify="right")
    for result in results:
        total, base = result.stages["total"], first.stages["total"]
        ratio = total.median / base.median
        scaled = ratio * result.throughput / first.throughput
        table.add_row(result.name, f"{1000 * total.median:.1f}", f"{ratio:.2f}", f"{scaled:.2f}")
    out.print(table)


def _compare(old: Path, new: Path, *, tolerance: float) -> None:
    from vots_hqtrack.bench.report import compare, read_report

    lines = compare(read_report(old), read_report(new), tolerance=tolerance)
    table = Table("case", "stage", title=f"{new} against {old}", title_justify="left")
    table.add_column("ratio", justify="right")
    table.add_column("")
    for line in lines:
        table.add_row(
            line.case, line.stage, f"{line.ratio:.2f}", "slower" if line.is_regression else ""
        )
    out.print(table)
    if any(line.is_regression for line in lines):
        raise typer.Exit(EXIT_REGRESSION)
