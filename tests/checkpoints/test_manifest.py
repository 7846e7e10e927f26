from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import vots_hqtrack
from vots_hqtrack.checkpoints.manifest import (
    WeightsEntry,
    cached_weights,
    locate,
    read_manifest,
    record,
    resolve,
    sha256_of,
    shipped_weights,
    weights_folder,
)
from vots_hqtrack.errors import WeightsError

ENTRY = WeightsEntry(
    name="small",
    file_name="small.bin",
    sha256=hashlib.sha256(b"abc").hexdigest(),
    origin="typed by hand",
    licence="MIT",
    description="Three letters.",
)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder of its own, as in a wheel, with one recorded file."""
    package = tmp_path / "site" / "vots_hqtrack"
    folder = package / "weights"
    folder.mkdir(parents=True)
    (folder / ENTRY.file_name).write_bytes(b"abc")
    record(folder, ENTRY)
    monkeypatch.setattr(vots_hqtrack, "__file__", str(package / "__init__.py"))
    return package


def test_smoke_shipped_weights_have_the_recorded_hash() -> None:
    assert "sam-vit-tiny" in shipped_weights()
    for name, entry in shipped_weights().items():
        assert sha256_of(resolve(name)) == entry.sha256
        assert len(entry.licence) > 2
        assert len(entry.origin) > 10


def test_shipped_folder_holds_nothing_that_the_manifest_does_not_name() -> None:
    files = {path.name for path in weights_folder().iterdir() if path.suffix == ".safetensors"}
    assert files == {entry.file_name for entry in shipped_weights().values()}


def test_shipped_weights_stay_below_forty_megabytes() -> None:
    assert sum(resolve(name).stat().st_size for name in shipped_weights()) <= 40e6


def test_wheel_layout_is_found_first(install: Path) -> None:
    assert weights_folder() == install / "weights"
    assert resolve("small") == install / "weights" / "small.bin"
    assert dict(shipped_weights()) == {"small": ENTRY}


def test_checkout_layout_is_found_beside_the_package(install: Path) -> None:
    (install / "weights").rename(install.parent / "weights")
    assert weights_folder() == install.parent / "weights"


def test_exception_no_weights_folder(install: Path) -> None:
    (install / "weights" / "manifest.json").unlink()
    with pytest.raises(WeightsError, match="install the package again"):
        weights_folder()


def test_exception_unknown_name_lists_the_known(install: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"no weights named 'other'.*known: small.*--weights FILE"
    ):
        resolve("other")


def test_exception_missing_file_says_where_and_how(install: Path) -> None:
    (install / "weights" / "small.bin").unlink()
    with pytest.raises(WeightsError, match=r"'small' are missing.*small\.bin.*git checkout"):
        resolve("small")


def test_own_file_wins_over_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "výhled.bin"
    own.write_bytes(b"abc")
    monkeypatch.chdir(tmp_path)
    assert resolve("no such name", Path(own.name)) == own.resolve()


@pytest.mark.parametrize(("name", "kind"), [("nowhere.safetensors", "nothing"), ("", "a folder")])
def test_exception_own_file_is_none(tmp_path: Path, name: str, kind: str) -> None:
    with pytest.raises(WeightsError, match=f"found {kind} at"):
        resolve("small", tmp_path / name)


def test_sha256_of_known_text_and_of_more_than_one_chunk(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    content = bytes(range(256)) * 10_000
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()


def test_exception_sha256_of_no_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read"):
        sha256_of(tmp_path / "nowhere")


def test_record_replaces_the_entry_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "small.bin").write_bytes(b"abc")
    record(tmp_path, replace(ENTRY, name="zebra"))
    record(tmp_path, ENTRY)
    newer = replace(ENTRY, licence="BSD-3-Clause")
    record(tmp_path, newer)
    assert list(read_manifest(tmp_path).items()) == [
        ("small", newer),
        ("zebra", replace(ENTRY, name="zebra")),
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"small.bin", "manifest.json"}


def test_exception_record_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "small.bin").write_bytes(b"xyz")
    with pytest.raises(WeightsError, match=r"small\.bin: wanted sha256 ba7816bf"):
        record(tmp_path, ENTRY)
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot read"),
        ("[]", "wanted an object of objects"),
        ('{"small": {"file_name": "a"}}', "wanted an object of objects"),
        (json.dumps({"small": {"colour": "red"}}), "wanted an object of objects"),
    ],
)
def test_exception_broken_manifest(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(WeightsError, match=said):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("licence", " ", "licence must be a string"),
        ("origin", None, "origin must be a string"),
        ("file_name", "../small.bin", "bare file name"),
        ("sha256", "AB", "hexadecimal"),
        ("sha256", "G" * 64, "hexadecimal"),
    ],
)
def test_exception_entry(field: str, value: object, said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        replace(ENTRY, **{field: value})


def test_cached_weights_are_found_after_the_shipped(
    install: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("VOTS_HQTRACK_CACHE", str(cache))
    assert cached_weights() == {}
    cache.mkdir()
    (cache / "small.bin").write_bytes(b"abc")
    record(cache, ENTRY)
    record(cache, replace(ENTRY, name="mine"))
    assert locate("small").path == install / "weights" / "small.bin"
    assert resolve("mine") == cache / "small.bin"
    assert locate("mine").path == cache / "small.bin"


def test_exception_known_weights_that_are_not_here(
    install: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTS_HQTRACK_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match="get them with: hqtrack weights fetch sam-vit-b"):
        resolve("sam-vit-b")
    with pytest.raises(WeightsError, match=r"not here; Google Drive .* --as vmos-internimage-t"):
        resolve("vmos-internimage-t")


@pytest.mark.parametrize("content", ["[" * 10_000, '{"small": ' * 10_000, "9" * 5000, "\ud800"])
def test_exception_a_manifest_that_only_an_enemy_writes(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(WeightsError, match=r"cannot read the weights manifest .*manifest\.json"):
        read_manifest(tmp_path)


def test_two_processes_that_record_at_once_lose_no_entry(tmp_path: Path) -> None:
    (tmp_path / "small.bin").write_bytes(b"abc")
    script = f"""if True:
        import dataclasses, sys
        from pathlib import Path
        from vots_hqtrack.checkpoints.manifest import WeightsEntry, record
        for number in range(60):
            record(Path({str(tmp_path)!r}), WeightsEntry(f"{{sys.argv[1]}}-{{number}}", "small.bin",
                {ENTRY.sha256!r}, "typed", "MIT", "Three letters."))
    """
    writers = [subprocess.Popen([sys.executable, "-c", script, name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(read_manifest(tmp_path)) == 120
    assert {path.name for path in tmp_path.iterdir()} == {"small.bin", "manifest.json"}
