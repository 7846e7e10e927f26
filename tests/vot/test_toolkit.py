"""The official toolkit drives the server; judged by its files, because its exit code lies."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vots_hqtrack.measures import measure_object
from vots_hqtrack.presets import PRESETS
from vots_hqtrack.types import MaskArray, Size
from vots_hqtrack.vot.results import read_result
from vots_hqtrack.vot.sequences import write_sequence, write_sequence_list

EXAMPLE_SERVER = Path(__file__).with_name("example_server.py")
SIZE = Size(100, 140)
LARGE = Size(360, 480)
NUM_FRAMES = 4
GOOD = ("copy", "noisy", "speckled", "sliver", "empty")
FAILING = ("copy", "failing", "broken", "exiting", "hanging")


@dataclass(frozen=True)
class ToolkitRun:
    """A workspace, what `vot evaluate` left in it, and what it said."""

    workspace: Path
    temporary: Path
    terminal: str

    def results(
        self, tracker: str, sequence: str, size: Size = SIZE
    ) -> dict[str, list[MaskArray | None]]:
        folder = self.workspace / "results" / tracker / "baseline" / sequence
        return {
            path.name.removesuffix("_001.bin").removeprefix(f"{sequence}_"): list(
                read_result(path, size)
            )
            for path in folder.glob("*.bin")
        }

    def logs(self, tracker: str) -> str:
        return "".join(path.read_text() for path in self.workspace.glob(f"logs/{tracker}_*.log"))


def write_registry(path: Path, trackers: Sequence[str]) -> None:
    sections = [
        f"[{name}]\nprotocol = trax\ncommand = {sys.executable} {EXAMPLE_SERVER} {name}\n"
        "timeout = 100\n"
        for name in trackers
    ]
    path.write_text("\n".join(sections))


def evaluate(workspace: Path, trackers: Sequence[str]) -> ToolkitRun:
    """Run `vot evaluate`, going on after errors, from a foreign folder."""
    temporary = workspace / "tmp"
    temporary.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "vot", "evaluate", "-p", "--workspace", str(workspace), *trackers],
        cwd="/",
        env={**os.environ, "TMPDIR": str(temporary), "VOT_PERSISTENT_CACHE": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=1_200,
        check=False,
    )
    return ToolkitRun(workspace, temporary, done.stdout.decode())


def square(top: int, left: int, side: int = 20, size: Size = SIZE) -> MaskArray:
    mask = np.zeros(size, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def make_frames(size: Size = SIZE) -> list[np.ndarray]:
    shades = np.linspace(0, 255, NUM_FRAMES, dtype=np.uint8)
    return [np.full((*size, 3), shade, dtype=np.uint8) for shade in shades]


ELEVEN = {n: square(30 * ((n - 1) // 4), 30 * ((n - 1) % 4)) for n in range(1, 12)}
LATE = square(70, 110)
SINGLE = square(7, 8, size=LARGE)
POLYGON = [(90, 65), (110, 65), (110, 85), (90, 85)]
"""Apart from the others: a server loads torch to look at objects that overlap."""


@pytest.fixture(scope="module")
def good_run(tmp_path_factory: pytest.TempPathFactory) -> ToolkitRun:
    """Trackers that do their job: 11 objects, and such as begin late or as a polygon."""
    workspace = make_workspace(tmp_path_factory.mktemp("good"), GOOD)
    first: dict[int, list[MaskArray | None]] = {n: [mask] for n, mask in ELEVEN.items()}
    late = [None, None, LATE, None]
    objects = first | {13: late}
    write_sequence(workspace / "sequences" / "many objects", make_frames(), objects)
    (workspace / "sequences" / "many objects" / "groundtruth_object14.txt").write_text(
        ",".join(str(number) for corner in POLYGON for number in corner)
    )
    write_sequence(workspace / "sequences" / "one", make_frames(LARGE), {1: [SINGLE]})
    write_sequence_list(workspace / "sequences", ["many objects", "one"])
    return evaluate(workspace, GOOD)


@pytest.fixture(scope="module")
def failing_run(tmp_path_factory: pytest.TempPathFactory) -> ToolkitRun:
    """Trackers that fail in every way, and a damaged frame."""
    workspace = make_workspace(tmp_path_factory.mktemp("failing"), FAILING)
    for name in ("damaged", "one"):
        write_sequence(workspace / "sequences" / name, make_frames(), {1: [square(7, 8)]})
    (workspace / "sequences" / "damaged" / "color" / "00000003.jpg").write_bytes(b"no picture")
    write_sequence_list(workspace / "sequences", ["damaged", "one"])
    return evaluate(workspace, FAILING)


def make_workspace(folder: Path, trackers: Sequence[str]) -> Path:
    """Lay out what the repository ships: a registry, and beside it a workspace that names it."""
    write_registry(folder / "trackers.ini", trackers)
    workspace = folder / "workspace"
    workspace.mkdir()
    (workspace / "config.yaml").write_text("registry:\n- ../trackers.ini\nstack: vots2023\n")
    return workspace


@pytest.mark.vot
@pytest.mark.parametrize("tracker", ["copy", "noisy"])
def test_every_object_gets_its_own_masks(good_run: ToolkitRun, tracker: str) -> None:
    results = good_run.results(tracker, "many objects")
    assert len(results) == 13
    np.testing.assert_array_equal(results["object14"][1:], [square(65, 90)] * (NUM_FRAMES - 1))
    for n, mask in ELEVEN.items():
        start, *rest = results[f"object{n}"]
        assert start is None
        np.testing.assert_array_equal(rest, [mask] * (NUM_FRAMES - 1))
    start, unknown, *rest = results["object13"]
    assert start is unknown is None
    np.testing.assert_array_equal(rest, [LATE, LATE])
    (single,) = good_run.results(tracker, "one", LARGE).values()
    np.testing.assert_array_equal(single[1:], [SINGLE] * (NUM_FRAMES - 1))


@pytest.mark.vot
def test_a_mask_of_too_many_runs_is_stored(good_run: ToolkitRun) -> None:
    (masks,) = good_run.results("speckled", "one", LARGE).values()
    checks = np.indices(LARGE).sum(axis=0) % 2 == 0
    for stored in masks[1:]:
        assert not (stored & ~(SINGLE | checks)).any()
        assert (stored & SINGLE).sum() == SINGLE.sum()
        assert stored.sum() > 30_000


@pytest.mark.vot
def test_masks_one_pixel_wide_or_tall_are_stored_as_they_are(good_run: ToolkitRun) -> None:
    results = good_run.results("sliver", "many objects")
    column, row = np.zeros(SIZE, dtype=bool), np.zeros(SIZE, dtype=bool)
    column[5:9, 0] = True
    row[0, 3:9] = True
    np.testing.assert_array_equal(results["object1"][1:], [column] * (NUM_FRAMES - 1))
    np.testing.assert_array_equal(results["object9"][1:], [row] * (NUM_FRAMES - 1))


@pytest.mark.vot
def test_absent_objects_are_stored_as_empty(good_run: ToolkitRun) -> None:
    results = good_run.results("empty", "many objects")
    assert len(results) == 13
    for n in ELEVEN:
        assert not np.any(results[f"object{n}"][1:])


@pytest.mark.vot
def test_a_run_without_errors_leaves_no_logs(good_run: ToolkitRun) -> None:
    assert not list(good_run.workspace.glob("logs/*"))
    assert not list(good_run.temporary.glob("vots-hqtrack-*"))


@pytest.mark.vot
@pytest.mark.parametrize(
    ("tracker", "sequence", "reason", "in_log"),
    [
        ("copy", "damaged", "InputError: cannot read the frame ", "Traceback"),
        ("failing", "one", r'the "gr\xf6\xdfte" mask is lost at 100 % \ done', r"fail: sch\xf6n"),
        ("broken", "one", r"WeightsError: the weights are dam\xe4ged", r"loading \u2026"),
        ("exiting", "one", "SystemExit: a library gave up", "load_exiting"),
        ("hanging", "one", "the tracker was not loaded within 2 s", "load_for_ever"),
    ],
)
def test_the_reason_of_a_failure_is_on_the_terminal(
    failing_run: ToolkitRun, tracker: str, sequence: str, reason: str, in_log: str
) -> None:
    lines = [
        line
        for line in failing_run.terminal.splitlines()
        if f"Tracker {tracker} encountered an error at sequence {sequence}" in line
    ]
    assert len(lines) == 1, failing_run.terminal
    assert reason in lines[0]
    assert in_log in failing_run.logs(tracker)
    assert not failing_run.results(tracker, sequence)


@pytest.mark.vot
def test_other_sequences_go_on_after_a_damaged_frame(failing_run: ToolkitRun) -> None:
    (masks,) = failing_run.results("copy", "one").values()
    np.testing.assert_array_equal(masks[1:], [square(7, 8)] * (NUM_FRAMES - 1))


def test_the_shipped_registry_is_one_that_the_toolkit_reads(repository: Path) -> None:
    registry = configparser.ConfigParser()
    registry.read(repository / "trackers.ini", encoding="ascii")
    assert registry.sections() == ["HQTrack", "HQTrackLite"]
    known = {"label", "protocol", "command", "paths", "timeout"}
    for name in registry.sections():
        assert re.fullmatch("[A-Za-z0-9-]+", name)
        section = registry[name]
        options = {key for key in section if key.startswith("env_vots_hqtrack_")}
        assert set(section) - options == known
        assert section["protocol"] == "traxpython"
        assert section["command"] == "vots_hqtrack.vot"
        assert section["paths"] == "."
        assert int(section["timeout"]) >= 600
        assert section["env_vots_hqtrack_preset"] in PRESETS


def copy_shipped_files(repository: Path, folder: Path) -> Path:
    """Copy the registry, its `paths` made absolute, and the configuration of the workspace."""
    text = (repository / "trackers.ini").read_text(encoding="ascii")
    (folder / "trackers.ini").write_text(text.replace("paths = .", f"paths = {repository}"))
    workspace = folder / "workspace"
    workspace.mkdir()
    shutil.copy(repository / "workspace" / "config.yaml", workspace)
    return workspace


@pytest.mark.vot
def test_the_shipped_registry_tells_of_a_wrong_preset(repository: Path, tmp_path: Path) -> None:
    """The whole way, with the repository's own files and the real tracker, up to an error."""
    workspace = copy_shipped_files(repository, tmp_path)
    registry = tmp_path / "trackers.ini"
    registry.write_text(registry.read_text().replace("= lite-vmos", "= no-such-preset"))
    write_sequence(workspace / "sequences" / "one", make_frames(), {1: [square(7, 8)]})
    write_sequence_list(workspace / "sequences", ["one"])
    run = evaluate(workspace, ["HQTrackLite"])
    assert "ConfigError: unknown preset 'no-such-preset'" in run.terminal, run.terminal


