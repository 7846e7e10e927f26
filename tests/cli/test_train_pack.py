"""``hqtrack train pack``, and that ``hqtrack train CONFIG`` is as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_train import write_photos, write_video
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.training.adapters import open_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_photos(tmp_path / "data" / "photos")
    write_video(tmp_path / "data" / "davis", "square")
    return tmp_path / "data"


def invoke(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["train", *(str(word) for word in words)])
    return result.exit_code, " ".join(result.output.split())


def test_packs_what_is_there_and_says_what_was_lost(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    out = tmp_path / "packs"
    code, output = invoke("pack", "--data", data, "--out", out, "--speed", "ultrafast")
    assert code == 0, output
    for word in ("data set", "PSNR", "photos", "davis", "part-00.zip", "MiB"):
        assert word in output
    assert [path.name for path in out.iterdir()] == ["part-00.zip"]
    assert len(open_dataset("folder", out / "photos")) == 2
    assert len(open_dataset("davis", out / "davis").videos[0]) == 3


def test_names_and_options(data: Path, tmp_path: Path) -> None:
    out, work = tmp_path / "packs", tmp_path / "work"
    words = ["--quality", 30, "--long-side", 120, "--max-mib", 0.1, "--work", work]
    code, output = invoke("pack", "--data", data, "--out", out, *words, "photos")
    assert code == 0, output
    assert open_dataset("folder", out / "photos").load(0).image.shape == (80, 120, 3)
    assert len(list(work.iterdir())) == 2
    code, output = invoke("pack", "--data", data, "--out", out, "photos")
    assert code == 2
    assert "wanted a folder without parts of a pack" in output


def test_exception_usage(data: Path, tmp_path: Path) -> None:
    words = ["pack", "--data", data, "--out", tmp_path / "out"]
    for more, message in (
        (["bear"], "wanted the data set bear"),
        (["--images", "gif"], "'gif' is not one of 'webp'"),
        (["--crf", "77"], "less than or equal to 51"),
    ):
        code, output = invoke(*words, *more)
        assert code == 2
        assert message in output
    assert not list(tmp_path.glob("out/part-*"))


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_shows_the_recipe_command_and_the_others(words: tuple[str, ...]) -> None:
    _, output = invoke(*words)
    for word in ("CONFIG", "--inspect", "--set", "accelerate launch", "pack", "--data"):
        assert word in output


def test_options_may_come_before_the_recipe(tmp_path: Path) -> None:
    code, output = invoke("--data", tmp_path, "--out", tmp_path / "run", "paper-stage9")
    assert code == 2
    assert "unknown recipe 'paper-stage9'" in output
