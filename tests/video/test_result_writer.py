"""Results on disk: what is written, and that an early end loses nothing."""

import json
import os
import pathlib
import signal

import numpy as np
import pytest
from PIL import Image
from small_disk import limited_files

from vots_hqtrack.cli.signals import Stopped
from vots_hqtrack.errors import InputError, OutputError, ShapeError
from vots_hqtrack.result import FrameResult
from vots_hqtrack.video import results
from vots_hqtrack.video.reader import open_source
from vots_hqtrack.video.result_folder import (
    CHECKPOINT_NAME,
    check_output,
    read_earlier,
    remove_leftovers,
)
from vots_hqtrack.video.results import ResultWriter

FRAME = np.full((20, 30, 3), 90, dtype=np.uint8)


def make_result(index, *, seen=True):
    first = np.zeros((20, 30), dtype=np.bool_)
    first[2:6, 3 + index : 10 + index] = True
    second = np.zeros_like(first)
    second[10:12, 10:12] = seen
    return FrameResult(
        frame_index=index,
        masks={1: first, 7: second},
        scores={1: 0.912345, 7: 0.5 if seen else 0.0},
        sources={1: "refined", 7: "initial" if seen else "absent"},
    )


def read_tracks(folder):
    return json.loads((folder / "tracks.json").read_text(encoding="utf-8"))


def test_all_is_written(tmp_path):
    folder = tmp_path / "Ergebnis ü"
    folder.mkdir()
    with ResultWriter(folder, {"source": "ü"}, overlay_fps=10.0) as writer:
        writer.write("a", FRAME, make_result(0), seconds=0.25)
        writer.write("b", FRAME, make_result(1, seen=False), seconds=0.5)
    assert sorted(path.name for path in folder.rglob("*")) == [
        "a.png",
        "b.png",
        "masks",
        "overlay.mp4",
        "tracks.json",
    ]
    with Image.open(folder / "masks" / "a.png") as image:
        labels = np.asarray(image)
    assert sorted(np.unique(labels)) == [0, 1, 7]
    np.testing.assert_array_equal(labels == 1, make_result(0).masks[1])
    assert len(list(open_source(folder / "overlay.mp4"))) == 2
    tracks = read_tracks(folder)
    assert (tracks["format"], tracks["status"], tracks["reason"]) == (1, "complete", None)
    assert tracks["source"] == "ü"
    assert [frame["name"] for frame in tracks["frames"]] == ["a", "b"]
    second = tracks["frames"][1]
    assert (second["index"], second["seconds"]) == (1, 0.5)
    lost = {key: entry["lost_from"] for key, entry in tracks["summary"]["objects"].items()}
    assert lost == {"1": None, "7": 1}
    assert second["objects"] == {
        "1": {"box": [4, 2, 7, 4], "area": 28, "score": 0.9123, "source": "refined"},
        "7": {"box": None, "area": 0, "score": 0.0, "source": "absent"},
    }


def test_without_overlay_there_is_no_video(tmp_path):
    with ResultWriter(tmp_path, {}, overlay_fps=None) as writer:
        writer.write("a", FRAME, make_result(0), seconds=0.1)
    assert not (tmp_path / "overlay.mp4").exists()


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (InputError("frame 2 is broken"), "failed", "frame 2 is broken"),
        (MemoryError(), "failed", "MemoryError"),
        (KeyboardInterrupt(), "interrupted", None),
        (Stopped(signal.SIGTERM), "interrupted", "SIGTERM"),
    ],
)
def test_early_end_loses_nothing(tmp_path, error, status, reason):
    def run():
        with ResultWriter(tmp_path, {}, overlay_fps=10.0) as writer:
            writer.write("a", FRAME, make_result(0), seconds=0.1)
            raise error

    with pytest.raises(type(error)):
        run()
    tracks = read_tracks(tmp_path)
    assert (tracks["status"], tracks["reason"], len(tracks["frames"])) == (status, reason, 1)
    assert (tmp_path / "masks" / "a.png").exists()
    assert len(list(open_source(tmp_path / "overlay.mp4"))) == 1


class Killed(BaseException):
    """Ends a run as a kill would, but for what `finally` does."""


@pytest.mark.parametrize("point", ["checkpoint", "list", "journal"])
def test_a_kill_at_the_very_end_leaves_nothing_that_looks_like_the_users(
    tmp_path, monkeypatch, point
):
    """The run dies just before its last files go; it counts as complete."""

    def die(*arguments, **options):
        raise Killed

    def run():
        with ResultWriter(tmp_path, {}, overlay_fps=None) as writer:
            writer.write("a", FRAME, make_result(0), seconds=0.1)
            (tmp_path / CHECKPOINT_NAME).write_bytes(b"state")
            if point == "journal":
                file = writer._journal._file
                monkeypatch.setattr(writer._journal, "close", lambda **_: (file.close(), die()))
            elif point == "checkpoint":
                monkeypatch.setattr(pathlib.Path, "unlink", die)
            else:
                ways = iter([writer._save, die])
                monkeypatch.setattr(
                    writer, "_save", lambda *words, **options: next(ways)(*words, **options)
                )

    with pytest.raises(Killed):
        run()
    monkeypatch.undo()
    earlier = read_earlier(tmp_path)
    assert earlier.status == "complete"
    check_output(tmp_path, earlier="resume")
    remove_leftovers(tmp_path, earlier)
    assert sorted(os.listdir(tmp_path)) == ["masks", "tracks.json"]


