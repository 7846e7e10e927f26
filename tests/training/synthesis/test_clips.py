from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.training.datasets import Clip, Photo
from vots_hqtrack.training.synthesis.clips import (
    flip_clip,
    keep_visible,
    paste_clip,
    synthesize_clip,
)

SEEDS = range(12)


def make(photos: list[Photo], seed: int, *, num_frames: int = 4, size=(128, 192)) -> Clip:
    rng = np.random.default_rng(seed)
    return synthesize_clip(photos[0], photos[1:], rng, num_frames=num_frames, size=size)


def square_clip(corners: list[tuple[int, int]], *, grey: int, side: int = 20) -> Clip:
    """Three frames 100 x 120 of one grey with a square per corner, each moving right by 3."""
    frames = np.full((3, 100, 120, 3), grey, np.uint8)
    labels = np.zeros((3, 100, 120), np.uint8)
    for label, (top, left) in enumerate(corners, start=1):
        for index in range(3):
            window = np.s_[index, top : top + side, left + 3 * index : left + 3 * index + side]
            labels[window] = label
            frames[window] = grey + 20 * label
    return Clip(frames, labels)


@pytest.mark.parametrize("size", [(128, 192), (192, 128), (97, 131), (32, 32)])
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_shapes(photos, size, num_frames):
    clip = make(photos, 3, num_frames=num_frames, size=size)
    assert clip.frames.shape == (num_frames, *size, 3)
    assert clip.labels.shape == (num_frames, *size)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_tracked_object_is_seen_in_the_first_frame(photos, seed):
    clip = make(photos, seed)
    areas = np.bincount(clip.labels[0].ravel())
    assert 1 <= clip.num_objects <= 5
    assert len(areas) == clip.num_objects + 1
    assert areas[1:].min() >= 100


def test_same_chance_same_clip(photos):
    first, again, other = make(photos, 7), make(photos, 7), make(photos, 8)
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)


def test_arguments_stay_as_they_are(photos):
    before = [(photo.image.copy(), photo.label_map.copy()) for photo in photos]
    make(photos, 1)
    for photo, (image, label_map) in zip(photos, before, strict=True):
        assert np.array_equal(photo.image, image)
        assert np.array_equal(photo.label_map, label_map)


def test_objects_move_and_mostly_stay_in_sight(photos):
    steps, seen = [], []
    for seed in range(30):
        clip = make(photos, seed, size=(96, 128))
        for label in range(1, clip.num_objects + 1):
            places = [np.argwhere(labels == label) for labels in clip.labels]
            seen += [len(place) > 0 for place in places[1:]]
            centres = [place.mean(axis=0) for place in places if len(place)]
            steps += [np.linalg.norm(b - a) / 96 for a, b in pairwise(centres)]
    assert 0.02 < np.median(steps) < 0.08
    assert 0.05 < np.percentile(steps, 90) < 0.3
    assert 0.8 < np.mean(seen) < 1.0


def test_labels_lie_on_the_objects_they_name():
    # A red disc is all that is red in a black photograph, and blur halves its red at its edge.
    photo = Photo(np.zeros((240, 320, 3), np.uint8), np.zeros((240, 320), np.uint8))
    rows, columns = np.mgrid[:240, :320]
    disc = (rows - 120) ** 2 + (columns - 160) ** 2 < 40**2
    photo.label_map[disc] = 1
    photo.image[disc] = (255, 30, 30)
    overlaps = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        clip = synthesize_clip(photo, [], rng, num_frames=3, size=(160, 160))
        channels = clip.frames.astype(int)
        redness = channels[..., 0] - channels[..., 1:].max(axis=-1)
        mask = clip.labels > 0
        is_red = redness > np.median(redness[mask]) / 2
        overlaps.append((is_red & mask).sum() / (is_red | mask).sum())
    assert np.median(overlaps) > 0.97


def test_one_photograph_alone_is_enough(photos):
    rng = np.random.default_rng(0)
    assert synthesize_clip(photos[0], [], rng, num_frames=3, size=(96, 96)).num_objects >= 1


def test_objects_may_all_come_from_other_photographs(photos):
    empty = Photo(photos[0].image, np.zeros_like(photos[0].label_map))
    rng = np.random.default_rng(0)
    assert synthesize_clip(empty, photos, rng, num_frames=3, size=(96, 96)).num_objects >= 1


