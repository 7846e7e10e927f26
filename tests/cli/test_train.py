"""``hqtrack train``: prepare, run, resume and export on data small enough for a test."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.presets import lite
from vots_hqtrack.training.features import CachedClip
from vots_hqtrack.vmos import build_vmos

runner = CliRunner()
CELLS = (6, 8)


def write_features(folder: Path) -> None:
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(3, CELLS[0] * 8, CELLS[1] * 8, dtype=torch.uint8)
    labels[:, 8:32, 8:40] = 1
    content = {
        "s4": torch.randn(3, CELLS[0] * 2, CELLS[1] * 2, 128, generator=generator).bfloat16(),
        "s8": torch.randn(3, *CELLS, 576, generator=generator).bfloat16(),
        "labels": labels,
    }
    save_file(content, folder / "clip.safetensors")


def write_photos(root: Path) -> None:
    """Two noise photographs with a bright disc each."""
    images, labels = root / "JPEGImages", root / "Annotations"
    images.mkdir(parents=True)
    labels.mkdir()
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:160, :240]
    for name in ("a", "b"):
        disc = (rows - 80) ** 2 + (columns - 120) ** 2 < 45**2
        image = rng.integers(0, 120, (160, 240, 3), dtype=np.uint8)
        image[disc] += 100
        Image.fromarray(image).save(images / f"{name}.jpg")
        mask = Image.fromarray(disc.astype(np.uint8))
        mask.putpalette([0, 0, 0, 128, 0, 0])
        mask.save(labels / f"{name}.png")
    (root / "index.csv").write_text("name,source\na,x\nb,x\n")


def test_run_resumes_and_exports_weights_that_fit(tmp_path: Path) -> None:
    for source in ("synthetic", "videos", "composites"):
        write_features(tmp_path / "cache" / source)
    checkpoint, weights = tmp_path / "run.pt", tmp_path / "w.safetensors"
    options = ["--cache", str(tmp_path / "cache"), "--checkpoint", str(checkpoint)]
    first = runner.invoke(app, ["train", "run", *options, "--steps", "2"])
    assert first.exit_code == 0, first.output
    again = runner.invoke(app, ["train", "run", *options, "--steps", "3"])
    assert again.exit_code == 0, again.output
    assert "trained 3 steps" in again.output
    done = runner.invoke(
        app, ["train", "export", "--checkpoint", str(checkpoint), "--out", str(weights)]
    )
    assert done.exit_code == 0, done.output
    config = lite()
    wanted = build_vmos(config.vmos, config.encoder.dims).state_dict()
    found = load_file(weights)
    assert {key: value.shape for key, value in found.items()} == {
        key: value.shape for key, value in wanted.items()
    }
    assert {value.dtype for value in found.values()} == {torch.float16}


def test_missing_cache_and_checkpoint_are_errors(tmp_path: Path) -> None:
    options = ["--checkpoint", str(tmp_path / "run.pt")]
    nothing = runner.invoke(app, ["train", "run", "--cache", str(tmp_path), *options])
    assert nothing.exit_code == 2
    assert "found none" in nothing.output
    export = ["train", "export", *options, "--out", str(tmp_path / "w.safetensors")]
    unread = runner.invoke(app, export)
    assert unread.exit_code == 3
    assert "cannot read the checkpoint" in unread.output


@pytest.mark.weights
def test_prepare_encodes_synthetic_clips(tmp_path: Path) -> None:
    from vots_hqtrack.training.prepare import PrepareConfig, load_encoder, prepare_synthetic

    write_photos(tmp_path / "photos")
    config = PrepareConfig(synthetic_size=(224, 224), synthetic_frames=2)
    encoder, seen = load_encoder(), []
    for _ in range(2):
        prepare_synthetic(encoder, tmp_path / "photos", tmp_path / "cache", config, seen.append)
    assert sorted(seen) == ["00-a", "00-b"]
    clip = CachedClip(tmp_path / "cache" / "00-a.safetensors")
    assert clip.shape == (2, (14, 14))
    assert clip.labels()[0].max() >= 1
