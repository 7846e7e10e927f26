"""``hqtrack doctor`` tells versions, devices, and whether the weights are whole."""

import json

import pytest

import vots_hqtrack
from vots_hqtrack.checkpoints import manifest
from vots_hqtrack.cli import doctor
from vots_hqtrack.cli.main import app
from vots_hqtrack.cli.versions import installed_versions


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder of small files under the names of the real weights, all of them whole."""
    facts = {"origin": "test", "licence": "MIT", "description": "none"}
    entries = {}
    for name in ("vmos-lite", "sam-vit-tiny"):
        path = tmp_path / f"{name}.bin"
        path.write_bytes(name.encode())
        entries[name] = {
            "file_name": path.name,
            "sha256": manifest.sha256_of(path),
            **facts,
        }
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    monkeypatch.setattr(manifest, "weights_folder", lambda: tmp_path)
    return tmp_path


def test_all_is_well(runner, weights):
    result = runner.invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for name in ("vots-hqtrack", "python", "torch", "cpu", "vmos-lite", "sam-vit-tiny"):
        assert name in result.stdout
    assert result.stdout.count("ok, sha256") == 2
    assert result.stderr == ""


def test_damaged_and_missing_weights_are_told(runner, weights):
    (weights / "vmos-lite.bin").write_bytes(b"something else")
    verdicts = doctor.check_weights()
    assert verdicts["vmos-lite"].startswith("damaged: ")
    assert verdicts["sam-vit-tiny"].startswith("ok, ")
    (weights / "vmos-lite.bin").unlink()
    assert "missing" in doctor.check_weights()["vmos-lite"]
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 3


def test_missing_manifest_is_told(weights):
    (weights / "manifest.json").unlink()
    verdicts = doctor.check_weights()
    for name in ("vmos-lite", "sam-vit-tiny"):
        assert "manifest.json" in verdicts[name]


def test_devices():
    assert "threads" in doctor.find_devices()["cpu"]


def test_versions():
    versions = installed_versions()
    assert versions["vots-hqtrack"] == vots_hqtrack.__version__
    assert versions["numpy"]


def test_weights_that_nobody_fetched_are_no_fault(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("VOTS_HQTRACK_CACHE", str(tmp_path / "cache"))
    verdict = doctor.check_weights()["vmos-internimage-t"]
    assert verdict.startswith("not here; ")
    assert "hqtrack weights import save_step_42000.pth --as vmos-internimage-t" in verdict
