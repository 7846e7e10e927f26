"""Results of this package as videos of masks: of ``track``, of sessions, of VOT evaluations."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.stream import DEFAULT_NAME, FrameMasks, FrameName, MaskVideo, split_ids
from vots_hqtrack.formats.vot import read_regions_at
from vots_hqtrack.types import Size
from vots_hqtrack.video.label_maps import read_written_map
from vots_hqtrack.video.reader import list_images
from vots_hqtrack.video.result_folder import MASKS_FOLDER, TRACKS_NAME, EarlierRun, read_earlier
from vots_hqtrack.vot.region_text import Region
from vots_hqtrack.vot.results import read_regions, result_paths
from vots_hqtrack.vot.sequences import (
    find_truth,
    read_sequence_info,
    read_sequence_list,
    read_truth,
)
from vots_hqtrack.vot.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from vots_hqtrack.session.project import FrameRecord, Project

PROJECT_NAME = "project.json"
_WHOLE = "complete"
_RESULTS = "results"


def is_track(path: Path) -> bool:
    """Whether a folder has results of ``hqtrack track``."""
    return (path / TRACKS_NAME).is_file()


def read_track(folder: Path) -> list[MaskVideo]:
    """Read the results of ``hqtrack track``.

    Raises:
        InputError: They are damaged, or written by another version.
    """
    run = read_earlier(folder)
    if run is None:
        raise InputError(f"{folder} holds no results: wanted a file {TRACKS_NAME}")
    path = folder / TRACKS_NAME
    try:
        source = run.head["source"]
        size = Size(int(source["height"]), int(source["width"]))  # type: ignore[index]
        name = Path(str(source["location"])).stem or folder.resolve().name  # type: ignore[index]
        fps = source["fps"]  # type: ignore[index]
        records = _whole_records(folder, run)
        frames = tuple(FrameName(int(frame["index"]), frame["name"]) for frame in records)
        scores = [_scores(frame) for frame in records]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"cannot read {path}: {error!r}") from error
    objects = dict.fromkeys(sorted({number for found in scores for number in found}), DEFAULT_NAME)
    fault = "" if run.status == _WHOLE else f"the run in {folder} is {run.status}"
    if run.status != _WHOLE and run.head.get("reason"):
        fault += f" ({run.head['reason']})"
    read = partial(_read_track_frame, folder, frames, scores)
    rate = float(fps) if isinstance(fps, int | float) and 0 < fps < math.inf else None
    return [MaskVideo(name, size, frames, objects, read, fps=rate, has_scores=True, fault=fault)]


def is_session(path: Path) -> bool:
    """Whether a folder is the project of a session."""
    return (path / PROJECT_NAME).is_file()


def read_session(folder: Path) -> list[MaskVideo]:
    """Read the project of a session.

    Raises:
        InputError: It is damaged, or open in another process.
    """
    from vots_hqtrack.session.project import Project, read_video_facts  # loads PyTorch

    project = Project(folder, read_video_facts(folder))
    project.close()  # what is read is in memory, but for the label maps
    return [session_video(project)]


def session_video(project: Project) -> MaskVideo:
    """Return the masks of a project that is open."""
    records = dict(sorted(project.records.items()))
    names = _image_names(project.video.location, project.video.num_frames)
    frames = tuple(FrameName(index, names.get(index, f"{index:05d}")) for index in records)
    return MaskVideo(
        Path(project.video.location).stem or project.folder.resolve().name,
        project.video.size,
        frames,
        {int(number): info.name for number, info in sorted(project.objects.items())},
        partial(_read_session_frame, project, list(records.items())),
        has_scores=True,
    )


def _image_names(location: str, num_frames: int) -> dict[int, str]:
    """Names of a video's frames by index, if it is a folder of images that is still as it was."""
    folder = Path(location)
    paths = list_images(folder) if folder.is_dir() else []
    return (
        {index: path.stem for index, path in enumerate(paths)} if len(paths) == num_frames else {}
    )


def is_vot_results(path: Path) -> bool:
    """Whether a folder is a workspace of the VOT toolkit, or the results of a tracker in one."""
    return _workspace_folder(path) is not None


