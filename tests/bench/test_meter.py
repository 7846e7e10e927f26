"""Stages add up to the whole, and nothing stays on the parts when the measurement ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vots_hqtrack.bench.meter import StageMeter, metered
from vots_hqtrack.build import build_untrained_parts
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.presets import vmos
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.synthetic.discs import SyntheticVideo
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import Size

CPU = torch.device("cpu")
SMALL = ["frame.min_short_edge=0", "memory.capacity=2"]


def small_config(*settings: str) -> TrackerConfig:
    return apply_settings(vmos(), [*SMALL, *settings])


class Ticks:
    """A reading that grows by one each time it is read."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> float:
        self.count += 1
        return float(self.count)


def test_values_inner_stages_do_not_count_twice() -> None:
    clock = iter([0.0, 2.0, 5.0, 6.0, 10.0, 10.0])
    meter = StageMeter(lambda: next(clock))
    with meter.stage("frame"), meter.stage("encode"):
        meter.enter("inner")
        meter.leave()
    assert meter.take() == {"frame": 2.0, "encode": 3.0 + 4.0, "inner": 1.0}
    assert meter.take() == {}


def test_an_error_leaves_the_meter_balanced() -> None:
    meter = StageMeter(Ticks())
    with pytest.raises(ValueError, match="broken"), meter.stage("outer"), meter.stage("inner"):
        raise ValueError("broken")
    with meter.stage("after"):
        pass
    assert meter.take() == {"outer": 2.0, "inner": 1.0, "after": 1.0}


def test_every_stage_of_a_frame_is_seen_and_no_hook_stays() -> None:
    parts = build_untrained_parts(small_config(), CPU)
    video = SyntheticVideo(Size(33, 49), 2)
    meter = StageMeter(Ticks())
    with metered(parts, meter) as watched:
        tracker = HQTracker(small_config(), *watched, CPU)
        state = tracker.initialize(video.frame(0), video.masks(0))
        meter.take()
        with meter.stage("compose"):
            tracker.track(video.frame(1), state)
    assert set(meter.take()) == {
        "encode",
        "propagate 1/16",
        "propagate 1/8",
        "propagate 1/4",
        "decode masks",
        "identify",
        "compose",
    }
    modules = list(parts.vmos.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_random_weights_are_the_same_for_a_seed_and_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second = (build_untrained_parts(small_config(), CPU) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    for left, right in zip(first.vmos.parameters(), second.vmos.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize(("objects", "size"), [(1, (48, 64)), (11, (97, 129)), (30, (200, 300))])
def test_synthetic_objects_are_whole_and_apart(objects: int, size: tuple[int, int]) -> None:
    video = SyntheticVideo(Size(*size), objects)
    for index in (0, 5, 40):
        masks = video.masks(index)
        assert list(masks) == list(range(1, objects + 1))
        assert all(mask.shape == size and mask.any() for mask in masks.values())
        assert np.stack(list(masks.values())).sum(0).max() == 1
    frame = video.frame(3)
    assert frame.shape == (*size, 3)
    assert frame.dtype == np.uint8
    assert frame.std() > 10
    assert not np.array_equal(frame, video.frame(4))
    assert np.array_equal(frame, SyntheticVideo(Size(*size), objects).frame(3))


@pytest.mark.parametrize(("objects", "size"), [(0, (48, 64)), (1001, (480, 854)), (9, (6, 6))])
def test_exception_objects_that_do_not_fit(objects: int, size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=str(objects)):
        SyntheticVideo(Size(*size), objects)
