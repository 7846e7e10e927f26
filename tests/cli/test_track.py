"""``hqtrack track`` from files to files, with the real tracker."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from square_video import SIZE, SMALL, make_frame, make_mask, read_tracks, save
from video_files import write_video

from vots_hqtrack.cli.main import app
from vots_hqtrack.video.label_maps import read_label_map
from vots_hqtrack.video.reader import open_source


def test_masks_overlay_and_tracks_are_written(track, frames, first_mask):
    result, folder, tracks = track(
        frames, "--mask", first_mask, "--set", "memory.gap=3", "--fps", "7"
    )
    names = ["00000", "00001", "00002"]
    assert sorted(path.stem for path in (folder / "masks").iterdir()) == names
    np.testing.assert_array_equal(
        read_label_map(folder / "masks" / "00000.png"), make_mask(0).astype(np.uint8) * 3
    )
    for name in names:
        label_map = read_label_map(folder / "masks" / f"{name}.png")
        assert label_map.shape == SIZE
        assert set(np.unique(label_map)) <= {0, 3}
    overlay = open_source(folder / "overlay.mp4")
    assert (overlay.length, overlay.fps) == (3, 7.0)
    assert tracks["status"] == "complete"
    assert [frame["name"] for frame in tracks["frames"]] == names
    assert tracks["frames"][0]["objects"]["3"] == {
        "box": [20, 22, 28, 28],
        "area": 784,
        "score": 1.0,
        "source": "given",
    }
    for index, frame in enumerate(tracks["frames"]):
        assert frame["index"] == index
        assert frame["seconds"] > 0
        found = frame["objects"]["3"]
        assert found["source"] in ("given", "initial", "refined", "absent")
        label_map = read_label_map(folder / "masks" / f"{names[index]}.png")
        assert found["area"] == np.count_nonzero(label_map == 3)
    assert tracks["config"]["memory"]["gap"] == 3
    assert tracks["config"]["refiner"]["enabled"] is True
    assert tracks["versions"]["torch"]
    assert tracks["source"]["location"] == str(frames)
    first, *rest = result.stdout.splitlines()
    assert first.startswith("3 frames, 1 object, ")
    assert [line.partition(":")[0] for line in rest] == ["object 3"]
    assert list(tracks["summary"]["objects"]) == ["3"]
    is_seen = [frame["objects"]["3"]["source"] != "absent" for frame in tracks["frames"]]
    assert (tracks["summary"]["objects"]["3"]["lost_from"] is None) == is_seen[-1]


def test_boxes_become_objects_one_two(track, frames):
    x, y, side = 20, 22, 28
    boxes = ["--box", f"{x},{y},{side},{side}", "--box", f"-9,{y},{x},{side}"]
    result, folder, tracks = track(frames, *boxes, "--limit", "1", "--no-overlay", "--no-refine")
    assert not (folder / "overlay.mp4").exists()
    assert tracks["prompt"]["boxes"] == {"1": [20, 22, 28, 28], "2": [-9, 22, 20, 28]}
    assert list(tracks["frames"][0]["objects"]) == ["1", "2"]
    assert "reaches out of the frame" in " ".join(result.stderr.split())
    found = read_label_map(folder / "masks" / "00000.png") == 1
    wanted = make_mask(0)
    assert (found & wanted).sum() / (found | wanted).sum() > 0.8


def test_unreadable_frame_midway_keeps_the_rest(track, frames, first_mask):
    (frames / "00002.png").write_bytes(b"no image")
    result, folder, tracks = track(frames, "--mask", first_mask, "--no-refine", code=2)
    assert "00002.png: not an image" in result.stderr.splitlines()[-1]
    assert "kept: 2 frames" in result.stderr
    assert (tracks["status"], len(tracks["frames"])) == ("failed", 2)
    assert "00002.png" in tracks["reason"]
    assert sorted(path.stem for path in (folder / "masks").iterdir()) == ["00000", "00001"]
    assert len(list(open_source(folder / "overlay.mp4"))) == 2


def test_damaged_and_skipped_frames_make_a_partial_result(track, frames, first_mask):
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    data = bytearray(save(frames / "00003.jpg", noise).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8] = b"\xff\xd5" * 4
    (frames / "00003.jpg").write_bytes(data)
    (frames / "00004.png").symlink_to("nowhere.png")
    (frames / "00005.png").write_bytes(b"no image")
    options = [frames, "--mask", first_mask, "--no-refine", "--skip-missing"]
    result, folder, tracks = track(*options, code=5)
    assert tracks["status"] == "partial"
    assert [frame["name"] for frame in tracks["frames"]] == ["00000", "00001", "00002", "00003"]
    assert tracks["losses"]["skipped_files"] == ["00004.png", "00005.png"]
    assert tracks["losses"]["decoder_errors"] == 1
    assert "00003.jpg" in next(iter(tracks["losses"]["decoder_messages"]))
    assert result.stdout.startswith("4 frames")
    assert "error: the results are partial" in result.stderr
    assert len(list(open_source(folder / "overlay.mp4"))) == 4
    again = track(*options, "--resume", code=5)[0]
    assert "partial already" in again.stdout
    line = " ".join(again.stderr.split())
    assert "skipped files: 00004.png, 00005.png" in line
    assert "00003.jpg" in line
    assert line.endswith("with a repaired source give --overwrite")


def test_frames_of_a_damaged_source_stay_partial_when_it_is_repaired(track, frames, first_mask):
    (frames / "00001.png").rename(frames / "bad.png")
    (frames / "00001.png").write_bytes(b"no image")
    (frames / "00004.png").write_bytes(b"no image")
    options = [frames, "--mask", first_mask, "--no-refine", "--checkpoint", "1"]
    save(frames / "00003.png", make_frame(1)[:-2])
    assert track(*options, "--skip-missing", code=2)[2]["losses"]["skipped_files"] == ["00001.png"]
    (frames / "00001.png").unlink()
    for name in ("00003.png", "00004.png", "bad.png"):
        (frames / name).unlink()
    result, _, tracks = track(*options, "--resume", code=5)
    assert "going on from frame 2" in result.stderr
    assert tracks["status"] == "partial"
    assert tracks["losses"]["skipped_files"] == ["00001.png"]


@pytest.mark.parametrize(
    ("lost", "word"),
    [
        ("overlay.mp4", "overlay.mp4"),
        ("masks/00001.png", "the label map of frame 1"),
        (None, "the frames that the source has now"),
    ],
)
def test_complete_run_that_lost_a_file_begins_again(track, frames, first_mask, lost, word):
    options = [frames, "--mask", first_mask, "--no-refine"]
    _, folder, before = track(*options)
    wanted = {path.name: path.read_bytes() for path in (folder / "masks").iterdir()}
    if lost is None:
        save(frames / "00003.png", make_frame(3))
    else:
        (folder / lost).unlink()
    result, _, tracks = track(*options, "--resume")
    assert f"the run begins again: it is complete, but lacks {word}" in result.stderr
    assert tracks["status"] == "complete"
    assert lost is None or tracks["summary"] == before["summary"]
    found = {path.name: path.read_bytes() for path in (folder / "masks").iterdir()}
    assert set(found) == {f"{named.name}.png" for named in open_source(frames)}
    assert wanted.items() <= found.items()
    assert (folder / "overlay.mp4").exists()


def test_overlay_and_tracks_keep_the_times_of_a_video(track, tmp_path, first_mask):
    times = [0, 0.04, 0.5, 2.5]
    video = write_video(tmp_path / "clip.mkv", num_frames=4, size=SIZE, times=times)
    _, folder, tracks = track(video, "--mask", first_mask, "--no-refine")
    assert tracks["status"] == "complete"
    assert tracks["losses"] is None
    assert [frame["time"] for frame in tracks["frames"]] == pytest.approx(times)
    shown = [named.seconds for named in open_source(folder / "overlay.mp4")]
    assert shown == pytest.approx(times, abs=0.002)


def test_size_change_midway_keeps_the_rest(track, frames, first_mask):
    save(frames / "00001.png", make_frame(1)[:-2])
    result, _, tracks = track(frames, "--mask", first_mask, "--no-refine", code=2)
    assert result.stderr.splitlines()[-1].endswith("began with 128x72, got 128x70")
    assert (tracks["status"], len(tracks["frames"])) == ("failed", 1)


def test_overwrite_replaces_results(track, frames, first_mask):
    given = [frames, "--mask", first_mask, "--no-refine", "--no-overlay"]
    track(*given, "--limit", "2")
    _, folder, tracks = track(*given, "--limit", "1", "--overwrite")
    assert [path.name for path in (folder / "masks").iterdir()] == ["00000.png"]
    assert len(tracks["frames"]) == 1


def test_corrupt_weights(runner, frames, first_mask, tmp_path):
    path = tmp_path / "corrupt.safetensors"
    path.write_bytes(b"nothing but rubbish" * 50)
    given = ["track", frames, "--mask", first_mask, "--out", tmp_path / "o", "--weights", path]
    result = runner.invoke(app, [str(argument) for argument in given])
    assert result.exit_code == 3
    assert "corrupt.safetensors" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()


COMMANDS = """
import json, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    try:
        runpy.run_module("vots_hqtrack", run_name="__main__", alter_sys=True)
    except SystemExit as error:
        for stream in (sys.stdout, sys.stderr):
            print(f"\\nexit {error.code}", file=stream)
