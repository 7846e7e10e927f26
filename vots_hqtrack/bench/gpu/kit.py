"""Runs the steps one after the other, each as subprocesses that cannot outlive their time."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vots_hqtrack.bench.gpu.record_tests import FILE_OPTION, FINISHED_OPTION
from vots_hqtrack.bench.gpu.report import write_report
from vots_hqtrack.bench.gpu.results import ResultFile, ResultRow, Status
from vots_hqtrack.bench.gpu.supervise import GRACE, Ending, run_limited
from vots_hqtrack.bench.gpu.wheels import install_missing
from vots_hqtrack.errors import ConfigError

STEPS = ("proof", "speed", "train")
LIMITS: Mapping[str, float] = {"proof": 75.0, "speed": 75.0}
"""Seconds of a step; ``train`` takes what is left."""
RESERVE = 25.0
"""Seconds at the end that no training gets: for ending it by force, and for the report."""
TRAIN_MARGIN = 45.0
"""Seconds of the training's time that its own schedule does not get: to load, to compile, and to
write the last weights."""
TRAIN_GRACE = 15.0
STUCK = 40.0
STUCK_QUICK = 200.0
"""Seconds without a new row after which a case of the step ``speed`` counts as hung; more for toy
sizes, which run where other things may run too."""
TRAIN_CONFIG = "lite-gpu"
CHECKOUT = Path(__file__).resolve().parents[3]
"""Top folder of the checkout, with the tests."""

_NO_TESTS = 5
_SHORTEST_TRAINING = 60.0
_LAST_LINES = 15

Callback = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class KitOptions:
    """What to run.

    Attributes:
        out: Folder of the results; what is finished there is not run again.
        steps: Names out of ``STEPS``, in this order.
        device: As PyTorch calls it.
        is_quick: Toy sizes, for machines without a GPU.
        seconds: For all steps together.
        limits: Seconds by step, where they differ from ``LIMITS``.
        wheels: Folder with wheels of missing packages, or None.
        data: Folder of training data; without one, nothing is trained.
        train_config: Recipe for ``hqtrack train``.
        train_args: Further arguments of ``hqtrack train``.
        test_args: Arguments of pytest in place of those that choose the tests.
        models: Only these are measured; empty for all.
        retries: Run cases again that did not end well.
    """

    out: Path
    steps: Sequence[str] = STEPS
    device: str = "cuda"
    is_quick: bool = False
    seconds: float = 600.0
    limits: Mapping[str, float] = field(default_factory=dict)
    wheels: Path | None = None
    data: Path | None = None
    train_config: str = TRAIN_CONFIG
    train_args: Sequence[str] = ()
    test_args: Sequence[str] = ()
    models: Sequence[str] = ()
    retries: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        unknown = [name for name in (*self.steps, *self.limits) if name not in STEPS]
        if unknown:
            raise ConfigError(f"wanted steps out of {', '.join(STEPS)}, got {', '.join(unknown)}")
        if not self.steps:
            raise ConfigError(f"wanted at least one step out of {', '.join(STEPS)}")
        if self.seconds <= 0 or any(limit <= 0 for limit in self.limits.values()):
            raise ConfigError("time limits must be more than 0 seconds")


def run_kit(options: KitOptions, callback: Callback = lambda _: None) -> bool:
    """Run the steps; a step that fails, hangs or is missing something never costs the next.

    Writes ``results.jsonl``, ``report.md`` and a log for each step to the folder of the results.

    Args:
        options: What to run.
        callback: Called with a line whenever a step begins or ends.

    Returns:
        Whether every step that was asked for ended well, or had nothing to do.

    Raises:
        InputError: There is no wheel in the folder of wheels.
        OSError: The folder cannot be written.
    """
    kit = _Kit(options, callback)
    return all([kit.run(step) for step in STEPS if step in options.steps])


class _Kit:
    def __init__(self, options: KitOptions, callback: Callback) -> None:
        self._options = options
        self._callback = callback
        self._deadline = time.monotonic() + options.seconds
        self._out = options.out.absolute()
        self._out.mkdir(parents=True, exist_ok=True)
        self._results = ResultFile(self._out / "results.jsonl")
        packages = self._out / "packages"
        if options.wheels is not None:
            found = install_missing(options.wheels, packages)
            callback(f"wheels installed: {', '.join(found.installed) or 'none was missing'}")
            for problem in found.problems:
                callback(f"not installed: {problem}")
        self._environment = _environment(packages)

    @property
    def _on_gpu(self) -> bool:
        return self._options.device.startswith("cuda")

    def run(self, step: str) -> bool:
        """Run one step, and write what became of it."""
        seconds = self._seconds_for(step)
        if seconds <= 0:
            return self._finish(step, "stopped", 0.0, "no time was left")
        self._callback(f"{step}: at most {seconds:.0f} s")
        self._results.append(ResultRow("kit", step, "started"))
        started = time.monotonic()
        work = {"proof": self._prove, "speed": self._measure, "train": self._train}[step]
        try:
            status, reason = work(seconds)
        except OSError as error:  # a program or a file that is missing; the next step may need none
            status, reason = "failed", str(error)
        return self._finish(step, status, time.monotonic() - started, reason)

    def _finish(self, step: str, status: Status, seconds: float, reason: str) -> bool:
        values = {"seconds": round(seconds, 1), "reason": reason}
        self._results.append(ResultRow("kit", step, status, values))
        write_report(self._results, self._out / "report.md")
        self._callback(f"{step}: {status} ({seconds:.0f} s){': ' if reason else ''}{reason}")
        return status in ("ok", "skipped")

    def _seconds_for(self, step: str) -> float:
        left = self._deadline - time.monotonic()
        if step == "train":
            return min(left - RESERVE, self._options.limits.get(step, left))
        return min(left, self._options.limits.get(step, LIMITS[step]))

    def _finished(self, step: str) -> set[str]:
        if not self._options.retries:
            return self._results.finished(step)
        return {name for name, row in self._results.latest(step).items() if row.status == "ok"}

    def _command(
        self,
        name: str,
        command: Sequence[str],
        seconds: float,
        *,
        is_stuck: Callable[[], bool] | None = None,
        grace: float = GRACE,
        variables: Mapping[str, str] | None = None,
    ) -> Ending:
        """Run ``python`` with arguments, from the checkout."""
        return run_limited(
            [sys.executable, *command],
            seconds=seconds,
            log_path=self._out / f"{name}.log",
            folder=CHECKOUT,
            environment={**self._environment, **(variables or {})},
            is_stuck=is_stuck,
            grace=grace,
        )

    # --- proof

    def _prove(self, seconds: float) -> tuple[Status, str]:
        finished = self._out / "finished-tests.txt"
        finished.write_text("\n".join(sorted(self._finished("proof"))), encoding="utf-8")
        # pytest-benchmark warns under pytest-xdist, and warnings are errors here.
        command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark"]
        command += ["-p", "vots_hqtrack.bench.gpu.record_tests"]
        command += [f"{FILE_OPTION}={self._results.path}", f"{FINISHED_OPTION}={finished}"]
        command += self._options.test_args or self._chosen_tests()
        # A process of pytest computes on one core; a test that asks for CUDA gets it or fails.
        variables = {"OMP_NUM_THREADS": "1"} if "-n" in command else {}
        if self._on_gpu:
            variables["VOTS_HQTRACK_REQUIRE"] = "gpu"
        ended = self._command("proof", command, seconds, variables=variables)
        rows = self._results.latest("proof").values()
        count = {wanted: sum(row.status == wanted for row in rows) for wanted in ("ok", "failed")}
        if ended.kind == "late":
            return "stopped", f"{count['ok']} tests passed when the time was over"
        if ended.code == _NO_TESTS and not count["ok"]:
            return "failed", "no test was selected"
        if ended.code not in (0, _NO_TESTS) or count["failed"] or not count["ok"]:
            return "failed", f"{count['failed']} tests failed, {count['ok']} passed; see proof.log"
        return "ok", f"{count['ok']} tests passed"

    def _chosen_tests(self) -> list[str]:
        chosen = [str(path) for path in gpu_test_files(CHECKOUT / "tests")]
        # Some of them run their bodies on the CPU too.
        chosen += ["-m", "gpu"] if self._on_gpu else ["-m", "not gpu", "-k", "on_cpu"]
        if self._options.is_quick:
            chosen += ["-k", "on_cpu and interleaved and vmos"]
        elif importlib.util.find_spec("xdist"):
            chosen += ["-n", "auto"]
        return chosen

    # --- speed

    def _measure(self, seconds: float) -> tuple[Status, str]:
        deadline = time.monotonic() + seconds
        if self._options.retries:
            self._drop_bad_cases()
        while (left := deadline - time.monotonic()) > 0:
            longest = STUCK_QUICK if self._options.is_quick else STUCK
            watch = _Progress(self._results.path, longest)
            ended = self._command("speed", self._speed_command(), left, is_stuck=watch.is_stuck)
            running = [
                row.name
                for row in self._results.latest("speed").values()
                if row.status == "started"
            ]
            if ended.kind == "exited" and ended.code == 0:
                break
            if ended.kind == "late":
                for name in running:
                    self._results.append(ResultRow("speed", name, "stopped"))
                return "stopped", self._count_speed()
            if not running:  # it ended before its first case
                return "failed", _last_line(self._out / "speed.log") or f"exit code {ended.code}"
            status: Status = "hung" if ended.kind == "stuck" else "failed"
            reason = f"the process ended with code {ended.code}"
            for name in running:  # the next process begins behind it
                self._results.append(ResultRow("speed", name, status, {"error": reason}))
        bad = [x for x in self._results.latest("speed").values() if x.status != "ok"]
        return "failed" if bad else "ok", self._count_speed()

    def _speed_command(self) -> list[str]:
        command = ["-m", "vots_hqtrack", "gpu", "speed", "--out", str(self._out)]
        command += ["--device", self._options.device]
        command += ["--quick"] if self._options.is_quick else []
        for model in self._options.models:
            command += ["--model", model]
        return command

    def _drop_bad_cases(self) -> None:
        for name, row in self._results.latest("speed").items():
            if row.status != "ok":
                self._results.append(ResultRow("speed", name, "stopped"))

    def _count_speed(self) -> str:
        rows = self._results.latest("speed").values()
        return f"{sum(row.status == 'ok' for row in rows)} of {len(rows)} cases measured"

    # --- train

    def _train(self, seconds: float) -> tuple[Status, str]:
        if self._options.data is None:
            return "skipped", "no folder of training data was given"
        if seconds < _SHORTEST_TRAINING and not self._options.is_quick:
            return "stopped", f"only {seconds:.0f} s were left"
        recipe = Path(self._options.train_config)
        command = ["-m", "vots_hqtrack", "train"]
        command.append(str(recipe.absolute() if recipe.is_file() else recipe))
        run, earlier = self._run_folders()
        command += ["--data", str(self._options.data.absolute()), "--out", str(run)]
        if earlier is not None:
            command += ["--from", str(earlier / "state.safetensors")]
        if self._options.train_config == TRAIN_CONFIG:
            minutes = max(seconds - TRAIN_MARGIN, 1.0) / 60
            command += ["--set", f"train.max_minutes={minutes:.2f}"]
        command += self._options.train_args
        log = self._out / "train.log"
        before = log.stat().st_size if log.exists() else 0
        ended = self._command("train", command, seconds, grace=TRAIN_GRACE)
        said = _clean(log.read_bytes()[before:])
        values: dict[str, object] = {"code": ended.code, "seconds": round(ended.seconds, 1)}
        values |= {"command": command, "said": said.splitlines()[-_LAST_LINES:]}
        values["log"] = _last_entry(run / "log.jsonl")
        status: Status = "ok" if ended.kind == "exited" and ended.code == 0 else "failed"
        status = "stopped" if ended.kind == "late" else status
        name = f"call {len(self._results.latest('train')) + 1}"
        self._results.append(ResultRow("train", name, status, values))
        last = said.splitlines()[-1] if said else ""
        return status, "" if status == "ok" else last or f"exit code {ended.code}"

    def _run_folders(self) -> tuple[Path, Path | None]:
        """Folder of this call's training, and that of an earlier one, from which it goes on.

        A recipe whose steps are counted goes on in its own folder.
        """
        if self._options.train_config != TRAIN_CONFIG:
            return self._out / "run", None
        number, earlier = 1, None
        while (run := self._out / f"run-{number}").exists():
            if (run / "state.safetensors").exists():
                earlier = run
            number += 1
        return run, earlier


class _Progress:
    """Tells when a file has not grown for too long."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path = path
        self._seconds = seconds
        self._size = -1
        self._since = time.monotonic()

    def is_stuck(self) -> bool:
        """Whether the file has the size that it had ``seconds`` ago."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size != self._size:
            self._size, self._since = size, time.monotonic()
        return time.monotonic() - self._since > self._seconds


def gpu_test_files(tests: Path) -> list[Path]:
    """Return the test files that have a test marked ``gpu``, sorted."""
    files = sorted(tests.rglob("test_*.py"))
    marked = re.compile(r"\bmark\.gpu\b|\bON_CUDA\b")
    return [path for path in files if marked.search(path.read_text(encoding="utf-8"))]


def _environment(packages: Path) -> dict[str, str]:
    """Return the variables of all subprocesses: nothing asks a network, everything is found."""
    paths = [str(CHECKOUT), str(packages), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "160",
    }


def _clean(output: bytes) -> str:
    """Return output without the codes of terminals, what was overwritten in place left out."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode("utf-8", "replace"))
    lines = (line.rpartition("\r")[2].rstrip() for line in text.replace("\r\n", "\n").split("\n"))
    return "\n".join(line for line in lines if line)


def _last_entry(path: Path) -> dict[str, object]:
    """Return the last complete line of a training log that tells the pace, or an empty one."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            entry: dict[str, object] = json.loads(line)
        except ValueError:  # cut off
            continue
        if entry.get("clips_per_second"):
            return entry
    return {}


def _last_line(path: Path) -> str:
    lines = _clean(path.read_bytes()).splitlines() if path.exists() else []
    return lines[-1] if lines else ""
