"""``hqtrack track``: from a video and its first masks or boxes to results on disk."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vots_hqtrack.cli import signals
from vots_hqtrack.cli.boxes import Box, parse_box
from vots_hqtrack.cli.options import (
    ConfigOption,
    DeviceOption,
    PresetOption,
    RefineOption,
    SettingsOption,
    WeightsOption,
    build_config,
)
from vots_hqtrack.errors import InputError, ShapeError

if TYPE_CHECKING:
    from vots_hqtrack.cli.resume import Fingerprint
    from vots_hqtrack.config import TrackerConfig
    from vots_hqtrack.types import MaskArray, ObjectId, Size
    from vots_hqtrack.video.reader import FrameSource
    from vots_hqtrack.video.result_folder import Earlier

CHECKPOINT_GAP = 50
"""Frames between two checkpoints."""

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


OverlayOption = Annotated[
    bool, typer.Option("--overlay/--no-overlay", help="Write the overlay video.")
]
FpsOption = Annotated[
    float | None,
    typer.Option("--fps", help="Frame rate of the overlay video instead of the source's."),
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
    int | None, typer.Option("--limit", min=1, max=10**9, metavar="N", help="Stop after N frames.")
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
        metavar="N",
        help="Save the memory every N frames, for --resume; 0 never does.",
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
    earlier: Earlier
    checkpoint_gap: int

    @property
    def length(self) -> int | None:
        """Number of frames to track, the first one counted; None if unknown."""
        lengths = [length for length in (self.source.length, self.limit) if length is not None]
        return min(lengths, default=None)

    @property
    def can_resume(self) -> bool:
        """Whether a run that was cut can go on: neither a camera's frames nor time come back."""
        return self.source.kind != "camera" and not self.config.runtime.frame_budget

    def facts(self, size: Size, device: str, digests: Fingerprint) -> dict[str, object]:
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
            "limit": self.limit,
            "fingerprint": dict(digests),
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
    overlay: OverlayOption = True,
    fps: FpsOption = None,
    exif: ExifOption = "apply",
    skip_missing: SkipMissingOption = False,
    limit: LimitOption = None,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = False,
    checkpoint: CheckpointOption = CHECKPOINT_GAP,
) -> None:
    """Track objects through a video.

    Writes DIR/masks/<frame>.png (a pixel's value is its object's id),
    DIR/overlay.mp4 and DIR/tracks.json.
    An error, Ctrl-C or SIGTERM midway loses nothing of what was done; --resume goes on.
    Lost or damaged frames make the result "partial", with exit code 5.
    """
    with signals.on_signal("leave"):
        from vots_hqtrack.checkpoints.manifest import resolve
        from vots_hqtrack.video.reader import open_source
        from vots_hqtrack.video.result_folder import check_output

        built = build_config(preset, config=config, settings=settings, refine=refine)
        boxes = _read_boxes(mask, box)
        if fps is not None and not 0 < fps < math.inf:
            raise InputError(f"--fps must be a number above 0, got {fps}")
        if overwrite and resume:
            raise InputError("wanted either --overwrite or --resume, got both")
        earlier: Earlier = "overwrite" if overwrite else "resume" if resume else "refuse"
        opened = open_source(source, fps=fps, exif=exif, skip_missing=skip_missing, mask_path=mask)
        files = [path for path in (mask, config, weights) if path is not None]
        check_output(out_folder, earlier=earlier, inputs=[*files, *_files_of(opened)])
        resolve(built.weights, weights)
        given = (opened, out_folder, mask, boxes, built, device, weights, limit, overlay)
        job = Job(*given, earlier=earlier, checkpoint_gap=checkpoint)
        if resume and not job.can_resume:
            what = "a camera" if opened.kind == "camera" else "a latency budget"
            raise InputError(f"a run with {what} cannot go on; leave --resume out")
        from vots_hqtrack.cli.track_run import run
    run(job)


def _read_boxes(mask: Path | None, box: list[str] | None) -> tuple[Box, ...]:
    """Read the boxes of the objects; none if there is a mask, exactly one of which is wanted."""
    from vots_hqtrack.types import MAX_OBJECTS

    if (mask is None) == (not box):
        got = "neither" if mask is None else "both"
        raise InputError(f"wanted either --mask or --box for the first frame, got {got}")
    if box and len(box) > MAX_OBJECTS:
        raise InputError(f"at most {MAX_OBJECTS} objects fit one video, got {len(box)} boxes")
    return tuple(parse_box(text) for text in box or [])


def _files_of(source: FrameSource) -> list[Path]:
    """Return the folder or file of a source, and frames that may be elsewhere."""
    if source.kind == "camera":
        return []
    return [Path(source.location), *(path for path in source.paths if path.is_symlink())]


def read_masks(path: Path, size: Size) -> dict[ObjectId, MaskArray]:
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
        hint = "; were the frames turned by --exif?" if (width, height) == tuple(size) else ""
        got = f"{height}x{width}{hint}"
        raise ShapeError(f"the mask {path} must have the frame's size {size}, got {got}")
    return check_masks(dict(split_label_map(label_map).items()), size)
