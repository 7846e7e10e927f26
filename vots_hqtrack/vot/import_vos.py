"""DAVIS and YouTube-VOS layouts: listing their sequences, and turning them into VOTS sequences.

The layout is ``JPEGImages/<sequence>/*.jpg`` and ``Annotations/<sequence>/*.png``, each with or
without a folder for the resolution in between (``480p``, ``Full-Resolution``, ...), in the data
set's folder or in that of a split (``train``, ``valid``, ...). Masks may be indexed (value =
object) or binary.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError, PartialError
from vots_hqtrack.io import atomic_folder
from vots_hqtrack.types import ObjectId
from vots_hqtrack.video.label_maps import LabelMaps
from vots_hqtrack.video.reader import list_images, natural_key
from vots_hqtrack.vot.region_text import EncodedMask
from vots_hqtrack.vot.sequences import (
    check_empty,
    check_sequence_name,
    write_sequence,
    write_sequence_list,
)
from vots_hqtrack.vot.workspace import check_toolkit_path

IMAGES, ANNOTATIONS = "JPEGImages", "Annotations"
DEFAULT_FPS = 24.0

_FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class VOSSequence:
    """Files of one sequence.

    Attributes:
        name: Its name.
        frames: The frames in order.
        annotations: Masks of the annotated frames by frame index.
    """

    name: str
    frames: tuple[Path, ...]
    annotations: dict[int, Path]


@dataclass(frozen=True, slots=True)
class ImportedSequence:
    """Summary of one imported sequence.

    Attributes:
        name: Its name.
        num_frames: Frames written.
        object_ids: Its objects.
        num_skipped: Frames before the first object, which are left out.
    """

    name: str
    num_frames: int
    object_ids: tuple[ObjectId, ...]
    num_skipped: int


def find_sequences(
    root: Path, part: str | None = None, *, needs_frames: bool = True
) -> dict[str, tuple[Path, Path]]:
    """Find the sequences below a folder.

    Args:
        root: The data set's folder.
        part: Name of the split or resolution to take, where there are several.
        needs_frames: Refuse masks without a folder of frames beside them.

    Returns:
        By name, in natural order: the folder of frames and the folder of annotations.

    Raises:
        InputError: The layout is another one, or two sequences have one name.
    """
    if not root.is_dir():
        raise InputError(f"cannot import from {root}: the folder is missing")
    found: dict[str, tuple[Path, Path]] = {}
    for base in [root, *_subfolders(root)]:
        if not (base / (IMAGES if needs_frames else ANNOTATIONS)).is_dir():
            continue
        if not (base / ANNOTATIONS).is_dir():
            raise InputError(f"{base} holds {IMAGES}, but no {ANNOTATIONS} beside it")
        for folder in _subfolders(base / ANNOTATIONS):
            for masks in _subfolders(folder) or [folder]:
                if part is not None and part not in masks.relative_to(root).parts:
                    continue
                if masks.name in found:
                    raise InputError(
                        f"two sequences are named {masks.name}: {found[masks.name][1]} and "
                        f"{masks}; name the part (split or resolution) that you want"
                    )
                frames = base / IMAGES / masks.relative_to(base / ANNOTATIONS)
                found[masks.name] = (frames, masks)
    if not found:
        wanted = f"{IMAGES}/<sequence>/*.jpg and {ANNOTATIONS}/<sequence>/*.png"
        where = root if part is None else f"the part {part} of {root}"
        raise InputError(f"found no sequences in {where}: wanted {wanted}")
    return dict(sorted(found.items(), key=lambda item: natural_key(item[0])))


def read_vos_sequence(name: str, frames: Path, annotations: Path) -> VOSSequence:
    """List one sequence's frames and annotations.

    Args:
        name: Its name.
        frames: Folder of frames.
        annotations: Folder of annotations, each named like its frame.

    Raises:
        InputError: There are no frames or annotations, or an annotation has no frame.
    """
    paths = list_images(frames, _FRAME_SUFFIXES) if frames.is_dir() else []
    masks = list_images(annotations, (".png",)) if annotations.is_dir() else []
    for kind, folder, files in (("frames", frames, paths), ("annotations", annotations, masks)):
        if not files:
            raise InputError(f"the sequence {name} has no {kind}: wanted files in {folder}")
    indices = {path.stem: index for index, path in enumerate(paths)}
    if len(indices) != len(paths):
        raise InputError(f"the sequence {name} has two frames of one name in {frames}")
    lost = [path.name for path in masks if path.stem not in indices]
    if lost:
        raise InputError(
            f"the annotations {', '.join(lost[:5])} of {name} have no frame in {frames}"
        )
    return VOSSequence(name, tuple(paths), {indices[path.stem]: path for path in masks})


def import_sequences(
    root: Path,
    names: Sequence[str],
    out: Path,
    *,
    part: str | None = None,
    fps: float = DEFAULT_FPS,
    link: bool = False,
    on_sequence: Callable[[ImportedSequence], None] = lambda done: None,
) -> list[ImportedSequence]:
    """Turn sequences of a video object segmentation set into VOTS sequences with a ``list.txt``.

    An object starts on the first frame with an annotation that shows it. Later it is absent from
    annotated frames that do not show it, and unknown on frames without annotation. Where every
    annotation shows an object for the first time, as in YouTube-VOS's validation set, they are
    first masks only, and objects that they do not show are unknown there. Frames before the first
    object are left out, because the toolkit wants an object to start with.

    Args:
        root: The data set's folder.
        names: Sequences to take, in this order; none takes all.
        out: Folder to be made; it must not exist or be empty.
        part: Name of the split or resolution to take, where there are several.
        fps: Frames per second, which such data sets do not store.
        link: Make symbolic links to the frames instead of copies.
        on_sequence: Called with each sequence that is done.

    Returns:
        Summaries of the sequences written.

    Raises:
        InputError: The layout is another one, a sequence is missing, the toolkit cannot use a path,
            or no sequence can be imported.
        PartialError: Some sequences cannot be imported; the others are.
    """
    check_toolkit_path(out.absolute())
    check_empty(out, "import")
    found = find_sequences(root, part)
    wanted = list(dict.fromkeys(names or found))
    _check_names(wanted, list(found), root)
    done: list[ImportedSequence] = []
    failed: list[InputError] = []
    with atomic_folder(out) as folder:
        for name in wanted:
            try:
                sequence = read_vos_sequence(name, *found[name])
                _check_links(sequence, root, found[name])
                done.append(_import_one(sequence, folder, fps=fps, link=link))
            except InputError as error:
                failed.append(error)
                shutil.rmtree(folder / name, ignore_errors=True)
            else:
                on_sequence(done[-1])
        if not done:
            raise failed[0]
        write_sequence_list(folder, [sequence.name for sequence in done])
    if failed:
        raise _left_out(failed, len(wanted), out)
    return done


def _left_out(failed: Sequence[InputError], count: int, out: Path) -> PartialError:
    reasons = "; ".join(str(error) for error in failed[:5]) + ("; ..." if len(failed) > 5 else "")
    return PartialError(f"{len(failed)} of {count} sequences left out of {out}: {reasons}")


def _check_names(wanted: Sequence[str], found: Sequence[str], root: Path) -> None:
    """Refuse sequences that are not there, and names that the toolkit cannot use."""
    missing = [name for name in wanted if name not in found]
    if missing:
        known = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")
        raise InputError(f"{root} has no sequence {', '.join(missing)}; it has {known}")
    for name in wanted:
        check_toolkit_path(Path(name))
        check_sequence_name(name)


def _check_links(sequence: VOSSequence, root: Path, folders: tuple[Path, Path]) -> None:
    """Refuse files that are links to something outside of the data set.

    The folders that hold all sequences may themselves be links, as to another disk.

    Raises:
        InputError: There is such a link.
    """
    homes = [root.resolve(), *(folder.parent.resolve() for folder in folders)]
    for path in (*sequence.frames, *sequence.annotations.values()):
        target = path.resolve()
        if not any(target.is_relative_to(home) for home in homes):
            raise InputError(f"{path} of {sequence.name} leads out of the data set, to {target}")


def _import_one(sequence: VOSSequence, out: Path, *, fps: float, link: bool) -> ImportedSequence:
    tracks = _read_tracks(sequence)
    starts = [next(i for i, m in enumerate(masks) if m is not None) for masks in tracks.values()]
    if not starts:
        raise InputError(f"no annotation of the sequence {sequence.name} shows an object")
    first = min(starts)
    cut = {int(object_id): masks[first:] for object_id, masks in tracks.items()}
    frames = sequence.frames[first:]
    write_sequence(out / sequence.name, frames, cut, fps=fps, link=link)
    return ImportedSequence(sequence.name, len(frames), tuple(tracks), first)


def _read_tracks(sequence: VOSSequence) -> dict[ObjectId, list[EncodedMask | None]]:
    """Read every object's masks, one for each frame.

    They are all False where an annotated frame does not show the object, and None where nothing is
    known or the object has not started.
    """
    tracks: dict[ObjectId, list[EncodedMask | None]] = {}
    hidden: list[tuple[ObjectId, int]] = []
    maps = LabelMaps(sequence.annotations.values())
    is_first_only = True
    for index in sorted(sequence.annotations):
        label_map = maps.read(sequence.annotations[index])
        shown = {ObjectId(int(value)) for value in np.unique(label_map[label_map > 0])}
        is_first_only &= bool(shown - set(tracks))
        for object_id in shown:
            tracks.setdefault(object_id, [None] * len(sequence.frames))
        for object_id, masks in tracks.items():
            masks[index] = EncodedMask.encode(label_map == object_id)
        hidden += [(object_id, index) for object_id in tracks if object_id not in shown]
    if is_first_only:
        for object_id, index in hidden:
            tracks[object_id][index] = None
    return dict(sorted(tracks.items()))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())
