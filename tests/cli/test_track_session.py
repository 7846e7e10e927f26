"""``hqtrack track`` with prompts on any frame, either direction, several sources, and cutouts."""

import json
import shutil

import av
import numpy as np
import pytest
from PIL import Image
from square_video import SIZE, make_frame, make_mask, read_tracks, save, square_at
from video_files import write_video

from vots_hqtrack.cli.signals import Stopped
from vots_hqtrack.cli.track_job import result_folders
from vots_hqtrack.errors import InputError
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.video.label_maps import read_label_map, write_label_map
from vots_hqtrack.video.reader import open_source

QUICK = ("--no-refine", "--no-overlay")


@pytest.fixture
def prompts(tmp_path):
    """Write a file of prompts for frames; ``corrected.png`` beside it is the square on frame 2."""
    write_label_map(tmp_path / "corrected.png", make_mask(2).astype(np.uint8))

    def write(frames):
        path = tmp_path / "prompts.json"
        path.write_text(json.dumps({"format": 1, "frames": frames}), encoding="utf-8")
        return path

    return write


@pytest.fixture
def second_mask(tmp_path):
    """Label map of the second frame: the square is object 3."""
    path = tmp_path / "second.png"
    write_label_map(path, make_mask(1).astype(np.uint8) * 3)
    return path


def _indices(tracks):
    assert [int(frame["name"]) for frame in tracks["frames"]] == [
        frame["index"] for frame in tracks["frames"]
    ]
    return [frame["index"] for frame in tracks["frames"]]


def _iou(left, right):
    return (left & right).sum() / (left | right).sum()


def test_exception_mask_of_an_object_that_no_session_keeps(track, frames, tmp_path):
    high = np.asarray(make_mask(1) * np.uint16(255))
    high[0, 0] = 300
    mask = save(tmp_path / "high.png", high)
    given = [frames, "--mask", mask, "--start", "1", "--both", *QUICK]
    result, folder, _ = track(*given, code=2)
    assert "frame 1: prompts on other frames" in result.output
    assert "from 1 to 1000 without 255, got 255" in " ".join(result.output.split())
    assert not folder.exists()


def test_both_directions_from_a_frame(track, frames, second_mask):
    given = [frames, "--mask", second_mask, "--start", "1", "--both", "--no-refine", "--fps", "5"]
    result, folder, tracks = track(*given)
    assert tracks["status"] == "complete"
    assert tracks["passes"] == [[1, 2], [1, 0]]
    assert _indices(tracks) == [0, 1, 2]
    sources = [frame["objects"]["3"]["source"] for frame in tracks["frames"]]
    assert sources[1] == "given"
    assert "given" not in (sources[0], sources[2])
    found = read_label_map(folder / "masks" / "00001.png")
    np.testing.assert_array_equal(found, make_mask(1).astype(np.uint8) * 3)
    overlay = open_source(folder / "overlay.mp4")
    assert (overlay.length, overlay.fps) == (3, 5.0)
    assert result.stdout.startswith("3 frames, 1 object, ")


def test_prompts_on_several_frames_count_on_each(track, frames, prompts):
    x, y = square_at(0)
    path = prompts(
        {
            "0": {"1": {"box": [x, y, 28, 28]}},
            "2": {"1": {"mask": "corrected.png"}, "5": {"points": [[8, 8]]}},
        }
    )
    _, folder, tracks = track(frames, "--prompts", path, *QUICK)
    assert _indices(tracks) == [0, 1, 2]
    assert tracks["frames"][2]["objects"]["1"]["source"] == "given"
    assert set(tracks["frames"][2]["objects"]) == {"1", "5"}
    last = read_label_map(folder / "masks" / "00002.png")
    assert _iou(last == 1, make_mask(2)) > 0.9
    assert _iou(read_label_map(folder / "masks" / "00000.png") == 1, make_mask(0)) > 0.8
    assert tracks["prompt"]["frames"]["0"] == {"1": {"box": [x, y, 28, 28]}}


def test_backward_from_the_last_frame_with_prompts(track, frames, prompts):
    path = prompts({"2": {"1": {"mask": "corrected.png"}}})
    _, _, tracks = track(frames, "--prompts", path, "--reverse", "--stop", "1", *QUICK)
    assert tracks["passes"] == [[2, 1]]
    assert _indices(tracks) == [1, 2]


