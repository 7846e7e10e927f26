"""Small videos of a textured square, and weights to track them with."""

from pathlib import Path

import numpy as np
import pytest
from square_video import make_frame, make_mask, save
from typer.testing import CliRunner

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
