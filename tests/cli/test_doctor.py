"""``hqtrack doctor`` tells versions, devices, and whether the weights are whole."""

import json
import re

import pytest

import vots_hqtrack
from vots_hqtrack import ops
from vots_hqtrack.checkpoints import manifest
from vots_hqtrack.cli import doctor
from vots_hqtrack.cli.main import app
from vots_hqtrack.presets import PRESETS
from vots_hqtrack.versions import installed_versions

SHIPPED = ("vmos-lite", "sam-vit-tiny", "hq-head-vit-tiny")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder of small files under the names of the real weights, all of them whole."""
    facts = {"origin": "test", "licence": "MIT", "description": "none"}
    entries = {}
    for name in SHIPPED:
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
    result = runner.invoke(app, ["doctor"], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    for name in ("vots-hqtrack", "python", "torch", "cpu", *SHIPPED):
        assert name in result.stdout
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert f"weights     whole: {', '.join(SHIPPED)}" in lines
    assert len(result.stdout.splitlines()) <= 36
    assert result.stdout.rstrip().endswith("hqtrack track VIDEO --box X,Y,WIDTH,HEIGHT --out DIR")
    assert result.stderr == ""


def test_an_opencv_that_lacks_libgl_is_mended_by_the_one_without_windows():
    fault = "fails: libGL.so.1: cannot open shared object file"
    (line,) = doctor.advise({"torch": "ok", "cv2": fault}, {}, {})
    assert line.endswith("--no-deps opencv-python-headless, which needs no libGL")
    (line,) = doctor.advise({"cv2": "fails: No module named 'cv2'"}, {}, {})
    assert line.endswith("--no-deps opencv-python-headless")


def test_json_has_all_and_the_same_exit_code(runner, weights):
    (weights / "vmos-lite.bin").write_bytes(b"something else")
    result = runner.invoke(app, ["doctor", "--json"])
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert found["weights"]["vmos-lite"].startswith("damaged: ")
    assert found["presets"]["lite"] == "vmos-lite is unusable"
    assert any("restore the weights vmos-lite" in line for line in found["to do"])
    assert not any("hqtrack track" in line for line in found["to do"])


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
    for name in SHIPPED:
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


def test_presets_say_what_they_lack(runner, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("VOTS_HQTRACK_CACHE", str(tmp_path / "cache"))
    presets = doctor.check_presets(doctor.check_weights())
    assert presets.keys() == PRESETS.keys()
    assert presets["lite"] == presets["lite-vmos"] == "ready"
    assert presets["hqtrack"] == "lacks vmos-internimage-t; lacks sam-hq-vit-h"
    assert presets["deaot-r50"] == "lacks deaot-r50"
    (weights / "sam-vit-tiny.bin").write_bytes(b"something else")
    presets = doctor.check_presets(doctor.check_weights())
    assert presets["lite"] == "sam-vit-tiny is unusable"
    assert presets["vmos"] == "lacks vmos-internimage-t"
    shown = runner.invoke(app, ["doctor"], env={"COLUMNS": "200"}).stdout
    for preset, verdict in presets.items():
        assert f" {preset}: {verdict}\n" in shown, preset


@pytest.mark.parametrize("preset", PRESETS)
def test_every_weight_that_a_preset_reads_is_told(weights, preset):
    config = PRESETS[preset]()
    verdicts = doctor.check_weights()
    assert set(config.weights_needed()) <= verdicts.keys()
    for name in config.weights_needed():
        assert verdicts[name].startswith("ok") or "hqtrack weights" in verdicts[name]


def test_dtype_of_each_device_and_its_reason_are_told():
    devices = doctor.find_devices()
    reason = r"no instructions for bfloat16|bfloat16 takes [0-9.]+ of float32's time"
    assert re.search(rf", (float32|bfloat16) by default: ({reason})", devices.pop("cpu"))
    for text in devices.values():
        assert text.endswith(("float32 by default", "bfloat16 by default"))


def test_backends_are_told(monkeypatch):
    monkeypatch.setattr(ops, "_backend", None)
    monkeypatch.setenv(ops.VARIABLE, "torch")
    assert doctor.find_backends() == {"cpu": "PyTorch", "cuda": "PyTorch"}
    monkeypatch.setattr(ops, "_backend", None)
    monkeypatch.setenv(ops.VARIABLE, "opencl")
    assert "must be auto, torch or triton, got 'opencl'" in doctor.find_backends()["cuda"]