def test_forward_from_a_later_frame_is_the_plain_way_and_goes_on(track, frames, second_mask):
    given = [frames, "--mask", second_mask, "--start", "1", *QUICK]
    _, folder, tracks = track(*given)
    assert _indices(tracks) == [1, 2]
    assert tracks["frames"][0]["objects"]["3"]["source"] == "given"
    whole = (folder / "masks" / "00002.png").read_bytes()
    result, _, _ = track(*given, "--resume")
    assert "complete already" in result.stdout
    tracks["frames"].pop()
    tracks["status"] = "interrupted"
    (folder / "tracks.json").write_text(json.dumps(tracks), encoding="utf-8")
    (folder / "masks" / "00002.png").unlink()
    _, _, again = track(*given, "--resume")
    assert _indices(again) == [1, 2]
    assert (folder / "masks" / "00002.png").read_bytes() == whole
    shifted = [frames, "--mask", second_mask, "--start", "2", *QUICK, "--resume"]
    result, _, _ = track(*shifted, code=2)
    assert "had another first frame" in result.stderr


def test_points_name_objects(track, frames):
    x, y = square_at(0)
    points = ["--point", f"{x + 14},{y + 14}", "--point", f"{x - 8},{y + 14},-"]
    _, folder, tracks = track(frames, *points, "--point", "120,60@9", "--stop", "0", *QUICK)
    labels = read_label_map(folder / "masks" / "00000.png")
    assert labels[y + 14, x + 14] == 1
    assert labels[y + 14, x - 8] != 1
    assert labels[60, 120] == 9
    assert tracks["prompt"]["points"]["1"] == [[x + 14, y + 14, 1], [x - 8, y + 14, 0]]


@pytest.mark.parametrize("kind", ["png", "webm", "mp4"])
def test_cutouts_show_the_objects_only(track, tmp_path, kind):
    times = [0, 0.04, 0.5]
    size = (SIZE[0] + 1, SIZE[1] + 1)
    video = write_video(
        tmp_path / "clip.mkv", num_frames=3, size=size, times=times, pixels="yuv444p"
    )
    mask = np.zeros(size, np.uint8)
    mask[10:50, 20:60] = 1
    write_label_map(tmp_path / "odd.png", mask)
    _, folder, tracks = track(video, "--mask", tmp_path / "odd.png", *QUICK, "--cutout", kind)
    maps = [read_label_map(folder / "masks" / f"0000{i}.png") > 0 for i in range(3)]
    if kind == "png":
        assert "cutout" in tracks["files"]
        images = [np.asarray(Image.open(folder / "cutout" / f"0000{i}.png")) for i in range(3)]
        for image, seen in zip(images, maps, strict=True):
            np.testing.assert_array_equal(image[..., 3], seen * 255)
            assert not image[~seen].any()
        np.testing.assert_array_equal(images[0][maps[0], :3], open_source(video)[0].frame[maps[0]])
        return
    path = folder / f"cutout.{kind}"
    shown = list(open_source(path))
    assert [named.seconds for named in shown] == pytest.approx(times, abs=0.002)
    if kind == "mp4":
        assert shown[0].frame[60:70, 80:120].max() < 20
        assert shown[0].frame[15:45, 25:55].std() > 20
        return
    assert shown[0].frame.shape[:2] == size
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(path)) as container:
        packet = next(container.demux(video=0))
        (picture,) = decoder.decode(packet)
    alpha = picture.to_ndarray(format="rgba")[..., 3]
    assert ((alpha > 128) == maps[0]).mean() > 0.99
    assert alpha[~maps[0]].mean() < 4


def test_cutouts_of_an_earlier_run_are_replaced_and_others_never(track, frames, first_mask):
    given = [frames, "--mask", first_mask, "--stop", "1", *QUICK]
    _, folder, _ = track(*given, "--cutout", "png")
    assert len(list((folder / "cutout").iterdir())) == 2
    track(*given, "--overwrite", "--cutout", "webm")
    assert not (folder / "cutout").exists()
    save(folder / "cutout" / "mine.png", make_frame(0))
    result, _, _ = track(*given, "--overwrite", "--cutout", "png", code=2)
    assert "mine.png" in result.stderr
    assert (folder / "cutout" / "mine.png").exists()
    assert (folder / "cutout.webm").exists()


def test_a_bad_source_does_not_stop_the_others(
    track, frames, tmp_path, first_mask, trackers, monkeypatch
):
    other = shutil.copytree(frames, tmp_path / "other")
    (tmp_path / "empty").mkdir()
    (tmp_path / "results" / "frames").mkdir(parents=True)
    (tmp_path / "results" / "frames" / "mine.txt").write_text("mine")
    sources = [tmp_path / "empty", frames, other, tmp_path / "nothing.mp4"]
    result, folder, _ = track(*sources, "--mask", first_mask, "--limit", "2", *QUICK, code=5)
    assert sorted(path.name for path in folder.iterdir()) == ["frames", "other"]
    assert read_tracks(folder / "other")["status"] == "complete"
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 4
    assert "no frame in the folder" in errors[0]
    assert "is not empty" in errors[1]
    assert "no such source" in errors[2]
    assert errors[3].startswith("error: 3 of 4 sources failed or are partial")
    assert result.stdout.startswith("2 frames")