@pytest.mark.vot
@pytest.mark.weights
@pytest.mark.slow
def test_the_shipped_registry_tracks(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Default weights, two plain discs that move over a shaded ground."""
    monkeypatch.setenv("VOTS_HQTRACK_SETTINGS", "frame.long_edge=384")
    rows, columns = np.indices(SIZE)
    frames, masks = [], {1: [], 2: []}
    for step in range(3):
        ground = (60 + rows // 2 + columns // 4).astype(np.uint8)
        frame = np.stack([ground, ground, ground], axis=2)
        for n, (top, left, colour) in enumerate([(30, 30, (220, 60, 40)), (65, 95, (50, 90, 230))]):
            side = 4 * step if n == 0 else -4 * step
            disc = (rows - top) ** 2 + (columns - left - side) ** 2 < 15**2
            frame[disc] = colour
            masks[n + 1].append(disc)
        frames.append(frame)
    workspace = copy_shipped_files(repository, tmp_path)
    write_sequence(workspace / "sequences" / "discs", frames, masks)
    write_sequence_list(workspace / "sequences", ["discs"])
    run = evaluate(workspace, ["HQTrack"])
    results = run.results("HQTrack", "discs")
    assert sorted(results) == ["object1", "object2"], run.terminal
    for n, truth in masks.items():
        measured = measure_object(results[f"object{n}"], truth)
        assert measured is not None
        assert measured.region > 0.8
