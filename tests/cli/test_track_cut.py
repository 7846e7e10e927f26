"""Runs that are cut by signals or killed: what is left is whole, and ``--resume`` goes on."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from square_video import make_frame, make_mask, save

from vots_hqtrack.cli.main import app
from vots_hqtrack.video.label_maps import write_label_map
from vots_hqtrack.video.reader import open_source

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")

NUM_FRAMES = 9
RANDOM = random.Random(16)  # noqa: S311 - repeatable, not secret


@pytest.fixture
def clip(tmp_path, untrained, loaded_once) -> list[str]:
    """Arguments of a run, without its output folder."""
    for index in range(NUM_FRAMES):
        save(tmp_path / "frames" / f"{index:05d}.png", make_frame(index))
    write_label_map(tmp_path / "mask.png", make_mask(0).astype(np.uint8))
    given = ["track", tmp_path / "frames", "--mask", tmp_path / "mask.png", "--no-refine"]
    options = ["--weights", untrained, "--set", "frame.long_edge=256", "--checkpoint", "3"]
    return [str(word) for word in [*given, *options, "--device", "cpu"]]


@contextlib.contextmanager
def started(words):
    """Start the command as a terminal does, where Ctrl-C is not ignored."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vots_hqtrack", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def end_at_frame(words, folder, index, number):
    """Start the command, and send it a signal when a frame's label map is there."""
    with started(words) as process:
        deadline = time.monotonic() + 240
        while not (folder / "masks" / f"{index:05d}.png").exists():
            assert time.monotonic() < deadline, "the frame was not tracked in time"
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=120)
    assert "Traceback" not in stderr
    return process.returncode, stderr


def read_tracks(folder):
    tracks = json.loads((folder / "tracks.json").read_text(encoding="utf-8"))
    for frame in tracks["frames"]:
        del frame["seconds"]
    return tracks


def masks_in(folder):
    return {path.name: path.read_bytes() for path in (folder / "masks").iterdir()}


def test_run_that_is_cut_again_and_again_gives_what_an_uncut_one_gives(runner, clip, tmp_path):
    uncut, cut = tmp_path / "uncut", tmp_path / "cut"
    words = [*clip, "--out", str(cut), "--resume"]
    killed = RANDOM.randrange(3)
    assert end_at_frame(words, cut, killed, signal.SIGKILL)[0] == -signal.SIGKILL
    assert read_tracks(cut)["status"] == "running"
    code, stderr = end_at_frame(words, cut, RANDOM.randrange(4, 7), signal.SIGTERM)
    assert (code, "error: stopped" in stderr) == (128 + signal.SIGTERM, True)
    tracks = read_tracks(cut)
    assert (tracks["status"], tracks["reason"]) == ("interrupted", "SIGTERM")
    names = [f"{frame['name']}.png" for frame in tracks["frames"]]
    assert sorted(masks_in(cut)) == names
    assert len(list(open_source(cut / "overlay.mp4"))) == len(names)
    assert not list(cut.rglob(".hqtrack*"))
    for arguments in (words, [*clip, "--out", str(uncut)]):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 0, result.output
    assert masks_in(cut) == masks_in(uncut)
    left, right = read_tracks(cut), read_tracks(uncut)
    for part in ("status", "summary", "frames", "files"):
        assert left[part] == right[part]
    assert sorted(path.name for path in cut.iterdir()) == ["masks", "overlay.mp4", "tracks.json"]
    again = runner.invoke(app, words)
    assert (again.exit_code, "complete already" in again.stdout) == (0, True)


