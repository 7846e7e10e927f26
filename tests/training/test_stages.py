"""Both stages, one after the other, and a tracker with what they leave: all parts, toy sizes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vots_hqtrack.settings import set_options
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.training.recipe_files import build_recipe, read_tables
from vots_hqtrack.training.trainer import RunResult, Trainer
from vots_hqtrack.video.label_maps import read_label_map
from vots_hqtrack.video.reader import read_frame

NETWORK = (
    "vmos.width_s16=16",
    "vmos.width_s8=16",
    "vmos.width_s4=8",
    "vmos.num_blocks_s16=1",
    "vmos.window_radius=2",
    "frame.long_edge=256",
)
SMALL = (
    "train.precision=float32",
    "train.workers=0",
    "model.preset=lite",
    "model.train_encoder=false",
    "model.settings=" + ",".join(NETWORK),
    "regularisation.encoder_drop_path=0",
    "phases.batch_size=2",
    "phases.num_frames=3",
    "phases.crop=64,96",
)


def write_data(root: Path) -> None:
    """One photo with a disc, and a DAVIS folder with a video of a disc that moves."""
    photo, video = root / "photos", root / "davis"
    folders = [photo, photo, video, video]
    names = ["JPEGImages", "Annotations", "JPEGImages/480p/disc", "Annotations/480p/disc"]
    paths = [folder / name for folder, name in zip(folders, names, strict=True)]
    noise = np.random.default_rng(0).integers(0, 100, (120, 160, 3), dtype=np.uint8)
    for path in paths:
        path.mkdir(parents=True)
    for index in range(4):
        mask = np.zeros((120, 160), np.uint8)
        cv2.circle(mask, (60 + 10 * index, 60), 30, 1, -1)
        image = noise + 120 * mask[..., None]
        frames, labels = (paths[2], paths[3])
        cv2.imwrite(str(frames / f"{index}.jpg"), image)
        cv2.imwrite(str(labels / f"{index}.png"), mask)
    cv2.imwrite(str(paths[0] / "disc.jpg"), image)
    cv2.imwrite(str(paths[1] / "disc.png"), mask)


def run_stage(name: str, root: Path, settings: list[str], steps: int) -> RunResult:
    words = [*SMALL, f"train.steps={steps}", *settings]
    tables = set_options({**read_tables(name), "data": [{"kind": "x", "root": "x"}]}, words)
    return Trainer(build_recipe(tables), root / name, data=root).run()


@pytest.mark.weights
def test_first_stage_second_stage_tracker(tmp_path: Path) -> None:
    write_data(tmp_path)
    photos = ["data.kind=folder", "data.root=photos", "data.augment=photo"]
    assert run_stage("paper-stage1", tmp_path, photos, 2).step == 2
    first = tmp_path / "paper-stage1" / "last.safetensors"
    videos = ["data.kind=davis", "data.root=davis", f"model.weights={first}"]
    dev = ["dev.root=davis", "dev.sequences=disc", "dev.max_frames=3"]
    result = run_stage("paper-stage2", tmp_path, [*videos, *dev, "augment.short_edge=192"], 1)
    assert result.best is not None
    assert 0 <= result.best <= 1
    weights = tmp_path / "paper-stage2" / "best.safetensors"
    tracker = HQTracker.from_preset("lite-vmos", device="cpu", weights=weights, settings=NETWORK)
    frames = sorted((tmp_path / "davis").rglob("*.jpg"))
    truth = read_label_map(tmp_path / "davis" / "Annotations" / "480p" / "disc" / "0.png") == 1
    state = tracker.initialize(read_frame(frames[0]), {1: truth})
    found = tracker.track(read_frame(frames[1]), state)
    assert found.masks[1].shape == truth.shape
    assert 0 <= found.scores[1] <= 1


def test_second_stage_begins_with_the_first_ones_weights(tmp_path: Path) -> None:
    from toy_run import toy_trainer, write_clips

    cache = write_clips(tmp_path / "cache")
    first = toy_trainer(cache, tmp_path / "first", ["train.steps=1"])
    first.run()
    weights = tmp_path / "first" / "last.safetensors"
    second = toy_trainer(cache, tmp_path / "second", [f"model.weights={weights}"])
    assert second.step == 0
    given = first.learnt.state_dict()
    for key, tensor in second.learning.state_dict().items():
        np.testing.assert_allclose(tensor, given[key], atol=2e-3, err_msg=key)
