"""``hqtrack weights``: list, import, verify and path; ``fetch`` where it must refuse."""

import json

import pytest

from vots_hqtrack.checkpoints.manifest import resolve, shipped_weights
from vots_hqtrack.checkpoints.registry import KNOWN
from vots_hqtrack.cli.main import app


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VOTS_HQTRACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file like ``sam_hq_vit_tiny.pth``, its numbers all alike."""
    import torch

    from vots_hqtrack.checkpoints.importing import sam_shapes

    path = tmp_path_factory.mktemp("published") / "sam_hq_vit_tiny.pth"
    shapes = sam_shapes("vit_tiny", hq=True)
    tensors = {key: torch.zeros((), dtype=value.dtype) for key, value in shapes.items()}
    tensors = {key: value.expand(shapes[key].shape) for key, value in tensors.items()}
    torch.save({**tensors, "image_encoder.head.bias": torch.zeros(())}, path)
    return path


def test_list_names_all_on_one_screen(runner):
    result = runner.invoke(app, ["weights", "list"], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    starts = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert starts[1:-1] == [*shipped_weights(), *(name for name in KNOWN)]
    assert len(lines) <= 30


def test_list_of_a_name_says_what_it_is_and_how_to_get_it(runner):
    for name, known in KNOWN.items():
        shown = runner.invoke(app, ["weights", "list", name], env={"COLUMNS": "2000"}).stdout
        assert (known.url or known.manual) in shown
        assert known.description in shown
        assert (f"hqtrack weights fetch {name}" in shown) == bool(known.url)
    shown = runner.invoke(app, ["weights", "list", "vmos-lite"], env={"COLUMNS": "2000"}).stdout
    entry = shipped_weights()["vmos-lite"]
    for text in (entry.licence, entry.origin, entry.sha256, "lite, lite-vmos, lite-realtime"):
        assert text in shown
    wrong = runner.invoke(app, ["weights", "list", "vmos-lit"])
    assert (wrong.exit_code, "(did you mean vmos-lite?)" in wrong.stderr) == (3, True)


def test_list_as_json(runner):
    found = json.loads(runner.invoke(app, ["weights", "list", "--json"]).stdout)
    assert list(found) == [*shipped_weights(), *KNOWN]
    assert found["vmos-lite"]["state"] == "shipped"
    assert found["vmos-lite"]["bytes"] == resolve("vmos-lite").stat().st_size
    assert found["sam-hq-vit-h"]["presets"] == ["hqtrack", "hqtrack-released"]


def test_import_verify_path_and_list(runner, published, cache):
    result = runner.invoke(app, ["weights", "import", str(published), "--as", "sam-hq-vit-tiny"])
    assert result.exit_code == 0, result.output
    path, facts = result.stdout.splitlines()
    assert path == str(cache / "sam-hq-vit-tiny.safetensors")
    assert "tensors, sha256 " in facts
    assert "1 entries (image_encoder.head.bias)" in result.stderr
    shown = runner.invoke(app, ["weights", "path", "sam-hq-vit-tiny"])
    assert shown.stdout == f"{path}\n"
    assert runner.invoke(app, ["weights", "verify"]).exit_code == 0
    listed = json.loads(runner.invoke(app, ["weights", "list", "--json"]).stdout)
    assert listed["sam-hq-vit-tiny"]["state"] == "here"
    assert listed["sam-hq-vit-tiny"]["file"] == path
    again = runner.invoke(app, ["weights", "import", str(published), "--as", "sam-hq-vit-tiny"])
    assert (again.exit_code, "--force" in again.stderr) == (3, True)
    with (cache / "sam-hq-vit-tiny.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    damaged = runner.invoke(app, ["weights", "verify"])
    assert damaged.exit_code == 3
    assert "damaged" in damaged.stdout
    assert runner.invoke(app, ["weights", "verify", "sam-vit-tiny"]).exit_code == 0


def test_fetch_from_a_file_to_half_size(runner, published, cache):
    arguments = ["weights", "fetch", "sam-hq-vit-tiny", "--from", str(published), "--half"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "it was not checked" in result.stderr
    (name,) = json.loads((cache / "manifest.json").read_text())
    assert name == "sam-hq-vit-tiny"


def test_path(runner, cache):
    assert runner.invoke(app, ["weights", "path"]).stdout == f"{cache}\n"
    shown = runner.invoke(app, ["weights", "path", "sam-vit-tiny"])
    assert shown.stdout == f"{resolve('sam-vit-tiny')}\n"
    absent = runner.invoke(app, ["weights", "path", "sam-hq-vit-h"])
    assert (absent.exit_code, absent.stdout) == (3, "")
    assert "hqtrack weights fetch sam-hq-vit-h" in absent.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["fetch", "vmos-internimage-t"], 3, "drive.google.com"),
        (["fetch", "sam-hq-vit-h"], 3, "offline mode is on"),
        (["fetch", "none"], 2, "nothing to fetch"),
        (["import", "none.pth", "--as", "sam-vit-b"], 3, "cannot read the checkpoint"),
        (["import", "none.pth", "--as", "none"], 2, "unknown kind"),
        (["verify", "none.pth"], 3, "found nothing"),
    ],
)
def test_refusals_are_one_line(runner, monkeypatch, arguments, code, said):
    monkeypatch.setenv("VOTS_HQTRACK_OFFLINE", "1")
    result = runner.invoke(app, ["weights", *arguments])
    assert result.exit_code == code, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.strip()]
    assert line.startswith("error: ")
    assert said in line