def read_vot_results(path: Path) -> list[MaskVideo]:
    """Read the masks that a tracker reported in an evaluation.

    Args:
        path: The workspace, where it has results of one tracker; or ``results/TRACKER`` in it.

    Raises:
        InputError: There are no results, those of several trackers, or damaged ones.
    """
    folder = _workspace_folder(path)
    if folder is None:
        raise InputError(f"{path} is not in a workspace of the VOT toolkit: wanted config.yaml")
    workspace = open_workspace(folder)
    path = Path(os.path.abspath(path))
    tracker = path.name if path != folder else _only_tracker(workspace)
    videos, missing = [], []
    for sequence in read_sequence_list(workspace.sequences):
        video = _read_reported(workspace, tracker, sequence.resolve())
        videos += [] if video is None else [video]
        missing += [sequence.name] if video is None else []
    if not videos:
        raise InputError(f"{workspace.folder} has no results of {tracker}: evaluate it first")
    if missing:
        lost = f"no results of {tracker} on {', '.join(missing[:5])}"
        fault = "; ".join(part for part in (lost, videos[0].fault) if part)
        videos[0] = replace(videos[0], fault=fault)
    return videos


def _whole_records(folder: Path, run: EarlierRun) -> Sequence[Mapping[str, Any]]:
    """Return the frames of a run; of one that was killed, those that have their label map."""
    frames: Sequence[Mapping[str, Any]] = run.frames
    if run.status != "running":
        return frames
    return [f for f in frames if (folder / MASKS_FOLDER / f"{f['name']}.png").is_file()]


def _scores(record: Mapping[str, Any]) -> dict[int, float]:
    return {int(number): float(found["score"]) for number, found in record["objects"].items()}


def _read_track_frame(
    folder: Path,
    frames: Sequence[FrameName],
    scores: Sequence[Mapping[int, float]],
    position: int,
) -> FrameMasks:
    path = folder / MASKS_FOLDER / f"{frames[position].name}.png"
    masks = split_ids(read_written_map(path).astype(np.int32))
    known = scores[position]
    foreign = sorted(set(masks) - set(known))
    if foreign:
        raise InputError(f"{path} shows object {foreign[0]}, which {TRACKS_NAME} does not name")
    return FrameMasks(masks, {number: known[number] for number in masks})


def _read_session_frame(
    project: Project, records: Sequence[tuple[int, FrameRecord]], position: int
) -> FrameMasks:
    index, record = records[position]
    label_map = project.read_label_map(index)
    masks = split_ids(label_map.astype(np.int32))
    known = {int(number): found.score for number, found in record.objects.items()}
    masks = {number: mask for number, mask in masks.items() if number in known}
    unknown = frozenset(int(number) for number in project.objects if number not in known)
    return FrameMasks(masks, {number: known[number] for number in masks}, unknown)


def _workspace_folder(path: Path) -> Path | None:
    path = Path(os.path.abspath(path))
    for folder in (path, path.parent.parent):
        if (folder / "config.yaml").is_file() and (folder / _RESULTS).is_dir():
            return folder if folder == path or path.parent.name == _RESULTS else None
    return None


def _only_tracker(workspace: Workspace) -> str:
    names = sorted(path.name for path in workspace.results.iterdir() if path.is_dir())
    if len(names) != 1:
        known = f"those of {', '.join(names[:8])}" if names else "none"
        raise InputError(
            f"wanted the results of one tracker in {workspace.folder}, got {known}; "
            f"give the folder {workspace.results}/TRACKER"
        )
    return names[0]


def _read_reported(workspace: Workspace, tracker: str, sequence: Path) -> MaskVideo | None:
    """Read what a tracker reported on a sequence; None without results."""
    info = read_sequence_info(sequence)
    truth, paths = find_truth(sequence), result_paths(workspace, tracker, sequence)
    if not all(path.is_file() for path in paths.values()):
        return None
    tracks: dict[int, list[Region]] = {}
    length = len(info.frame_paths)
    for number, path in paths.items():
        regions = list(read_regions(path))
        given = list(read_truth(truth[number].path))
        length = min(length, len(regions))
        tracks[int(number)] = [
            region if region.is_known else given[i] if i < len(given) else Region("absent")
            for i, region in enumerate(regions)
        ]
    fault = ""
    if length < len(info.frame_paths):
        fault = f"the results of {tracker} on {sequence.name} end at frame {length}"
    return MaskVideo(
        sequence.name,
        info.size,
        tuple(FrameName(i, info.frame_paths[i].stem) for i in range(length)),
        dict.fromkeys(tracks, DEFAULT_NAME),
        partial(read_regions_at, tracks, info.size, range(length)),
        info.frame_paths,
        fps=info.fps,
        fault=fault,
    )