def test_other_inputs_or_options_do_not_go_on(runner, clip, tmp_path):
    folder = tmp_path / "out"
    assert runner.invoke(app, [*clip, "--out", str(folder), "--limit", "2"]).exit_code == 0
    before = masks_in(folder)

    def refuse(*words):
        result = runner.invoke(app, [*clip, *words, "--out", str(folder), "--resume"])
        assert result.exit_code == 2, result.output
        assert masks_in(folder) == before
        return " ".join(result.stderr.split())

    assert "had another options" in refuse("--set", "memory.gap=2", "--limit", "2")
    assert "is complete with --limit 2" in refuse("--limit", "3")
    write_label_map(tmp_path / "mask.png", make_mask(1).astype(np.uint8))
    assert "had another prompt" in refuse("--limit", "2")
    assert "either --overwrite or --resume" in refuse("--overwrite")
    assert "a latency budget cannot go on" in refuse("--set", "runtime.frame_budget=1")


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "masks/00001.png"])
def test_damaged_leftovers_begin_the_run_again(runner, clip, tmp_path, name):
    folder = tmp_path / "out"
    save(tmp_path / "frames" / "00004.png", make_frame(4)[:-1])
    words = [*clip, "--out", str(folder), "--limit", "5", "--no-overlay"]
    assert runner.invoke(app, words).exit_code == 2
    assert (folder / "checkpoint.safetensors").exists()
    damage(folder / name)
    save(tmp_path / "frames" / "00004.png", make_frame(4))
    result = runner.invoke(app, [*words, "--resume"])
    assert result.exit_code == 0, result.output
    assert "the run begins again: " in " ".join(result.stderr.split())
    assert read_tracks(folder)["status"] == "complete"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGUSR1"])
def test_signal_during_the_imports_gives_one_line(clip, tmp_path, name):
    code = (
        "from vots_hqtrack.cli.signals import listen; listen('leave'); print(flush=True)\n"
        "from vots_hqtrack.__main__ import main; main()"
    )
    number = getattr(signal, name)
    with subprocess.Popen(
        [sys.executable, "-c", code, *clip, "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs and nohup ignore some of these.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:
        process.stdout.readline()
        time.sleep(RANDOM.random())
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (128 + number, "error: stopped\n")
    assert not (tmp_path / "out").exists()


def test_second_run_into_one_folder_is_refused(runner, clip, tmp_path):
    folder = tmp_path / "out"
    with started([*clip, "--out", str(folder)]) as process:
        while not (folder / "masks" / "00001.png").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        for option in ("--overwrite", "--resume"):
            result = runner.invoke(app, [*clip, "--out", str(folder), option])
            assert result.exit_code == 2
            assert "another run writes into" in " ".join(result.stderr.split())
        assert process.wait(120) == 0
    assert len(read_tracks(folder)["frames"]) == NUM_FRAMES


def test_closed_pipes_do_not_spoil_results(clip, tmp_path):
    folder = tmp_path / "out"
    words = " ".join(f"'{word}'" for word in [*clip, "--limit", "3", "--out", str(folder)])
    command = f"'{sys.executable}' -m vots_hqtrack {words} | true; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert ended.stdout == f"{128 + signal.SIGPIPE}\n"
    assert ended.stderr.splitlines()[-1].startswith("error: the reader of the output went away")
    assert "Traceback" not in ended.stderr
    assert read_tracks(folder)["status"] == "complete"


def test_a_session_that_is_killed_keeps_all_frames_but_the_one_at_work(runner, clip, tmp_path):
    folder = tmp_path / "results"
    words = [*clip, "--start", "3", "--both", "--no-overlay", "--out", str(folder)]
    project = folder / "session.hqtrack"
    end_at_frame(words, project, 6, signal.SIGKILL)
    before = masks_in(project)
    known = {path.stem for path in (project / "frames").glob("0*.json")}
    assert {f"{index:05d}" for index in range(3, 6)} <= known
    result = runner.invoke(app, [*words, "--resume"])
    assert result.exit_code == 0, result.output
    num_done = int(re.search(r"going on after (\d+) of 10 frames", result.stderr)[1])
    assert 3 <= num_done <= len(known)
    tracks = read_tracks(folder)
    assert [frame["index"] for frame in tracks["frames"]] == list(range(NUM_FRAMES))
    assert tracks["status"] == "complete"
    after = masks_in(folder)
    for index in range(3, 3 + num_done):
        name = f"{index:05d}.png"
        assert after[name] == before[name]
    assert not project.exists()
