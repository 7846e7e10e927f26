"""Training clips in which objects of several videos cross."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import square_videos

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.recipe_data import DataOptions
from vots_hqtrack.training.sources import CrossingClips, open_source
from vots_hqtrack.vot.composites import open_videos


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> CrossingClips:
    return open_clips(tmp_path_factory.mktemp("videos"), 6)


def open_clips(folder: Path, count: int) -> CrossingClips:
    return CrossingClips(
        open_videos(square_videos.write_videos(folder / "set", count), []), "squares"
    )


def test_clips_show_their_objects(clips):
    numbers = set()
    for seed in range(12):
        clip = clips.sample(seed % 6, 4, 3, np.random.default_rng(seed))
        assert clip.frames.shape == (*clip.labels.shape, 3)
        assert len(clip.frames) == 4
        present = np.unique(clip.labels[0])
        assert present.tolist() == list(range(clip.num_objects + 1))
        for number in present[1:]:
            # Every object has a colour of its own.
            shown = clip.frames[0][clip.labels[0] == number].astype(int)
            assert np.abs(shown - np.median(shown, axis=0)).max(axis=1).mean() < 60
        numbers.add(clip.num_objects)
    assert len(numbers) >= 3


def test_a_clip_depends_on_its_generator_alone(clips):
    first, second = (clips.sample(2, 3, 3, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first.frames, second.frames)
    assert np.array_equal(first.labels, second.labels)
    other = clips.sample(2, 3, 3, np.random.default_rng(6))
    assert first.origin != other.origin or not np.array_equal(first.labels, other.labels)


def test_twins_come_of_one_video(clips):
    casts = [clips.sample(0, 2, 2, np.random.default_rng(seed)).origin for seed in range(20)]
    names = [cast.split(": ")[1].split(", ")[0].split() for cast in casts]
    twins = [cast for cast in names if len(set(cast)) < len(cast)]
    assert 2 <= len(twins) <= 12
    assert all(cast[0] == cast[1] for cast in twins)


def test_exceptions(tmp_path):
    with pytest.raises(InputError, match=r"wanted at least 6 videos .*, got 3; .*--print"):
        open_clips(tmp_path, 3)
    with pytest.raises(InputError, match="needs the folder"):
        open_source(DataOptions(kind="crossings", root="nowhere"), tmp_path, (32, 64))