def test_each_source_has_its_own_prompts(track, frames, tmp_path, first_mask, second_mask):
    other = shutil.copytree(frames, tmp_path / "[bold] [x")  # looks like Rich's markup
    (other / "00000.png").unlink()
    masks = ["--mask", first_mask, "--mask", second_mask]
    result, folder, _ = track(frames, other, *masks, "--limit", "1", *QUICK)
    assert "[bold] [x (2 of 2)" in result.stderr
    for name, frame in (("frames", 0), (other.name, 1)):
        found = read_label_map(folder / name / "masks" / f"0000{frame}.png") == 3
        np.testing.assert_array_equal(found, make_mask(frame))


def test_all_sources_bad_have_the_code_of_the_error(track, tmp_path, first_mask):
    sources = [tmp_path / "a", tmp_path / "b"]
    result, folder, _ = track(*sources, "--mask", first_mask, code=2)
    assert "2 of 2 sources failed" in result.stderr
    assert not folder.exists()


@pytest.fixture
def stop_at(monkeypatch):
    """Let a signal come while the tracker is in its n-th frame."""
    go, calls = HQTracker.track, []

    def arrange(number):
        def track_or_stop(self, *args, **options):
            calls.append(args)
            if len(calls) == number:
                raise Stopped(15)
            return go(self, *args, **options)

        monkeypatch.setattr(HQTracker, "track", track_or_stop)

    return arrange


def test_a_signal_keeps_the_frames_that_a_session_tracked(track, frames, second_mask, stop_at):
    stop_at(2)
    given = [frames, "--mask", second_mask, "--start", "1", "--both", *QUICK]
    result, _, tracks = track(*given, code=143)
    assert tracks["status"] == "interrupted"
    assert _indices(tracks) == [1, 2]
    assert "kept: 2 frames" in result.stderr


def test_a_session_that_was_cut_goes_on_and_leaves_results_only(
    track, frames, second_mask, prompts, stop_at
):
    stop_at(2)
    given = [frames, "--mask", second_mask, "--start", "1", "--both", *QUICK]
    _, folder, _ = track(*given, code=143)
    last = folder / "masks" / "00002.png"
    first = read_label_map(last)
    result, _, _ = track(*given, code=2)
    assert "give --overwrite to replace results, or --resume" in result.stderr
    result, _, _ = track(*given, "--limit", "1", "--resume", code=2)
    assert "had another range of frames" in result.stderr
    path = prompts({"1": {"3": {"mask": "corrected.png"}}})
    result, _, _ = track(frames, "--prompts", path, "--both", *QUICK, "--resume", code=2)
    assert "had another prompt" in result.stderr
    result, _, tracks = track(*given, "--resume")
    assert "going on after 3 of 4 frames" in result.stderr
    assert (tracks["status"], _indices(tracks)) == ("complete", [0, 1, 2])
    np.testing.assert_array_equal(read_label_map(last), first)
    assert sorted(path.name for path in folder.iterdir()) == ["masks", "tracks.json"]
    result, _, _ = track(*given, "--resume")
    assert "complete already" in result.stdout


def test_overwrite_removes_the_session_of_a_cut_run_and_nothing_else(
    track, frames, second_mask, stop_at
):
    given = [frames, "--mask", second_mask, "--start", "1", *QUICK]
    stop_at(2)
    _, folder, _ = track(*given, "--both", code=143)
    project = folder / "session.hqtrack"
    assert (project / "project.json").exists()
    (project / "masks" / "mine.txt").write_text("mine")
    track(*given, "--overwrite")
    assert [path.name for path in project.rglob("*")] == ["masks", "mine.txt"]
    result, _, _ = track(*given, "--both", "--overwrite", code=2)
    assert "session.hqtrack is not of a run that was cut" in result.stderr
    assert (project / "masks" / "mine.txt").read_text() == "mine"


def test_cutouts_of_a_run_that_was_cut_are_whole(track, frames, first_mask, stop_at):
    stop_at(2)
    given = [frames, "--mask", first_mask, *QUICK, "--cutout", "png", "--checkpoint", "1"]
    _, folder, tracks = track(*given, code=143)
    assert _indices(tracks) == [0, 1]
    result, _, tracks = track(*given, "--resume")
    assert "going on from frame 2" in result.stderr
    assert _indices(tracks) == [0, 1, 2]
    for path in (folder / "masks").iterdir():
        alpha = np.asarray(Image.open(folder / "cutout" / path.name))[..., 3]
        np.testing.assert_array_equal(alpha > 0, read_label_map(path) > 0)


