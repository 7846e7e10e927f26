"""The command that installs an extra fits how the package was installed."""

from __future__ import annotations

import importlib.metadata
import json

import pytest

from vots_hqtrack.extras import install_command, missing_extra


class Installed:
    """A distribution with the given origin, as pip records it."""

    def __init__(self, origin: object) -> None:
        self._origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self._origin is None else json.dumps(self._origin)


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install '.[ui]' in a checkout of the package"),
        ({"url": "file:///not/there", "dir_info": {}}, "pip install '.[ui]' in a checkout"),
        (
            {"url": "https://example.org/a.git", "vcs_info": {"vcs": "git"}},
            "pip install 'vots-hqtrack[ui] @ git+https://example.org/a.git'",
        ),
    ],
)
def test_the_command_names_the_origin(monkeypatch, origin, command):
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(origin))
    assert install_command("ui").startswith(command)


def test_a_checkout_and_a_wheel_are_named_by_their_path(monkeypatch, tmp_path):
    folder = tmp_path / "a checkout"
    folder.mkdir()
    origin = {"url": folder.as_uri(), "dir_info": {"editable": True}}
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(origin))
    assert install_command("train") == f"pip install -e '{folder}[train]'"
    wheel = tmp_path / "x.whl"
    wheel.touch()
    packed = {"url": wheel.as_uri(), "archive_info": {}}
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(packed))
    assert install_command("train") == f"pip install '{wheel}[train]'"


def test_the_error_names_the_part_the_extra_and_the_reason():
    said = str(missing_extra("the page", "ui", ImportError("No module named 'nicegui'")))
    assert said.startswith("the page needs the extra ui: pip install ")
    assert said.endswith("(No module named 'nicegui')")
