"""The demo: scenes rendered, tracked through the official toolkit, measured, shown as a video."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vots_hqtrack.demo.render import FPS, NUM_FRAMES, render
from vots_hqtrack.demo.scenes import Scene, load_scenes
from vots_hqtrack.errors import InputError
from vots_hqtrack.types import FrameArray, MaskArray
from vots_hqtrack.video.overlay import OverlayWriter, draw_overlay
from vots_hqtrack.video.reader import read_frame
from vots_hqtrack.vot.registry import BASELINE_TRACKER, TrackerEntry, baseline_entry, write_registry
from vots_hqtrack.vot.results import read_tracked
from vots_hqtrack.vot.run import EvaluationResult, Step, StepCallback, run_evaluation
from vots_hqtrack.vot.sequences import (
    read_sequence_info,
    read_sequence_list,
    write_sequence,
    write_sequence_list,
)
from vots_hqtrack.vot.workspace import Workspace, check_toolkit_path, make_workspace

MARKER = "hqtrack-demo.txt"
PREVIEW_STRIDE = 2
PREVIEW_SCALE = 2
PREVIEW_QUALITY = 55

_PARTS = ("sequences", "workspace", "overlay.mp4", "preview.webp")


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Results of the demo.

    Attributes:
        evaluation: Measures and the toolkit's files.
        overlay_path: Video of all scenes with the tracker's masks.
        preview_path: Small animation of the scenes side by side.
    """

    evaluation: EvaluationResult
    overlay_path: Path
    preview_path: Path


def run_demo(
    folder: Path,
    tracker: TrackerEntry,
    *,
    seed: int = 0,
    num_frames: int = NUM_FRAMES,
    scenes: Sequence[Scene] | None = None,
    on_step: StepCallback = lambda step: None,
) -> DemoResult:
    """Run the demo.

    Args:
        folder: Output folder; an earlier demo there is replaced.
        tracker: The tracker, which is measured beside the copy of the first mask.
        seed: Seed of small differences of the scenes.
        num_frames: Frames of every scene.
        scenes: The scenes; None takes all.
        on_step: Progress callback.

    Returns:
        The measures and the absolute paths of the files.

    Raises:
        InputError: The folder holds other things, or the toolkit cannot work there.
        ConfigError: The toolkit or the images are not installed.
        ProtocolError: A step of the toolkit left no result.
    """
    folder = folder.absolute()
    prepare_folder(folder)
    sequences = folder / "sequences"
    _write_scenes(sequences, scenes or load_scenes(), num_frames, seed, on_step)
    registry = folder / "workspace" / "trackers.ini"
    registry.parent.mkdir()
    write_registry(registry, [tracker, baseline_entry()])
    workspace = make_workspace(registry.parent, sequences, registry)
    names = [tracker.identifier, BASELINE_TRACKER]
    evaluation = run_evaluation(workspace, names, on_step=on_step)
    overlay_path, preview_path = folder / "overlay.mp4", folder / "preview.webp"
    _write_overlay(overlay_path, workspace, tracker.identifier, on_step)
    _write_preview(preview_path, workspace, tracker.identifier)
    return DemoResult(evaluation, overlay_path, preview_path)


def prepare_folder(folder: Path) -> None:
    """Make the demo's folder, or clear it of an earlier demo.

    Args:
        folder: An absolute path.

    Raises:
        InputError: It holds other files, or the toolkit cannot work there.
    """
    check_toolkit_path(folder)
    marker = folder / MARKER
    if folder.exists() and not marker.is_file() and (folder.is_file() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty and holds no earlier demo: choose another folder")
    for name in _PARTS:
        part = folder / name
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text("made by: hqtrack demo, which may replace the files here\n", "utf-8")


def _write_scenes(
    folder: Path, scenes: Sequence[Scene], num_frames: int, seed: int, on_step: StepCallback
) -> None:
    """Render scenes and write them as VOTS sequences with ``list.txt``."""
    num_parts = num_frames * len(scenes)
    for number, scene in enumerate(scenes):
        frames: list[FrameArray] = []
        masks: dict[int, list[MaskArray | None]] = {}
        for rendered in render(scene, num_frames=num_frames, seed=seed):
            frames.append(rendered.frame)
            for object_id, mask in rendered.masks.items():
                masks.setdefault(int(object_id), []).append(mask)
            num_done = number * num_frames + len(frames)
            on_step(Step("draw the sequences", num_done, num_parts, scene.name))
        write_sequence(folder / scene.name, frames, masks, fps=FPS)
    write_sequence_list(folder, [scene.name for scene in scenes])


def _write_overlay(path: Path, workspace: Workspace, tracker: str, on_step: StepCallback) -> None:
    """Write a video of all sequences with a tracker's masks drawn over them."""
    sequences = read_sequence_list(workspace.sequences)
    infos = [read_sequence_info(sequence) for sequence in sequences]
    num_parts = sum(len(info.frame_paths) for info in infos)
    num_done = 0
    with OverlayWriter(path, infos[0].fps, infos[0].size) as writer:
        for sequence in sequences:
            for shown in read_tracked(workspace, tracker, sequence):
                writer.write(read_frame(shown.path), shown.masks)
                num_done += 1
                on_step(Step("draw the video", num_done, num_parts, sequence.name))


def _write_preview(path: Path, workspace: Workspace, tracker: str) -> None:
    """Write all sequences side by side as a small animation in WebP."""
    sequences = read_sequence_list(workspace.sequences)
    clips = [_small_overlays(workspace, tracker, sequence) for sequence in sequences]
    rows = [Image.fromarray(np.hstack(images)) for images in zip(*clips, strict=False)]
    rows[0].save(
        path,
        save_all=True,
        append_images=rows[1:],
        duration=round(1000 * PREVIEW_STRIDE / FPS),
        loop=0,
        quality=PREVIEW_QUALITY,
        method=4,
    )


def _small_overlays(workspace: Workspace, tracker: str, sequence: Path) -> list[FrameArray]:
    images = []
    for shown in read_tracked(workspace, tracker, sequence):
        if shown.index % PREVIEW_STRIDE == 0:
            overlay = Image.fromarray(draw_overlay(read_frame(shown.path), shown.masks))
            images.append(np.asarray(overlay.reduce(PREVIEW_SCALE)))
    return images
