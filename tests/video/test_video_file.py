"""Video files: every frame, in its place and at its time, in order and at random access."""

import contextlib

import av
import av.logging
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from video_files import SIZE, write_video

from vots_hqtrack.errors import HQTrackError, InputError
from vots_hqtrack.video.video_file import VideoFile

FRAME_BYTES = SIZE[0] * SIZE[1] * 3

KINDS = {
    "b-frames.mp4": {"codec": "libx264"},
    "open-gop.mp4": {"codec": "libx264", "x264-params": "open-gop=1:keyint=6:bframes=3:b-adapt=0"},
    "short-gop.mp4": {"codec": "libx264", "x264-params": "keyint=2:bframes=1"},
    "intra-refresh.mp4": {"codec": "libx264", "x264-params": "intra-refresh=1:keyint=6"},
    "hevc.mp4": {"codec": "libx265", "x265-params": "open-gop=1:keyint=6:log-level=none"},
    "first-not-at-0.ts": {"codec": "libx264", "x264-params": "keyint=6"},
    "mpeg2.ts": {"codec": "mpeg2video", "bf": "2", "g": "6"},
    "mpeg4.avi": {"codec": "mpeg4", "bf": "2"},
    "motion-jpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "browser.webm": {"codec": "libvpx-vp9", "g": "6"},
    "hidden-frames.webm": {"codec": "libvpx", "auto-alt-ref": "1", "lag-in-frames": "16"},
    "odd-size.webm": {"codec": "libvpx-vp9", "size": (97, 129)},
    "odd-size.mkv": {"codec": "ffv1", "size": (97, 129), "pixels": "yuv444p"},
    "without-times.h264": {"codec": "libx264", "x264-params": "keyint=6"},
    "animation.gif": {"codec": "gif", "pixels": "rgb8"},
}


def read_with_opencv(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    capture.release()
    return frames


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / request.param, **KINDS[request.param])


def test_frames_are_those_of_opencv(kind):
    video = VideoFile(kind)
    frames = list(video)
    assert len(video) == len(frames) == 20
    assert not video.losses, video.losses
    np.testing.assert_array_equal(frames, read_with_opencv(kind))


def test_random_access_gives_what_iterating_gives(kind):
    video = VideoFile(kind, cache_bytes=3 * FRAME_BYTES)
    frames = list(video)
    indices = np.random.default_rng(0).integers(0, 20, 15).tolist()
    for index in [*indices, *range(len(video) - 1, -1, -1), -1]:
        np.testing.assert_array_equal(video[index], frames[index], err_msg=f"frame {index}")
    assert len(video._cache) <= 3
    for outside in (20, -21):
        with pytest.raises(IndexError, match="which has 20 frames"):
            video[outside]


def test_times_are_those_of_the_container(tmp_path):
    times = [0, 0.04, 0.1, 0.2, 0.25, 1.0, 7.5, 7.6]
    video = VideoFile(write_video(tmp_path / "variable.mkv", num_frames=8, times=times))
    assert video.times == pytest.approx(times)
    assert video.fps == pytest.approx(7 / 7.6)
    constant = VideoFile(write_video(tmp_path / "constant.ts"))
    assert constant.times == pytest.approx([index / 10 for index in range(20)])
    assert constant.fps == 10


@pytest.mark.parametrize("name", ["still.mkv", "still.mp4"])
def test_picture_that_stands_still_beside_sound_loses_no_frame(tmp_path, name):
    times = [0.1 * index for index in range(7)] + [150 + 0.1 * index for index in range(9)]
    path = write_video(tmp_path / name, num_frames=16, times=times, sound_seconds=152)
    video = VideoFile(path)
    assert len(list(video)) == len(video) == 16
    assert video.times == pytest.approx(times)
    assert not video.losses


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied_as_players_do(tmp_path, rotation):
    path = write_video(tmp_path / "turned.mp4", num_frames=2, rotation=rotation)
    np.testing.assert_array_equal(list(VideoFile(path)), read_with_opencv(path))


