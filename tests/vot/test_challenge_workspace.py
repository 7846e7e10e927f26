from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import yaml
from evaluated_results import TRUTH, make_evaluated
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.vot.registry import read_registry
from vots_hqtrack.vot.run import pack
from vots_hqtrack.vot.workspace import (
    STACKS,
    make_challenge_workspace,
    make_workspace,
    read_stack,
)


@pytest.mark.parametrize("stack", STACKS)
def test_a_workspace_of_each_challenge(tmp_path: Path, stack: str) -> None:
    made = make_challenge_workspace(tmp_path / "space", stack)
    assert read_stack(made) == stack
    before = (made.folder / "config.yaml").read_bytes()
    assert json.loads(before)["sequences"] == str(tmp_path / "space" / "sequences")
    assert make_challenge_workspace(tmp_path / "space", stack) == made
    assert (made.folder / "config.yaml").read_bytes() == before
    other = next(name for name in STACKS if name != stack)
    with pytest.raises(ConfigError, match=f"config.yaml has stack: {stack}"):
        make_challenge_workspace(tmp_path / "space", other)


@pytest.mark.parametrize("stack", ["vots2026", "vots2025/realtime", "../x", ""])
def test_exception_other_stacks(tmp_path: Path, stack: str) -> None:
    with pytest.raises(ConfigError, match="the stack must be one of vots2023, "):
        make_challenge_workspace(tmp_path / "space", stack)
    assert not (tmp_path / "space").exists()


@pytest.mark.vot
def test_a_submission_names_the_stack_of_its_workspace(tmp_path: Path) -> None:
    space = make_evaluated(tmp_path, {"hidden": TRUTH["hidden"]})
    make_challenge_workspace(space.folder, "vots2026/main", space.sequences)
    space.registry.write_text("[Good]\nprotocol = traxpython\ncommand = none\n")
    made = make_workspace(space.folder, space.sequences, space.registry)
    with zipfile.ZipFile(pack(made, "Good")) as archive:
        manifest = yaml.safe_load(archive.read("manifest.yml"))
        names = archive.namelist()
    assert (manifest["identifier"], manifest["stack"]) == ("Good", "vots2026/main")
    assert "baseline/hidden/hidden_object2_001.bin" in names


@pytest.mark.weights
def test_command(tmp_path: Path) -> None:
    arguments = ["vot", "workspace", "vots2025/main", str(tmp_path), "--short-name", "Mine"]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    assert f"vot pack --workspace {tmp_path} Mine" in ended.stdout
    assert read_registry(tmp_path / "trackers.ini")[0] == "Mine"
    ended = CliRunner().invoke(app, ["vot", "workspace", "vots2031/main", str(tmp_path)])
    assert ended.exit_code == 2
    assert "error: the stack must be one of" in ended.stderr
