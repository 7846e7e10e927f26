"""Published trackers: a folder or a repository of a hub, on this machine, gives the same masks."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_server import Hub, serve_hub
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shipped import SMALL, shipped_tracker

from vots_hqtrack import HQTracker, load_preset
from vots_hqtrack.build import find_weights
from vots_hqtrack.checkpoints.load import save_tensors
from vots_hqtrack.checkpoints.manifest import locate, resolve, sha256_of, weights_folder
from vots_hqtrack.checkpoints.pretrained import (
    find_pretrained,
    push_folder,
    read_pretrained,
    save_pretrained,
)
from vots_hqtrack.errors import ConfigError, HQTrackError, InputError, WeightsError
from vots_hqtrack.settings import apply_settings

pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.weights

CONFIG = apply_settings(load_preset("lite"), [*SMALL, "memory.gap=3"])
TOKEN = "of-this-server"  # noqa: S105 - it opens nothing else
FILES = {
    "README.md",
    "config.json",
    "model.safetensors",
    "sam-vit-tiny.safetensors",
    "hq-head-vit-tiny.safetensors",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the default preset with two options changed."""
    folder = tmp_path_factory.mktemp("published") / "mine"
    save_pretrained(CONFIG, find_weights(CONFIG, None), folder)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def hub(saved: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub() as running:
        for name in ("VOTS_HQTRACK_OFFLINE", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        running.models["me/mine"] = {path.name: path.read_bytes() for path in saved.iterdir()}
        yield running


def _masks(tracker: HQTracker) -> np.ndarray:
    rng = np.random.default_rng(0)
    frames = [np.full((96, 256, 3), 60, np.uint8) for _ in range(3)]
    for index, frame in enumerate(frames):
        frame[30:70, 60 + 8 * index : 110 + 8 * index] = rng.integers(150, 255, (40, 50, 3))
    mask = np.zeros((96, 256), np.bool_)
    mask[30:70, 60:110] = True
    state = tracker.initialize(frames[0], {1: mask})
    return np.stack([tracker.track(frame, state).masks[1] for frame in frames[1:]])


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_tracker_published_on_a_hub_gives_the_same_masks(
    hub: Hub, saved: Path, tmp_path: Path
) -> None:
    tracker = HQTracker.from_pretrained(saved, device="cpu")
    assert tracker.config == CONFIG
    address = tracker.save_pretrained(
        tmp_path / "again", push_to_hub=True, repo_id="me/again", token=TOKEN
    )
    assert address == f"{hub.address}/me/again/commit/{hub.commit('me/again')}"
    assert set(hub.models["me/again"]) == FILES
    found = find_pretrained("me/again", cache_dir=tmp_path / "cache")
    assert found.config == CONFIG
    for name, path in find_weights(CONFIG, found.folder).items():
        assert path.parent == found.folder
        assert sha256_of(path) == sha256_of(resolve(name))
    wanted = _masks(shipped_tracker("lite", [*SMALL, "memory.gap=3"]))
    assert wanted.any()
    assert np.array_equal(_masks(tracker), wanted)


def test_what_was_downloaded_serves_without_a_connection(hub: Hub, tmp_path: Path) -> None:
    first = find_pretrained("me/mine", cache_dir=tmp_path)
    hub.asked.clear()
    assert find_pretrained("me/mine", cache_dir=tmp_path, local_files_only=True) == first
    assert hub.asked == []


def test_only_the_files_of_the_tracker_are_downloaded(hub: Hub, tmp_path: Path) -> None:
    hub.models["me/mine"]["huge.bin"] = b"x"
    folder = find_pretrained("me/mine", cache_dir=tmp_path).folder
    assert {path.name for path in folder.iterdir()} == FILES - {"README.md"}
    assert not [line for line in hub.asked if "huge" in line]


@pytest.mark.parametrize(
    ("source", "options", "kind", "reason"),
    [
        ("no/such", {}, WeightsError, "has no model no/such, or does not show it to you"),
        ("me/hidden", {}, WeightsError, "has no model me/hidden, or does not show it"),
        ("me/mine", {"revision": ""}, ConfigError, "wanted a branch, tag or commit .* got ''"),
        ("me/mine", {"revision": 5}, ConfigError, "wanted a branch, tag or commit .* got 5"),
        ("me/mine", {"revision": "v9"}, WeightsError, "me/mine of .* has no revision 'v9'"),
        ("me/foreign", {}, WeightsError, "me/foreign is not a tracker .* got 'transformers'"),
        ("me/empty", {}, WeightsError, "me/empty is not a tracker .* wanted config.json"),
        ("me/new", {"local_files_only": True}, WeightsError, "not in the cache of downloads"),
        ("me/..", {}, ConfigError, "wanted an id of the hub such as owner/name"),
        ("a/b/c", {}, ConfigError, "found nothing at 'a/b/c'"),
        ("x" * 300, {}, ConfigError, "found nothing at 'xxx"),
        ("~nobody-of-this-name/x", {}, ConfigError, "found nothing at '~nobody"),
        ("a\0b", {}, ConfigError, "found nothing at"),
        ("https://huggingface.co/me/mine", {}, ConfigError, "wanted the folder .* or an id"),
        ("lite", {}, ConfigError, "lite is a preset"),
        ("", {}, ConfigError, "wanted a folder, or an id of the hub, got ''"),
        (None, {}, ConfigError, "wanted a folder, or an id of the hub, got None"),
    ],
)
def test_a_source_that_is_no_tracker_is_one_line(
    hub: Hub, tmp_path: Path, source: Any, options: dict[str, Any], kind: type, reason: str
) -> None:
    hub.models["me/hidden"] = hub.models["me/mine"]
    hub.private.add("me/hidden")
    hub.models["me/foreign"] = {"config.json": b'{"library_name": "transformers"}'}
    hub.models["me/empty"] = {"model.safetensors": b"x"}
    with pytest.raises(kind, match=reason) as caught:
        find_pretrained(source, cache_dir=tmp_path, **options)
    assert len(str(caught.value).splitlines()) == 1
    assert not [line for line in hub.asked if "model.safetensors" in line]


def test_a_hub_that_fails_or_is_gone_is_one_line(
    hub: Hub, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.status = 503
    with pytest.raises(WeightsError, match=r"not in the cache of downloads, and .* '503"):
        find_pretrained("me/mine", cache_dir=tmp_path)
    with pytest.raises(WeightsError, match=r"did not serve me/mine: .* '503"):
        push_folder(saved, "me/mine", token=TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for attempt in (
        lambda: find_pretrained("me/mine", cache_dir=tmp_path),
        lambda: push_folder(saved, "me/mine", token=TOKEN),
    ):
        with pytest.raises(WeightsError, match=r"http://127\.0\.0\.1:9") as caught:
            attempt()
        assert len(str(caught.value).splitlines()) == 1


def test_nothing_is_sent_or_asked_in_offline_mode(
    hub: Hub, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTS_HQTRACK_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"not in the cache .* connections are forbidden"):
        find_pretrained("me/mine", cache_dir=tmp_path)
    with pytest.raises(ConfigError, match="offline mode is on"):
        push_folder(saved, "me/mine", token=TOKEN)
    assert hub.asked == []


@pytest.mark.parametrize("name", sorted(FILES - {"README.md", "config.json"}))
def test_a_damaged_weights_file_is_named(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(WeightsError, match=rf"copy/{name} is damaged or another one"):
        HQTracker.from_pretrained(copy, device="cpu")
    (copy / name).unlink()
    with pytest.raises(WeightsError, match=rf"are missing: wanted .*copy/{name}"):
        HQTracker.from_pretrained(copy, device="cpu")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c["tracker"]["memory"].update(gap=0), "memory.gap must be"),
        (lambda c: c["tracker"]["memory"].update(new=1), "version 0.1.0 wrote: unknown option"),
        (lambda c: c["tracker"].pop("preset"), "preset must be a name"),
        (lambda c: c["weights"].pop("vmos-lite"), "no entry for the weights 'vmos-lite'"),
        (lambda c: c["weights"]["vmos-lite"].pop("sha256"), "wanted an object of objects"),
        *(
            (
                lambda c, name=name: c["weights"]["vmos-lite"].update(file_name=name),
                "a bare file name",
            )
            for name in ("../x", "..", "/etc/passwd", "*", "a\0b", "x" * 300)
        ),
        (lambda c: c.update(format=2), "wanted format 1 .* got 2"),
        (lambda c: c.update(tracker=[]), "wanted an object 'tracker'"),
    ],
)
def test_a_config_that_is_not_ours_is_one_line(copy: Path, change: Any, reason: str) -> None:
    _edit(copy, change)
    with pytest.raises(HQTrackError, match=reason) as caught:
        read_pretrained(copy)
    assert len(str(caught.value).splitlines()) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_property_any_config_is_read_or_refused(
    saved: Path, tmp_path: Path, data: st.DataObject
) -> None:
    content = json.loads((saved / "config.json").read_text())
    tables = [content, content["tracker"], content["weights"], content["tracker"]["memory"]]
    table = data.draw(st.sampled_from([*tables, content["weights"]["vmos-lite"]]))
    table[data.draw(st.sampled_from([*table, "other"]))] = data.draw(JSON)
    (tmp_path / "config.json").write_text(json.dumps(content))
    for name in FILES - {"config.json"}:
        (tmp_path / name).touch()
    with contextlib.suppress(HQTrackError):
        assert read_pretrained(tmp_path).folder == tmp_path


@given(data=st.binary(max_size=200))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_property_any_bytes_as_config_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(HQTrackError):
        read_pretrained(tmp_path)


def test_weights_of_the_user_are_published_as_they_are(tmp_path: Path) -> None:
    own = tmp_path / "trained.safetensors"
    tensors = {"a": torch.ones(3)}
    save_tensors(own, tensors, {"licence": "MIT", "origin": "my videos"})
    save_pretrained(CONFIG, find_weights(CONFIG, own), tmp_path / "out")
    found = locate("vmos-lite", tmp_path / "out")
    assert found.path.read_bytes() == own.read_bytes()
    assert (found.entry.licence, found.entry.origin) == ("MIT", "my videos")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| MIT | my videos |" in card
    assert "- `memory.gap=3`" in card
    assert not list((tmp_path / "out").glob(".*"))


def test_the_model_card_has_the_metadata_that_hubs_read(saved: Path) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(saved / "README.md").data.to_dict()
    assert card["library_name"] == "vots-hqtrack"
    assert card["pipeline_tag"] == "mask-generation"
    assert "video-object-segmentation" in card["tags"]
    assert card["license"] == "other"


def test_saving_again_replaces_ours_and_keeps_the_card(copy: Path) -> None:
    (copy / "README.md").write_text("my card")
    (copy / "notes.txt").write_text("mine")
    plain = load_preset("lite-vmos")
    save_pretrained(plain, find_weights(plain, copy), copy)
    assert read_pretrained(copy).config == plain
    assert (copy / "README.md").read_text() == "my card"
    assert (copy / "notes.txt").read_text() == "mine"


def test_saving_again_renews_a_card_that_nobody_changed(copy: Path) -> None:
    plain = load_preset("lite-vmos")
    save_pretrained(plain, find_weights(plain, copy), copy)
    card = (copy / "README.md").read_text()
    assert "# A video object tracker: lite-vmos" in card
    assert "memory.gap" not in card
    assert "hq-head" not in card


def test_weights_of_one_file_name_are_refused(copy: Path, tmp_path: Path) -> None:
    _edit(copy, lambda c: c["tracker"]["refiner"].update(weights="model"))
    _edit(copy, lambda c: c["weights"].update(model=c["weights"]["sam-vit-tiny"]))
    config = read_pretrained(copy).config
    with pytest.raises(ConfigError, match=r"have one file name: model.safetensors, model"):
        save_pretrained(config, find_weights(config, copy), tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"repo_id": "me/again"}, "repo_id, token and private are for push_to_hub=True"),
        ({"private": True}, "repo_id, token and private are for push_to_hub=True"),
        ({"push_to_hub": True, "repo_id": "a/b/c"}, "wanted an id of the hub"),
        ({"push_to_hub": True, "repo_id": ""}, "wanted an id of the hub"),
        ({"push_to_hub": True, "repo_id": 5}, "wanted an id of the hub"),
    ],
)
def test_an_upload_that_cannot_be_is_refused_before_anything_is_written(
    hub: Hub, tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    tracker = shipped_tracker("lite-vmos")
    with pytest.raises(ConfigError, match=reason):
        tracker.save_pretrained(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    assert hub.asked == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "sam-vit-tiny.safetensors"])
def test_files_of_others_are_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=rf"{name} is there already"):
        save_pretrained(CONFIG, find_weights(CONFIG, None), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "{}"


@pytest.mark.parametrize(
    ("folder", "reason"),
    [("", "wanted a path, got ''"), ("a\0b", "wanted a path"), ("x" * 300, "File name too long")],
)
def test_a_folder_that_cannot_be_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = shipped_tracker("lite-vmos")
    monkeypatch.setattr(tracker, "files", find_weights(tracker.config, None))
    with pytest.raises(HQTrackError, match=reason):
        tracker.save_pretrained(folder)
    with pytest.raises(HQTrackError, match=r"wanted a path|found nothing"):
        HQTracker.from_config(tracker.config, device="cpu", weights=folder)
    assert not list(tmp_path.iterdir())


def test_networks_that_came_from_no_file_cannot_be_saved(tmp_path: Path) -> None:
    tracker = shipped_tracker("lite-vmos")
    with pytest.raises(ConfigError, match="were not read from a file"):
        tracker.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_weights_folder_is_not_a_published_tracker() -> None:
    with pytest.raises(WeightsError, match="or a published tracker, found a folder"):
        HQTracker.from_preset("lite", device="cpu", weights=weights_folder())
