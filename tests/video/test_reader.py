"""Reading frames: every kind of file becomes uint8 RGB, and every bad one is named."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from video_files import write_video

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.video.reader import open_source, read_frame

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)


def save(path: Path, values: np.ndarray) -> Path:
    """Write an array with OpenCV, whatever the path's characters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix, values)
    assert ok
    path.write_bytes(data.tobytes())
    return path


def make_video(path: Path, num_frames: int, size: tuple[int, int] = (48, 64)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.0, (size[1], size[0]))
    for index in range(num_frames):
        writer.write(np.full((*size, 3), 20 * index, dtype=np.uint8))
    writer.release()
    return path


def test_convention_frames_are_rgb(tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (3, 2), (255, 10, 0)).save(path)
    frame = read_frame(path)
    assert frame.shape == (2, 3, 3)
    assert frame.dtype == np.uint8
    assert frame[0, 0].tolist() == [255, 10, 0]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_lossless_formats_are_exact(tmp_path, suffix):
    path = save(tmp_path / f"frame{suffix}", COLOURS[..., ::-1])
    np.testing.assert_array_equal(read_frame(path), COLOURS)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_are_close(tmp_path, suffix):
    smooth = cv2.resize(COLOURS[:2, :2], (32, 32), interpolation=cv2.INTER_LINEAR)
    frame = read_frame(save(tmp_path / f"frame{suffix}", smooth[..., ::-1]))
    assert np.abs(frame.astype(int) - smooth).mean() < 6