def test_prompts_outside_of_the_tracked_frames_are_named(track, frames, prompts):
    mask = {"1": {"mask": "corrected.png"}}
    path = prompts({"0": mask, "2": mask})
    result, _, tracks = track(frames, "--prompts", path, "--stop", "1", *QUICK)
    assert _indices(tracks) == [0, 1]
    assert "references only: the frames with prompts 2" in " ".join(result.stderr.split())


def test_a_mask_of_the_prompts_is_never_a_frame(track, frames, tmp_path):
    write_label_map(frames / "00003.png", make_mask(2).astype(np.uint8))
    path = frames.parent / "prompts.json"
    given = {"2": {"1": {"mask": "frames/00003.png"}}}
    path.write_text(json.dumps({"format": 1, "frames": given}), encoding="utf-8")
    result, _, _ = track(frames, "--prompts", path, code=2)
    assert "is both a mask and a frame" in result.stderr


def test_damage_of_a_video_makes_a_session_partial(track, tmp_path):
    options = {"x264-params": "keyint=4"}
    video = write_video(tmp_path / "clip.mkv", num_frames=8, size=SIZE, **options)
    data = bytearray(video.read_bytes())
    for place in range(int(len(data) * 0.6), int(len(data) * 0.6) + 12):
        data[place] ^= 0x5A
    video.write_bytes(data)
    source = open_source(video)
    assert list(source)
    assert source.losses
    given = [video, "--point", "30,30", "--start", "1", "--both", *QUICK]
    _, _, tracks = track(*given, code=5)
    assert tracks["status"] == "partial"
    assert tracks["losses"]["decoder_errors"]


REFUSED = {
    ("--preset", "lite-realtime"): "cannot keep a latency budget",
    ("--skip-missing",): "need every frame; leave --skip-missing out",
    ("--stop", "9"): "the video has frames 0 to 2, got --stop frame 9",
    ("--both",): "wanted either --reverse or --both, got both",
    ("--box", "1,2,3,4"): "got both",
    ("--point", "1,2"): "got both",
    ("--mask", "a.png", "--mask", "b.png"): "once for each of 1 sources, got 3",
}


@pytest.mark.parametrize("options", REFUSED)
def test_exception_before_the_work(track, frames, second_mask, monkeypatch, options):
    monkeypatch.setattr(HQTracker, "from_config", None)
    given = [frames, "--mask", second_mask, "--reverse", "--start", "1"]
    result, folder, _ = track(*given, *options, code=2)
    (line,) = result.stderr.splitlines()
    assert REFUSED[options] in line
    assert not folder.exists()


def test_exception_points_and_prompts_that_do_not_fit(track, frames, prompts, monkeypatch):
    monkeypatch.setattr(HQTracker, "from_config", None)
    path = prompts({"1": {"1": {"points": [[1, 2]]}}, "2": {"4": {"points": [[129, 2]]}}})
    result, _, _ = track(frames, "--prompts", path, code=2)
    assert "frame 2: the point 129,2 lies outside the frame" in result.stderr
    result, _, _ = track(frames, "--point", "3,73", code=2)
    assert "the point 3,73 lies outside the frame, which has the size 128x72" in result.stderr
    path = prompts({"3": {"1": {"points": [[1, 2]]}}})
    result, _, _ = track(frames, "--prompts", path, code=2)
    assert "the video has frames 0 to 2, got a prompt for frame 3" in result.stderr


def test_sources_of_one_name_have_their_own_folders(tmp_path):
    def names(*sources):
        folders = result_folders([str(tmp_path / source) for source in sources], tmp_path / "out")
        assert {folder.parent for folder in folders} == {tmp_path / "out"}
        return [folder.name for folder in folders]

    (tmp_path / "v1.0").mkdir()
    assert names("v1.0", "b.mp4") == ["v1.0", "b"]
    assert names("car/color", "dog/color", "x.mp4")[:2] == ["car-color", "dog-color"]
    assert names("clip.mp4", "clip.mkv") == ["clip.mp4", "clip.mkv"]
    assert names("a/Clip.mp4", "b/clip.mp4") == ["a-Clip", "b-clip"]
    with pytest.raises(InputError, match=r"a\.mp4 is there twice"):
        names("a.mp4", "b.mp4", "b/../a.mp4")
    with pytest.raises(InputError, match=r"a\.mp4 is there twice"):
        names("a.mp4", "A.mp4")
