"""The gradients of a training step on a device against those of the CPU."""

from __future__ import annotations

import pytest
import torch
from device_runs import ON_CPU, ON_CUDA
from torch import Tensor

from vots_hqtrack.config import MemoryConfig, VMOSConfig
from vots_hqtrack.training.clip import shuffle_table, unroll_clip
from vots_hqtrack.training.losses import StepOptions, clip_loss
from vots_hqtrack.types import FrameFeatures
from vots_hqtrack.vmos import build_vmos

DIMS = (16, 32, 24)
CONFIG = VMOSConfig(width_s16=32, width_s8=16, width_s4=8, num_blocks_s16=2, window_radius=2)
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.2}
"""Largest length of a difference of gradients, as a fraction of the gradients' length. Measured on
the CPU in bfloat16: 0.106."""
FRAMES, ROWS, COLUMNS = 4, 3, 5


def draw_features(generator: torch.Generator) -> list[FrameFeatures]:
    def draw(channels: int, scale: int) -> Tensor:
        return torch.randn(2, channels, ROWS * scale, COLUMNS * scale, generator=generator)

    return [FrameFeatures(draw(16, 4), draw(32, 2), draw(24, 1)) for _ in range(FRAMES)]


def draw_labels() -> Tensor:
    labels = torch.zeros(2, FRAMES, ROWS * 16, COLUMNS * 16, dtype=torch.uint8)
    for index in range(FRAMES):
        labels[:, index, 4:24, 4 + 2 * index : 24 + 2 * index] = 1
        labels[1, index, 28:44, 40:60] = 2
    return labels


def gradients(device: str, dtype: str) -> dict[str, Tensor]:
    """Return the gradient of each parameter after a step with true masks, on the CPU."""
    torch.manual_seed(0)
    vmos = build_vmos(CONFIG, DIMS).to(device).train()
    generator = torch.Generator().manual_seed(1)
    features = [
        FrameFeatures(*(x.to(device) for x in (each.s4, each.s8, each.s16)))
        for each in draw_features(generator)
    ]
    labels, slots = draw_labels().to(device), shuffle_table(2, generator).to(device)
    memory = MemoryConfig(capacity=2, gap=1, short_term_delay=1)
    with torch.autocast(device, getattr(torch, dtype), enabled=dtype != "float32"):
        predicted = unroll_clip(vmos, features, labels, slots, memory, use_predicted_masks=False)
        loss = clip_loss(predicted, labels, StepOptions(), align_corners=False)
    loss.total.backward()
    named = vmos.named_parameters()
    return {name: x.grad.detach().cpu().double() for name, x in named if x.grad is not None}


@pytest.mark.usefixtures("fast_16_bit")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("device", [ON_CPU, ON_CUDA])
def test_gradients(device: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    exact, found = gradients("cpu", "float32"), gradients(device, dtype)
    assert found.keys() == exact.keys()
    assert len(exact) > 50
    length = torch.stack([x.square().sum() for x in exact.values()]).sum().sqrt()
    parts = [(found[name] - x).square().sum() for name, x in exact.items()]
    assert length > 0
    assert torch.stack(parts).sum().sqrt() / length <= TOLERANCE[dtype]
