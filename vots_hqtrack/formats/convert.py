"""Export: from results of this package, or from any format, to a format of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from vots_hqtrack.errors import InputError, OutputError, did_you_mean
from vots_hqtrack.formats.registry import FORMATS, WRITABLE, Format, read_masks
from vots_hqtrack.formats.stream import (
    DEFAULT_NAME,
    FrameMasks,
    FrameName,
    MaskVideo,
    Overlaps,
    file_name,
    renumber,
)
from vots_hqtrack.io import atomic_folder, atomic_path, remove_new_folders
from vots_hqtrack.video.reader import open_source


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """An export that was checked and has not begun.

    Attributes:
        videos: The videos to write.
        name: Name of the format.
        out: File or folder to be made.
        notes: Parts of the content that the format cannot hold, in words.
    """

    videos: tuple[MaskVideo, ...]
    name: str
    out: Path
    notes: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """Number of annotated frames."""
        return sum(len(video.frames) for video in self.videos)

    @property
    def num_objects(self) -> int:
        """Number of objects."""
        return sum(len(video.objects) for video in self.videos)

    def run(self, on_frame: Callable[[], object] = lambda: None) -> tuple[str, ...]:
        """Write the file or folder, which appears whole or not at all.

        Args:
            on_frame: Called after each annotated frame that is read.

        Returns:
            Reasons why it is not complete, in words: faults of the source, and overlaps that the
            format cannot hold.

        Raises:
            InputError: A file of the source is damaged.
            OutputError: The disk is full, or the folder cannot be written.
        """
        target, overlaps = FORMATS[self.name], Overlaps()
        if target.write is None:
            raise InputError(f"the format {self.name} is only read")
        videos = [_counted(video, on_frame) for video in self.videos]
        try:
            with _fresh(self.out, target) as path:
                target.write(videos, path, overlaps)
        except OSError as error:
            raise OutputError(f"cannot write {self.out}: {error.strerror or error}") from error
        faults = [video.fault for video in self.videos] + [overlaps.loss]
        return tuple(fault for fault in faults if fault)


def plan_export(
    source: str | Path | Sequence[MaskVideo],
    out: str | Path,
    *,
    to: str,
    kind: str | None = None,
    video: str | None = None,
    frames: str | Path | None = None,
    use_new_ids: bool = False,
) -> ExportPlan:
    """Check an export before any work is done.

    Args:
        source: Results of this package, a file or folder in one of the formats, or videos.
        out: File or folder to be made; nothing may be there, but an empty folder.
        to: Format to write, one of `WRITABLE`.
        kind: Format of the source; None recognises it.
        video: Name of the video to take, where there are several.
        frames: Video or folder of frames that the masks belong to, for formats that hold frames.
        use_new_ids: Number the objects of each video 1, 2, ... in the order of their ids.

    Raises:
        InputError: The source cannot be read, something is at ``out``, or the format cannot hold
            the videos.

    Example:
        >>> plan = plan_export("results", "masks.json", to="youtube-vis")  # doctest: +SKIP
        >>> plan.run()  # doctest: +SKIP
        ()
    """
    if to not in WRITABLE:
        known, meant = ", ".join(WRITABLE), did_you_mean(to, WRITABLE)
        raise InputError(f"the format to write must be one of {known}, got {to!r}{meant}")
    target, out = FORMATS[to], Path(out)
    _check_out(out, target)
    videos = read_masks(source, kind) if isinstance(source, str | Path) else source
    chosen = _choose(videos, video, to)
    if use_new_ids:
        chosen = [renumber(found) for found in chosen]
    if frames is not None:
        chosen = [_with_frames(chosen, frames, to)]
    for found in chosen:
        _check_ids(found, to)
        file_name(found.name)
        if target.frames == "always" and not (found.source or found.images):
            raise InputError(f"the format {to} holds frames, too: give the video with --frames")
    return ExportPlan(tuple(chosen), to, out, _notes(chosen, target))


def _check_out(out: Path, target: Format) -> None:
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not target.suffix)):
        raise InputError(f"{out} is there already; give another --out")
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"the folder {out} is not empty; give another --out")
    if target.suffix and out.suffix.lower() != target.suffix:
        raise InputError(f"--out must be a file that ends in {target.suffix}, got {out}")


def _choose(videos: Sequence[MaskVideo], name: str | None, to: str) -> list[MaskVideo]:
    names = [video.name for video in videos]
    twice = [known for known, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"two videos are named {twice[0]}")
    known = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    if name is not None and name not in names:
        raise InputError(f"found no video {name}; wanted one of: {known}")
    chosen = [video for video in videos if name in (None, video.name)]
    if FORMATS[to].is_single and len(chosen) > 1:
        raise InputError(f"the format {to} holds one video; choose with --video: {known}")
    return chosen


def _with_frames(videos: Sequence[MaskVideo], frames: str | Path, to: str) -> MaskVideo:
    if FORMATS[to].frames == "never":
        raise InputError(f"the format {to} holds no frames; leave --frames out")
    if len(videos) > 1:
        names = ", ".join(video.name for video in videos[:8])
        raise InputError(f"--frames fits one video; choose with --video: {names}")
    video, source = videos[0], open_source(frames)
    if source.length is None or source.length < video.num_frames:
        got = "a camera" if source.length is None else str(source.length)
        raise InputError(f"wanted the {video.num_frames} frames of {video.name}, got {got}")
    stems = {path.stem: index for index, path in enumerate(source.paths)}
    for frame in video.frames:
        if stems.get(frame.name, frame.index) != frame.index:
            raise InputError(
                f"frame {frame.index} of the masks is named {frame.name}, which is frame "
                f"{stems[frame.name]} of {frames}"
            )
    size = tuple(source.first().frame.shape[:2])
    if size != tuple(video.size):
        got = f"{size[1]}x{size[0]}"
        raise InputError(f"the masks of {video.name} have the size {video.size}, the frames {got}")
    # Masks are named as their frames are: tools find the one by the other.
    named = tuple(FrameName(frame.index, source.name_of(frame.index)) for frame in video.frames)
    return replace(video, frames=named, source=source, images=())


def _check_ids(video: MaskVideo, to: str) -> None:
    kind, highest = FORMATS[to], max(video.objects, default=0)
    if kind.void_id in video.objects:
        problem = f"holds no object {kind.void_id}, which marks pixels without a label"
    elif kind.last_id is not None and highest > kind.last_id:
        problem = f"holds object ids up to {kind.last_id}, got {highest} in {video.name}"
    else:
        return
    room = (kind.void_id or (kind.last_id or 0) + 1) - 1
    hint = "--renumber gives new ones" if len(video.objects) <= room else "take another format"
    raise InputError(f"the format {to} {problem}; {hint}")


def _notes(videos: Sequence[MaskVideo], target: Format) -> tuple[str, ...]:
    lost = []
    if not target.has_scores and any(video.has_scores for video in videos):
        lost.append("scores")
    names = {name for video in videos for name in video.objects.values()}
    if not target.has_names and names - {DEFAULT_NAME}:
        lost.append("names of objects")
    return tuple(lost)


def _counted(video: MaskVideo, on_frame: Callable[[], object]) -> MaskVideo:
    def read(position: int) -> FrameMasks:
        found = video.read(position)
        on_frame()
        return found

    return replace(video, read=read)


def _fresh(out: Path, target: Format) -> AbstractContextManager[Path]:
    return _fresh_file(out) if target.suffix else atomic_folder(out)


@contextmanager
def _fresh_file(out: Path) -> Iterator[Path]:
    with remove_new_folders(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(out, suffix=out.suffix) as temporary:
            yield temporary
            if out.exists():
                raise InputError(f"{out} appeared meanwhile; give another --out")
