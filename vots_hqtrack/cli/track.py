"""``hqtrack track``: from a video and its first masks or boxes to results on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vots_hqtrack.cli.boxes import Box, clip_box, parse_box
from vots_hqtrack.cli.console import err, out
from vots_hqtrack.cli.options import (
    ConfigOption,
    DeviceOption,
    PresetOption,
    RefineOption,
    SettingsOption,
    WeightsOption,
    build_config,
)
from vots_hqtrack.cli.progress import frame_progress
from vots_hqtrack.errors import HQTrackError, InputError, ShapeError

if TYPE_CHECKING:
    from vots_hqtrack.config import TrackerConfig
    from vots_hqtrack.result import FrameResult
    from vots_hqtrack.tracker import HQTracker
    from vots_hqtrack.types import FrameArray, MaskArray, ObjectId, Size
    from vots_hqtrack.video.overlap import WriteBehind
    from vots_hqtrack.video.reader import FrameSource, NamedFrame
    from vots_hqtrack.video.results import ResultWriter

MaskOption = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        metavar="FILE",
        help="Mask image of the first frame: indexed or grey with object ids as values, "
        "black and white, or with a colour for every object.",
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


@dataclass(frozen=True, slots=True)
class Job:
    """What shall be tracked, how, and where the results go."""

    source: FrameSource
    folder: Path
    mask_path: Path | None
    boxes: tuple[Box, ...]
    config: TrackerConfig
    device: str
    weights: Path | None
    limit: int | None
    use_overlay: bool

    @property
    def length(self) -> int | None:
        """Number of frames to track, the first one counted; None if unknown."""
        lengths = [length for length in (self.source.length, self.limit) if length is not None]
        return min(lengths, default=None)

    def facts(self, size: Size, device: str) -> dict[str, object]:
        """Return what ``tracks.json`` says of the run as a whole."""
        from vots_hqtrack.cli.versions import installed_versions

        prompt = (
            {"mask": str(self.mask_path)}
            if self.mask_path
            else {"boxes": {str(place): list(box) for place, box in enumerate(self.boxes, start=1)}}
        )
        return {
            "source": {
                "location": self.source.location,
                "kind": self.source.kind,
                "fps": self.source.fps,
                "height": size.height,
                "width": size.width,
            },
            "prompt": prompt,
            "device": device,
            "weights": str(self.weights or self.config.weights),
            "versions": installed_versions(),
            "config": dataclasses.asdict(self.config),
        }


@dataclass(frozen=True, slots=True)
class Tracked:
    """A frame, what was found in it, and the seconds that this took."""

    named: NamedFrame
    result: FrameResult
    seconds: float


def track(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A folder of frames, a video file, or the number of a camera."
        ),
    ],
    out_folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the results.")
    ],
    mask: MaskOption = None,
    box: BoxOption = None,
    preset: PresetOption = "lite",
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    config: ConfigOption = None,
    settings: SettingsOption = None,
    refine: RefineOption = True,
    overlay: Annotated[
        bool, typer.Option("--overlay/--no-overlay", help="Write the overlay video.")
    ] = True,
    fps: Annotated[
        float | None,
        typer.Option("--fps", help="Frame rate of the overlay video instead of the source's."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, metavar="N", help="Stop after N frames."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace earlier results in DIR.")
    ] = False,
) -> None:
    """Track objects through a video.

    Writes DIR/masks/<frame>.png (a pixel's value is its object's id),
    DIR/overlay.mp4 and DIR/tracks.json.
    An error or Ctrl-C midway loses nothing of what was done.
    """
    from vots_hqtrack.checkpoints.manifest import resolve
    from vots_hqtrack.video.reader import open_source
    from vots_hqtrack.video.results import check_output

    built = build_config(preset, config=config, settings=settings, refine=refine)
    if (mask is None) == (not box):
        got = "neither" if mask is None else "both"
        raise InputError(f"wanted either --mask or --box for the first frame, got {got}")
    boxes = _parse_boxes(box or [])
    if fps is not None and not 0 < fps < math.inf:
        raise InputError(f"--fps must be a number above 0, got {fps}")
    check_output(out_folder, overwrite=overwrite)
    opened = open_source(source, fps=fps)
    _check_apart(opened, out_folder)
    resolve(built.weights, weights)
    _run(Job(opened, out_folder, mask, boxes, built, device, weights, limit, overlay))


def _parse_boxes(texts: Sequence[str]) -> tuple[Box, ...]:
    from vots_hqtrack.types import MAX_OBJECTS

    if len(texts) > MAX_OBJECTS:
        raise InputError(f"at most {MAX_OBJECTS} objects fit one video, got {len(texts)} boxes")
    return tuple(parse_box(text) for text in texts)


def _check_apart(source: FrameSource, folder: Path) -> None:
    """Refuse to read what the run would replace."""
    from vots_hqtrack.video.results import MASKS_FOLDER, OVERLAY_NAME

    replaced = [(folder / name).resolve() for name in (MASKS_FOLDER, OVERLAY_NAME)]
    if source.kind != "camera" and Path(source.location).resolve() in replaced:
        raise InputError(
            f"the results would replace the source {source.location}; give another folder as --out"
        )


def _run(job: Job) -> None:
    """Check the first frame and what is given for it, load the model, and track."""
    from vots_hqtrack.allocation import keep_freed_memory
    from vots_hqtrack.types import check_frame
    from vots_hqtrack.video.overlap import WriteBehind, read_ahead
    from vots_hqtrack.video.results import ResultWriter

    keep_freed_memory()
    with contextlib.closing(iter(job.source)) as frames:
        first = next(frames, None)
        if first is None:
            raise InputError(f"no frame could be read from {job.source.location}")
        size = check_frame(first.frame)
        masks = _read_masks(job.mask_path, size) if job.mask_path else {}
        boxes = [clip_box(box, size) for box in job.boxes]
        with err.status("loading the model"):
            from vots_hqtrack.tracker import HQTracker

            tracker = HQTracker.from_config(job.config, device=job.device, weights=job.weights)
        masks = masks or _segment_boxes(tracker, first.frame, boxes)
        facts = job.facts(size, str(tracker.device))
        fps = job.source.fps if job.use_overlay else None
        writer = ResultWriter(job.folder, facts, overlay_fps=fps)
        started = time.perf_counter()
        try:
            with writer, contextlib.ExitStack() as stack:
                rest: Iterator[NamedFrame] = itertools.islice(frames, job.limit and job.limit - 1)
                if job.source.kind != "camera":  # whose frames are worth less the older they are
                    rest = stack.enter_context(contextlib.closing(read_ahead(rest)))
                behind = stack.enter_context(WriteBehind(_writing(writer)))
                _show_progress(_track_frames(tracker, first, rest, masks, behind), job.length)
        except (HQTrackError, OSError, KeyboardInterrupt):
            kept = _count(writer.num_frames, "frame")
            err.print(f"kept: {kept} in {job.folder}", markup=False, soft_wrap=True)
            raise
    _print_summary(writer, len(masks), time.perf_counter() - started)


def _read_masks(path: Path, size: Size) -> dict[ObjectId, MaskArray]:
    """Read the masks of the first frame's objects.

    Args:
        path: Mask image.
        size: Frame size that it must have.

    Returns:
        Bool ``(H, W)`` by object id, at least one, none of them empty.
    """
    from vots_hqtrack.masks import split_label_map
    from vots_hqtrack.types import check_masks
    from vots_hqtrack.video.label_maps import read_label_map

    label_map = read_label_map(path)
    if not label_map.any():
        raise InputError(f"the mask {path} is empty: wanted at least one object, got none")
    if label_map.shape != tuple(size):
        height, width = label_map.shape
        raise ShapeError(f"the mask {path} must have the frame's size {size}, got {height}x{width}")
    return check_masks(dict(split_label_map(label_map).items()), size)


def _segment_boxes(
    tracker: HQTracker, frame: FrameArray, boxes: Sequence[Box]
) -> dict[ObjectId, MaskArray]:
    """Turn boxes into masks of the objects 1, 2, ..."""
    from vots_hqtrack.types import ObjectId

    masks = tracker.masks_from_boxes(frame, boxes)
    return {ObjectId(number): mask for number, mask in enumerate(masks, start=1)}


def _writing(writer: ResultWriter) -> Callable[[Tracked], None]:
    return lambda done: writer.write(*done.named, done.result, seconds=done.seconds)


def _track_frames(
    tracker: HQTracker,
    first: NamedFrame,
    frames: Iterable[NamedFrame],
    masks: Mapping[ObjectId, MaskArray],
    behind: WriteBehind[Tracked],
) -> Iterator[None]:
    """Track frame by frame; yields after each, beginning with the first frame."""
    from vots_hqtrack.result import FrameResult

    started = time.perf_counter()
    state = tracker.initialize(first.frame, dict(masks.items()))
    given = FrameResult(
        frame_index=0,
        masks=masks,
        scores=dict.fromkeys(masks, 1.0),
        sources=dict.fromkeys(masks, "given"),
    )
    behind.put(Tracked(first, given, time.perf_counter() - started))
    yield
    for named in frames:
        started = time.perf_counter()
        result = tracker.track(named.frame, state)
        behind.put(Tracked(named, result, time.perf_counter() - started))
        yield


def _show_progress(steps: Iterable[None], total: int | None) -> None:
    """Run all steps under a progress bar."""
    with frame_progress() as progress:
        task = progress.add_task("tracking", total=total)
        for _ in steps:
            progress.advance(task)


def _print_summary(writer: ResultWriter, num_objects: int, seconds: float) -> None:
    counts = f"{_count(writer.num_frames, 'frame')}, {_count(num_objects, 'object')}"
    speed = f"{seconds / writer.num_frames:.2f} s a frame"
    out.print(f"{counts}, {speed}; results in {writer.folder}", markup=False, soft_wrap=True)
    for line in writer.summary.lines():
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
