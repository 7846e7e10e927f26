"""``hqtrack track`` pairs every frame with its result, also where a GPU encodes the next ahead."""

from types import SimpleNamespace

import pytest
from square_video import SMALL, make_frame, make_mask, read_tracks, save

from vots_hqtrack.cli.forward_run import ForwardRun
from vots_hqtrack.cli.progress import frame_progress
from vots_hqtrack.cli.prompts import FramePrompt
from vots_hqtrack.cli.spans import Pass, Span
from vots_hqtrack.cli.track_job import GivenPrompts, Job, RunOptions
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.video.label_maps import read_label_map
from vots_hqtrack.video.reader import NamedFrame
from vots_hqtrack.video.results import ResultWriter


@pytest.mark.parametrize("is_ahead", [False, True])
def test_every_frame_before_an_unreadable_one_has_its_result(
    track, frames, first_mask, monkeypatch, *, is_ahead
):
    (frames / "00003.png").write_bytes(b"no image")
    save(frames / "00004.png", make_frame(4))
    load = HQTracker.from_config

    def load_ahead(*args, **options):
        tracker = load(*args, **options)
        monkeypatch.setattr(tracker, "_encodes_ahead", is_ahead)
        return tracker

    monkeypatch.setattr(HQTracker, "from_config", load_ahead)
    options = ["--mask", first_mask, "--no-refine", "--no-overlay"]
    result, folder, _ = track(frames, *options, code=2)
    assert "00003" in result.stderr
    tracks = read_tracks(folder)
    assert [frame["index"] for frame in tracks["frames"]] == [0, 1, 2]
    assert [frame["name"] for frame in tracks["frames"]] == ["00000", "00001", "00002"]
    assert all(read_label_map(folder / "masks" / f"0000{i}.png").any() for i in range(1))


@pytest.mark.weights
def test_a_camera_is_read_one_frame_at_a_time(tmp_path):
    """The older its frames, the less they are worth."""
    num_read, read_before = 0, []

    def frames():
        nonlocal num_read
        for index in range(4):
            num_read += 1
            yield NamedFrame(f"{index}", make_frame(index), index / 25)

    class Counted(ForwardRun):
        def write(self, result, **options):
            read_before.append(num_read)
            super().write(result, **options)

    tracker = HQTracker.from_preset("lite-vmos", device="cpu", settings=[SMALL])
    camera = SimpleNamespace(kind="camera", length=None)
    span = Span(None, None, None, "forward")
    shared = (None, "apply", False, False, None, "refuse", 2, (), None)
    options = RunOptions(tracker.config, "cpu", None, span, *shared)
    job = Job(camera, tmp_path, GivenPrompts(), {0: FramePrompt()}, (Pass(0, 0),), options)
    masks, progress = {1: make_mask(0)}, frame_progress()
    with (
        ResultWriter(tmp_path, {}, overlay_fps=None) as writer,
        Counted(job, tracker, frames(), masks, writer, None) as run,
    ):
        run.track(progress, "camera")
    assert read_before == [1, 2, 3, 4]
    assert [frame["name"] for frame in read_tracks(tmp_path)["frames"]] == list("0123")