"""
"""Command lines one after the other, in one process because it takes seconds to start.

Background jobs of a shell without job control, and so this test's children, ignore Ctrl-C. A user's
terminal does not do that to them, so the process begins by listening to it.
"""


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit code, its output and its results' folder."""

    code: str
    stdout: str
    stderr: str
    results: Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, untrained) -> list[Finished]:
    """Two commands of one process in a foreign folder: odd files, and one that Ctrl-C ends."""
    root = tmp_path_factory.mktemp("process")
    odd = root / "Übung 映像" / "кадры"
    save(odd / "9.png", make_frame(0)[..., 1])
    save(odd / "10.png", make_frame(1)[..., 1].astype(np.uint16) * 257)
    save(odd / "11.jpg", make_frame(2))
    coloured = make_mask(0)[..., None] * np.array([255, 0, 0], dtype=np.uint8)
    mask = save(root / "Übung 映像" / "máscara.png", coloured)
    for index in range(100):
        save(root / "many" / f"{index}.png", make_frame(index % 10))
    results = [root / "résultats", root / "interrupted"]
    options = ["--mask", mask, "--weights", untrained, "--no-refine", "--set", SMALL]
    words = [
        ["track", folder, "--out", out, *options]
        for folder, out in zip((odd, root / "many"), results, strict=True)
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMANDS, json.dumps(words, default=str)],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 240
        while not (results[1] / "masks" / "1.png").exists():
            assert time.monotonic() < deadline, "no frame was tracked in time"
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        streams = process.communicate(timeout=120)
    finally:
        process.kill()
    outputs = [re.findall(r"(.*?)^exit (\d+)$", text, re.DOTALL | re.MULTILINE) for text in streams]
    assert [len(found) for found in outputs] == [2, 2], streams
    return [
        Finished(code, stdout, stderr, folder)
        for (stdout, code), (stderr, _), folder in zip(*outputs, results, strict=True)
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for other processes")
def test_process_with_grey_and_deep_frames_and_non_ascii_paths(finished):
    done = finished[0]
    assert done.code == "0", done.stderr
    assert "3 frames" in done.stdout
    frames = read_tracks(done.results)["frames"]
    assert [frame["name"] for frame in frames] == ["9", "10", "11"]
    assert [list(frame["objects"]) for frame in frames] == [["1"]] * 3
    names = sorted(path.name for path in (done.results / "masks").iterdir())
    assert names == ["10.png", "11.png", "9.png"]
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for other processes")
def test_interrupt_keeps_what_was_done(finished):
    done = finished[1]
    assert done.code == "130", done.stderr
    assert "error: stopped" in done.stderr
    assert "Traceback" not in done.stderr
    tracks = read_tracks(done.results)
    assert (tracks["status"], tracks["reason"]) == ("interrupted", "SIGINT")
    assert 2 <= len(tracks["frames"]) < 100
    assert len(list(open_source(done.results / "overlay.mp4"))) == len(tracks["frames"])


@pytest.mark.weights
def test_default_weights_follow_the_square_in_a_video_file(runner, tmp_path, first_mask):
    path = tmp_path / "clip.mp4"
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), codec, 10.0, (SIZE[1], SIZE[0]))
    for index in range(4):
        writer.write(make_frame(index)[..., ::-1])
    writer.release()
    given = ["track", path, "--mask", first_mask, "--out", tmp_path / "o", "--no-overlay"]
    given += ["--set", "frame.long_edge=512"]
    result = runner.invoke(app, [str(argument) for argument in given])
    assert result.exit_code == 0, result.output
    found = read_label_map(tmp_path / "o" / "masks" / "00003.png") == 3
    wanted = make_mask(3)
    assert (found & wanted).sum() / (found | wanted).sum() > 0.6


