"""Presets without published weights: tracking with a weights file, advice without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from two_discs import draw_video

from vots_hqtrack.build import build_networks, build_untrained_parts
from vots_hqtrack.checkpoints.load import save_tensors
from vots_hqtrack.errors import ConfigError, WeightsError
from vots_hqtrack.presets import PRESETS, load_preset
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import ObjectId

SMALL = ("frame.min_short_edge=0", "memory.gap=1", "memory.capacity=3")


@pytest.fixture(scope="module", params=["vmos-r50", "deaot-r50"])
def preset(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def weights(preset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = load_preset(preset)
    torch.manual_seed(0)
    parts = dict(zip(("encoder", "vmos"), build_networks(config), strict=True))
    tensors = {
        f"{prefix}.{key}": value
        for prefix, part in parts.items()
        for key, value in part.state_dict().items()
    }
    path = tmp_path_factory.mktemp("weights") / f"{preset}.safetensors"
    save_tensors(path, tensors, {}, dtype=torch.float32)
    return path


def test_tracks_with_weights_of_the_users_own(preset: str, weights: Path) -> None:
    tracker = HQTracker.from_preset(preset, device="cpu", weights=weights, settings=SMALL)
    video = draw_video(4)
    size = video[0][0].shape[:2]
    state = tracker.initialize(video[0][0], video[0][1])
    num_layers = {"vmos-r50": 4, "deaot-r50": 3}[preset]
    assert [len(entry.layers) for entry in state.groups[0].read().long_term] == [num_layers]
    for index, (frame, _) in enumerate(video[1:], start=1):
        result = tracker.track(frame, state)
        assert result.frame_index == index
        assert {mask.shape for mask in result.masks.values()} == {size}
        assert not (result.masks[ObjectId(1)] & result.masks[ObjectId(2)]).any()
        assert all(np.isfinite(score) for score in result.scores.values())
    assert set(state.groups[0].frame_indices) == {0, 2, 3}


def test_exception_weights_that_nobody_publishes(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTS_HQTRACK_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        HQTracker.from_preset(preset, device="cpu")
    for part in (f"{preset}' are not here", "hqtrack train", f"model.preset={preset}", "--weights"):
        assert part in str(caught.value)


def test_everything_that_is_missing_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTS_HQTRACK_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        HQTracker.from_preset("hqtrack", device="cpu")
    for name in ("vmos-internimage-t", "sam-hq-vit-h"):
        assert f"the weights '{name}' are not here" in str(caught.value)


def test_rows_of_the_papers_second_table() -> None:
    """Baseline, encoder replaced, multi-scale propagation: presets, or one option away."""
    baseline, full = load_preset("deaot-r50"), load_preset("vmos")
    assert (baseline.encoder.kind, baseline.vmos.multi_scale) == ("resnet50", False)
    assert (full.encoder.kind, full.vmos.multi_scale) == ("internimage-t", True)
    assert baseline.memory == full.memory == load_preset("vmos-r50").memory
    assert "vmos.multi_scale" in full.options()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_names_itself(name: str) -> None:
    assert load_preset(name).preset == name


def test_exception_encoders_that_do_not_fit(weights: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown encoder\.kind 'resnet5'; wanted one of: int"):
        HQTracker.from_preset(
            "vmos", settings=["encoder.kind=resnet5"], weights=weights, device="cpu"
        )
    with pytest.raises(WeightsError):
        HQTracker.from_preset(
            "vmos", settings=["encoder.kind=resnet18"], weights=weights, device="cpu"
        )
    config = apply_settings(load_preset("hqtrack"), ["encoder.kind=sam"])
    with pytest.raises(ConfigError, match=r"strides 8,16,32, so vmos\.align_corners must be false"):
        build_untrained_parts(config, torch.device("cpu"))
    config = apply_settings(config, ["vmos.align_corners=false"])
    with pytest.raises(ConfigError, match=r"needs refiner\.model=vit_tiny, got 'vit_h'"):
        build_untrained_parts(config, torch.device("cpu"))


def test_any_feature_extractor_of_timms_is_an_encoder() -> None:
    config = apply_settings(load_preset("deaot-r50"), [*SMALL, "encoder.kind=resnet18"])
    cpu = torch.device("cpu")
    tracker = HQTracker(config, *build_untrained_parts(config, cpu), cpu)
    (frame, masks), (second, _) = draw_video(2)
    assert tracker.track(second, tracker.initialize(frame, masks)).masks.keys() == masks.keys()