def test_tracks_are_saved_while_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_SECONDS_BETWEEN_SAVES", 0.0)
    with ResultWriter(tmp_path, {}, overlay_fps=None) as writer:
        for index in range(2):
            writer.write(str(index), FRAME, make_result(index), seconds=0.1)
            tracks = read_tracks(tmp_path)
            assert (tracks["status"], len(tracks["frames"])) == ("running", index + 1)


def test_run_without_a_frame_is_still_json(tmp_path):
    with ResultWriter(tmp_path, {"source": "none"}, overlay_fps=5.0):
        pass
    assert read_tracks(tmp_path)["frames"] == []


def test_earlier_results_go_and_other_files_stay(tmp_path):
    for names in (["old", "older"], ["a"]):
        earlier = read_earlier(tmp_path)
        with ResultWriter(tmp_path, {}, overlay_fps=None, earlier=earlier) as writer:
            for index, name in enumerate(names):
                writer.write(name, FRAME, make_result(index), seconds=0.1)
        (tmp_path / "notes.txt").write_text("mine")
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert names == ["masks/a.png", "notes.txt", "tracks.json"]


def test_tracks_are_strict_json_with_any_numbers_and_names(tmp_path):
    facts = {"budget": float("inf"), "location": os.fsdecode(b"\xe9t\xe9"), "score": float("nan")}
    with ResultWriter(tmp_path, facts, overlay_fps=None):
        pass

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = (tmp_path / "tracks.json").read_bytes().decode("utf-8")
    tracks = json.loads(text, parse_constant=refuse)
    assert (tracks["budget"], tracks["score"]) == (None, None)
    assert os.fsencode(tracks["location"]) == b"\xe9t\xe9"


def test_resumed_run_has_the_summary_and_overlay_of_an_uncut_one(tmp_path):
    def write(folder, first, last, **options):
        with ResultWriter(folder, {}, overlay_fps=5.0, **options) as writer:
            for index in range(first):
                writer.redraw(index, str(index), FRAME)
            for index in range(first, last):
                seen = index not in (1, 4)
                writer.write(str(index), FRAME, make_result(index, seen=seen), seconds=0.1)

    (tmp_path / "cut").mkdir()
    (tmp_path / "uncut").mkdir()
    write(tmp_path / "uncut", 0, 5)
    write(tmp_path / "cut", 0, 4)
    write(tmp_path / "cut", 3, 5, earlier=read_earlier(tmp_path / "cut"), num_done=3)
    for name in ("tracks.json", *(f"masks/{index}.png" for index in range(5))):
        expected = (tmp_path / "uncut" / name).read_bytes()
        assert (tmp_path / "cut" / name).read_bytes() == expected, name
    # x264 reads memory that it has not written: one small video in a hundred differs by a byte.
    uncut, cut = (
        np.stack([f.frame for f in open_source(tmp_path / name / "overlay.mp4")]).astype(int)
        for name in ("uncut", "cut")
    )
    assert uncut.shape == cut.shape == (5, *FRAME.shape)
    assert np.abs(uncut - cut).mean(axis=(1, 2, 3)).max() < 1
    assert np.abs(uncut[1:] - uncut[:-1]).mean(axis=(1, 2, 3)).min() > 1


def test_frame_of_another_name_does_not_go_on(tmp_path):
    with ResultWriter(tmp_path, {}, overlay_fps=None) as writer:
        writer.write("a", FRAME, make_result(0), seconds=0.1)
    writer = ResultWriter(
        tmp_path, {}, overlay_fps=None, earlier=read_earlier(tmp_path), num_done=1
    )
    with pytest.raises(InputError, match="frame 0 of the source is b now, and was a"), writer:
        writer.redraw(0, "b", FRAME)


def test_label_map_that_is_not_listed_is_removed(tmp_path):
    writer = ResultWriter(tmp_path, {}, overlay_fps=5.0)
    writer.write("a", FRAME, make_result(0), seconds=0.1)
    with pytest.raises(ShapeError), writer:
        writer.write("b", FRAME[:-1], make_result(1), seconds=0.1)
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["a.png"]
    check_output(tmp_path, earlier="overwrite")


def test_full_disk_gives_a_line_and_nothing_that_calls_itself_complete(tmp_path):
    def run():
        with ResultWriter(tmp_path, {}, overlay_fps=None) as writer:
            for index in range(100):
                writer.write(str(index), FRAME, make_result(index % 9), seconds=0.1)

    with (
        limited_files(3000),
        pytest.raises(OutputError, match=r"^cannot write results into .*: File too large"),
    ):
        run()
    assert read_tracks(tmp_path)["status"] in ("running", "failed")
    assert not list(tmp_path.rglob(".hqtrack-*"))
