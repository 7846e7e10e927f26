"""The programs in ``examples/`` run as a user starts them, on small synthetic videos.

Each is its process's main module. But for the one that starts processes of its own, that process is
the tests': importing torch takes longer than what the programs do.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from square_videos import write_videos
from two_discs import SIZE, draw_video, texture

from vots_hqtrack.masks import combine_masks
from vots_hqtrack.types import Size
from vots_hqtrack.video.video_writer import VideoWriter

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLES = REPOSITORY / "examples"
SMALL = ("--set", "frame.long_edge=384")
NUM_FRAMES = 4

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of two discs as frames and as ``videos/a.mp4``, beside which is its first mask."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "frames").mkdir()
    (folder / "videos").mkdir()
    frames = draw_video(NUM_FRAMES)
    for index, (frame, _) in enumerate(frames):
        Image.fromarray(frame).save(folder / "frames" / f"{index:05d}.png")
    for name in ("a", "b"):
        with VideoWriter(folder / "videos" / f"{name}.mp4", 10, Size(*SIZE)) as writer:
            for frame, _ in frames:
                writer.append(frame)
        Image.fromarray(combine_masks(frames[0][1])).save(folder / "videos" / f"{name}.png")
    return folder


def _run(name: str, *arguments: object, cwd: Path) -> str:
    path, printed = str(EXAMPLES / name), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [path, *map(str, arguments), *SMALL])
        patch.chdir(cwd)
        runpy.run_path(path, run_name="__main__")
    return printed.getvalue()


def _run_as_process(name: str, *arguments: object, cwd: Path) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *map(str, arguments), *SMALL],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def _iou(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_cutouts_hold_the_object_and_nothing_else(folder: Path) -> None:
    _run("cutouts.py", "frames", "--box", "44,24,33,33", "--out", "cut", cwd=folder)
    paths = sorted((folder / "cut").glob("*.png"))
    assert [path.stem for path in paths] == [f"{index:05d}" for index in range(NUM_FRAMES)]
    for path, (frame, masks) in zip(paths, draw_video(NUM_FRAMES), strict=True):
        image = np.array(Image.open(path))
        inside = image[..., 3] > 0
        assert _iou(inside, masks[1]) > 0.8
        assert (image[inside][:, :3] == frame[inside]).all()
        assert not image[~inside].any()


def test_live_adds_objects_by_key_while_the_others_go_on(tmp_path: Path) -> None:
    pytest.importorskip("tkinter")
    for index in range(6):  # the red square is in the middle first, the blue one four frames later
        frame = texture(0, *SIZE, (90, 110, 90))
        frame[33:63, 113 + 15 * index : 143 + 15 * index] = (220, 40, 40)
        frame[33:63, 40 + 15 * index : 70 + 15 * index] = (40, 60, 230)
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    lines = _run("live.py", tmp_path, "--keys", "n...n", cwd=tmp_path).splitlines()
    areas = [ast.literal_eval(line) for line in lines]
    assert [list(found) for found in areas] == [[], [1], [1], [1], [1], [1, 2]]
    assert all(600 < area < 1200 for area in areas[-1].values()), areas


def test_batch_tracks_every_video_in_processes(folder: Path) -> None:
    printed = _run_as_process("batch.py", "videos", "--set", "refiner.enabled=false", cwd=folder)
    assert [line for line in printed.splitlines() if "mp4" in line] == ["a.mp4", "b.mp4"]
    for name in ("a", "b"):
        last = np.array(Image.open(folder / "batch" / name / f"{NUM_FRAMES - 1:05d}.png"))
        for number, truth in draw_video(NUM_FRAMES)[-1][1].items():
            assert _iou(last == number, truth) > 0.7


def test_zones_count_who_is_in_the_left_half(folder: Path) -> None:
    pytest.importorskip("supervision")
    mask = folder / "videos" / "a.png"
    lines = _run("zones.py", "frames", "--mask", mask, cwd=folder).splitlines()
    assert lines == [f"frame {index:05d}: 1 inside, objects [1]" for index in range(1, NUM_FRAMES)]


def test_evaluate_prints_the_measures_of_each_object(tmp_path: Path) -> None:
    write_videos(tmp_path / "data", 2, 3)
    printed = _run("evaluate.py", "data", "--preset", "lite-vmos", cwd=tmp_path)
    assert [line.split()[:2] for line in printed.splitlines()[:-1]] == [["v0", "1"], ["v1", "1"]]
    assert printed.splitlines()[-1].startswith("mean SegmentationMeasures(region=0.")


def test_the_examples_are_short_and_all_in_the_docs() -> None:
    paths = sorted(EXAMPLES.glob("*.py"))
    assert [path.name for path in paths] == [
        *("batch.py", "cutouts.py", "evaluate.py", "live.py", "zones.py")
    ]
    page = (REPOSITORY / "docs" / "examples.md").read_text(encoding="utf-8")
    for path in paths:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 40, path.name
        assert f'--8<-- "examples/{path.name}"' in page