def test_exception(photos):
    rng = np.random.default_rng(0)
    empty = Photo(photos[0].image, np.zeros_like(photos[0].label_map))
    wrong = (photos[0].image, photos[0].label_map[1:])
    with pytest.raises(InputError, match="no object of the photographs has 100 pixels"):
        synthesize_clip(empty, [], rng, num_frames=2, size=(96, 96))
    with pytest.raises(InputError, match="at least 1 frame, got 0"):
        synthesize_clip(photos[0], [], rng, num_frames=0, size=(96, 96))
    with pytest.raises(ShapeError, match=r"32 pixels a side, got \(96, 8\)"):
        synthesize_clip(photos[0], [], rng, num_frames=2, size=(96, 8))
    with pytest.raises(ShapeError, match="label map of a photograph must be uint8"):
        synthesize_clip(wrong, [], rng, num_frames=2, size=(96, 96))


def test_flip_twice_is_identity(photos):
    clip = make(photos, 2)
    mirrored = flip_clip(clip)
    assert np.array_equal(mirrored.labels[:, :, 0], clip.labels[:, :, -1])
    assert np.array_equal(flip_clip(mirrored).frames, clip.frames)
    assert np.array_equal(flip_clip(mirrored).labels, clip.labels)


def test_keep_visible_numbers_without_gaps():
    labels = np.zeros((2, 30, 30), np.uint8)
    labels[:, :10, :10] = 4
    labels[:, 20:29, :10] = 7  # 90 pixels: too small
    labels[1, :, 20:] = 9  # not in the first frame
    kept = keep_visible(labels)
    assert np.array_equal(kept, np.where(labels == 4, 1, 0))


@pytest.mark.parametrize("seed", SEEDS)
def test_paste_clip_keeps_the_objects_below_and_adds_those_above(seed):
    base = square_clip([(5, 5), (70, 70)], grey=60)
    top = square_clip([(40, 40)], grey=180)
    pasted = paste_clip(base, top, np.random.default_rng(seed))
    assert pasted.labels.shape == base.labels.shape
    areas = np.bincount(pasted.labels[0].ravel())
    assert areas[1:].min() >= 100
    assert pasted.num_objects == len(areas) - 1
    # The object of the upper clip is the brightest of all and whole in the first frame.
    own = pasted.labels[0] == pasted.num_objects
    assert 0.3 * 400 < own.sum() < 1.2 * 400
    assert np.median(pasted.frames[0][own]) == 200
    elsewhere = pasted.labels[0] == 0
    assert np.median(pasted.frames[0][elsewhere]) == 60


def test_paste_clip_fits_ten_objects():
    corners = [(25 * row, 25 * column) for row in range(3) for column in range(3)][:7]
    base, top = square_clip(corners, grey=20), square_clip(corners, grey=50)
    labels = paste_clip(base, top, np.random.default_rng(0)).labels
    assert 1 < labels.max() <= 10
    assert set(np.unique(labels[0])) == set(range(labels.max() + 1))


def test_paste_clip_of_other_shape():
    base = square_clip([(5, 5)], grey=60)
    with pytest.raises(ShapeError, match="one shape"):
        paste_clip(base, Clip(base.frames[:2], base.labels[:2]), np.random.default_rng(0))


def test_paste_clip_without_objects_above():
    base = square_clip([(5, 5)], grey=60)
    top = square_clip([], grey=180)
    pasted = paste_clip(base, top, np.random.default_rng(0))
    assert np.array_equal(pasted.frames, base.frames)
    assert np.array_equal(pasted.labels, base.labels)


def test_paste_clip_leaves_the_objects_below_in_sight():
    base, top = (
        square_clip([(40, 50)], grey=60, side=24),
        square_clip([(30, 30)], grey=180, side=40),
    )
    left = [
        np.count_nonzero(paste_clip(base, top, np.random.default_rng(seed)).labels[0] == 1)
        for seed in range(20)
    ]
    assert np.mean(np.array(left) >= 24 * 24 / 2) > 0.9
    assert min(left) < 24 * 24  # the upper object does hide some of it at times
