"""Folder of results: only what a run of ours wrote is replaced, and one run writes at a time."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vots_hqtrack.errors import ConfigError, HQTrackError, InputError
from vots_hqtrack.result import FrameResult
from vots_hqtrack.video.result_folder import check_output, claim_output, read_earlier
from vots_hqtrack.video.results import ResultWriter

FRAME = np.full((20, 30, 3), 90, dtype=np.uint8)
MASK = np.ones((20, 30), dtype=np.bool_)


@pytest.fixture
def results(tmp_path):
    """Folder of an earlier run of two frames, with an overlay."""
    folder = tmp_path / "results"
    folder.mkdir()
    with ResultWriter(folder, {}, overlay_fps=5.0) as writer:
        for index, name in enumerate("ab"):
            result = FrameResult(index, {1: MASK}, {1: 1.0}, {1: "given"})
            writer.write(name, FRAME, result, seconds=0.1)
    return folder


def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    return {str(path.relative_to(folder)): os.lstat(path).st_mtime_ns for path in files}


def test_new_empty_and_earlier_folders_are_taken(tmp_path, results):
    check_output(tmp_path / "new", earlier="refuse")
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty", earlier="refuse")
    for earlier in ("overwrite", "resume"):
        check_output(results, earlier=earlier)
    with pytest.raises(InputError, match=r"is not empty; .*--overwrite .*--resume"):
        check_output(results, earlier="refuse")


def test_file_and_dangling_link_are_no_output_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("file", "link"):
        with pytest.raises(InputError, match="must be a folder, got the file"):
            check_output(tmp_path / name, earlier="overwrite")


def replace_by_link(path):
    path.rename(path.parent.parent / "mine")
    path.symlink_to(path.parent.parent / "mine")


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def unlist_overlay(path):
    tracks = json.loads(path.read_text())
    path.write_text(json.dumps({**tracks, "files": []}))


FOREIGN = {
    "drawn mask": ("masks/c.png", lambda path: path.write_bytes(b"mine")),
    "note among masks": ("masks/notes.txt", lambda path: path.write_text("mine")),
    "link among masks": ("masks/a.png", replace_by_link),
    "linked masks": ("masks", replace_by_link),
    "folder as overlay": ("overlay.mp4", replace_by_folder),
    "own checkpoint": ("checkpoint.safetensors", lambda path: path.write_bytes(b"mine")),
    "linked tracks": ("tracks.json", replace_by_link),
    "no tracks": ("tracks.json", Path.unlink),
    "tracks of another program": ("tracks.json", lambda path: path.write_text('{"frames": []}')),
    "unlisted overlay": ("tracks.json", unlist_overlay),
}


@pytest.mark.parametrize("earlier", ["overwrite", "resume"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_no_run_of_ours_wrote_is_refused_and_stays(results, kind, earlier):
    name, plant = FOREIGN[kind]
    plant(results / name)
    before = content(results.parent)
    with pytest.raises(InputError, match=r"another --out|not written by this program"):
        check_output(results, earlier=earlier)
    assert content(results.parent) == before


@pytest.mark.parametrize("name", ["../../mine", "/mine", "a/../../../mine", "a\0b", "", 7, None])
def test_names_in_tracks_never_lead_out_of_the_folder(results, name):
    tracks = json.loads((results / "tracks.json").read_text())
    tracks["frames"][0]["name"] = name
    (results / "tracks.json").write_text(json.dumps(tracks))
    with pytest.raises(InputError, match="was not written by this program"):
        check_output(results, earlier="overwrite")


@pytest.mark.parametrize("inside", ["", "masks", "frames", "masks/a.png", "deep/clip.mp4"])
def test_output_that_holds_an_input_is_refused(results, inside):
    with pytest.raises(InputError, match="holds the input"):
        check_output(results, earlier="overwrite", inputs=[results / inside])


def test_input_behind_a_link_is_found(results):
    link = results.parent / "elsewhere"
    link.symlink_to(results / "masks")
    with pytest.raises(InputError, match="holds the input"):
        check_output(results, earlier="overwrite", inputs=[link / "a.png"])
    check_output(results, earlier="overwrite", inputs=[results.parent / "results-2" / "masks"])


def test_second_run_is_refused(results):
    with (
        claim_output(results, earlier="overwrite"),
        pytest.raises(ConfigError, match=r"another run writes into .*results; wait for it"),
        claim_output(results, earlier="overwrite"),
    ):
        pass
    assert not list(results.glob(".*"))


def test_failed_run_leaves_no_folder(tmp_path):
    with contextlib.suppress(ZeroDivisionError), claim_output(tmp_path / "a/b", earlier="refuse"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_leftovers_of_killed_runs_are_cleared(results):
    for folder in (results, results / "masks"):
        (folder / ".hqtrack-0123456789abcdef.part").write_text("half")
    (results / ".hqtrack.journal").write_text('{"name": "a"}\n{"name": "b"}\n{"name": "c"}\n{"na')
    (results / "masks" / "c.png").write_text("written, but not yet in tracks.json")
    with claim_output(results, earlier="overwrite") as earlier:
        assert [frame["name"] for frame in earlier.frames] == ["a", "b", "c"]
        names = sorted(path.name for path in results.rglob("*.part*"))
        assert names == []


def test_folder_with_nothing_but_leftovers_is_empty(tmp_path):
    for name in (".hqtrack-0123456789abcdef.part.mp4", ".hqtrack.lock"):
        (tmp_path / name).write_text("")
    with claim_output(tmp_path, earlier="refuse"):
        pass
    assert not list(tmp_path.iterdir())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_damaged_tracks_raise_nothing_but_our_errors(results, data):
    text = bytearray((results / "tracks.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    damaged = results.parent / "damaged"
    damaged.mkdir(exist_ok=True)
    (damaged / "tracks.json").write_bytes(text[: data.draw(st.integers(0, len(text)))])
    with contextlib.suppress(HQTrackError):
        check_output(damaged, earlier="overwrite")
        read_earlier(damaged)
