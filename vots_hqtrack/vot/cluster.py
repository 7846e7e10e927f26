"""Evaluation by several workers on one or many machines, over Ray (extra ``cluster``).

One tracker on one sequence is a task. Workers run it (`vots_hqtrack.vot.sequence_task`); the
driver, which is this process, hands tasks out, the longest first, and alone writes into the
workspace.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import logging
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vots_hqtrack.errors import ConfigError, InputError, ProtocolError
from vots_hqtrack.extras import missing_extra
from vots_hqtrack.io import atomic_path
from vots_hqtrack.vot.registry import BASELINE_TRACKER
from vots_hqtrack.vot.results import result_fault
from vots_hqtrack.vot.run import (
    Step,
    StepCallback,
    check_sequences,
    find_missing,
    move_results,
)
from vots_hqtrack.vot.sequence_task import (
    SequenceTask,
    TaskResult,
    fingerprint_of,
    pack_sequence,
    run_task,
    scratch_folder,
)
from vots_hqtrack.vot.workspace import EXPERIMENT, Workspace

if TYPE_CHECKING:
    from types import ModuleType

MAX_DEATHS = 3
"""Times that a task is begun again after its worker or its machine died."""

POLL_S = 1.0

_NODE_LABEL = "ray.io/node-id"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Workers of an evaluation.

    Attributes:
        num_workers: Tasks that run at a time.
        gpus_per_worker: GPUs of a worker, a fraction for several workers on one; None for 1 where
            the machines have GPUs, else 0.
        cpus_per_worker: CPU cores of a worker; None for as many as there are for each.
        address: Address of a running cluster, ``auto`` for the one of this machine; None starts one
            on this machine for the time of the evaluation.
    """

    num_workers: int
    gpus_per_worker: float | None = None
    cpus_per_worker: int | None = None
    address: str | None = None


@dataclass(slots=True)
class _Job:
    """A task and the attempts at it."""

    task: SequenceTask
    num_deaths: int = 0
    failed_on: list[str] = field(default_factory=list)
    started: float = 0.0


@dataclass(frozen=True, slots=True, order=True)
class _Failure:
    """A task without results."""

    name: str
    host: str
    reason: str


def run_on_cluster(
    workspace: Workspace,
    trackers: Sequence[str],
    *,
    options: ClusterOptions,
    force: bool = False,
    on_step: StepCallback = lambda step: None,
    on_word: Callable[[str], object] = _logger.warning,
) -> None:
    """Run trackers on the sequences that they have no whole results for, several at a time.

    Args:
        workspace: Workspace with the sequences and the registry; only this process needs to see it.
        trackers: Identifiers of the trackers.
        options: The workers.
        force: Remove the trackers' results first.
        on_step: Called whenever the progress changes.
        on_word: Called with each thing that the user should know, in a sentence.

    Raises:
        ProtocolError: Some results are missing afterwards; the message has a line for each.
        InputError: A sequence cannot be run.
        ConfigError: Ray is not installed, the cluster cannot be reached or has no room for a
            worker, or another run evaluates one of the trackers now.
    """
    sequences = check_sequences(workspace.sequences)
    text = workspace.registry.read_bytes().decode("utf-8")
    with contextlib.ExitStack() as stack:
        # Only the baseline, claimed last, is waited for: two runs never wait for each other.
        for tracker in sorted(trackers, key=lambda name: (name == BASELINE_TRACKER, name)):
            on_wait = on_word if tracker == BASELINE_TRACKER else None
            stack.enter_context(workspace.claim(tracker, on_wait=on_wait))
        jobs = []
        for tracker in trackers:
            stack.callback(shutil.rmtree, _hidden_folder(workspace, tracker), ignore_errors=True)
            missing = find_missing(workspace, tracker, sequences, force=force, on_word=on_word)
            for check in missing.values():
                check = dataclasses.replace(check, folder=check.folder.absolute())
                jobs.append(_Job(SequenceTask(tracker, check, workspace.registry, text)))
        num_tasks = len(sequences) * len(trackers)
        if not jobs:
            on_step(Step(_title(trackers, options), num_tasks, num_tasks))
            return
        ray = stack.enter_context(_connect(options))
        driver = _Driver(ray, workspace, options, jobs, on_step, on_word)
        try:
            driver.run(_title(trackers, options), num_tasks)
        except (ray.exceptions.RayError, ConnectionError) as error:
            lost = f"the Ray cluster was lost: {_first_line(str(error))}"
            raise ProtocolError(f"{lost}; the same command goes on with what is missing") from error
    driver.raise_failures(num_tasks)


