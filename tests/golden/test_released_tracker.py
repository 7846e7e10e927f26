"""The released model through the tracker itself, from a weights file to reported masks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from released_clips import load_clip, recorded_weights

from vots_hqtrack.checkpoints.load import save_tensors
from vots_hqtrack.config import FrameConfig, RefinerConfig
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.presets import vmos_released
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import ObjectId

CLOSED_LOOP_SHARE = 5e-3


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "vmos.safetensors"
    save_tensors(path, recorded_weights(), {}, dtype=torch.float32)
    return path


def make(weights: Path, refiner: RefinerConfig) -> HQTracker:
    config = dataclasses.replace(
        vmos_released(),
        memory=load_clip("E").memory,
        frame=FrameConfig(min_short_edge=0),
        refiner=refiner,
    )
    return HQTracker.from_config(config, device="cpu", weights=weights)


def test_masks_are_those_of_the_released_model(weights: Path) -> None:
    clip = load_clip("E")
    tracker = make(weights, RefinerConfig(enabled=False))
    state = tracker.initialize(clip.frames[0], {1: clip.labels[0] == 1})
    for index, frame in enumerate(clip.frames[1:], start=1):
        result = tracker.track(frame, state)
        differs = result.masks[ObjectId(1)] != (clip.labels[index] == 1)
        assert differs.mean() <= CLOSED_LOOP_SHARE
    with pytest.raises(ConfigError, match="no refiner"):
        tracker.mask_from_box(clip.frames[0], (10, 10, 40, 40))


@pytest.mark.weights
def test_refiner_with_an_encoder_of_its_own_leaves_the_memory_alone(weights: Path) -> None:
    """The refiner changes what is reported, not what VMOS remembers."""
    clip = load_clip("E")
    tracker = make(weights, RefinerConfig(prompt="box+mask"))
    state = tracker.initialize(clip.frames[0], {1: clip.labels[0] == 1})
    changed = False
    for index, frame in enumerate(clip.frames[1:3], start=1):
        result = tracker.track(frame, state)
        differs = result.initial_masks[ObjectId(1)] != (clip.labels[index] == 1)
        assert differs.mean() <= CLOSED_LOOP_SHARE
        changed |= not np.array_equal(result.masks[ObjectId(1)], result.initial_masks[ObjectId(1)])
    assert changed
