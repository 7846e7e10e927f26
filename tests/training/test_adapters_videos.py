from __future__ import annotations

from pathlib import Path

import layouts
import numpy as np
import pytest

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.adapters.files import number_objects
from vots_hqtrack.training.adapters.videos import FrameFiles, Video, VideoClips, sample_positions


def make_videos(maps: list[np.ndarray], tmp_path: Path) -> VideoClips:
    paths = tuple(tmp_path / f"{position}.png" for position in range(len(maps)))
    for position, path in enumerate(paths):
        layouts.write_picture(path, np.full((*maps[position].shape, 3), position, np.uint8))
    return VideoClips("small", [Video("one", FrameFiles(paths), maps.__getitem__)])


def test_reference_shows_all_objects_where_it_can(tmp_path):
    maps = [np.array([[0, 1, 2 if position % 2 else 1]], np.int32) for position in range(8)]
    clips = make_videos(maps, tmp_path)
    drawn = [clips.sample(0, 3, 1, np.random.default_rng(seed)) for seed in range(40)]
    # Half of all draws begin without object 2; five tries leave one in 32.
    assert sum(clip.num_objects == 2 for clip in drawn) >= 36


def test_reference_is_searched_for_where_objects_are_rare(tmp_path):
    maps = [np.zeros((2, 3), np.int32) for _ in range(60)]
    maps[17][0, 0] = 9
    clips = make_videos(maps, tmp_path)
    clip = clips.sample(0, 2, 3, np.random.default_rng(0))
    assert clip.frames[0, 0, 0, 0] == 17
    assert clip.labels[0].tolist() == [[1, 0, 0], [0, 0, 0]]
    maps[17][0, 0] = 0
    with pytest.raises(InputError, match="no annotated frame of video one shows an object"):
        clips.sample(0, 2, 3, np.random.default_rng(0))


def test_ten_of_many_objects(tmp_path):
    numbers = np.arange(1, 31, dtype=np.int32)[None] * 500
    clips = make_videos([numbers, numbers[:, ::-1].copy()], tmp_path)
    kept = set()
    for seed in range(20):
        clip = clips.sample(0, 2, 1, np.random.default_rng(seed))
        assert np.unique(clip.labels).tolist() == list(range(11))
        assert np.array_equal(clip.labels[1], clip.labels[0][:, ::-1])
        kept |= set(np.flatnonzero(clip.labels[0][0]).tolist())
    assert kept == set(range(30))
    with pytest.raises(InputError, match=r"must be 0\.\.255 to be read as they are, got 15000"):
        clips.videos[0].load(0)


def test_later_objects_are_background(tmp_path):
    maps = [np.array([[1, 0]], np.int32), np.array([[1, 2]], np.int32)]
    clip = make_videos(maps, tmp_path).load(0, [0, 1], np.random.default_rng(0))
    assert clip.labels.tolist() == [[[1, 0]], [[1, 0]]]
    assert clip.origin == "small one: 0 1"


def test_positions_keep_the_gaps_and_reflect_at_the_ends():
    directions = set()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        positions = sample_positions(5, 12, 5, 4, rng)
        assert positions[0] == 5
        assert all(0 <= position < 12 for position in positions)
        gaps = np.abs(np.diff(positions))
        assert gaps.max() <= 4
        directions.add(positions[1] > positions[0])
    assert directions == {True, False}
    assert sample_positions(0, 1, 4, 3, np.random.default_rng(0)) == [0, 0, 0, 0]
    assert sample_positions(0, 2, 4, 1, np.random.default_rng(0)) == [0, 1, 0, 1]


def test_exception_clip_of_nothing(tmp_path):
    clips = make_videos([np.ones((2, 2), np.int32)], tmp_path)
    for frames, gap in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match=f"got {frames} and {gap}"):
            clips.sample(0, frames, gap, np.random.default_rng(0))
    with pytest.raises(InputError, match="no video with an annotated frame"):
        VideoClips("nothing", [Video("empty", FrameFiles(()), [].__getitem__)])


def test_exception_frames_of_two_sizes(tmp_path):
    clips = make_videos([np.ones((2, 2), np.int32), np.ones((2, 3), np.int32)], tmp_path)
    with pytest.raises(InputError, match="video one differ in size"):
        clips.load(0, [0, 1], np.random.default_rng(0))


def test_number_objects_keeps_the_order():
    ids = np.array([[7, 3, 0, 500]], np.int32)
    assert number_objects(ids, [500, 7]).tolist() == [[2, 0, 0, 1]]
