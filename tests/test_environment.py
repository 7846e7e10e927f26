"""Download options from environment variables."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vots_hqtrack.environment import HUB, downloads_from_environment


def test_own_folder_wins() -> None:
    variables = {"VOTS_HQTRACK_CACHE": "~/my weights", "XDG_CACHE_HOME": "elsewhere"}
    assert downloads_from_environment(variables).cache_path == Path.home() / "my weights"


def test_cache_home() -> None:
    variables = {"VOTS_HQTRACK_CACHE": "", "XDG_CACHE_HOME": "caches"}
    assert downloads_from_environment(variables).cache_path == Path.cwd() / "caches/vots_hqtrack"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="another place there")
def test_default_folder() -> None:
    assert downloads_from_environment({}).cache_path == Path.home() / ".cache" / "vots_hqtrack"


@pytest.mark.parametrize(("value", "wanted"), [("1", True), ("True", True), ("0", False)])
@pytest.mark.parametrize("name", ["VOTS_HQTRACK_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(name: str, value: str, wanted: bool) -> None:
    assert downloads_from_environment({name: value}).is_offline is wanted


def test_hub_and_mirror() -> None:
    assert downloads_from_environment({"HF_ENDPOINT": ""}).hub == HUB
    assert downloads_from_environment({"HF_ENDPOINT": "http://mirror/"}).hub == "http://mirror"
