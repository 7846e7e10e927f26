"""Small videos of a textured square, and weights to track them with."""

from pathlib import Path

import numpy as np
import pytest
from square_video import SMALL, make_frame, make_mask, read_tracks, save
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.video.label_maps import write_label_map


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


@pytest.fixture
def frames(tmp_path) -> Path:
    """Folder of three frames."""
    folder = tmp_path / "frames"
    for index in range(3):
        save(folder / f"{index:05d}.png", make_frame(index))
    return folder


@pytest.fixture
def first_mask(tmp_path) -> Path:
    """Label map of the first frame: the square is object 3."""
    path = tmp_path / "first.png"
    write_label_map(path, make_mask(0).astype(np.uint8) * 3)
    return path


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Path:
    """VMOS weights of the default shape that nobody trained, for what needs no skill."""
    import torch

    from vots_hqtrack.build import build_networks
    from vots_hqtrack.checkpoints.load import save_tensors
    from vots_hqtrack.checkpoints.manifest import resolve
    from vots_hqtrack.errors import WeightsError
    from vots_hqtrack.presets import lite

    config = lite()
    try:
        resolve(config.refiner.weights)
    except WeightsError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_tensors(path, build_networks(config)[1].state_dict(), {"origin": "test"})
    return path


@pytest.fixture(scope="session")
def trackers() -> dict:
    """Trackers loaded so far, by their arguments; the videos of a tracker do not meet."""
    return {}


@pytest.fixture
def loaded_once(trackers, monkeypatch):
    """Load each tracker of this process once, and encode each frame once."""
    from shipped import EncodedOnce

    from vots_hqtrack.tracker import HQTracker

    load = HQTracker.from_config

    def load_once(config, **options):
        key = (config, *options.items())
        if key not in trackers:
            trackers[key] = load(config, **options)
            trackers[key]._encoder = EncodedOnce(trackers[key]._encoder)
        return trackers[key]

    monkeypatch.setattr(HQTracker, "from_config", load_once)


@pytest.fixture
def track(runner, tmp_path, untrained, loaded_once):
    """Run ``hqtrack track``; return its result, its folder and the content of tracks.json."""

    def run(*options, code=0):
        folder = tmp_path / "results"
        arguments = ["--set", SMALL, *options, "--out", folder, "--weights", untrained]
        result = runner.invoke(app, ["track", "--device", "cpu", *map(str, arguments)])
        assert result.exit_code == code, result.output
        has_tracks = (folder / "tracks.json").exists()
        return result, folder, read_tracks(folder) if has_tracks else {}

    return run
