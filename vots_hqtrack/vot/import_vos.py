"""DAVIS and YouTube-VOS layouts: listing their sequences, and turning them into VOTS sequences.

The layout is ``JPEGImages/<sequence>/*.jpg`` and ``Annotations/<sequence>/*.png``, each with or
without a folder for the resolution in between (``480p``, ``Full-Resolution``, ...), in the data
set's folder or in that of a split (``train``, ``valid``, ...). Masks may be indexed (value =
object) or binary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import MaskArray, ObjectId
from vots_hqtrack.video.label_maps import LabelMaps
from vots_hqtrack.video.reader import list_images, natural_key
from vots_hqtrack.vot.sequences import check_empty, write_sequence, write_sequence_list
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


def find_sequences(root: Path, part: str | None = None) -> dict[str, tuple[Path, Path]]:
    """Find the sequences below a folder.

    Args:
        root: The data set's folder.
        part: Name of the split or resolution to take, where there are several.

    Returns:
        By name, in natural order: the folder of frames and the folder of annotations.

    Raises:
        InputError: The layout is another one, or two sequences have one name.
    """
    if not root.is_dir():
        raise InputError(f"cannot import from {root}: the folder is missing")
    found: dict[str, tuple[Path, Path]] = {}
    for base in [root, *_subfolders(root)]:
        if not (base / IMAGES).is_dir():
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
    object are left out, because the toolkit wants an object to start with. All sequences are listed
    before the first is written; those without an object are left out, and named at the end.

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
        InputError: The layout is another one, a sequence is missing, frames are lost, or the
            toolkit cannot use a path; after all others are done, a sequence shows no object.
        ShapeError: A mask and its frame differ in size.
    """
    check_toolkit_path(out.absolute())
    check_empty(out, "import")
    found = find_sequences(root, part)
    listed = _list_wanted(root, found, names)
    done: list[ImportedSequence] = []
    empty: list[str] = []
    for sequence in listed:
        tracks = _read_tracks(sequence)
        if not tracks:
            empty.append(sequence.name)
            continue
        done.append(_write_one(sequence, tracks, out, fps=fps, link=link))
        on_sequence(done[-1])
    if done:
        write_sequence_list(out, [sequence.name for sequence in done])
    if empty:
        which = f"the sequence {empty[0]}" if len(empty) == 1 else f"these: {', '.join(empty)}"
        raise InputError(
            f"no annotation of {which} shows an object; imported were {len(done)} others"
        )
    return done


def _list_wanted(
    root: Path, found: dict[str, tuple[Path, Path]], names: Sequence[str]
) -> list[VOSSequence]:
    """List the files of all wanted sequences, so that what is wrong with them comes first."""
    missing = [name for name in names if name not in found]
    if missing:
        known = ", ".join(list(found)[:8]) + (", ..." if len(found) > 8 else "")
        raise InputError(f"{root} has no sequence {', '.join(missing)}; it has {known}")
    listed = []
    for name in dict.fromkeys(names or found):
        check_toolkit_path(Path(name))
        listed.append(read_vos_sequence(name, *found[name]))
    return listed


def _write_one(
    sequence: VOSSequence,
    tracks: dict[ObjectId, list[MaskArray | None]],
    out: Path,
    *,
    fps: float,
    link: bool,
) -> ImportedSequence:
    first = min(next(i for i, m in enumerate(masks) if m is not None) for masks in tracks.values())
    cut = {int(object_id): masks[first:] for object_id, masks in tracks.items()}
    frames = sequence.frames[first:]
    write_sequence(out / sequence.name, frames, cut, fps=fps, link=link)
    return ImportedSequence(sequence.name, len(frames), tuple(tracks), first)


def _read_tracks(sequence: VOSSequence) -> dict[ObjectId, list[MaskArray | None]]:
    """Read every object's masks, one for each frame.

    They are all False where an annotated frame does not show the object, and None where nothing is
    known or the object has not started.
    """
    tracks: dict[ObjectId, list[MaskArray | None]] = {}
    maps = LabelMaps(sequence.annotations.values())
    is_first_only = True
    for index in sorted(sequence.annotations):
        label_map = maps.read(sequence.annotations[index])
        shown = {ObjectId(int(value)) for value in np.unique(label_map[label_map > 0])}
        is_first_only &= bool(shown - set(tracks))
        for object_id in shown:
            tracks.setdefault(object_id, [None] * len(sequence.frames))
        for object_id, masks in tracks.items():
            masks[index] = label_map == object_id
    if is_first_only:
        for masks in tracks.values():
            masks[:] = [mask if mask is None or mask.any() else None for mask in masks]
    return dict(sorted(tracks.items()))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())
