"""Hashes recomputed: of what is shipped, of what the user added, of any file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from vots_hqtrack.checkpoints.load import DIGEST_KEY, digest_of, save_tensors
from vots_hqtrack.checkpoints.manifest import (
    WeightsEntry,
    record,
    resolve,
    sha256_of,
    shipped_weights,
    verify,
    verify_all,
)
from vots_hqtrack.errors import WeightsError

NAME = "resnet50"
TENSORS = {"a": torch.arange(4.0), "b": torch.ones(2)}


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in a cache folder of its own, recorded there."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("VOTS_HQTRACK_CACHE", str(folder))
    path = folder / f"{NAME}.safetensors"
    save_tensors(path, TENSORS, {DIGEST_KEY: digest_of(TENSORS)}, dtype=torch.float32)
    record(folder, WeightsEntry(NAME, path.name, sha256_of(path), "a test", "MIT", "Two tensors."))
    return path


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def test_all_are_whole(cached: Path) -> None:
    verdicts = verify_all()
    assert [verdict.name for verdict in verdicts] == [*shipped_weights(), NAME]
    assert {verdict.state for verdict in verdicts} == {"ok"}
    assert verdicts[-1].path == cached
    assert verdicts[-1].reason == f"sha256 {sha256_of(cached)}"


def test_damaged_and_missing(cached: Path) -> None:
    before = sha256_of(cached)
    _damage(cached)
    verdict = verify(NAME)
    assert verdict.state == "damaged"
    assert verdict.reason == f"wanted the sha256 {before}, got {sha256_of(cached)}"
    assert verify_all()[-1] == verdict
    cached.unlink()
    assert verify_all()[-1].state == "missing"
    with pytest.raises(WeightsError, match=r"'resnet50' are not here: .* is gone"):
        verify(NAME)


def test_a_file_vouches_for_itself(cached: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    shutil.copy(cached, copy)
    assert "the weights resnet50" in verify(str(copy)).reason
    (cached.parent / "manifest.json").unlink()
    assert verify(str(copy)).state == "ok"
    _damage(copy)
    assert verify(str(copy)).state == "damaged"
    copy.write_bytes(copy.read_bytes()[:-3])
    assert "is damaged" in verify(str(copy)).reason


def test_files_that_nobody_vouches_for(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    save_tensors(own, TENSORS, {})
    other = tmp_path / "own.pth"
    other.write_bytes(b"abc")
    for path in (own, other):
        verdict = verify(str(path))
        assert (verdict.state, sha256_of(path) in verdict.reason) == ("unknown", True)


def test_shipped_by_name() -> None:
    assert verify("sam-vit-tiny").path == resolve("sam-vit-tiny")


@pytest.mark.parametrize("name", ["none.safetensors", "folder/none"])
def test_exception_no_file(name: str) -> None:
    with pytest.raises(WeightsError, match="found nothing at"):
        verify(name)