def test_grey_becomes_three_equal_channels(tmp_path):
    frame = read_frame(save(tmp_path / "grey.png", COLOURS[..., 0]))
    for channel in range(3):
        np.testing.assert_array_equal(frame[..., channel], COLOURS[..., 0])


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    values = np.array([[0, 128, 129, 257, 32896, 65535]], dtype=np.uint16)
    frame = read_frame(save(tmp_path / "deep.png", values))
    assert frame[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_sixteen_bit_colours_keep_their_order(tmp_path):
    values = np.zeros((2, 2, 3), dtype=np.uint16)
    values[..., 0] = 65535  # blue, as OpenCV writes BGR
    assert read_frame(save(tmp_path / "deep.png", values))[0, 0].tolist() == [0, 0, 255]


def test_alpha_is_dropped(tmp_path):
    path = tmp_path / "alpha.png"
    Image.new("RGBA", (3, 2), (9, 8, 7, 0)).save(path)
    assert read_frame(path)[0, 0].tolist() == [9, 8, 7]


def test_indexed_images_give_their_colours(tmp_path):
    path = tmp_path / "indexed.png"
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(path)
    assert read_frame(path)[0, 0].tolist() == [200, 100, 50]


def test_exif_orientation_is_ignored(tmp_path):
    path = tmp_path / "turned.jpg"
    image = Image.new("RGB", (10, 6))
    exif = image.getexif()
    exif[0x112] = 6  # to be shown turned by 90 degrees
    image.save(path, exif=exif)
    assert read_frame(path).shape == (6, 10, 3)


def test_non_ascii_path_works(tmp_path):
    path = save(tmp_path / "Übung 映像" / "кадр.png", COLOURS)
    assert read_frame(path).shape == COLOURS.shape


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\xff\xd8\xff"])
def test_unreadable_frame_is_named(tmp_path, content):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.jpg"):
        read_frame(path)


def test_missing_frame_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.jpg: No such file"):
        read_frame(tmp_path / "gone.jpg")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_frame_that_is_cut_short_is_an_error(tmp_path, suffix, kept):
    path = save(tmp_path / f"cut{suffix}", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match="cut"):
        read_frame(path)


def test_thumbnail_does_not_hide_that_a_jpeg_is_cut(tmp_path):
    image = save(tmp_path / "a.jpg", COLOURS).read_bytes()
    thumbnail = b"\xff\xe1" + (len(image) + 2).to_bytes(2, "big") + image
    path = tmp_path / "b.jpg"
    path.write_bytes(image[:2] + thumbnail + image[2:])
    assert read_frame(path).shape == COLOURS.shape
    path.write_bytes(image[:2] + thumbnail + image[2:-2])
    with pytest.raises(InputError, match="cut short"):
        read_frame(path)


def test_floating_point_image_is_an_error(tmp_path):
    path = save(tmp_path / "float.tif", np.zeros((4, 4, 3), dtype=np.float32))
    with pytest.raises(InputError, match="8 or 16 bits a channel, got float32"):
        read_frame(path)


def test_folder_is_read_in_natural_order(tmp_path):
    for name in ("10.jpg", "9.png", "frame2.jpg", "frame10.jpg", "1.JPG"):
        save(tmp_path / name, COLOURS)
    (tmp_path / "._1.jpg").write_bytes(b"side file of another system")
    (tmp_path / "notes.txt").write_text("not a frame")
    source = open_source(tmp_path)
    assert [named.name for named in source] == ["1", "9", "10", "frame2", "frame10"]
    assert (source.kind, source.length, source.fps) == ("folder", 5, 25.0)
    assert open_source(tmp_path, fps=7.5).fps == 7.5


def test_source_can_be_read_twice(tmp_path):
    for index in range(3):
        save(tmp_path / f"{index}.png", COLOURS + index)
    source = open_source(str(tmp_path))
    assert source.first().name == "0"
    assert [named.name for named in source] == ["0", "1", "2"]
    np.testing.assert_array_equal(source.first().frame, COLOURS[..., ::-1])


def test_size_change_is_an_error_after_the_good_frames(tmp_path):
    for index in range(2):
        save(tmp_path / f"{index}.png", COLOURS)
    save(tmp_path / "2.png", COLOURS[:-1])
    frames = iter(open_source(tmp_path))
    assert [next(frames).name, next(frames).name] == ["0", "1"]
    with pytest.raises(ShapeError, match=r"frame 2 of .* began with 17x12, got 17x11"):
        next(frames)


def test_empty_folder_is_an_error(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(InputError, match=r"no frame in the folder .*\.jpg"):
        open_source(tmp_path)


def test_frames_of_one_name_are_an_error(tmp_path):
    save(tmp_path / "1.jpg", COLOURS)
    save(tmp_path / "1.png", COLOURS)
    with pytest.raises(InputError, match=r"must differ .* 1\.(jpg|png)"):
        open_source(tmp_path)


def test_missing_source_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such source"):
        open_source(tmp_path / "nothing.mp4")


def test_single_image_is_an_error(tmp_path):
    with pytest.raises(InputError, match="single image"):
        open_source(save(tmp_path / "1.jpg", COLOURS))


def test_video_file(tmp_path):
    source = open_source(make_video(tmp_path / "clip é.mp4", 5))
    assert (source.kind, source.length, source.fps) == ("video", 5, 12.0)
    frames = list(source)
    assert [named.name for named in frames] == ["00000", "00001", "00002", "00003", "00004"]
    for index, named in enumerate(frames):
        assert named.frame.shape == (48, 64, 3)
        assert abs(float(named.frame.mean()) - 20 * index) < 4


def test_video_that_ends_early_has_losses(tmp_path):
    path = write_video(tmp_path / "clip.avi", "mjpeg", pixels="yuvj420p")
    data = path.read_bytes()
    path.write_bytes(data[: int(0.7 * len(data))])
    source = open_source(path)
    assert not source.losses
    num_read = len(list(source))
    assert (source.losses.num_announced, source.losses.num_missing) == (20, 20 - num_read)


def test_random_access_to_a_folder_notes_damaged_images_once(tmp_path):
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.jpg"), noise)
    data = bytearray((tmp_path / "1.jpg").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20] = bytes(20)
    (tmp_path / "1.jpg").write_bytes(data)
    source = open_source(tmp_path)
    assert source[0].frame.shape == source[2].frame.shape == (64, 64, 3)
    assert not source.losses
    for _ in range(2):
        assert source[1].frame.shape == (64, 64, 3)
    found = source.losses.to_dict()
    assert source.losses.num_errors == 1
    assert len(list(source)) == 3
    assert source.losses.to_dict() == found


def test_broken_video_is_an_error(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video at all" * 100)
    with pytest.raises(InputError, match=r"cannot open the video file .*broken\.mp4"):
        open_source(path)


def test_missing_camera_is_an_error():
    with pytest.raises(InputError, match="cannot open the camera 97"):
        open_source("97")
