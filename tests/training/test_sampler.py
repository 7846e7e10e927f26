"""Windows of cached clips."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from toy_run import toy_recipe, write_clips

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.batch import PartDataset, part_places, part_stream
from vots_hqtrack.training.datasets import keep_visible
from vots_hqtrack.training.feature_cache import (
    NECK_CHANNELS,
    CachedClip,
    ClipSampler,
    Source,
    Window,
)
from vots_hqtrack.training.recipe_data import PhaseOptions

SMALL = PhaseOptions(batch_size=2, num_frames=2, crop=(32, 32))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("cache"))


def test_exception_empty_source(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none"):
        ClipSampler([Source(tmp_path, 1.0, 1)], 0)


def test_exception_clips_are_too_short(cache: Path) -> None:
    sampler = ClipSampler([Source(cache, 1.0, 1)], 0)
    with pytest.raises(InputError, match="has 4 frames"):
        sampler.draw(0, [0], PhaseOptions(num_frames=4, crop=(32, 32)))


def test_draws_depend_on_seed_step_and_place_only(cache: Path) -> None:
    sampler, again = (ClipSampler([Source(cache, 1.0, 1)], 3) for _ in range(2))
    sampler.draw(0, [0, 1], SMALL)
    both, last = sampler.draw(5, [0, 1], SMALL), again.draw(5, [1], SMALL)
    assert both.labels.shape == (2, 2, 32, 32)
    assert torch.equal(both.labels[1:], last.labels)
    assert torch.equal(both.slots[1:], last.slots)
    assert both.features is not None
    assert last.features is not None
    assert torch.equal(both.features[1].s8[1:], last.features[1].s8)
    assert both.features[0].s16.shape == (2, NECK_CHANNELS, 2, 2)


def test_a_window_larger_than_the_clips_takes_them_whole(cache: Path) -> None:
    sampler = ClipSampler([Source(cache, 1.0, 1)], 3, shuffle_slots=False)
    batch = sampler.draw(0, [0], PhaseOptions(num_frames=2, crop=(512, 512)))
    assert batch.labels.shape == (1, 2, 48, 64)
    assert batch.slots.tolist() == [list(range(11))]


def test_window_reads_the_same_place_at_all_scales(cache: Path) -> None:
    clip = CachedClip(cache / "0.safetensors")
    features = clip.read([0], Window(2, 2, 4, 4))
    is_object = torch.from_numpy(clip.labels()[0, 16:48, 16:48][4::8, 4::8] == 1)
    s8 = features.s8[0].float()
    inside, outside = s8[:, is_object], s8[:, ~is_object]
    assert inside.std(1).mean() < 0.2
    assert (inside.mean(1) - outside.mean(1)).abs().mean() > 0.5
    assert features.s4.shape[-2:] == (8, 8)


def test_renumbering_keeps_objects_of_the_first_frame() -> None:
    labels = np.zeros((2, 20, 20), np.uint8)
    labels[:, :10, :10], labels[:, 10:, 10:] = 7, 3
    labels[1, 0, 15] = 9
    found = keep_visible(labels, 48)
    assert sorted(np.unique(found)) == [0, 1, 2]
    assert (found[0, :10, :10] == 2).all()
    assert (found[0, 10:, 10:] == 1).all()
    assert found[1, 0, 15] == 0


def test_workers_draw_what_the_process_itself_would(cache: Path) -> None:
    """OpenCV's threads have run here before, and a fork would copy their locks."""
    cv2.GaussianBlur(np.zeros((512, 512, 3), np.uint8), (9, 9), 0)
    parts = PartDataset(ClipSampler([Source(cache, 1.0, 1)], 3), toy_recipe())
    alone, helped = (list(islice(part_stream(parts, 1, workers), 2)) for workers in (0, 1))
    for left, right in zip(alone, helped, strict=True):
        assert torch.equal(left.labels, right.labels)
        assert torch.equal(left.slots, right.slots)
        assert left.features is not None
        assert right.features is not None
        assert torch.equal(left.features[1].s8, right.features[1].s8)


def test_processes_and_parts_share_a_batch_out() -> None:
    shares = [
        part_places(8, 2, part, rank=rank, num_processes=2) for rank in (0, 1) for part in (0, 1)
    ]
    assert sorted(place for share in shares for place in share) == list(range(8))
