from __future__ import annotations

import numpy as np
import pytest
import square_videos

from vots_hqtrack.errors import InputError
from vots_hqtrack.synthetic.composites import Composite, make_crossing, make_mosaic
from vots_hqtrack.synthetic.video_clips import VideoClip, visible_masks
from vots_hqtrack.training.adapters.videos import SingleObject
from vots_hqtrack.types import Size
from vots_hqtrack.vot.composites import open_videos

SIZE = Size(square_videos.HEIGHT, square_videos.WIDTH)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[SingleObject]:
    root = tmp_path_factory.mktemp("videos") / "set"
    return open_videos(square_videos.write_videos(root, 6, empty=(6,)), [])


def clips(videos: list[SingleObject], count: int) -> list[VideoClip]:
    return [VideoClip(video, 0, 8) for video in videos[:count]]


def check_colours(composite: Composite, colours: list[tuple[int, int, int]]) -> None:
    """Every pixel of a mask shows its object by half or more, and no pixel belongs to two."""
    for place, frame in enumerate(composite.frames):
        owners = np.zeros(frame.shape[:2], int)
        for track, colour in zip(composite.masks, colours, strict=True):
            owners += track[place]
            if track[place].any():
                error = np.abs(frame[track[place]].astype(int) - colour).max(axis=1)
                assert (error < 140).mean() >= 0.98
        assert owners.max() <= 1


@pytest.mark.parametrize(
    ("count", "tracked", "rows"), [(2, [1, 0], 1), (4, [3], 2), (6, [5, 0], 2)]
)
def test_mosaic(videos, count, tracked, rows):
    composite = make_mosaic(clips(videos, count), tracked, SIZE)
    columns = count // rows
    height, width = composite.frames[0].shape[:2]
    assert height * width == pytest.approx(SIZE.height * SIZE.width, rel=0.03)
    assert height / rows / (width / columns) == pytest.approx(SIZE.height / SIZE.width, rel=0.03)
    check_colours(composite, [square_videos.colour_of(number) for number in tracked])
    for number, track in zip(tracked, composite.masks, strict=True):
        row, column = divmod(number, columns)
        inside = np.zeros((height, width), bool)
        inside[
            row * height // rows : (row + 1) * height // rows,
            column * width // columns : (column + 1) * width // columns,
        ] = True
        assert not (track[0] & ~inside).any()
        whole = 20 * (16 + number) / (rows * columns)
        assert track[0].sum() == pytest.approx(whole, rel=0.25)
        assert not track[6].any()


def test_exception_mosaic(videos):
    with pytest.raises(InputError, match=r"one of \[1, 2, 4, 6\], got 3"):
        make_mosaic(clips(videos, 3), [0], SIZE)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_crossing(videos, count):
    composite = make_crossing(clips(videos, count), SIZE, np.random.default_rng(count))
    assert len(composite.masks) == count
    assert all(len(track) == len(composite.frames) == 8 for track in composite.masks)
    check_colours(composite, [square_videos.colour_of(number) for number in range(count)])
    assert all(track[0].any() for track in composite.masks)
    assert not any(track[6].any() for track in composite.masks)


def test_objects_cross(videos):
    least = []
    for seed in range(6):
        composite = make_crossing(clips(videos, 3), SIZE, np.random.default_rng(seed))
        areas = np.array([[mask.sum() for mask in track] for track in composite.masks])
        seen = areas[0, :6] / areas[0, 0]
        least.append(min(seen.min(), (areas[1, :6] / areas[1].max()).min()))
    # The lowest object is never absent from its own video: missing pixels are hidden.
    assert np.mean(np.array(least) < 0.7) > 0.7


def test_later_layers_cover_earlier_ones():
    layers = [np.ones((2, 2), bool), np.eye(2, dtype=bool), np.array([[1, 0], [0, 0]], bool)]
    seen = visible_masks(layers)
    assert [int(mask.sum()) for mask in seen] == [2, 1, 1]
    assert np.array_equal(sum(mask.astype(int) for mask in seen), np.ones((2, 2), int))


def test_same_seed_same_crossing(videos):
    first, again = (
        make_crossing(clips(videos, 3), SIZE, np.random.default_rng(7)) for _ in range(2)
    )
    other = make_crossing(clips(videos, 3), SIZE, np.random.default_rng(8))
    assert all(np.array_equal(a, b) for a, b in zip(first.frames, again.frames, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first.frames, other.frames, strict=True))
