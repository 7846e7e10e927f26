from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from evaluated_results import SIZE, TRUTH, make_evaluated, square
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.vot.realtime_run import evaluate_realtime
from vots_hqtrack.vot.registry import TrackerEntry, read_registry, write_registry
from vots_hqtrack.vot.run import pack
from vots_hqtrack.vot.sequences import write_sequence, write_sequence_list
from vots_hqtrack.vot.workspace import (
    REALTIME_STACK,
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


@pytest.mark.parametrize("stack", ["vots2026", "vots2025/real-time", "../x", ""])
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


def test_realtime_makes_nothing_for_a_workspace_that_is_not_there(tmp_path: Path) -> None:
    arguments = ["vot", "realtime", "Mine", "--workspace", str(tmp_path / "slip")]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 2
    assert ended.stderr.startswith("error: cannot read the trackers in")
    assert not list(tmp_path.iterdir())


def write_clip(folder: Path, *, fps: float, start: int = 0) -> None:
    frames = [np.full((*SIZE, 3), 90, dtype=np.uint8)] * 12
    late = [None if index < start else square(30) for index in range(12)]
    write_sequence(folder / "clip", frames, {1: [square(5)] * 12, 2: late}, fps=fps)
    write_sequence_list(folder, ["clip"])


@pytest.mark.weights
def test_the_command_that_comes_next_names_sequences_elsewhere(tmp_path: Path) -> None:
    write_clip(tmp_path / "data", fps=2)
    space = tmp_path / "space"
    arguments = ["vot", "workspace", REALTIME_STACK, str(space), "--sequences"]
    ended = CliRunner().invoke(app, [*arguments, str(tmp_path / "data")])
    given = f"HQTrack --workspace {space} --sequences {tmp_path / 'data'}"
    assert ended.stdout.splitlines()[0] == f"hqtrack vot realtime {given}"


@pytest.mark.vot
def test_the_realtime_experiment_runs(tmp_path: Path) -> None:
    """A quick tracker keeps up with 2 frames a second on any machine that tests run on."""
    write_clip(tmp_path / "data", fps=2)
    made = make_challenge_workspace(tmp_path / "space", REALTIME_STACK, tmp_path / "data")
    entry = TrackerEntry("Scripted", "S", "scripted_tracker", {"SCRIPTED_MODE": "truth"})
    write_registry(made.registry, [entry])
    text = made.registry.read_text().replace("paths = ", f"paths = {Path(__file__).parent}:")
    made.registry.write_text(text)
    words: list[str] = []
    (found,) = evaluate_realtime(made, "Scripted", on_word=words.append)
    assert (found.name, found.fps, found.num_frames, words) == ("clip", 2, 12, [])
    assert 2 <= found.num_tracked <= 12
    for experiment in ("baseline", "realtime"):
        folder = made.results / "Scripted" / experiment / "clip"
        assert {path.name for path in folder.glob("*.bin")} == {
            "clip_object1_001.bin",
            "clip_object2_001.bin",
        }


def test_exception_realtime_with_a_late_object(tmp_path: Path) -> None:
    write_clip(tmp_path / "data", fps=2, start=3)
    made = make_challenge_workspace(tmp_path / "space", REALTIME_STACK, tmp_path / "data")
    with pytest.raises(InputError, match="object starts after the first frame, which"):
        evaluate_realtime(made, "Scripted", on_word=lambda word: None)
