"""Workspaces that are there already: what the user wrote in them stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.vot.sequences import write_sequence, write_sequence_list
from vots_hqtrack.vot.workspace import Workspace, check_toolkit_path, make_workspace


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    mask = np.zeros((20, 30), dtype=bool)
    mask[3:9, 3:9] = True
    folder = tmp_path / "space" / "sequences"
    write_sequence(folder / "s", [np.zeros((20, 30, 3), dtype=np.uint8)], {1: [mask]})
    write_sequence_list(folder, ["s"])
    return folder


def make(sequences: Path) -> Workspace:
    return make_workspace(sequences.parent, sequences, sequences.parent / "trackers.ini")


@pytest.mark.parametrize(
    "text",
    [
        "registry:\n- ./trackers.ini # mine\nstack: vots2023\n",
        "# of this year\nregistry: [trackers.ini]\nstack: vots2026/main\nsequences: sequences\n",
    ],
)
def test_a_workspace_that_the_toolkit_made_is_taken_as_it_is(sequences: Path, text: str) -> None:
    path = sequences.parent / "config.yaml"
    path.write_text(text)
    make(sequences)
    assert path.read_text() == text


@pytest.mark.parametrize("text", ["", "\n", "# a comment\n", "# no line end"])
def test_an_empty_configuration_is_filled(sequences: Path, text: str) -> None:
    path = sequences.parent / "config.yaml"
    path.write_text(text)
    make(sequences)
    assert path.read_text().startswith(text.strip())
    assert yaml.safe_load(path.read_text()) == {
        "stack": "vots2023",
        "registry": [str(sequences.parent / "trackers.ini")],
        "sequences": str(sequences),
    }


def test_what_is_missing_is_added_below(sequences: Path) -> None:
    path = sequences.parent / "config.yaml"
    path.write_text("# mine\nreport: # style\n  sort: none\nsequences: sequences")
    make(sequences)
    assert path.read_text().startswith("# mine\nreport: # style\n  sort: none\nsequences: seq")
    assert yaml.safe_load(path.read_text())["stack"] == "vots2023"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stack: vot2018/longterm\n", "another configuration .*has stack: vot2018"),
        ("sequences: /elsewhere\n", "another configuration .*has sequences: /elsewhere"),
        ("registry: [other.ini]\n", "another configuration .*has registry"),
        ('{"stack": "vots20', "is not a configuration: .*; remove it"),
        ("- a\n- b\n", "wanted keys and values"),
        ("[" * 3000, "is not a configuration"),
        ("stack: \x00\n", "is not a configuration"),
    ],
)
def test_other_configurations_are_refused(sequences: Path, text: str, message: str) -> None:
    path = sequences.parent / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        make(sequences)
    assert path.read_text() == text


def test_a_folder_named_measures_of_the_user_stays(sequences: Path) -> None:
    measures = sequences.parent / "measures"
    (measures / "results").mkdir(parents=True)
    (measures / "stack.yaml").write_text("mine: 1\n")
    with pytest.raises(ConfigError, match="not written by this program"):
        make(sequences)
    assert (measures / "stack.yaml").read_text() == "mine: 1\n"
    (measures / "stack.yaml").unlink()
    with pytest.raises(ConfigError, match="must be a link"):
        make(sequences)


def test_a_link_in_place_of_results_is_refused(sequences: Path, tmp_path: Path) -> None:
    space = make(sequences)
    (tmp_path / "photos").mkdir()
    (space.results / "HQTrack").symlink_to(tmp_path / "photos")
    with pytest.raises(ConfigError, match="is a link"):
        space.results_of("HQTrack")


def test_a_tracker_is_evaluated_by_one_run_at_a_time(sequences: Path) -> None:
    space = make(sequences)

    def claim(tracker: str) -> str:
        try:
            with space.claim(tracker):
                return "claimed"
        except ConfigError as error:
            return str(error)

    with space.claim("A"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(claim, "A").result() == f"another run evaluates A in {space.folder} now"
        assert pool.submit(claim, "B").result() == "claimed"
        assert claim("A") == "claimed", "a run may claim what it holds"
    assert claim("A") == "claimed"


@pytest.mark.parametrize(
    ("name", "what"), [("a[1]", r"\[, \], \* or \?"), ("a*", r"\*"), ("a\nb", "control")]
)
def test_paths_that_the_toolkit_reads_as_something_else(name: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        check_toolkit_path(Path("/data") / name)