def test_edit_list_hides_what_it_leaves_out(tmp_path):
    path = write_video(tmp_path / "whole.mp4", **{"x264-params": "keyint=20:bframes=0"})
    frames = list(VideoFile(path))
    cut = tmp_path / "cut.mp4"
    with av.open(str(path)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                offset = round(0.5 / packet.time_base)
                packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
                packet.stream = stream
                target.mux(packet)
    video = VideoFile(cut)
    np.testing.assert_array_equal(list(video), frames[5:])
    np.testing.assert_array_equal(video[2], frames[7])
    assert not video.losses


@pytest.mark.parametrize("name", ["mpeg4.avi", "motion-jpeg.avi", "browser.webm", "fast-start.mp4"])
def test_cut_video_is_reported(tmp_path, name):
    options = {"codec": "mpeg4"} if name == "fast-start.mp4" else KINDS[name]
    path = write_video(tmp_path / name, **options)
    data = path.read_bytes()
    if name.endswith("mp4"):  # with its table in front, as on the web
        start = data.rfind(b"moov") - 4
        place = data.find(b"mdat") - 4
        data = data[:place] + data[start:] + data[place:start]
        data = _shift_chunks(data, len(path.read_bytes()) - start)
    path.write_bytes(data[: int(0.7 * len(data))])
    video = VideoFile(path)
    assert 0 < len(list(video)) < 20
    assert video.losses
    assert video.losses.lines()


def _shift_chunks(data, offset):
    place = data.find(b"stco") + 12
    count = int.from_bytes(data[place - 4 : place], "big")
    shifted = bytearray(data)
    for number in range(place, place + 4 * count, 4):
        value = int.from_bytes(data[number : number + 4], "big") + offset
        shifted[number : number + 4] = value.to_bytes(4, "big")
    return bytes(shifted)


def test_damaged_data_are_reported_and_the_rest_is_read(tmp_path):
    path = write_video(tmp_path / "a.mp4", **{"x264-params": "keyint=6"})
    data = bytearray(path.read_bytes())
    for place in range(900, 940):
        data[place] ^= 0x5A
    path.write_bytes(data)
    video = VideoFile(path)
    assert 15 <= len(list(video)) <= 20
    assert video.losses.num_errors
    assert "h264" in " ".join(video.losses.messages)


def test_random_access_notes_damage_once(tmp_path):
    path = write_video(tmp_path / "a.mp4", **{"x264-params": "keyint=6"})
    data = bytearray(path.read_bytes())
    for place in range(900, 940):
        data[place] ^= 0x5A
    path.write_bytes(data)
    whole = VideoFile(path)
    list(whole)
    video = VideoFile(path, cache_bytes=1)  # so that frames are decoded again
    assert video[19].any()
    assert not video.losses
    for order in (range(20), reversed(range(20))):
        for index in order:
            with contextlib.suppress(InputError):
                video[index]
        assert video.losses.num_errors == whole.losses.num_errors
        assert video.losses.messages == whole.losses.messages


def test_random_access_to_a_sound_video_notes_nothing(kind):
    video = VideoFile(kind, cache_bytes=1)
    for index in (19, 3, 11, 5, 6, 4, 0, 14):
        assert video[index].any()
    assert not video.losses, video.losses


def test_random_access_notes_a_cut_where_it_reads_the_end(tmp_path):
    path = write_video(tmp_path / "motion-jpeg.avi", **KINDS["motion-jpeg.avi"])
    path.write_bytes(path.read_bytes()[: int(0.7 * path.stat().st_size)])
    video = VideoFile(path)
    assert video[0].any()
    assert not video.losses.num_missing
    with contextlib.suppress(InputError):
        video[-1]
    with contextlib.suppress(InputError):
        video[-1]
    assert video.losses.num_missing == 20 - len(video)


def test_level_of_ffmpegs_log_stays(tmp_path):
    before = av.logging.get_level()
    list(VideoFile(write_video(tmp_path / "a.mp4", num_frames=2)))
    assert av.logging.get_level() == before


def test_unknown_codec_is_named(tmp_path):
    path = write_video(tmp_path / "a.avi", "mjpeg", pixels="yuvj420p")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"ZZZZ"))
    with pytest.raises(InputError, match=r"cannot decode .*a\.avi.*ZZZZ.*unknown codec"):
        VideoFile(path)


def test_what_is_no_video_is_named(tmp_path):
    video = write_video(tmp_path / "b.ts", num_frames=2)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n"
    contents = {
        "empty.mp4": b"",
        "text.mp4": b"hello world\n" * 99,
        "list.m3u8": playlist.encode(),
        "list.txt": f"ffconcat version 1.0\nfile {video}\n".encode(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"cannot open the video file .*{name}"):
            VideoFile(tmp_path / name)
    with av.open(str(tmp_path / "sound.mka"), "w") as container:
        sound = container.add_stream("libopus", rate=48000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), "flt", "mono")
        samples.sample_rate = 48000
        container.mux([*sound.encode(samples), *sound.encode()])
    with pytest.raises(InputError, match="has no video, only audio"):
        VideoFile(tmp_path / "sound.mka")


def test_any_name_that_the_file_system_allows(tmp_path):
    for name in ("12:30 é%d.mp4", "http:a.mp4", b"n\xff.mp4".decode("utf-8", "surrogateescape")):
        path = write_video(tmp_path / "a.mp4", num_frames=2).rename(tmp_path / name)
        assert len(VideoFile(path)) == 2


@pytest.fixture(scope="module")
def containers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    names = ["b-frames.mp4", "mpeg4.avi", "browser.webm", "mpeg2.ts"]
    return [write_video(folder / name, num_frames=6, **KINDS[name]) for name in names]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 3), st.integers(0, 2**32), st.sampled_from(["flip", "cut", "zero"]))
def test_damaged_containers_give_frames_or_the_packages_error(containers, number, seed, how):
    path = containers[number]
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    start = int(rng.integers(len(data)))
    if how == "cut":
        del data[start:]
    for place in range(start, min(start + 20, len(data))):
        data[place] = 0 if how == "zero" else int(rng.integers(256))
    damaged = path.with_name(f"damaged{path.suffix}")
    damaged.write_bytes(data)
    with contextlib.suppress(HQTrackError):
        video = VideoFile(damaged)
        for frame in video:
            assert frame.dtype == np.uint8
        video.losses.to_dict()
        assert video[len(video) - 1].dtype == np.uint8


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.webm", "libvpx")])
def test_matroska_file_that_is_cut_anywhere_says_so(tmp_path, name, codec):
    path = write_video(tmp_path / name, codec)
    data = path.read_bytes()
    for size in range(len(data) // 2, len(data), len(data) // 20):
        path.write_bytes(data[:size])
        video = VideoFile(path)
        assert 0 < len(list(video)) <= 20
        assert video.losses, size
    path.write_bytes(data)
    video = VideoFile(path)
    assert (len(list(video)), video.losses.lines()) == (20, [])
