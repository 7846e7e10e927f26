"""Fused networks change no mask beyond rounding: the shipped weights with and without them."""

from __future__ import annotations

import pytest
import torch
from two_discs import draw_video

from vots_hqtrack.build import build_parts
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.encoder.frames import NetworkEncoder
from vots_hqtrack.presets import lite
from vots_hqtrack.result import FrameResult
from vots_hqtrack.sam.candidates import ReferenceDecoder
from vots_hqtrack.sam.embed import SharedEmbedder
from vots_hqtrack.sam.refiner import sam_refiner
from vots_hqtrack.sam.tiny_vit import SamEncoder
from vots_hqtrack.sam.weights import load_sam
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker

CPU = torch.device("cpu")
LOWEST_IOU = 0.98
"""0.997 was seen in bfloat16 with both sides rounded, each in its own way; 1.0 in float32."""


def follow(config: TrackerConfig, *, is_fused: bool) -> list[FrameResult]:
    parts = build_parts(config, CPU, None)
    if not is_fused:
        sam = load_sam(config.refiner)
        network = SamEncoder(sam.image_encoder).eval()
        encoder = NetworkEncoder(network, config.frame, strides=(8, 16, 32))
        options = config.refiner
        decoder = ReferenceDecoder(sam.mask_decoder, sam.prompt_encoder)
        refiner = sam_refiner(decoder, options, embed=SharedEmbedder(network))
        parts = parts._replace(encoder=encoder, refiner=refiner)
    tracker = HQTracker(config, *parts, CPU)
    video = draw_video(3)
    state = tracker.initialize(*video[0])
    return [tracker.track(frame, state) for frame, _ in video[1:]]


@pytest.mark.weights
def test_masks_stay_up_to_rounding() -> None:
    config = apply_settings(lite(), ["frame.long_edge=384", "runtime.dtype=bfloat16"])
    fused, usual = (follow(config, is_fused=choice) for choice in (True, False))
    for left, right in zip(fused, usual, strict=True):
        assert left.sources == right.sources
        for one, mask in left.masks.items():
            other = right.masks[one]
            assert mask.any()
            assert (mask & other).sum() / (mask | other).sum() >= LOWEST_IOU


@pytest.mark.weights
def test_compiled_encoders_change_nothing() -> None:
    """Without a GPU the graphs run as they are."""
    config = apply_settings(lite(), ["frame.long_edge=384", "runtime.dtype=float32"])
    torch.compiler.reset()
    compiled_config = apply_settings(config, ["runtime.compile=cudagraphs"])
    compiled, usual = (follow(one, is_fused=True) for one in (compiled_config, config))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for left, right in zip(compiled, usual, strict=True):
        for one, mask in left.masks.items():
            assert (mask == right.masks[one]).all()
