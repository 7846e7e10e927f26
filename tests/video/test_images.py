"""Image files of every kind as frames, and which files of a folder are frames."""

import logging
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from vots_hqtrack.errors import InputError
from vots_hqtrack.frame import find_small, plan_frame, warn_of_tiny
from vots_hqtrack.types import Size
from vots_hqtrack.video.images import leave_out_masks, read_frame
from vots_hqtrack.video.losses import Losses
from vots_hqtrack.video.reader import open_source

GREY = np.random.default_rng(0).integers(0, 256, (6, 9), dtype=np.uint8)
COLOURS = cv2.resize(np.random.default_rng(0).integers(0, 256, (3, 3, 3), np.uint8), (9, 6))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_exif_orientation_is_applied_as_viewers_do_or_ignored(tmp_path, orientation, suffix):
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
    Image.fromarray(COLOURS).save(path, exif=exif, **options.get(suffix, {}))
    tolerance = 12 if suffix == "jpg" else 0
    np.testing.assert_allclose(read_frame(path).astype(int), COLOURS, atol=tolerance)
    turns = {
        2: np.fliplr,
        3: lambda frame: np.rot90(frame, 2),
        4: np.flipud,
        5: lambda frame: np.rot90(np.fliplr(frame)),
        6: lambda frame: np.rot90(frame, -1),
        7: lambda frame: np.rot90(np.fliplr(frame), -1),
        8: np.rot90,
    }
    wanted = turns.get(orientation, np.asarray)(COLOURS)
    np.testing.assert_allclose(read_frame(path, exif="apply").astype(int), wanted, atol=tolerance)


def test_orientation_is_said_once_for_a_folder(tmp_path, caplog):
    exif = Image.Exif()
    exif[0x112] = 6
    for name in ("0.jpg", "1.jpg"):
        Image.fromarray(COLOURS).save(tmp_path / name, exif=exif)
    assert [named.frame.shape for named in open_source(tmp_path)] == [(9, 6, 3)] * 2
    assert caplog.text.count("EXIF") == 1
    assert open_source(tmp_path, exif="ignore").first().frame.shape == (6, 9, 3)


def white_is_zero(path, values):
    Image.fromarray(values).save(path)
    data = bytearray(path.read_bytes())
    entry = data.find(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00")  # the tag, which says 1
    data[entry + 8] = 0
    path.write_bytes(data)


def test_white_is_zero_is_turned_into_light(tmp_path):
    white_is_zero(tmp_path / "8.tif", GREY)
    assert (read_frame(tmp_path / "8.tif")[..., 0] == 255 - GREY).all()
    white_is_zero(tmp_path / "16.tif", GREY.astype(np.uint16) * 257)
    assert (read_frame(tmp_path / "16.tif")[..., 0] == 255 - GREY).all()


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_cmyk_becomes_rgb(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    ink = np.dstack([255 - COLOURS, np.full(GREY.shape, 80, np.uint8)])
    Image.fromarray(ink, "CMYK").save(path, quality=100)
    wanted = COLOURS.astype(int) * (255 - 80) // 255
    np.testing.assert_allclose(read_frame(path), wanted, atol=16 if suffix == "jpg" else 2)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_file_with_several_images_is_an_error(tmp_path, suffix):
    images = [Image.fromarray(np.roll(COLOURS, shift, axis=1)) for shift in range(3)]
    path = tmp_path / f"moving.{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:])
    with pytest.raises(InputError, match=rf"moving\.{suffix}: wanted one image, got .* with 3"):
        read_frame(path)


def test_damaged_jpeg_is_read_and_reported(tmp_path, caplog):
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8] = b"\xff\xd5" * 4
    path.write_bytes(data)
    losses = Losses()
    assert read_frame(path, losses=losses).shape == (64, 64, 3)
    assert losses.num_errors == 1
    assert not caplog.text
    with caplog.at_level(logging.WARNING):
        read_frame(path)
    assert "a.jpg is damaged" in caplog.text


def test_masks_among_frames_are_left_out(tmp_path, caplog):
    for index in range(3):
        Image.fromarray(COLOURS).save(tmp_path / f"{index:05d}.jpg")
    mask = Image.fromarray((GREY > 99).astype(np.uint8))
    mask.save(tmp_path / "00000.png")
    Image.fromarray(COLOURS).save(tmp_path / "first_mask.png")
    Image.fromarray(COLOURS).save(tmp_path / "unmasked-hero.png")
    names = [named.name for named in open_source(tmp_path)]
    assert names == ["00000", "00001", "00002", "unmasked-hero"]
    assert caplog.text.count("left out of the frames") == 2


@pytest.mark.parametrize("name", ["00001.avif", "00001.HEIC", "00001.png.part", "00001.jfif"])
def test_frame_of_another_format_is_lost_and_is_told(tmp_path, name):
    for index in (0, 2):
        Image.fromarray(COLOURS).save(tmp_path / f"{index:05d}.png")
    for other in (name, "00002.gif", "preview.gif", "notes.tmp", "0.txt"):
        (tmp_path / other).write_bytes(b"something")
    with pytest.raises(InputError, match=rf"cannot be read: {re.escape(name)} \("):
        open_source(tmp_path)
    source = open_source(tmp_path, skip_missing=True)
    assert [named.name for named in source] == ["00000", "00002"]
    assert source.losses.skipped == [name]


def test_given_mask_is_left_out_whatever_its_name(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path in paths:
        Image.fromarray(COLOURS).save(path)
    assert leave_out_masks(paths, paths[0]) == paths[1:]
    masks = [path.rename(path.with_name(f"mask_{path.name}")) for path in paths]
    assert leave_out_masks(masks) == masks


def test_tiny_objects_are_warned_of(caplog):
    label_map = np.zeros((1080, 1920), np.uint8)
    label_map[5:8, 5:8], label_map[100:200, 100:200] = 3, 4
    geometry = plan_frame(Size(1080, 1920))
    warn_of_tiny(find_small(label_map, geometry), geometry)
    assert "object 3 is tiny: 9 pixels" in caplog.text
    assert "vanish; a video cut out around it, of 192 x 108 pixels at most, helps" in caplog.text
    warn_of_tiny(find_small(label_map, geometry), plan_frame(Size(1080, 1920), 512))
    assert "vanish; --set frame.long_edge=1024, or a video cut out around it" in caplog.text
    assert "object 4" not in caplog.text
