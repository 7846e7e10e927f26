"""``hqtrack train``: a whole run on data small enough for a test, resumed and tracked with."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.training.recipe_files import load_recipe

runner = CliRunner()

RECIPE = """
[train]
steps = 2
precision = "float32"
checkpoint_every = 1

[model]
preset = "lite"
train_encoder = false
features = "cached"
settings = [
    "vmos.width_s16=16", "vmos.width_s8=16", "vmos.width_s4=8", "vmos.num_blocks_s16=1",
    "vmos.window_radius=2", "frame.long_edge=256",
]

[regularisation]
encoder_drop_path = 0.0

[cache]
num_frames = 2
clip_size = [224, 224]

[[phases]]
batch_size = 2
num_frames = 2
crop = [96, 96]

[[data]]
kind = "synthetic"
root = "photos"
"""


def write_photos(root: Path) -> None:
    """Two noise photos with a bright disc each."""
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


def write_video(root: Path, name: str) -> None:
    """A bright square that moves to the right."""
    frames, labels = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    frames.mkdir(parents=True)
    labels.mkdir(parents=True)
    for index in range(3):
        mask = np.zeros((64, 96), np.uint8)
        mask[16:48, 16 + 8 * index : 48 + 8 * index] = 1
        Image.fromarray(np.repeat(40 + 180 * mask[..., None], 3, 2)).save(frames / f"{index}.jpg")
        Image.fromarray(255 * mask).save(labels / f"{index}.png")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_photos(tmp_path / "data" / "photos")
    write_video(tmp_path / "data" / "davis", "square")
    (tmp_path / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "data"


def invoke(*words: object) -> tuple[int, str]:
    result = runner.invoke(app, ["train", *(str(word) for word in words)])
    return result.exit_code, result.output


@pytest.mark.weights
def test_run_caches_features_resumes_and_leaves_weights_to_track_with(
    data: Path, tmp_path: Path
) -> None:
    recipe, run = tmp_path / "tiny.toml", tmp_path / "run"
    dev = ["--set", "dev.root=davis", "--set", "dev.sequences=square"]
    words = [recipe, "--data", data, "--out", run, *dev]
    code, output = invoke(*words)
    assert code == 0, output
    assert "features of photos in motion: 2/2" in output
    assert "trained 2 steps; best mean J" in output
    assert "step 2: mean J of the dev split" in output
    again, output = invoke(*words)
    assert again == 0, output
    assert "going on from step 2" in output

    frames = data / "davis" / "JPEGImages" / "480p" / "square"
    mask = data / "davis" / "Annotations" / "480p" / "square" / "0.png"
    options = ["--preset", "lite-vmos", "--weights", run / "best.safetensors", "--device", "cpu"]
    settings = [
        word
        for line in RECIPE.splitlines()
        for text in line.split('"')
        if text.startswith(("vmos.", "frame."))
        for word in ("--set", text)
    ]
    command = ["track", frames, "--mask", mask, "--out", tmp_path / "out", *options, *settings]
    tracked = runner.invoke(app, [str(word) for word in command])
    assert tracked.exit_code == 0, tracked.output
    assert len(list((tmp_path / "out" / "masks").glob("*.png"))) == 3


@pytest.mark.weights
def test_the_clock_ends_a_run_and_another_goes_on_from_its_state(
    data: Path, tmp_path: Path
) -> None:
    words = [tmp_path / "tiny.toml", "--data", data, "--set", "optimizer.average_steps=5"]
    words += ["--set", f"cache.folder={tmp_path / 'cache'}", "--max-minutes", 0.03]
    code, output = invoke(*words, "--out", tmp_path / "first")
    assert code == 0, output
    assert "training, seconds: 2/2 step" in output
    state = tmp_path / "first" / "state.safetensors"
    code, output = invoke(*words, "--out", tmp_path / "second", "--from", state)
    assert code == 0, output
    assert "going on after" in output
    lines = (tmp_path / "second" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1])
    assert last["total_steps"] > last["step"] > 0


def test_exception_average_without_a_state(data: Path, tmp_path: Path) -> None:
    words = [tmp_path / "tiny.toml", "--data", data, "--out", tmp_path / "run"]
    code, output = invoke(*words, "--from-average", tmp_path / "last.safetensors")
    assert code == 2
    assert "--from-average wants --from STATE" in output


def test_encoder_in_the_loop_learns(data: Path, tmp_path: Path) -> None:
    """The paper's first stage with InternImage-T, cut down to one step of two frames."""
    settings = {
        "train.steps": 1,
        "train.precision": "float32",
        "train.workers": 0,
        "phases.batch_size": 1,
        "phases.num_frames": 2,
        "phases.crop": "33,33",
        "clip.min_pixels": 10,
        "data.root": "photos",
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    code, output = invoke("paper-stage1", "--data", data, "--out", tmp_path / "run", *words)
    assert code == 0, output
    assert (tmp_path / "run" / "last.safetensors").stat().st_size > 50_000_000
    assert not (tmp_path / "run" / "best.safetensors").exists()
    shutil.rmtree(tmp_path / "run")  # half a gigabyte


def test_inspect_draws_what_the_network_would_see(data: Path, tmp_path: Path) -> None:
    words = ["paper-stage1", "--data", data, "--set", "data.root=photos"]
    small = ["--set", "phases.crop=65,65", "--set", "phases.num_frames=2"]
    code, output = invoke(*words, *small, "--inspect", tmp_path / "sheets")
    assert code == 0, output
    sheets = sorted((tmp_path / "sheets").glob("*.jpg"))
    assert sheets
    assert all(np.asarray(Image.open(path)).std() > 5 for path in sheets)


def test_exception_usage(data: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "tiny.toml", ["--out", tmp_path / "run"]
    for words, message in (
        (["paper-stage9", *out], "unknown recipe 'paper-stage9'"),
        ([recipe], "--out RUN"),
        ([recipe, *out, "--set", "train.step=1"], "unknown option 'train.step'"),
        ([recipe, *out, "--set", "model.train_encoder=true"], "model.train_encoder must be false"),
        ([recipe, *out, "--data", tmp_path / "none"], "found none"),
        ([recipe, *out, "--data", data, "--set", "data.kind=davos"], "data.kind must be one of"),
        ([recipe, *out, "--data", data, "--set", "phases.crop=97,97"], "sides of 16 k"),
    ):
        code, output = invoke(*words)
        assert code == 2, output
        assert message in " ".join(output.split())


def test_exception_extra_is_not_installed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "accelerate" else find(name)
    )
    code, output = invoke(tmp_path / "tiny.toml", "--out", tmp_path / "run")
    assert code == 2
    assert "training needs the extra train: pip install" in output


def test_print_gives_a_recipe_to_copy(tmp_path: Path) -> None:
    code, shown = invoke("lite", "--print", "--set", "train.steps=7")
    assert code == 0
    path = tmp_path / "mine.toml"
    path.write_text(shown, encoding="utf-8")
    assert load_recipe(str(path)) == load_recipe("lite", ["train.steps=7"])


def test_data_sets_are_left_out_by_option(tmp_path: Path) -> None:
    roots = [options.root for options in load_recipe("lite-gpu").data]
    unwanted = roots[:2]
    words = [word for root in unwanted for word in ("--without", root)]
    code, shown = invoke("lite-gpu", "--print", *words)
    assert code == 0
    path = tmp_path / "mine.toml"
    path.write_text(shown, encoding="utf-8")
    assert [options.root for options in load_recipe(str(path)).data] == [
        root for root in roots if root not in unwanted
    ]


@pytest.mark.parametrize(
    ("roots", "reason"),
    [
        (["static-instance"], "(did you mean static-instances?)"),
        (["x"], "wanted one of: static-instances, davis2016-train"),
        (["static-instances", "davis2016-train"], "no data set left"),
    ],
)
def test_exception_data_sets_that_cannot_be_left_out(roots: list[str], reason: str) -> None:
    words = [word for root in roots for word in ("--without", root)]
    code, shown = invoke("lite", "--print", *words)
    assert code == 2
    assert reason in " ".join(shown.split())
    assert shown.count("davis2016-train") <= 1
