"""Every preset on each device and in each dtype against the CPU in float32.

Weights are the shipped ones, those of the recording, or random ones, as far as there are any; SAM's
ViT-H is too slow for a CPU, so its TinyViT stands in for it, by the same way through the tracker.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from device_runs import DeviceRun, Video, pooled_iou, run_video
from released_clips import load_clip, recorded_weights
from two_discs import draw_video

from vots_hqtrack.build import build_networks
from vots_hqtrack.checkpoints.load import save_tensors
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.presets import PRESETS, load_preset
from vots_hqtrack.settings import apply_settings

pytestmark = pytest.mark.usefixtures("fast_16_bit")
NUM_FRAMES = 4
OWN_ENCODER_FRAMES = 3
"""For refiners with an encoder of their own, which takes a CPU seconds a frame."""
LOGITS = 1e-3
"""Largest difference of a logit in float32, as a fraction of the largest logit."""
LABELS = 1e-3
"""Largest fraction of pixels with another label in float32, over all frames in closed loop."""
SCORES = 1e-2
IOU = 0.99
"""Least IoU of all masks together in 16 bit."""
RANDOM_IOU = {"vmos-r50": 0.97}
"""The same where random weights bring many pixels near a tie: 0.983 in bfloat16 on the CPU."""
SMALL = (
    "frame.long_edge=256",
    "frame.min_short_edge=0",
    "memory.gap=1",
    "memory.capacity=3",
    "runtime.frame_budget=0",
)
TINY_VIT = ("refiner.model=vit_tiny", "refiner.weights=sam-vit-tiny")

ON_CPU = [
    pytest.param(name, dtype, "cpu", id=f"{name}-{dtype}-on_cpu", marks=marks)
    for name, dtype, marks in (
        ("lite-vmos", "float32", pytest.mark.weights),
        ("vmos", "bfloat16", ()),
        # On the CPU it is compared with itself, which takes long with SAM's own encoder.
        ("hqtrack", "float32", (pytest.mark.weights, pytest.mark.large)),
        ("deaot-r50", "bfloat16", ()),
    )
]
ON_CUDA = [
    pytest.param(
        name,
        dtype,
        "cuda",
        id=f"{name}-{dtype}-on_cuda",
        marks=(pytest.mark.gpu, *([pytest.mark.weights] if needs_shipped else [])),
    )
    for name in PRESETS
    if name != "hqtrack-sam2"  # no SAM 2 is shipped; tests/sam/test_sam2.py has a small one
    for needs_shipped in [not name.startswith(("vmos-r50", "deaot"))]
    for dtype in ("float32", "bfloat16", "float16")
]


def configure(name: str, dtype: str) -> TrackerConfig:
    config = apply_settings(load_preset(name), [*SMALL, f"runtime.dtype={dtype}"])
    if config.refiner.enabled and config.refiner.model == "vit_h":
        config = apply_settings(config, TINY_VIT)
    return config


def video_of(name: str) -> Video:
    if name.startswith("lite"):
        return draw_video(NUM_FRAMES)
    clip = load_clip("E")
    masks = {1: clip.labels[0] == 1}
    count = OWN_ENCODER_FRAMES if load_preset(name).refiner.enabled else NUM_FRAMES
    return [(frame, masks) for frame in clip.frames[:count]]


def write_weights(name: str, folder: Path) -> Path | None:
    """Write the weights of a preset that are not shipped."""
    if name.startswith("lite"):
        return None
    config, path = load_preset(name), folder / "weights.safetensors"
    tensors = recorded_weights()
    if config.encoder.kind == "resnet50":
        torch.manual_seed(0)
        parts = dict(zip(("encoder", "vmos"), build_networks(config), strict=True))
        tensors = {
            f"{prefix}.{key}": value
            for prefix, part in parts.items()
            for key, value in part.state_dict().items()
        }
    save_tensors(path, tensors, {}, dtype=torch.float32)
    return path


@cache
def exact_run(name: str, folder: Path) -> DeviceRun:
    weights = folder / "weights.safetensors"
    path = weights if weights.exists() else None
    return run_video(configure(name, "float32"), video_of(name), "cpu", path)


@pytest.mark.parametrize(("name", "dtype", "device"), [*ON_CPU, *ON_CUDA])
def test_frames(
    name: str, dtype: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    weights = write_weights(name, tmp_path)
    exact = exact_run(name, tmp_path)
    found = run_video(configure(name, dtype), video_of(name), device, weights)
    assert exact.labels.any()
    assert torch.isfinite(found.logits).all()
    if dtype == "float32":
        largest = exact.logits.abs().max()
        torch.testing.assert_close(
            found.logits, exact.logits, rtol=0, atol=LOGITS * max(1.0, float(largest))
        )
        assert (found.labels != exact.labels).mean() <= LABELS
        assert abs(found.scores - exact.scores).max() <= SCORES
    else:
        assert pooled_iou(found.labels, exact.labels) >= RANDOM_IOU.get(name, IOU)
