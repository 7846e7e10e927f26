"""One video through one tracker on one device, and how alike two such runs are.

Tests with the parameter ``device`` run their body on the CPU in every test run, so that it is known
to work, and on a GPU where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vots_hqtrack.build import build_parts
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, LabelArray, MaskArray

ON_CPU = pytest.param("cpu", id="on_cpu")
ON_CUDA = pytest.param("cuda", id="on_cuda", marks=pytest.mark.gpu)

Video = Sequence[tuple[FrameArray, Mapping[int, MaskArray]]]


@dataclass(frozen=True)
class DeviceRun:
    """Output of a tracker.

    Attributes:
        logits: ``(1, 11, h, w)`` on the CPU, output of the decoder for the first tracked frame.
        labels: ``(T - 1, H, W)`` uint8 object ids of the tracked frames.
        scores: ``(T - 1, N)`` float64.
    """

    logits: Tensor
    labels: LabelArray
    scores: np.ndarray


def run_video(
    config: TrackerConfig, video: Video, device: str, weights: Path | None = None
) -> DeviceRun:
    """Track a video from the masks of its first frame."""
    place = torch.device(device)
    parts = build_parts(config, place, weights)
    decoded: list[Tensor] = []
    parts.vmos.decoder.register_forward_hook(lambda *call: decoded.append(call[2].float().cpu()))
    tracker = HQTracker(config, *parts, place)
    state = tracker.initialize(*video[0])
    decoded.clear()
    labels, scores = [], []
    for frame, _ in video[1:]:
        result = tracker.track(frame, state)
        label_map = np.zeros(frame.shape[:2], np.uint8)
        for object_id, mask in result.masks.items():
            label_map[mask] = object_id
        labels.append(label_map)
        scores.append(list(result.scores.values()))
    return DeviceRun(decoded[0], np.stack(labels), np.array(scores))


def pooled_iou(found: LabelArray, exact: LabelArray) -> float:
    """Intersection over union of all objects in all frames together.

    A pixel that two objects share out differently is missing from both.
    """
    common = int(((found == exact) & (exact > 0)).sum())
    either = int(((found > 0) | (exact > 0)).sum())
    swapped = int(((found != exact) & (found > 0) & (exact > 0)).sum())
    return common / (either + swapped) if either else 1.0
