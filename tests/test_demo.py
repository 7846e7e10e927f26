from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from vots_hqtrack.demo import images
from vots_hqtrack.demo.images import load_image, load_outlines
from vots_hqtrack.demo.render import NUM_FRAMES, RenderedFrame, pose_at, render
from vots_hqtrack.demo.run import MARKER, prepare_folder, run_demo
from vots_hqtrack.demo.scenes import Pose, Scene, SceneLayer, load_scenes, read_tables
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.measures import measure_object
from vots_hqtrack.types import ObjectId
from vots_hqtrack.vot.registry import BASELINE_TRACKER, TrackerEntry
from vots_hqtrack.vot.run import Step

if importlib.util.find_spec("skimage") is None:
    pytest.skip("needs the extra 'demo'", allow_module_level=True)


SCENES = load_scenes()
ORBIT = SCENES[1]


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[RenderedFrame]]:
    """Every scene at a third of its frame rate."""
    return {scene.name: list(render(scene, num_frames=NUM_FRAMES // 3)) for scene in SCENES}


def tracks(frames: list[RenderedFrame]) -> dict[ObjectId, list[np.ndarray]]:
    return {key: [frame.masks[key] for frame in frames] for key in frames[0].masks}


def test_scenes_are_long_and_hold_two_to_four_objects(
    rendered: dict[str, list[RenderedFrame]],
) -> None:
    assert NUM_FRAMES >= 40
    assert len(SCENES) == 3
    for frames in rendered.values():
        assert 2 <= len(frames[0].masks) <= 4
        for frame in frames:
            assert frame.frame.shape == (360, 640, 3)
            assert frame.frame.dtype == np.uint8
            assert np.sum(list(frame.masks.values()), axis=0).max() <= 1
        assert all(mask.sum() > 1500 for mask in frames[0].masks.values())


def test_what_happens_in_the_scenes(rendered: dict[str, list[RenderedFrame]]) -> None:
    areas = {
        (name, key): np.array([mask.sum() for mask in masks])
        for name, frames in rendered.items()
        for key, masks in tracks(frames).items()
    }
    # The cup hides a part of the cat, though the cat comes nearer; the horse one of the cameraman.
    for key, share in ((("breakfast", ObjectId(1)), 0.85), (("meadow", ObjectId(1)), 0.65)):
        area = areas[key]
        assert area.min() < share * min(area[0], area[-1])
    # The cup leaves the meadow for more than ten frames and comes back.
    (absent,) = np.nonzero(areas["meadow", ObjectId(3)] == 0)
    assert 3 * len(absent) > 10
    assert 0 < absent[0]
    assert absent[-1] < len(rendered["meadow"]) - 1
    # An untracked twin flies beside the tracked shuttle.
    shuttles = [layer for layer in ORBIT.layers if layer.outline == "shuttle"]
    assert [layer.object_id is None for layer in shuttles] == [True, False]


def test_a_copy_of_the_first_mask_scores_low(rendered: dict[str, list[RenderedFrame]]) -> None:
    for frames in rendered.values():
        for masks in tracks(frames).values():
            score = measure_object([masks[0]] * len(masks), masks)
            assert score is not None
            assert score.region < 0.45


def test_masks_are_exact() -> None:
    # The same scene with its object far away: the frames differ where the object is.
    near = SceneLayer("cup", (Pose(0, 500, 400, 200), Pose(1, 540, 430, 220, 30)), ObjectId(1))
    far = dataclasses.replace(near, poses=(Pose(0, 5000, 0, 200), Pose(1, 5000, 0, 220, 30)))
    camera = (Pose(0, 500, 400, 1.0), Pose(1, 510, 410, 1.1, 3))
    scene = Scene("one", "hubble", 1.0, camera, (near,))
    with_cup = list(render(scene, num_frames=3))
    without = list(render(dataclasses.replace(scene, layers=(far,)), num_frames=3))
    for here, gone in zip(with_cup, without, strict=True):
        difference = np.abs(here.frame.astype(int) - gone.frame.astype(int)).max(axis=2)
        changed = cv2.medianBlur((difference > 12).astype(np.uint8), 3) > 0
        mask = here.masks[ObjectId(1)]
        assert np.count_nonzero(changed & mask) / np.count_nonzero(changed | mask) > 0.97
        assert not gone.masks[ObjectId(1)].any()


def test_rendering_depends_on_the_seed_alone() -> None:
    first, again, other = (list(render(ORBIT, num_frames=2, seed=seed)) for seed in (0, 0, 1))
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left.frame, right.frame)
        for key, mask in left.masks.items():
            np.testing.assert_array_equal(mask, right.masks[key])
    assert (first[0].masks[ObjectId(3)] != other[0].masks[ObjectId(3)]).any()


def test_paths_go_through_their_poses() -> None:
    poses = [Pose(0, 1, 2, 3, 4), Pose(0.3, 5, -6, 7, 80), Pose(1, 9, 10, 11, 12)]
    for pose in poses:
        assert pose_at(poses, pose.time) == pytest.approx(pose)


def test_outlines_are_inside_their_images() -> None:
    outlines = load_outlines()
    assert {layer.outline for scene in SCENES for layer in scene.layers} <= set(outlines)
    for outline in outlines.values():
        height, width, _ = load_image(outline.image).shape
        assert len(outline.points) > 20
        assert (outline.points >= 0).all()
        assert (outline.points < (width, height)).all()
    tables = read_tables()["images"]
    assert {scene.image for scene in SCENES} <= set(tables)
    assert {image["licence"] for image in tables.values()} == {"CC0", "public domain"}
    assert all(image["credit"] for image in tables.values())


def test_images_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "image_folder", lambda: tmp_path)
    with pytest.raises(InputError, match=r"cannot read the demo's image .*brick\.png"):
        load_image("brick")
    (tmp_path / "brick.png").write_bytes(b"other")
    with pytest.raises(InputError, match="install scikit-image again"):
        load_image("brick")


def test_missing_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install .*\[demo\]"):
        load_image("brick")


def test_only_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    prepare_folder(folder)
    (folder / "sequences" / "old").mkdir(parents=True)
    (folder / "overlay.mp4").touch()
    (folder / "notes.txt").touch()
    prepare_folder(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([MARKER, "notes.txt"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "work.txt").touch()
    with pytest.raises(InputError, match="holds no earlier demo"):
        prepare_folder(tmp_path / "other")
    with pytest.raises(InputError, match="holds no earlier demo"):
        prepare_folder(tmp_path / "other" / "work.txt")
    with pytest.raises(InputError, match="not ASCII"):
        prepare_folder(tmp_path / "Vorführung")


@pytest.mark.vot
@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps: list[Step] = []
    tracker = TrackerEntry("Copy2", "The baseline again", "vots_hqtrack.vot.copy_first")
    scenes = SCENES[:2]
    result = run_demo(Path("out"), tracker, num_frames=3, scenes=scenes, on_step=steps.append)
    evaluation = result.evaluation
    ours, baseline = (evaluation.measures[name] for name in ("Copy2", BASELINE_TRACKER))
    assert ours == baseline
    assert list(ours.sequences) == [scene.name for scene in scenes]
    assert ours.overall.nre == pytest.approx(1 / 3)
    paths = [result.overlay_path, result.preview_path]
    paths += [evaluation.report_path, evaluation.archive_path]
    for path in paths:
        assert path.is_absolute()
        assert path.stat().st_size > 1000
    video = cv2.VideoCapture(str(result.overlay_path))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3 * len(scenes)
    video.release()
    for step in steps:
        assert 0 <= step.num_done <= step.num_parts
    last = {step.text: step for step in steps}
    assert all(step.num_done == step.num_parts for step in last.values())
    assert {"draw the sequences", "run Copy2", "run CopyFirst", "measure"} <= set(last)
