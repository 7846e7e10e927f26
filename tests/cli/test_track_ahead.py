"""``hqtrack track`` pairs every frame with its result, also where a GPU encodes the next ahead."""

import pytest
from square_video import make_frame, read_tracks, save

from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.video.label_maps import read_label_map


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
