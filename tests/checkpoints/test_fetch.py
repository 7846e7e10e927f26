"""Fetching by name, from a stand-in of the hub on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import constant_tensors, save
from file_server import FileServer, serve

from vots_hqtrack.checkpoints.fetch import fetch_weights
from vots_hqtrack.checkpoints.importing import sam_shapes
from vots_hqtrack.checkpoints.manifest import cached_weights, resolve, sha256_of
from vots_hqtrack.checkpoints.registry import KNOWN
from vots_hqtrack.errors import ConfigError, WeightsError

NAME = "sam-hq-vit-tiny"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "sam_hq_vit_tiny.pth"
    return save(path, constant_tensors(sam_shapes("vit_tiny", hq=True)))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VOTS_HQTRACK_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VOTS_HQTRACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with serve(published.read_bytes()) as running:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        running.headers = {"X-Linked-Etag": f'"{running.sha256}"'}
        yield running


def test_smoke_from_the_hub(hub: FileServer, cache: Path) -> None:
    hub.cuts, hub.statuses = [10_000], [503]
    waits: list[float] = []
    done, check = fetch_weights(NAME, half=True, wait=waits.append)
    assert check == "its sha256 is the one that the hub names"
    assert done.path == resolve(NAME)
    assert hub.asked[0][0] == "/lkeab/hq-sam/resolve/main/sam_hq_vit_tiny.pth"
    assert len(waits) == 2
    origin = cached_weights()[NAME].origin
    assert origin == (
        f"{hub.address}/lkeab/hq-sam/resolve/main/sam_hq_vit_tiny.pth (sha256 {hub.sha256})"
    )
    assert {path.name for path in cache.rglob("*") if path.is_file()} == {
        f"{NAME}.safetensors",
        "manifest.json",
    }
    with pytest.raises(WeightsError, match=r"is there already.*--force"):
        fetch_weights(NAME)
    assert len(hub.asked) == 3


def test_exception_the_file_is_of_another_kind(hub: FileServer, cache: Path) -> None:
    with pytest.raises(WeightsError, match="do not fit sam-hq-vit-b"):
        fetch_weights("sam-hq-vit-b")
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_from_a_path_with_a_hash(published: Path) -> None:
    with pytest.raises(WeightsError, match="is another file: wanted the sha256 000"):
        fetch_weights(NAME, source=str(published), sha256="0" * 64)
    _, check = fetch_weights(NAME, source=str(published), sha256=sha256_of(published).upper())
    assert check == "its sha256 is the one that you gave"
    assert cached_weights()[NAME].origin.startswith("sam_hq_vit_tiny.pth (sha256 ")


def test_from_another_address(hub: FileServer) -> None:
    hub.headers = {}
    _, check = fetch_weights(NAME, source=f"{hub.address}/mine.pth", half=True)
    assert check == "only its length was checked: nobody names a sha256 for it"


def test_exception_registry_hash(hub: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server stands in for the one that the registry names."""
    import dataclasses

    from vots_hqtrack.checkpoints import fetch

    entry = dataclasses.replace(KNOWN["resnet50"], url=f"{hub.address}/resnet50.pth")
    monkeypatch.setattr(fetch, "KNOWN", {"resnet50": entry})
    with pytest.raises(WeightsError, match="wanted the sha256 0676ba61 that its authors name"):
        fetch_weights("resnet50")


def test_exception_by_hand_only() -> None:
    with pytest.raises(
        WeightsError, match=r"drive\.google\.com.*import save_step_42000\.pth --as vmos-internim"
    ):
        fetch_weights("vmos-internimage-t")


@pytest.mark.parametrize("variable", ["VOTS_HQTRACK_OFFLINE", "HF_HUB_OFFLINE"])
def test_exception_offline(
    hub: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(WeightsError, match="offline mode is on"):
        fetch_weights(NAME)
    assert hub.asked == []
    assert not cache.exists()


def test_exception_unknown_name_and_no_hash() -> None:
    with pytest.raises(ConfigError, match=r"nothing to fetch by the name 'sam'.*sam-hq-vit-h"):
        fetch_weights("sam")
    with pytest.raises(ConfigError, match="64 hexadecimal digits, got 'abc'"):
        fetch_weights(NAME, sha256="abc")
    with pytest.raises(WeightsError, match="found nothing at nowhere"):
        fetch_weights(NAME, source="nowhere")
