"""Jobs of ``hqtrack track``, one for each source, checked before any work is done."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vots_hqtrack.cli.prompts import FramePrompt, read_prompts
from vots_hqtrack.cli.spans import Pass, Span, plan_passes
from vots_hqtrack.errors import HQTrackError, InputError

if TYPE_CHECKING:
    from vots_hqtrack.cli.resume import Fingerprint
    from vots_hqtrack.config import TrackerConfig
    from vots_hqtrack.types import Size
    from vots_hqtrack.video.cutout import CutoutKind
    from vots_hqtrack.video.reader import FrameSource
    from vots_hqtrack.video.result_folder import Earlier


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options that all sources of a call share.

    Attributes:
        config: Options of the tracker.
        device: Compute device.
        weights: VMOS weights in place of the configuration's.
        span: Frames to track.
        fps: Frame rate in place of the source's.
        exif: Whether frames are turned by their EXIF orientation.
        skip_missing: Whether frames that cannot be read are left out.
        use_overlay: Whether the overlay video is written.
        cutout: Form of the objects without their background; None writes none.
        earlier: Treatment of results that are there.
        checkpoint_gap: Frames between checkpoints.
        files: Files that the call reads, beside the sources.
        together: Videos that are tracked at once at most; None leaves it to the device.
    """

    config: TrackerConfig
    device: str
    weights: Path | None
    span: Span
    fps: float | None
    exif: Literal["apply", "ignore"]
    skip_missing: bool
    use_overlay: bool
    cutout: CutoutKind | None
    earlier: Earlier
    checkpoint_gap: int
    files: tuple[Path, ...]
    together: int | None


@dataclass(frozen=True, slots=True)
class GivenPrompts:
    """Prompts of a source: those of the command line, or a file's.

    Attributes:
        first: Prompts of the first frame that is tracked; None with a file.
        by_frame: Prompts by frame, of the file.
        path: The file.
    """

    first: FramePrompt | None = None
    by_frame: Mapping[int, FramePrompt] = dataclasses.field(default_factory=dict)
    path: Path | None = None

    @classmethod
    def read(cls, path: Path) -> GivenPrompts:
        """Read a file of prompts.

        Raises:
            InputError: As `read_prompts`; masks in a format of others are to be exported first.
        """
        try:
            return cls(by_frame=read_prompts(path), path=path)
        except InputError as error:
            if (kind := _foreign_format(path)) is None:
                raise
            hint = f"hqtrack export {path} --to prompts --out DIR makes prompts of it"
            raise InputError(f"{path} is of the format {kind}: {hint}") from error

    @property
    def files(self) -> list[Path]:
        """Files that they are in."""
        prompts = [*self.by_frame.values(), *([] if self.first is None else [self.first])]
        named = [path for prompt in prompts for path in prompt.files]
        return [*named, *([] if self.path is None else [self.path])]


