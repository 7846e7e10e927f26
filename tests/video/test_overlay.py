"""Overlays: what is drawn where, and videos that open again."""

import os

import av
import numpy as np
import pytest
from small_disk import limited_files

from vots_hqtrack.errors import InputError, OutputError, ShapeError
from vots_hqtrack.types import Size
from vots_hqtrack.video.overlay import OverlayWriter, draw_overlay, object_colour
from vots_hqtrack.video.reader import open_source

GREY = np.full((96, 128, 3), 100, dtype=np.uint8)


def box_mask(x, y, width, height, size=(96, 128)):
    mask = np.zeros(size, dtype=np.bool_)
    mask[y : y + height, x : x + width] = True
    return mask


def test_tint_outline_and_tag():
    picture = draw_overlay(GREY, {3: box_mask(40, 40, 30, 30)}, alpha=0.5)
    colour = np.array(object_colour(3))
    np.testing.assert_array_equal(picture[55, 55], np.rint((100 + colour) / 2))
    outline = ((colour + 255) // 2).tolist()
    assert picture[40, 69].tolist() == outline
    assert picture[69, 50].tolist() == outline
    tag = picture[24:40, 46:64]
    assert (tag == outline).all(axis=2).any()
    assert (tag < 50).all(axis=2).any()
    changed = (picture != GREY).any(axis=2)
    assert not changed[72:].any()
    assert not changed[:20].any()


@pytest.mark.parametrize("ground", [(70, 110, 40), (110, 140, 70), (150, 70, 50), (180, 95, 70)])
def test_convention_objects_stand_out_from_grass_and_bricks(ground):
    frame = np.full(GREY.shape, ground, np.uint8)
    for object_id in range(1, 31):
        drawn = draw_overlay(frame, {object_id: box_mask(40, 40, 30, 30)})
        assert np.linalg.norm(drawn[55, 55] - np.array(ground)) > 55, object_id
    colours = np.array([object_colour(object_id) for object_id in range(1, 11)])
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=2) + 999 * np.eye(10)
    assert apart.min() > 45


def test_the_tag_is_above_the_highest_pixel():
    rows, columns = np.mgrid[: GREY.shape[0], : GREY.shape[1]]
    slanted = (abs(rows + columns - 120) < 5) & (rows > 30) & (rows < 90)
    drawn = draw_overlay(GREY, {1: slanted})
    tag = (drawn[:31] != GREY[:31]).any(axis=2)
    assert tag.any()
    assert abs(np.flatnonzero(tag.any(axis=0)).mean() - np.flatnonzero(slanted[31]).mean()) < 2


def test_input_stays_and_empty_masks_leave_no_trace():
    frame = GREY.copy()
    empty = np.zeros(GREY.shape[:2], dtype=np.bool_)
    np.testing.assert_array_equal(draw_overlay(frame, {1: empty}), GREY)
    draw_overlay(frame, {1: ~empty})
    np.testing.assert_array_equal(frame, GREY)
    np.testing.assert_array_equal(draw_overlay(frame, {}), GREY)


def test_alpha_is_the_strength_of_the_tint():
    mask = {1: box_mask(40, 40, 30, 30)}
    assert draw_overlay(GREY, mask, alpha=0.0)[55, 55].tolist() == [100, 100, 100]
    assert draw_overlay(GREY, mask, alpha=1.0)[55, 55].tolist() == list(object_colour(1))
    with pytest.raises(InputError, match=r"alpha must be a number from 0 to 1, got 1\.5"):
        draw_overlay(GREY, mask, alpha=1.5)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 400)])
def test_tiny_frames_can_be_drawn(size):
    frame = np.zeros((*size, 3), dtype=np.uint8)
    assert draw_overlay(frame, {255: np.ones(size, dtype=np.bool_)}).shape == frame.shape


