"""The driver of a cluster when machines go away; a table of machines stands for Ray."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from vots_hqtrack.types import Size
from vots_hqtrack.vot.cluster import ClusterOptions, _Driver, _Job
from vots_hqtrack.vot.sequence_task import SequenceTask, TaskResult
from vots_hqtrack.vot.sequences import SequenceCheck
from vots_hqtrack.vot.workspace import Workspace


def test_a_failed_task_does_not_wait_for_a_machine_that_is_gone(tmp_path: Path) -> None:
    machines = [
        {"NodeID": name, "Alive": True, "Resources": {"CPU": 1, "GPU": 0}} for name in ("a", "b")
    ]
    cancelled: list[object] = []
    ray = SimpleNamespace(
        nodes=lambda: machines,
        remote=lambda function: function,
        cancel=lambda reference, force: cancelled.append(reference),
    )
    sequence = SequenceCheck(tmp_path, Size(4, 4), 3, ("1",), True)
    job = _Job(SequenceTask("Mine", sequence, tmp_path, ""))
    words: list[str] = []
    space = Workspace(tmp_path, tmp_path, tmp_path)
    driver = _Driver(ray, space, ClusterOptions(1, 0, 1), [], lambda step: None, words.append)
    driver._refuse(job, "a", TaskResult("host-a", 1.0, failure="no memory"))
    assert (job.failed_on, list(driver._waiting)) == (["a"], [job])
    driver._running["waits for b"] = driver._waiting.popleft()
    driver._take_back()
    assert not cancelled
    machines[1]["Alive"] = False
    driver._take_back()
    assert cancelled == ["waits for b"]
    assert (list(driver._waiting), job.failed_on, driver._running) == ([job], [], {})
    driver._refuse(job, "a", TaskResult("host-a", 1.0, failure="no memory"))
    assert [failure.host for failure in driver._failures] == ["host-a"]
    assert [word.partition(":")[0] for word in words] == [
        f"Mine on {tmp_path.name} is tried on another machine",
        f"Mine on {tmp_path.name} is tried where it failed",
    ]
