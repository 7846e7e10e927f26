"""State of the tracker on each device: videos do not mix, memory stays flat."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from device_runs import ON_CPU, ON_CUDA, Video
from two_discs import draw_video

from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import MaskArray, ObjectId

SMALL = ("frame.long_edge=256", "memory.gap=2", "memory.capacity=3")
LENGTH = 3
DIFFERENT = 1e-4
"""Largest fraction of a mask's frame that may differ: the order of sums may change from run to run,
on a GPU always, on a CPU with the address of a buffer (some libraries treat aligned ones apart)."""
GROWTH = 2**20
"""Bytes that may be held more after all frames than after a third of them."""


def follow(tracker: HQTracker, video: Video) -> list[dict[ObjectId, MaskArray]]:
    state = tracker.initialize(*video[0])
    return [dict(tracker.track(frame, state).masks) for frame, _ in video[1:]]


@pytest.mark.weights
@pytest.mark.parametrize("preset", ["lite-vmos", "lite"])
@pytest.mark.parametrize("device", [ON_CPU, ON_CUDA])
def test_videos_interleaved(device: str, preset: str) -> None:
    tracker = HQTracker.from_preset(preset, device=device, settings=SMALL)
    videos = draw_video(LENGTH, seed=0), draw_video(LENGTH, seed=50)
    alone = [follow(tracker, video) for video in videos]
    states = [tracker.initialize(*video[0]) for video in videos]
    for index in range(1, LENGTH):
        for video, state, expected in zip(videos, states, alone, strict=True):
            masks = tracker.track(video[index][0], state).masks
            for object_id, mask in masks.items():
                wanted = expected[index - 1][object_id]
                assert wanted.any()
                assert np.mean(mask != wanted) <= DIFFERENT


@pytest.mark.weights
@pytest.mark.gpu
@pytest.mark.parametrize("preset", ["lite-vmos", "lite"])
def test_a_replayed_frame_equals_a_launched_one(
    preset: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Twelve frames: every kind of frame is computed, recorded and replayed; objects come later."""
    video = draw_video(12)
    settings = (*SMALL, "runtime.dtype=float32", "memory.gap=3")
    labels = {}
    for way in ("off", "auto"):
        tracker = HQTracker.from_preset(
            preset, device="cuda", settings=(*settings, f"runtime.compile={way}")
        )
        state = tracker.initialize(video[0][0], {1: video[0][1][1]})
        found = []
        for index, (frame, masks) in enumerate(video[1:], start=1):
            found.append(tracker.track(frame, state).label_map)
            if index == 4:
                tracker.add_objects(frame, {2: masks[2]}, state)
        labels[way] = np.stack(found)
    assert np.mean(labels["auto"] != labels["off"]) <= DIFFERENT
    assert "without a CUDA graph" not in caplog.text


def held_bytes(device: str) -> int:
    """Bytes of all tensors: by the allocator on a GPU, by the garbage collector on the CPU."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()
    # Not by isinstance, which would wake the lazy attributes of whatever else is loaded.
    kinds = (torch.Tensor, torch.nn.Parameter)
    tensors = [x for x in gc.get_objects() if type(x) in kinds and x.layout is torch.strided]
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    return sum(storages.values())


@pytest.mark.weights
@pytest.mark.parametrize(
    ("device", "num_frames"),
    [
        pytest.param("cpu", 12, id="on_cpu"),
        pytest.param("cuda", 300, id="on_cuda", marks=pytest.mark.gpu),
    ],
)
def test_memory_is_flat(device: str, num_frames: int) -> None:
    tracker = HQTracker.from_preset("lite-vmos", device=device, settings=SMALL)
    video = draw_video(6)
    state = tracker.initialize(*video[0])
    held = {}
    for index in range(1, num_frames + 1):
        tracker.track(video[index % len(video)][0], state)
        if index in (num_frames // 3, num_frames):
            held[index] = held_bytes(device)
    early, late = held.values()
    assert early > state.nbytes > 0
    assert late - early <= GROWTH
