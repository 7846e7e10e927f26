"""Evaluation by workers of a real Ray cluster of two nodes on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from vots_hqtrack.errors import ConfigError, ProtocolError
from vots_hqtrack.vot import cluster as cluster_module
from vots_hqtrack.vot.cluster import ClusterOptions, run_on_cluster
from vots_hqtrack.vot.registry import (
    BASELINE_TRACKER,
    TrackerEntry,
    baseline_entry,
    write_registry,
)
from vots_hqtrack.vot.results import result_fault
from vots_hqtrack.vot.run import Step, check_sequences, run_in_turn
from vots_hqtrack.vot.sequence_task import scratch_folder
from vots_hqtrack.vot.sequences import write_sequence, write_sequence_list
from vots_hqtrack.vot.workspace import EXPERIMENT, Workspace, make_workspace

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.vot,
    pytest.mark.slow,
    # Ray leaves the sockets and the processes that it was connected to unclosed.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LIMIT_S = 240
NODE = {"num_cpus": 1, "include_log_monitor": False}
HEIGHT, WIDTH = 24, 32
LENGTHS = {"long": 7, "mid": 5, "short": 4}
PAIR = ("long", "short")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """Two nodes of one CPU each; they may start and answer slowly, as on a busy machine."""
    slow = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_agent_register_timeout_ms": "300000",
        "RAY_worker_register_timeout_seconds": "300",
        "RAY_health_check_timeout_ms": "60000",
    }
    with pytest.MonkeyPatch.context() as patch, scratch_folder() as folder:
        for name, value in (slow | {"RAY_TMPDIR": str(folder)}).items():
            patch.setenv(name, value)
        (folder / "ray").mkdir()  # the helper that makes the nodes takes it to be there
        from ray._private import services
        from ray.cluster_utils import Cluster

        # Ray itself gives a node 30 seconds, without an option.
        patch.setattr(services, "get_node", patiently(services.get_node))
        head = {"include_dashboard": False, "no_monitor": True}
        made = Cluster()
        try:
            made.add_node(**NODE, **head)
            made.add_node(**NODE)
            yield made
        finally:
            made.shutdown()


def patiently(find: Callable[..., object]) -> Callable[..., object]:
    """Let a function try again for minutes before it raises its error."""

    def find_later(*arguments: object) -> object:
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                return find(*arguments)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    return find_later


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sequences, of which the longest is the last in the list and has two objects."""
    folder = tmp_path_factory.mktemp("data") / "sequences"
    for name, length in LENGTHS.items():
        frames = [np.full((HEIGHT, WIDTH, 3), 9 * n, dtype=np.uint8) for n in range(length)]
        write_sequence(folder / name, frames, {1: track(2, length), 2: track(12, length)})
    write_sequence_list(folder, ["short", "mid", "long"])
    return folder


def track(top: int, length: int) -> list[np.ndarray]:
    masks = []
    for left in range(2, 2 + length):
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        mask[top : top + 8, left : left + 9] = True
        masks.append(mask)
    return masks


def space(folder: Path, sequences: Path, mode: str = "truth") -> Workspace:
    """A workspace with the baseline and the scripted tracker, the gate of which is beside it."""
    folder.mkdir(exist_ok=True)
    gate = folder / "gate"
    gate.mkdir()
    registry = folder / "trackers.ini"
    environment = {"SCRIPTED_MODE": mode, "SCRIPTED_GATE": str(gate)}
    scripted = TrackerEntry("Scripted", "S", "scripted_tracker", environment)
    write_registry(registry, [scripted, baseline_entry()])
    text = registry.read_text().replace("paths = ", f"paths = {Path(__file__).parent}:")
    registry.write_text(text)
    return make_workspace(folder / "space", sequences, registry)


def listed(folder: Path, sequences: Path, names: tuple[str, ...]) -> Path:
    """A folder with a list of some of the sequences."""
    folder.mkdir()
    write_sequence_list(folder, [str(sequences / name) for name in names])
    return folder


def options(nodes: Cluster, num_workers: int = 2) -> ClusterOptions:
    return ClusterOptions(num_workers, address=nodes.address)