def _foreign_format(path: Path) -> str | None:
    from vots_hqtrack.formats.registry import detect_format

    try:
        return detect_format(path)
    except (InputError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class Job:
    """A source to track: its frames, output folder, prompts and options.

    Attributes:
        source: The frames.
        folder: Output folder.
        given: Prompts as they were given.
        prompts: Prompts by frame, ascending.
        passes: Passes over the video.
        options: Options that all sources share.
    """

    source: FrameSource
    folder: Path
    given: GivenPrompts
    prompts: Mapping[int, FramePrompt]
    passes: tuple[Pass, ...]
    options: RunOptions

    @property
    def start(self) -> int:
        """Frame where tracking begins."""
        return self.passes[0].first

    @property
    def is_plain(self) -> bool:
        """Whether it goes forward from the only frame with prompts: no session is needed."""
        is_reverse = any(part.is_reverse for part in self.passes)
        return len(self.passes) == 1 and not is_reverse and set(self.prompts) == {self.start}

    @property
    def fits_together(self) -> bool:
        """Whether it can be tracked beside other videos: a camera's frames would wait for them."""
        return self.is_plain and self.source.kind != "camera"

    @property
    def limit(self) -> int | None:
        """Number of frames of a plain run at most; None goes to the end of the source."""
        span = self.options.span
        return None if span.limit is None and span.stop is None else self.passes[0].length

    @property
    def length(self) -> int | None:
        """Number of frames of a plain run; None if unknown."""
        return self.limit if self.source.length is None else self.passes[0].length

    @property
    def can_resume(self) -> bool:
        """Whether a run that was cut can go on: neither a camera's frames nor time come back."""
        return self.source.kind != "camera" and not self.options.config.runtime.frame_budget

    def facts(self, size: Size, device: str, digests: Fingerprint) -> dict[str, object]:
        """Return the part of ``tracks.json`` that describes the run as a whole."""
        from vots_hqtrack.versions import installed_versions

        options = self.options
        return {
            "source": {
                "location": self.source.location,
                "kind": self.source.kind,
                "fps": self.source.fps,
                "height": size.height,
                "width": size.width,
            },
            "prompt": self._prompt_facts(),
            "passes": [list(part) for part in self.passes],
            "device": device,
            "weights": str(options.weights or options.config.weights),
            "versions": installed_versions(),
            "config": dataclasses.asdict(options.config),
            "limit": self.limit,
            "fingerprint": dict(digests),
        }

    def _prompt_facts(self) -> dict[str, object]:
        first = self.given.first
        if first is None:
            frames = {str(index): prompt.to_json() for index, prompt in self.prompts.items()}
            return {"file": str(self.given.path), "frames": frames}
        if first.mask_path is not None:
            return {"mask": str(first.mask_path)}
        boxes = {str(i): list(p.box) for i, p in first.objects.items() if p.box is not None}
        points = {
            str(i): [[point.x, point.y, int(point.is_inside)] for point in p.points]
            for i, p in first.objects.items()
            if p.points
        }
        return {**({"boxes": boxes} if boxes else {}), **({"points": points} if points else {})}


def result_folders(sources: Sequence[str], out_folder: Path) -> list[Path]:
    """Return the output folder of each source: a single one has all of ``--out``.

    Several ones have a folder of their name below it; where names are alike, with their suffixes or
    the folders that they are in.

    Raises:
        InputError: A source is there twice.

    Example:
        >>> [str(path) for path in result_folders(["a/clip.mp4", "b/clip.mp4"], Path("out"))]
        ['out/a-clip', 'out/b-clip']
    """
    if len(sources) == 1:
        return [out_folder]
    paths = [Path(source).resolve() for source in sources]
    for depth in range(1, max(len(path.parts) for path in paths)):
        for name_of in (_stem, Path.as_posix):
            names = ["-".join(Path(name_of(path)).parts[1:][-depth:]) for path in paths]
            if len({name.lower() for name in names}) == len(names):
                return [out_folder / name for name in names]
    known = [path.as_posix().lower() for path in paths]  # some disks take both letters as equal
    twice = next((s for s, name in zip(sources, known, strict=True) if known.count(name) > 1), "")
    raise InputError(f"the source {twice} is there twice; give each once, or use another --out")


def _stem(path: Path) -> str:
    """Return the path of a file without its suffix, or that of a folder."""
    return path.as_posix() if path.is_dir() else path.with_suffix("").as_posix()


def prepare(source: str, folder: Path, given: GivenPrompts, options: RunOptions) -> Job:
    """Open a source, and check all that can be checked before the work.

    Raises:
        InputError: The source, the output folder or an option does not suit it.
    """
    from vots_hqtrack.video.reader import open_source
    from vots_hqtrack.video.result_folder import check_output

    mask_path = None if given.first is None else given.first.mask_path
    opened = open_source(
        source,
        fps=options.fps,
        exif=options.exif,
        skip_missing=options.skip_missing,
        mask_path=mask_path,
    )
    frames = {path.resolve() for path in opened.paths}
    for path in given.files:
        if path.resolve() in frames:
            raise InputError(f"{path} is both a mask and a frame of {source}: move it")
    inputs = [*options.files, *given.files, *_files_of(opened)]
    check_output(folder, earlier=options.earlier, inputs=inputs)
    passes = _plan(opened, given, options.span)
    prompts = given.by_frame if given.first is None else {passes[0].first: given.first}
    job = Job(opened, folder, given, prompts, tuple(passes), options)
    if options.earlier == "resume" and not job.can_resume:
        what = "a camera" if opened.kind == "camera" else "a latency budget"
        raise InputError(f"a run with {what} cannot go on; leave --resume out")
    if not job.is_plain:
        _check_session(job)
    return job


def _plan(source: FrameSource, given: GivenPrompts, span: Span) -> list[Pass]:
    frames = list(given.by_frame)
    if source.length is not None:
        return plan_passes(span, frames, source.length)
    if span.start or span.direction != "forward" or any(frames):
        raise InputError(
            f"the camera {source.location} can only be tracked forward from frame 0 with prompts "
            "for that frame"
        )
    ends = [end for end in (span.stop, span.limit and span.limit - 1) if end is not None]
    return [Pass(0, min(ends, default=0))]


def _check_session(job: Job) -> None:
    """Refuse what runs backward, and prompts on other frames than the first, cannot keep."""
    from vots_hqtrack.video.result_folder import PASSES_NAME, SESSION_NAME

    options = job.options
    what = "prompts on other frames than the first, and runs backward,"
    if options.config.runtime.frame_budget:
        raise InputError(f"{what} cannot keep a latency budget: take another --preset")
    if options.skip_missing and job.source.kind == "folder":
        raise InputError(f"{what} need every frame; leave --skip-missing out")
    project = job.folder / SESSION_NAME
    if os.path.lexists(project) and not (job.folder / PASSES_NAME).is_file():
        raise InputError(f"{project} is not of a run that was cut; move it, or give another --out")


def _files_of(source: FrameSource) -> list[Path]:
    """Return the folder or file of a source, and frames that may be elsewhere."""
    if source.kind == "camera":
        return []
    return [Path(source.location), *(path for path in source.paths if path.is_symlink())]


Prepared = tuple[str, Job | HQTrackError | OSError]
"""Name of a source, and its job or why there is none."""
