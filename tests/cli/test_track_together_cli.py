"""``hqtrack track --together``: the results of one video after the other, each with its own end."""

import shutil

import numpy as np
import pytest
from square_video import make_frame, read_tracks, save

from vots_hqtrack.cli.signals import Stopped
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.video.label_maps import read_label_map

QUICK = ["--no-refine", "--no-overlay", "--checkpoint", "2"]


@pytest.fixture
def sources(frames, tmp_path):
    """Four videos of 4, 3, 3 and 2 frames; the third one has a frame that cannot be read."""
    names = [tmp_path / name for name in ("long", "frames", "broken", "short")]
    for path in (names[0], *names[2:]):
        shutil.copytree(frames, path)
    save(names[0] / "00003.png", make_frame(3))
    (names[2] / "00002.png").write_bytes(b"no image")
    (names[3] / "00002.png").unlink()
    return names


def masks_of(folder):
    return {path.name: read_label_map(path) for path in sorted((folder / "masks").iterdir())}


def test_results_equal_those_of_one_after_the_other(track, sources, first_mask, monkeypatch):
    batches, together = [], HQTracker.track_together

    def count(self, frames, states):
        batches.append(len(frames))
        return together(self, frames, states)

    monkeypatch.setattr(HQTracker, "track_together", count)
    options = [*sources, "--mask", first_mask, *QUICK]
    _, folder, _ = track(*options, code=5)
    alone = {path.name: (read_tracks(folder / path.name), masks_of(folder / path.name))
             for path in sources}  # fmt: skip
    assert batches == []
    result, folder, _ = track(*options, "--overwrite", "--together", "3", code=5)
    assert max(batches) == 3
    for name, (tracks, masks) in alone.items():
        found, found_masks = read_tracks(folder / name), masks_of(folder / name)
        assert found["status"] == tracks["status"] == ("failed" if name == "broken" else "complete")
        assert found.get("reason") == tracks.get("reason")
        assert [frame["name"] for frame in found["frames"]] == list(map(_stem, masks))
        assert found_masks.keys() == masks.keys()
        for label_map, other in zip(found_masks.values(), masks.values(), strict=True):
            assert np.mean(label_map != other) < 0.01
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert "broken" in errors[0]
    assert errors[1].startswith("error: 1 of 4 sources failed or are partial")
    assert result.stdout.count("results in") == 3


def _stem(name):
    return name.removesuffix(".png")


def test_a_signal_leaves_all_videos_whole_and_resume_goes_on(
    track, sources, first_mask, monkeypatch
):
    together, calls = HQTracker.track_together, []

    def stop(self, frames, states):
        calls.append(frames)
        if len(calls) == 2:
            raise Stopped(15)
        return together(self, frames, states)

    good = [sources[0], sources[1], sources[3]]
    options = [*good, "--mask", first_mask, *QUICK, "--together", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(HQTracker, "track_together", stop)
        _, folder, _ = track(*options, code=143)
    for path in good[:2]:
        tracks = read_tracks(folder / path.name)
        assert (tracks["status"], tracks["reason"]) == ("interrupted", "SIGTERM")
        assert len(tracks["frames"]) == 2
    track(*options, "--resume")
    for path, length in zip(good, (4, 3, 2), strict=True):
        tracks = read_tracks(folder / path.name)
        assert (tracks["status"], len(tracks["frames"])) == ("complete", length)


def test_a_latency_budget_wants_one_video_at_a_time(track, sources, first_mask):
    budget = ["--set", "runtime.frame_budget=10", "--together", "2"]
    result, folder, _ = track(*sources[:2], "--mask", first_mask, *QUICK, *budget, code=2)
    assert "one video at a time" in result.stderr
    assert not folder.exists()