def test_order_of_the_mapping_does_not_matter():
    left, right = box_mask(10, 10, 40, 40), box_mask(30, 30, 40, 40)
    first = draw_overlay(GREY, {1: left, 2: right})
    np.testing.assert_array_equal(first, draw_overlay(GREY, {2: right, 1: left}))


@pytest.mark.parametrize(
    "wrong", [np.zeros((96, 127), dtype=np.bool_), np.zeros((96, 128), dtype=np.uint8)]
)
def test_wrong_mask_is_an_error(wrong):
    with pytest.raises(ShapeError, match="mask of object 4 must be bool 128x96"):
        draw_overlay(GREY, {4: wrong})


@pytest.mark.parametrize("size", [Size(96, 128), Size(95, 127)])
def test_video_opens_again(tmp_path, size):
    path = tmp_path / "Überlagerung.mp4"
    frame = np.zeros((*size, 3), dtype=np.uint8)
    frame[..., 0] = 200
    with OverlayWriter(path, 10.0, size) as writer:
        for _ in range(3):
            writer.write(frame, {2: box_mask(40, 40, 30, 30, size)})
        assert not path.exists()
    source = open_source(path)
    assert (source.length, source.fps) == (3, 10.0)
    found = source.first().frame
    assert found.shape == (96, 128, 3)
    assert np.abs(found[5, 5].astype(int) - [200, 0, 0]).max() < 25
    assert np.abs(found[55, 55] - [119, 72, 128]).max() < 25
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_error_midway_keeps_what_was_written(tmp_path):
    path = tmp_path / "overlay.mp4"

    def write_all(frames):
        with OverlayWriter(path, 25.0, Size(96, 128)) as writer:
            for frame in frames:
                writer.write(frame, {})

    with pytest.raises(ShapeError, match="began with 128x96, got 128x95"):
        write_all([GREY, GREY[:-1]])
    assert len(list(open_source(path))) == 1


def test_without_a_frame_there_is_no_file(tmp_path):
    with OverlayWriter(tmp_path / "overlay.mp4", 25.0, Size(96, 128)):
        pass
    assert not list(tmp_path.iterdir())


def test_impossible_video_is_an_error(tmp_path):
    with pytest.raises(InputError, match="frame rate must be above 0, got 0"):
        OverlayWriter(tmp_path / "overlay.mp4", 0.0, Size(96, 128))
    with pytest.raises(InputError, match="FFmpeg cannot write the video"):
        OverlayWriter(tmp_path / "overlay.mp4", 1e-9, Size(96, 128))
    with pytest.raises(OutputError, match=r"cannot write the video .*: No such file"):
        OverlayWriter(tmp_path / "no such folder" / "overlay.mp4", 25.0, Size(96, 128))


def test_times_of_frames_are_kept(tmp_path):
    path = tmp_path / "slides.mp4"
    times = [0.0, 0.04, 2.5, 150.0]
    with OverlayWriter(path, 25.0, Size(96, 128)) as writer:
        for time in times:
            writer.write(GREY, {}, seconds=time)
    with av.open(str(path)) as container:
        found = [frame.time for frame in container.decode(video=0)]
    assert found == pytest.approx(times, abs=1e-4)


def test_any_file_name_works(tmp_path):
    for name in (b"\xe9t\xe9.mp4", b"a" * 250 + b".mp4"):
        path = tmp_path / os.fsdecode(name)
        with OverlayWriter(path, 25.0, Size(96, 128)) as writer:
            writer.write(GREY, {})
        assert path.stat().st_size > 500


def test_full_disk_leaves_no_video(tmp_path):
    rng = np.random.default_rng(0)

    def write():
        with OverlayWriter(tmp_path / "overlay.mp4", 25.0, Size(96, 128)) as writer:
            for _ in range(100):
                writer.write(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8), {})

    with limited_files(20_000), pytest.raises(OutputError, match=r"overlay.mp4: File too large"):
        write()
    assert not list(tmp_path.iterdir())
