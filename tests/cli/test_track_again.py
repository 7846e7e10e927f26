"""Results that are in the folder already: none is lost to a run that cannot begin or go on."""

import pytest
from square_video import make_frame, read_tracks, save

from vots_hqtrack.cli.signals import Stopped
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.video.result_folder import read_earlier
from vots_hqtrack.video.results import ResultWriter

QUICK = ("--no-refine", "--no-overlay")


def content(folder):
    """Return all files of a folder with their bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def cut_session(track, frames, first_mask, monkeypatch):
    """Folder of a session that a signal cut, and the arguments of its run."""
    given = [frames, "--mask", first_mask, "--start", "1", "--both", *QUICK]
    go, calls = HQTracker.track, []

    def track_or_stop(self, *args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise Stopped(15)
        return go(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(HQTracker, "track", track_or_stop)
        _, folder, tracks = track(*given, code=143)
    assert tracks["status"] == "interrupted"
    return folder, given


@pytest.mark.parametrize("direction", [(), ("--both",)])
def test_overwrite_that_cannot_begin_leaves_what_was_there(track, frames, cut_session, direction):
    folder, given = cut_session
    before = content(folder)
    boxes = ["--box", "20,22,28,28"] * 2  # one mask for two objects
    options = ["--start", "1", *direction, *QUICK, "--overwrite"]
    track(frames, *boxes, *options, code=2)
    assert content(folder) == before
    result, _, tracks = track(*given, "--resume")  # which is not the run of the boxes
    assert f"{folder}: going on after" in result.stderr
    assert tracks["status"] == "complete"


def test_a_cut_run_is_known_until_the_next_one_is(cut_session):
    folder, _ = cut_session
    earlier = read_earlier(folder)
    with pytest.raises(TypeError):
        ResultWriter(folder, {"not for JSON": object()}, overlay_fps=None, earlier=earlier)
    again = read_earlier(folder)
    assert again is not None
    assert again.head["fingerprint"] == earlier.head["fingerprint"]


def test_the_same_frames_by_another_limit_are_complete_already(track, frames, first_mask):
    given = [frames, "--mask", first_mask, *QUICK]
    track(*given)
    for same in (["--limit", "3"], ["--limit", "9"], ["--stop", "2"]):
        result, _, _ = track(*given, *same, "--resume")
        assert "complete already" in result.stdout
    result, _, tracks = track(*given, "--limit", "2", "--resume", code=2)
    assert "is complete to the end of the video; give --overwrite" in result.stderr
    assert len(tracks["frames"]) == 3


def test_complete_partial_and_cut_videos_go_on_together(track, frames, first_mask, tmp_path):
    sources = [frames, tmp_path / "lost", tmp_path / "cut"]
    for folder in sources[1:]:
        for index in range(3):
            save(folder / f"{index:05d}.png", make_frame(index))
    (sources[1] / "00001.png").write_bytes(b"no image")
    save(sources[2] / "00002.png", make_frame(2)[:-1])
    options = [*sources, "--mask", first_mask, *QUICK, "--skip-missing", "--together", "2"]
    options += ["--checkpoint", "1"]
    _, folder, _ = track(*options, code=5)
    save(sources[2] / "00002.png", make_frame(2))
    result, _, _ = track(*options, "--resume", code=5)
    states = [read_tracks(folder / path.name) for path in sources]
    assert [tracks["status"] for tracks in states] == ["complete", "partial", "complete"]
    assert [len(tracks["frames"]) for tracks in states] == [3, 2, 3]
    assert result.stdout.count("already; results in") == 2
    assert f"{folder / 'cut'}: going on from frame 2" in result.stderr
    assert "1 of 3 sources failed or are partial" in result.stderr
