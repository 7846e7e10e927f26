"""Pictures are varied as the recipe says, frames and labels alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.datasets import Clip, Photo, keep_visible
from vots_hqtrack.training.frame_sampler import FrameSampler
from vots_hqtrack.training.recipe import ClipOptions
from vots_hqtrack.training.recipe_data import AugmentOptions, DataOptions, PhaseOptions
from vots_hqtrack.training.transforms import (
    merge_clips,
    seeded,
    vary_photo,
    vary_video,
)
from vots_hqtrack.types import Size

SIZE = Size(97, 129)
STILL = AugmentOptions(
    flip=0, jitter=0, grey=0, blur=0, frame_flip=0, degrees=0, translate=0, scale=(1, 1), shear=0
)


def coloured_clip(num_frames: int = 3) -> Clip:
    """Label ``n`` is painted in a grey of ``60 n``, so that frames show their labels."""
    labels = np.zeros((num_frames, 120, 160), np.uint8)
    labels[:, 20:80, 20:70], labels[:, 50:110, 90:150] = 1, 2
    frames = np.repeat(60 * labels[..., None], 3, axis=3)
    return Clip(frames, labels, "painted")


def agreement(clip: Clip) -> float:
    """Fraction of the pixels with the grey of their label."""
    shown = np.rint(clip.frames[..., 0] / 60)
    return float((shown == clip.labels).mean())


@pytest.mark.parametrize("seed", range(3))
def test_labels_follow_a_moved_image(seed: int) -> None:
    options = AugmentOptions(jitter=0, grey=0, blur=0, fill=(0, 0, 0))
    with seeded(seed):
        varied = vary_photo(coloured_clip(), options, SIZE)
    assert varied.frames.shape == (3, *SIZE, 3)
    assert agreement(varied) > 0.95
    assert not np.array_equal(varied.labels[1], varied.labels[2])


@pytest.mark.parametrize("seed", range(3))
def test_labels_follow_a_cropped_video(seed: int) -> None:
    options = AugmentOptions(jitter=0, grey=0, blur=0, fill=(0, 0, 0), short_edge=120)
    with seeded(seed):
        varied = vary_video(coloured_clip(), options, SIZE, 100)
    assert varied.frames.shape == (3, *SIZE, 3)
    assert agreement(varied) > 0.95
    assert np.array_equal(varied.labels[1], varied.labels[2])
    assert (varied.labels[0] > 0).sum() >= 100


def test_a_small_video_is_padded_with_the_fill() -> None:
    options = AugmentOptions(jitter=0, grey=0, blur=0, short_edge=40, resize=(1, 1), flip=0)
    with seeded(0):
        varied = vary_video(coloured_clip(), options, SIZE, 100)
    assert varied.frames[0, 0, 0].tolist() == [124, 116, 104]
    assert varied.labels[0, 0].max() == 0
    # 40 of 97 rows and 53 of 129 columns are picture.
    assert (varied.frames[0] != (124, 116, 104)).any(2).sum() <= 40 * 53


def test_colours_change_frame_by_frame_and_labels_do_not() -> None:
    options = AugmentOptions(jitter=1, flip=0, short_edge=120, resize=(1, 1))
    photo = coloured_clip()
    photo.frames[:] = np.random.default_rng(0).integers(0, 256, photo.frames.shape[1:])
    with seeded(0):
        varied = vary_video(photo, options, Size(120, 160), 100)
    assert np.array_equal(varied.labels, photo.labels)
    assert not np.array_equal(varied.frames[0], varied.frames[1])


def test_seeding_leaves_the_callers_generator_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    first = torch.rand(1)
    with seeded(1):
        torch.rand(5)
    assert torch.equal(torch.cat([first, torch.rand(1)]), wanted)


def test_merging_puts_the_second_clip_on_top() -> None:
    base, top = coloured_clip(), coloured_clip()
    top.labels[:] = 0
    top.labels[:, :60, :60] = 1
    top.frames[:] = 200
    merged = merge_clips(base, top, 1, np.random.default_rng(0))
    assert merged.num_objects == 3
    assert (merged.labels[:, :60, :60] == 3).all()
    assert (merged.frames[:, :60, :60] == 200).all()
    outside = np.ones((120, 160), bool)
    outside[:60, :60] = False
    assert np.array_equal(merged.labels[:, outside], base.labels[:, outside])
    assert np.array_equal(merged.frames[:, outside], base.frames[:, outside])


def test_merging_keeps_ten_objects() -> None:
    labels = np.repeat(np.arange(11, dtype=np.uint8), 11 * 22).reshape(1, 121, 22)
    left = Clip(np.zeros((1, 121, 22, 3), np.uint8), labels)
    right = Clip(left.frames, np.where(np.arange(22) < 11, 0, labels).astype(np.uint8))
    merged = merge_clips(left, right, 1, np.random.default_rng(0))
    assert merged.num_objects == 10
    assert np.unique(merged.labels).tolist() == list(range(11))


def test_small_objects_become_background() -> None:
    clip = coloured_clip()
    clip.labels[0][clip.labels[0] == 1] = 0
    clip.labels[0, 0, :9] = 1
    labels = keep_visible(clip.labels, 10, np.random.default_rng(0))
    kept = Clip(clip.frames, labels)
    assert kept.num_objects == 1
    assert (kept.labels[1] == 1).sum() == (clip.labels[1] == 2).sum()
    assert (kept.labels == 1).sum() == (clip.labels == 2).sum()


class Still:
    """A data set of one image."""

    name = "still"

    def __init__(self, photo: Photo) -> None:
        self.photo = photo

    def __len__(self) -> int:
        return 1

    def sample(
        self, index: int, num_frames: int, max_gap: int, generator: np.random.Generator
    ) -> Clip:
        image, labels = self.photo
        return Clip(np.stack([image] * num_frames), np.stack([labels] * num_frames))


def sampler(photo: Photo, **changes: object) -> FrameSampler:
    return FrameSampler(
        [Still(photo)],
        [DataOptions(kind="folder", root="x", augment="photo")],
        ClipOptions(**changes),  # type: ignore[arg-type]
        AugmentOptions(),
        seed=1,
        input_scale=2,
    )


PHASE = PhaseOptions(batch_size=2, num_frames=2, crop=(64, 96))


def test_a_batch_is_the_same_wherever_it_is_sampled(paint_photo: Callable[[int], Photo]) -> None:
    source = sampler(paint_photo(0))
    torch.manual_seed(0)
    both = source.draw(7, [0, 1], PHASE)
    torch.manual_seed(1)
    second = sampler(paint_photo(0)).draw(7, [1], PHASE)
    assert both.frames is not None
    assert second.frames is not None
    assert both.frames.shape == (2, 2, 3, 128, 192)
    assert both.labels.shape == (2, 2, 64, 96)
    assert torch.equal(both.frames[1:], second.frames)
    assert torch.equal(both.slots[1:], second.slots)
    assert not torch.equal(both.frames[0], both.frames[1])


def test_merged_clips_have_more_objects(paint_photo: Callable[[int], Photo]) -> None:
    counts = [
        int(
            sampler(paint_photo(0), merge_probability=probability)
            .draw(0, range(4), PHASE)
            .labels.max()
        )
        for probability in (0.0, 1.0)
    ]
    assert counts[0] <= 4 < counts[1]


def test_exception_nothing_left(paint_photo: Callable[[int], Photo]) -> None:
    with pytest.raises(InputError, match="no object of 400000 pixels was left"):
        sampler(paint_photo(0), min_pixels=100_000).draw(0, [0], PHASE)