def masks(workspace: Workspace) -> dict[str, bytes]:
    """All files of results but the times."""
    paths = (path for path in workspace.results.rglob("*") if path.is_file())
    return {
        str(path.relative_to(workspace.results)): path.read_bytes()
        for path in paths
        if not path.name.endswith("_time.value")
    }


def faults(workspace: Workspace, tracker: str) -> dict[str, str | None]:
    folder = workspace.results_of(tracker) / EXPERIMENT
    checks = check_sequences(workspace.sequences)
    return {check.name: result_fault(folder / check.name, check) for check in checks}


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def waiting_at(gate: Path) -> dict[str, int]:
    """Process ids of the trackers that wait, by sequence."""
    found = (path.name.rpartition(".") for path in gate.glob("*.*"))
    return {name: int(number) for name, _, number in found}


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@contextlib.contextmanager
def in_background(run: Callable[[], object], gate: Path) -> Iterator[None]:
    """Run a function in a thread while the body runs, then open the gate and wait for the end."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run)
        try:
            yield
        finally:
            (gate / "open").touch()
        future.result(LIMIT_S)


def test_the_same_results_as_in_turn(nodes: Cluster, sequences: Path, tmp_path: Path) -> None:
    pair = listed(tmp_path / "pair", sequences, PAIR)
    trackers = ["Scripted", BASELINE_TRACKER]
    serial, parallel = space(tmp_path / "serial", pair), space(tmp_path / "parallel", pair)
    run_in_turn(serial, trackers)
    steps: list[Step] = []
    before = signal.getsignal(signal.SIGTERM)
    run_on_cluster(parallel, trackers, options=options(nodes), on_step=steps.append)
    assert signal.getsignal(signal.SIGTERM) == before
    assert len(masks(serial)) == 2 * 2 * 2
    assert masks(parallel) == masks(serial)
    for tracker in trackers:
        assert set(faults(parallel, tracker).values()) == {None}
    assert not list(parallel.hidden.glob("*/"))
    assert (steps[0].num_done, steps[0].num_parts, steps[0].detail) == (0, 4, "2 at work")
    assert steps[-1].num_done == 4
    assert any("frames/s" in step.detail and "left" in step.detail for step in steps)
    # All is there: Ray is not even started again.
    again: list[Step] = []
    nowhere = ClusterOptions(2, address="ray://127.0.0.1:1")
    run_on_cluster(parallel, trackers, options=nowhere, on_step=again.append)
    assert [(step.num_done, step.num_parts) for step in again] == [(4, 4)]


def test_sequences_travel_where_a_machine_lacks_them(
    nodes: Cluster, sequences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = listed(tmp_path / "one", sequences, ("short",))
    workspace = space(tmp_path / "lacking", short)
    # As if the driver's files were others than those at the same path of the workers.
    monkeypatch.setattr(cluster_module, "fingerprint_of", lambda folder: "of another machine")
    words: list[str] = []
    run_on_cluster(workspace, ["Scripted"], options=options(nodes), on_word=words.append)
    assert len(words) == 1
    assert "does not see" in words[0]
    # The scripted tracker reads the truth beside the frames: all files were there.
    assert faults(workspace, "Scripted") == {"short": None}


def test_a_failure_is_tried_on_another_machine_and_told(
    nodes: Cluster, sequences: Path, tmp_path: Path
) -> None:
    pair = listed(tmp_path / "pair", sequences, PAIR)
    workspace = space(tmp_path / "failing", pair, "raise")
    words: list[str] = []
    with pytest.raises(ProtocolError) as caught:
        run_on_cluster(
            workspace,
            ["Scripted", BASELINE_TRACKER],
            options=options(nodes),
            on_word=words.append,
        )
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("2 of 4 sequences have no results; the logs are in ")
    assert [line.split()[:3] for line in lines] == [
        ["Scripted", "on", "long"],
        ["Scripted", "on", "short"],
    ]
    assert all("the third frame is cursed" in line for line in lines)
    assert sum("is tried on another machine" in word for word in words) == 2
    log = workspace.folder / "logs" / "Scripted-long.log"
    assert "raise ValueError" in log.read_text()
    # What went well is kept.
    assert set(faults(workspace, BASELINE_TRACKER).values()) == {None}


def test_a_killed_worker_loses_nothing(nodes: Cluster, sequences: Path, tmp_path: Path) -> None:
    short = listed(tmp_path / "one", sequences, ("short",))
    workspace = space(tmp_path / "killed", short, "wait")
    gate, words = tmp_path / "killed" / "gate", list[str]()

    def run() -> None:
        run_on_cluster(workspace, ["Scripted"], options=options(nodes), on_word=words.append)

    with in_background(run, gate):
        wait_for(lambda: waiting_at(gate))
        (tracker,) = waiting_at(gate).values()
        toolkit = parent(tracker)
        os.kill(parent(toolkit), signal.SIGKILL)
        # Nothing of the killed worker goes on, though it could not clean up.
        wait_for(lambda: not is_alive(toolkit) and not is_alive(tracker))
    assert faults(workspace, "Scripted") == {"short": None}
    assert len(words) == 1
    assert words[0].startswith("Scripted on short is begun again, its worker died")


DRIVER = """
import sys
from pathlib import Path
from vots_hqtrack.vot.cluster import ClusterOptions, run_on_cluster
from vots_hqtrack.vot.workspace import Workspace

