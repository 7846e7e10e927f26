"""The dev split is tracked by the tracker of inference, and training does not notice."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.training.dev import DevSplit, dev_tracker
from vots_hqtrack.training.network import build_network, frame_encoder, tracker_config
from vots_hqtrack.training.recipe import ClipOptions, ModelOptions
from vots_hqtrack.training.recipe_data import DevOptions

DEVICE = torch.device("cpu")


def write_video(root: Path, num_frames: int = 3) -> None:
    """Two discs that stand still on noise."""
    frames, labels = (root / kind / "480p" / "discs" for kind in ("JPEGImages", "Annotations"))
    frames.mkdir(parents=True)
    labels.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 60, (96, 128, 3), dtype=np.uint8)
    mask = np.zeros((96, 128), np.uint8)
    cv2.circle(mask, (40, 48), 24, 1, -1)
    cv2.circle(mask, (95, 48), 18, 2, -1)
    colours = np.array([(0, 0, 0), (190, 30, 30), (20, 60, 190)], np.uint8)
    for index in range(num_frames):
        cv2.imwrite(str(frames / f"{index}.jpg"), noise + colours[mask])
        cv2.imwrite(str(labels / f"{index}.png"), mask)


@pytest.mark.weights
def test_shipped_weights_track_and_stay_as_they_are(tmp_path: Path) -> None:
    write_video(tmp_path / "davis")
    model = ModelOptions("lite", weights="vmos-lite", train_encoder=False, features="cached")
    network = build_network(model, ClipOptions())
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    config = tracker_config(model)
    split = DevSplit(DevOptions(root="davis", sequences=("discs",)), tmp_path)
    tracker = dev_tracker(config, frame_encoder(network, config), network.vmos, DEVICE)
    scores = split.measure(tracker, split.videos)
    assert scores.keys() == {"discs"}
    assert 0.8 < scores["discs"] <= 1
    after = network.state_dict()
    assert after.keys() == before.keys()
    for key, tensor in before.items():
        assert after[key].dtype == tensor.dtype
        assert torch.equal(after[key], tensor), key
    assert all(one.requires_grad for one in network.vmos.parameters())


def test_exception_sequence_is_missing(tmp_path: Path) -> None:
    write_video(tmp_path / "davis")
    with pytest.raises(InputError, match="the dev split needs bear in"):
        DevSplit(DevOptions(root="davis", sequences=("discs", "bear")), tmp_path)


def test_frames_may_be_in_another_data_set(tmp_path: Path) -> None:
    write_video(tmp_path / "davis")
    labels = tmp_path / "other" / "Annotations"
    labels.mkdir(parents=True)
    (tmp_path / "davis" / "Annotations" / "480p" / "discs").rename(labels / "discs")
    options = DevOptions(root="other", options=("frames=../davis",), sequences=("discs",))
    video = DevSplit(options, tmp_path).videos[0]
    assert [len(video), *video.load(1).image.shape] == [3, 96, 128, 3]
    with pytest.raises(ConfigError, match="got 'frame'"):
        DevSplit(DevOptions(root="other", options=("frame=x",)), tmp_path)
