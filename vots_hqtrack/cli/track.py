"""``hqtrack track``: from a video and its first masks or boxes to results on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vots_hqtrack.cli.boxes import Box, clip_box, parse_box
from vots_hqtrack.cli.console import err, frame_progress, out
from vots_hqtrack.cli.options import (
    ConfigOption,
    DeviceOption,
    PresetOption,
    RefineOption,
    SettingsOption,
    WeightsOption,
    build_config,
)
from vots_hqtrack.errors import HQTrackError, InputError, ShapeError

if TYPE_CHECKING:
    from vots_hqtrack.config import TrackerConfig
    from vots_hqtrack.tracker import HQTracker
    from vots_hqtrack.types import MaskArray, ObjectId, Size
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
    """Checked options of a run: source, output folder, prompts and configuration."""

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
        """Return the part of ``tracks.json`` that describes the run as a whole."""
        from vots_hqtrack.cli.versions import installed_versions

        boxes = {str(number): list(box) for number, box in enumerate(self.boxes, start=1)}
        return {
            "source": {
                "location": self.source.location,
                "kind": self.source.kind,
                "fps": self.source.fps,
                "height": size.height,
                "width": size.width,
            },
            "prompt": {"mask": str(self.mask_path)} if self.mask_path else {"boxes": boxes},
            "device": device,
            "weights": str(self.weights or self.config.weights),
            "versions": installed_versions(),
            "config": dataclasses.asdict(self.config),
        }


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
        typer.Option("--limit", min=1, max=10**9, metavar="N", help="Stop after N frames."),
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
    from vots_hqtrack.types import MAX_OBJECTS
    from vots_hqtrack.video.reader import open_source
    from vots_hqtrack.video.results import check_output

    built = build_config(preset, config=config, settings=settings, refine=refine)
    if (mask is None) == (not box):
        got = "neither" if mask is None else "both"
        raise InputError(f"wanted either --mask or --box for the first frame, got {got}")
    if box and len(box) > MAX_OBJECTS:
        raise InputError(f"at most {MAX_OBJECTS} objects fit one video, got {len(box)} boxes")
    boxes = tuple(parse_box(text) for text in box or [])
    if fps is not None and not 0 < fps < math.inf:
        raise InputError(f"--fps must be a number above 0, got {fps}")
    check_output(out_folder, overwrite=overwrite)
    opened = open_source(source, fps=fps)
    _check_apart(opened, out_folder)
    resolve(built.weights, weights)
    _run(Job(opened, out_folder, mask, boxes, built, device, weights, limit, overlay))


def _check_apart(source: FrameSource, folder: Path) -> None:
    """Refuse to read files that the run would replace."""
    from vots_hqtrack.video.results import MASKS_FOLDER, OVERLAY_NAME

    replaced = [(folder / name).resolve() for name in (MASKS_FOLDER, OVERLAY_NAME)]
    if source.kind != "camera" and Path(source.location).resolve() in replaced:
        raise InputError(
            f"the results would replace the source {source.location}; give another folder as --out"
        )


def _run(job: Job) -> None:
    """Check the first frame and its prompts, load the model, and track."""
    from vots_hqtrack.allocation import keep_freed_memory
    from vots_hqtrack.types import ObjectId, check_frame
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
        if boxes:
            found = enumerate(tracker.masks_from_boxes(first.frame, boxes), start=1)
            masks = {ObjectId(number): mask for number, mask in found}
        facts = job.facts(size, str(tracker.device))
        fps = job.source.fps if job.use_overlay else None
        started = time.perf_counter()
        writer = ResultWriter(job.folder, facts, overlay_fps=fps)
        try:
            with writer:
                _track_frames(job, tracker, itertools.chain([first], frames), masks, writer)
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


def _track_frames(
    job: Job,
    tracker: HQTracker,
    frames: Iterator[NamedFrame],
    masks: Mapping[ObjectId, MaskArray],
    writer: ResultWriter,
) -> None:
    """Track and write frame by frame under a progress bar; files are read and written in threads.

    A camera is not read ahead: the older its frames, the less they are worth.
    """
    from vots_hqtrack.result import FrameResult
    from vots_hqtrack.video.background import BackgroundWriter, prefetch

    state = None
    limited: Iterable[NamedFrame] = itertools.islice(frames, job.limit)
    with frame_progress() as progress, contextlib.ExitStack() as stack:
        if job.source.kind != "camera":
            limited = stack.enter_context(contextlib.closing(prefetch(iter(limited))))
        background = stack.enter_context(BackgroundWriter(writer.write))
        task = progress.add_task("tracking", total=job.length)
        for named in limited:
            started = time.perf_counter()
            if state is None:
                state = tracker.initialize(named.frame, dict(masks.items()))
                result = FrameResult(
                    frame_index=0,
                    masks=masks,
                    scores=dict.fromkeys(masks, 1.0),
                    sources=dict.fromkeys(masks, "given"),
                )
            else:
                result = tracker.track(named.frame, state)
            seconds = time.perf_counter() - started
            background.put(named.name, named.frame, result, seconds=seconds)
            progress.advance(task)


def _print_summary(writer: ResultWriter, num_objects: int, seconds: float) -> None:
    counts = f"{_count(writer.num_frames, 'frame')}, {_count(num_objects, 'object')}"
    speed = f"{seconds / writer.num_frames:.2f} s a frame"
    out.print(f"{counts}, {speed}; results in {writer.folder}", markup=False, soft_wrap=True)
    for line in writer.summary.lines():
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