folder, sequences, registry = map(Path, sys.argv[1:4])
workspace = Workspace(folder, sequences, registry)
run_on_cluster(workspace, ["Scripted"], options=ClusterOptions(1, address=sys.argv[4]))
"""


def test_a_killed_driver_goes_on(nodes: Cluster, sequences: Path, tmp_path: Path) -> None:
    pair = listed(tmp_path / "pair", sequences, PAIR)
    workspace = space(tmp_path / "driver", pair, "wait")
    gate = tmp_path / "driver" / "gate"
    arguments = [workspace.folder, workspace.sequences, workspace.registry, nodes.address]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, *map(str, arguments)])
    try:
        wait_for(lambda: waiting_at(gate))
        assert list(waiting_at(gate)) == ["long"]  # the longest is begun first
        (gate / "open").touch()
        wait_for(lambda: faults(workspace, "Scripted")["long"] is None)
    finally:
        driver.kill()
        driver.wait()
    before = masks(workspace)
    words: list[str] = []
    run_on_cluster(workspace, ["Scripted"], options=options(nodes), on_word=words.append)
    assert not words  # nothing was there by half
    assert faults(workspace, "Scripted") == {"long": None, "short": None}
    assert before.items() <= masks(workspace).items()
    begun = [path.name.partition(".")[0] for path in gate.glob("*.*")]
    assert begun.count("long") == 1


def test_a_removed_node_loses_nothing(nodes: Cluster, sequences: Path, tmp_path: Path) -> None:
    workspace = space(tmp_path / "removed", sequences, "wait")
    gate = tmp_path / "removed" / "gate"

    def run() -> None:
        run_on_cluster(workspace, ["Scripted"], options=options(nodes))

    with in_background(run, gate):
        wait_for(lambda: len(waiting_at(gate)) == 2)  # one on each node
        toolkits = [parent(tracker) for tracker in waiting_at(gate).values()]
        (node,) = nodes.worker_nodes
        nodes.remove_node(node, allow_graceful=False)
        wait_for(lambda: not all(is_alive(toolkit) for toolkit in toolkits))
    assert set(faults(workspace, "Scripted").values()) == {None}
    begun = sorted(path.name.partition(".")[0] for path in gate.glob("*.*"))
    assert [begun.count(name) for name in LENGTHS].count(2) == 1
    nodes.add_node(**NODE)


def test_a_worker_that_no_machine_has_room_for(
    nodes: Cluster, sequences: Path, tmp_path: Path
) -> None:
    workspace = space(tmp_path / "large", sequences)
    wanted = ClusterOptions(1, gpus_per_worker=0.5, cpus_per_worker=1, address=nodes.address)
    with pytest.raises(ConfigError, match=r"worker of 1 CPUs and 0\.5 GPUs: they have 1 CPUs, 0"):
        run_on_cluster(workspace, ["Scripted"], options=wanted)