def find_ray() -> ModuleType:
    """Import Ray, which sends nothing about its use to its makers.

    Raises:
        ConfigError: It is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise missing_extra("--workers", "cluster", error) from error
    module: ModuleType = ray
    return module


class _Driver:
    """Hands tasks out and takes their results over."""

    def __init__(
        self,
        ray: ModuleType,
        workspace: Workspace,
        options: ClusterOptions,
        jobs: Sequence[_Job],
        on_step: StepCallback,
        on_word: Callable[[str], object],
    ) -> None:
        """Take the jobs over, and ask the cluster for what a worker gets."""
        self._ray, self._workspace, self._options = ray, workspace, options
        self._on_step, self._on_word = on_step, on_word
        self._waiting = deque(sorted(jobs, key=lambda job: -job.task.cost))
        self._remote = ray.remote(_run_remotely)
        self._running: dict[object, _Job] = {}
        self._failures: list[_Failure] = []
        self._resources = _worker_resources(ray, options)
        self._sends, self._had_room = False, True
        self._num_done = self._num_frames = self._cost_done = 0
        self._seconds = 0.0

    def run(self, title: str, num_tasks: int) -> None:
        """Run all jobs to their ends.

        Args:
            title: Name of the step.
            num_tasks: Tasks in all, those that were done before included.
        """
        started = time.perf_counter()
        num_before = num_tasks - len(self._waiting)
        while self._waiting or self._running:
            while self._waiting and len(self._running) < self._options.num_workers:
                self._submit(self._waiting.popleft())
            elapsed = time.perf_counter() - started
            detail = self._progress(elapsed)
            self._on_step(Step(title, num_before + self._num_done, num_tasks, detail))
            if not self._running:
                continue
            done, _ = self._ray.wait(list(self._running), timeout=POLL_S)
            for reference in done:
                self._take(self._running.pop(reference), reference)
            self._take_back()
            has_room = bool(self._machines())
            if self._had_room and not has_room:
                self._on_word("no machine of the cluster has room for a worker: waiting for one")
            self._had_room = has_room
        self._on_step(Step(title, num_before + self._num_done, num_tasks))

    def raise_failures(self, num_tasks: int) -> None:
        """Raise one error for all tasks that failed, if any did.

        Args:
            num_tasks: Tasks in all.

        Raises:
            ProtocolError: With a line for each task.
        """
        if not self._failures:
            return
        width = max(len(failure.name) for failure in self._failures)
        lines = [
            f"  {failure.name:{width}}  {failure.host}: {failure.reason}"
            for failure in sorted(self._failures)
        ]
        first = f"{len(lines)} of {num_tasks} sequences have no results"
        logs = self._workspace.folder / "logs"
        raise ProtocolError("\n".join([f"{first}; the logs are in {logs}", *lines]))

    def _submit(self, job: _Job) -> None:
        options: dict[str, Any] = {**self._resources, "max_retries": 0, "name": job.task.name}
        if job.failed_on:
            options["label_selector"] = {_NODE_LABEL: f"!in({','.join(job.failed_on)})"}
        folder, chunks = job.task.sequence.folder, None
        try:
            task = dataclasses.replace(job.task, fingerprint=fingerprint_of(folder))
            if self._sends:
                chunks = [self._ray.put(chunk) for chunk in pack_sequence(folder)]
        except InputError as error:
            self._fail(job, "this machine", str(error))
            return
        job.started = time.perf_counter()
        self._running[self._remote.options(**options).remote(task, chunks)] = job

    def _take(self, job: _Job, reference: object) -> None:
        """Take the answer to a task over, or put it back to be done again."""
        errors = self._ray.exceptions
        try:
            node, result = self._ray.get(reference)
        except errors.RayTaskError as error:
            self._fail(job, "", str(error.cause), str(error).encode("utf-8", "replace"))
        except errors.RayError as error:
            self._begin_again(job, error)
        else:
            if result.is_lacking:
                if not self._sends:
                    where = job.task.sequence.folder
                    self._on_word(f"{result.host} does not see the files of {where}: they are sent")
                self._sends = True
                self._waiting.appendleft(job)
            elif result.failure:
                self._refuse(job, node, result)
            else:
                self._store(job, result)

    def _begin_again(self, job: _Job, error: Exception) -> None:
        job.num_deaths += 1
        reason = _first_line(str(error))
        if job.num_deaths > MAX_DEATHS:
            self._fail(job, "", f"its worker died {job.num_deaths} times: {reason}")
            return
        self._on_word(f"{job.task.name} is begun again, its worker died: {reason}")
        self._waiting.appendleft(job)

    def _refuse(self, job: _Job, node: str, result: TaskResult) -> None:
        """Try a task that failed once on another machine, if there is one for it."""
        reason = _first_line(result.failure)
        if not job.failed_on and self._machines(without=[node]):
            job.failed_on.append(node)
            self._on_word(f"{job.task.name} is tried on another machine: {reason}")
            self._waiting.appendleft(job)
            return
        details = f"{result.failure}\n".encode("utf-8", "replace")
        self._fail(job, result.host, reason, details + result.log)

    def _take_back(self) -> None:
        """Begin tasks again that failed, and wait for another machine where none is left."""
        for reference, job in list(self._running.items()):
            if job.failed_on and not self._machines(without=job.failed_on):
                self._ray.cancel(reference, force=True)
                del self._running[reference]
                job.failed_on.clear()
                self._on_word(f"{job.task.name} is tried where it failed: no other machine is left")
                self._waiting.appendleft(job)

    def _machines(self, *, without: Sequence[str] = ()) -> list[str]:
        """Ids of the machines that have what a worker gets, busy ones too."""
        nodes = (node for node in _alive_nodes(self._ray) if _has_room(node, self._resources))
        return [node["NodeID"] for node in nodes if node["NodeID"] not in without]

    def _fail(self, job: _Job, host: str, reason: str, log: bytes = b"") -> None:
        self._failures.append(_Failure(job.task.name, host or "a worker", reason))
        logs = self._workspace.folder / "logs"
        logs.mkdir(exist_ok=True)
        name = f"{job.task.tracker}-{job.task.sequence.name}.log"
        with atomic_path(logs / name) as temporary:
            temporary.write_bytes(log or reason.encode("utf-8", "replace"))

    def _store(self, job: _Job, result: TaskResult) -> None:
        """Write the result files into a hidden folder, and move them from there when all are."""
        task = job.task
        hidden = _hidden_folder(self._workspace, task.tracker) / task.sequence.name
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir(parents=True)
        for name, content in result.files.items():
            (hidden / name).write_bytes(content)
        if (fault := result_fault(hidden, task.sequence)) is not None:
            self._fail(job, result.host, f"the results came damaged: {fault}")
            return
        results = self._workspace.results_of(task.tracker) / EXPERIMENT
        move_results(hidden, results / task.sequence.name)
        self._num_done += 1
        self._num_frames += task.sequence.num_frames
        self._cost_done += task.cost
        self._seconds += result.seconds

    def _progress(self, elapsed: float) -> str:
        """Frames per second of all workers together, and the time left."""
        if not self._cost_done:
            return f"{len(self._running)} at work"
        per_cost = self._seconds / self._cost_done
        now = time.perf_counter()
        tasks = [
            max(0.0, job.task.cost * per_cost - (now - job.started))
            for job in self._running.values()
        ]
        tasks += [job.task.cost * per_cost for job in self._waiting]
        left = time_left(tasks, self._options.num_workers)
        speed = self._num_frames / elapsed
        minutes = max(1, round(left / 60))
        return (
            f"{len(self._running)} at work, {speed:.1f} frames/s, "
            f"{minutes // 60}:{minutes % 60:02d} h left"
        )


def time_left(tasks: Iterable[float], num_workers: int) -> float:
    """Time until all tasks are done, each begun in this order by the worker that is idle first.

    Args:
        tasks: Time that each takes, or still takes, in any unit.
        num_workers: Workers of equal speed, at least 1.

    Example:
        >>> time_left([1, 1, 2], 2), time_left([2, 1, 1], 2), time_left([], 2)
        (3.0, 2.0, 0.0)
    """
    ends = [0.0] * num_workers
    for task in tasks:
        heapq.heapreplace(ends, ends[0] + task)
    return max(ends)


def _run_remotely(task: SequenceTask, references: list[Any] | None) -> tuple[str, TaskResult]:
    """Run a task in a worker, and return the machine's id with the answer.

    The parts of a sequence are fetched one by one, and only where they are needed.
    """
    import ray

    context = ray.get_runtime_context()
    cpus = context.get_assigned_resources().get("CPU", 1)
    os.environ["OMP_NUM_THREADS"] = str(max(1, int(cpus)))
    if not ray.get_gpu_ids():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # by default Ray would leave all of them visible
    chunks = None if references is None else (ray.get(each) for each in references)
    return context.get_node_id(), run_task(task, chunks)


@contextlib.contextmanager
def _connect(options: ClusterOptions) -> Iterator[ModuleType]:
    """Connect to a cluster, or start one on this machine for the body."""
    ray = find_ray()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.ExitStack() as stack:
        if options.address is None:
            folder = str(stack.enter_context(scratch_folder()))
            num_cpus = max(
                os.cpu_count() or 1, options.num_workers * (options.cpus_per_worker or 1)
            )
            quiet |= {"_temp_dir": folder, "num_cpus": num_cpus, "include_dashboard": False}
            quiet |= {"_node_ip_address": "127.0.0.1"}
        try:
            with _own_signals():
                ray.init(address=options.address or "local", **quiet)
        except Exception as error:
            reason = _first_line(str(error))
            what = (
                f"no Ray cluster at {options.address}" if options.address else "Ray did not start"
            )
            raise ConfigError(f"{what}: {reason}") from error
        stack.callback(ray.shutdown)
        yield ray


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Let this program's handler of SIGTERM, which Ray replaces, hold again."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _worker_resources(ray: ModuleType, options: ClusterOptions) -> dict[str, float]:
    """Return what a worker gets, after a check that a machine of the cluster has it.

    Raises:
        ConfigError: No machine has.
    """
    nodes = [node["Resources"] for node in _alive_nodes(ray)]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = options.gpus_per_worker
    if gpus is None:
        gpus = float(any(node.get("GPU", 0) for node in nodes))
    num_cpus = options.cpus_per_worker
    if num_cpus is None:
        enough = range(max(1, sum(cpus) // options.num_workers), 1, -1)
        fits = (n for n in enough if sum(have // n for have in cpus) >= options.num_workers)
        num_cpus = next(fits, 1)
    wanted: dict[str, float] = {"num_cpus": num_cpus, "num_gpus": gpus}
    if not any(_has_room(node, wanted) for node in _alive_nodes(ray)):
        has = "; ".join(
            f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes
        )
        raise ConfigError(
            f"no machine has room for a worker of {num_cpus} CPUs and {gpus:g} GPUs: "
            f"they have {has}"
        )
    return wanted


def _alive_nodes(ray: ModuleType) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _has_room(node: dict[str, Any], wanted: dict[str, float]) -> bool:
    """Whether a machine has what a worker gets, other workers aside."""
    have = node["Resources"]
    pairs = (("CPU", "num_cpus"), ("GPU", "num_gpus"))
    return all(have.get(name, 0) >= wanted[option] for name, option in pairs)


def _hidden_folder(workspace: Workspace, tracker: str) -> Path:
    """Folder of results that are not whole yet; the caller has claimed the tracker."""
    return workspace.hidden / f"run-{tracker}"


def _title(trackers: Sequence[str], options: ClusterOptions) -> str:
    return f"run {', '.join(trackers)} on {options.num_workers} workers"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
