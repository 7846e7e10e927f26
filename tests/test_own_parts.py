"""An encoder and a refiner of one's own: a class each, registered by name, then tracked with."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from two_discs import draw_video

from vots_hqtrack.build import build_untrained_parts
from vots_hqtrack.config import (
    EncoderConfig,
    RefinerConfig,
    TrackerConfig,
    released_vmos,
)
from vots_hqtrack.encoder import register_encoder
from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.refiner import Box, ObjectPrompt, Refinement, RefinerOptions, register_refiner
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameFeatures


@register_encoder("toy", channels=(8, 8, 16))
class ToyEncoder(nn.Module):
    """Three strided convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.s4 = nn.Conv2d(3, 8, 7, stride=4, padding=3)
        self.s8 = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.s16 = nn.Conv2d(8, 16, 3, stride=2, padding=1)

    def forward(self, image: Tensor) -> FrameFeatures:
        s4 = self.s4(image)
        s8 = self.s8(s4.relu())
        return FrameFeatures(s4, s8, self.s16(s8.relu()))


@register_refiner("toy")
class ToyRefiner:
    """Keeps the bright pixels of a mask; takes every pixel of a box."""

    shared_encoder = None

    def __init__(self, config: RefinerConfig, options: RefinerOptions) -> None: ...
    def embed(self, encoded: EncodedFrame) -> Tensor:
        return torch.from_numpy(encoded.frame.max(axis=2) > 100)

    def refine(self, embedding: Tensor, masks: Tensor) -> Refinement:
        return Refinement(masks & embedding, torch.full((len(masks),), 0.5))

    def segment_boxes(self, embedding: Tensor, boxes: Sequence[Box]) -> Tensor:
        masks = torch.zeros((len(boxes), *embedding.shape), dtype=torch.bool)
        for mask, (x, y, width, height) in zip(masks, boxes, strict=True):
            mask[int(y) : int(y + height), int(x) : int(x + width)] = True
        return masks

    def segment(self, embedding: Tensor, prompt: ObjectPrompt) -> Tensor:
        return embedding if prompt.mask is None else embedding & torch.from_numpy(prompt.mask)


CPU = torch.device("cpu")
CONFIG = TrackerConfig(
    encoder=EncoderConfig("toy"),
    vmos=dataclasses.replace(released_vmos(), width_s16=16, width_s8=16, width_s4=8),
    refiner=RefinerConfig(kind="toy", weights=""),
)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ones_own_parts_track(dtype: str) -> None:
    config = apply_settings(CONFIG, [f"runtime.dtype={dtype}", "frame.min_short_edge=0"])
    tracker = HQTracker(config, *build_untrained_parts(config, CPU), CPU)
    (first, _), (second, _) = draw_video(2)
    boxes = tracker.masks_from_boxes(first, [(20, 10, 40, 40), (90, 30, 30, 30)])
    assert [mask.sum() for mask in boxes] == [1600, 900]
    result = tracker.track(second, tracker.initialize(first, dict(enumerate(boxes, start=1))))
    for object_id, mask in result.masks.items():
        assert result.sources[object_id] != "refined" or (second.max(axis=2)[mask] > 100).all()