def test_names_that_are_not_utf_8_and_very_long_ones(runner, frames, first_mask, untrained):
    odd = frames.parent / os.fsdecode(b"\xe9t\xe9")
    frames.rename(odd)
    (odd / "00001.png").rename(odd / os.fsdecode(b"00001\xff.png"))
    out = odd.parent / (os.fsdecode(b"\xff\n") + "o" * 250)
    given = ["track", odd, "--mask", first_mask, "--out", out, "--weights", untrained]
    options = ["--no-refine", "--set", SMALL, "--device", "cpu"]
    result = runner.invoke(app, [*map(str, given), *options])
    assert result.exit_code == 0, result.output
    assert r"\udcff\n" in result.stdout
    tracks = read_tracks(out)
    assert tracks["source"]["location"] == str(odd)
    for frame in tracks["frames"]:
        assert (out / "masks" / f"{frame['name']}.png").exists()


def test_name_that_no_file_system_takes_is_refused_before_the_work(
    runner, frames, first_mask, monkeypatch
):
    monkeypatch.setattr("vots_hqtrack.tracker.HQTracker.from_config", None)
    out = frames.parent / ("o" * 256)
    given = ["track", frames, "--mask", first_mask, "--out", out]
    result = runner.invoke(app, [str(argument) for argument in given])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.endswith("File name too long")
