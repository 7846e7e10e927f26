"""Runs the steps one after the other, each as subprocesses with a time limit."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vots_hqtrack.bench.gpu.process import GRACE, Ending, install_missing, run_limited
from vots_hqtrack.bench.gpu.record_tests import FILE_OPTION, FINISHED_OPTION
from vots_hqtrack.bench.gpu.report import write_report
from vots_hqtrack.bench.gpu.results import ResultFile, Status
from vots_hqtrack.errors import ConfigError

STEPS = ("proof", "speed", "train")
LIMITS: Mapping[str, float] = {"proof": 75.0, "speed": 75.0}
"""Seconds of a step; ``train`` takes the rest."""
RESERVE = 25.0
"""Seconds at the end without training: to end it by force, and for the report."""
TRAIN_MARGIN = 45.0
"""Seconds of the training's time outside its schedule: to load, to compile, and to write the last
weights."""
TRAIN_GRACE = 15.0
MAX_IDLE = 40.0
MAX_IDLE_QUICK = 200.0
"""Seconds without a new row after which a case of the step ``speed`` counts as hung; more for toy
sizes, which run where other programs may run too."""
TRAIN_CONFIG = "lite-gpu"
QUICK_TRAINING = (
    "train.max_minutes=0.02",
    "train.precision=float32",
    "train.workers=0",
    "composer.threads=1",
    "phases.batch_size=1",
    "phases.num_frames=2",
    "phases.crop=64,96",
)
"""Settings of `TRAIN_CONFIG` at toy sizes."""
QUICK_TEST = "test_tracker_devices.py::test_videos_interleaved[{device}-lite-vmos]"
"""The proof at toy sizes: two videos on one tracker; ``on_cpu`` or ``on_cuda``."""
CHECKOUT = Path(__file__).resolve().parents[3]
"""Top folder of the checkout, with the tests."""

_NO_TESTS = 5
_MIN_TRAINING = 60.0
_LAST_LINES = 15
_SPEED_STATUS: Mapping[str, Status] = {"late": "stopped", "stuck": "hung", "exited": "failed"}
"""Status of a running case, by the end of its process."""


@dataclass(frozen=True, slots=True)
class KitOptions:
    """Options of a run.

    Attributes:
        out: Folder of the results; a case with a result there does not run again.
        steps: Names out of ``STEPS``.
        device: Compute device in PyTorch's words.
        is_quick: Toy sizes, for machines without a GPU.
        seconds: Time limit of all steps together.
        limits: Seconds by step, where they differ from ``LIMITS``.
        wheels: Folder with wheels of missing packages, or None.
        data: Folder of training data; None skips the training.
        train_args: Further arguments of ``hqtrack train``.
        test_args: Arguments of pytest, in place of those that select the tests.
        models: Models to measure; empty for all.
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


def run_kit(options: KitOptions, callback: Callable[[str], None] = lambda _: None) -> bool:
    """Run the steps; a step that fails, hangs or lacks something does not stop the next.

    Writes ``results.jsonl``, ``report.md`` and a log for each step to the folder of the results.

    Args:
        options: Options of the run.
        callback: Called with a line whenever a step begins or ends.

    Returns:
        True if every requested step succeeded, or had nothing to do.

    Raises:
        InputError: The folder of wheels has none.
        OSError: The folder cannot be written.
    """
    kit = _Kit(options, callback)
    return all([kit.run(step) for step in STEPS if step in options.steps])


class _Kit:
    def __init__(self, options: KitOptions, callback: Callable[[str], None]) -> None:
        self._options = options
        self._callback = callback
        self._deadline = time.monotonic() + options.seconds
        self._out = options.out.absolute()
        self._out.mkdir(parents=True, exist_ok=True)
        self._results = ResultFile(self._out / "results.jsonl")
        packages = self._out / "packages"
        if options.wheels is not None:
            installed, problems = install_missing(options.wheels, packages)
            callback(f"wheels installed: {', '.join(installed) or 'none was missing'}")
            for problem in problems:
                callback(f"not installed: {problem}")
        paths = [str(CHECKOUT), str(packages), os.environ.get("PYTHONPATH", "")]
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "160",
        }

    def run(self, step: str) -> bool:
        """Run one step, and write its outcome; returns True unless it failed."""
        left = self._deadline - time.monotonic()
        limit = self._options.limits.get(step, LIMITS.get(step, math.inf))
        seconds = min(left - RESERVE if step == "train" else left, limit)
        status: Status = "stopped"
        reason, taken = "no time was left", 0.0
        if seconds > 0:
            self._callback(f"{step}: at most {seconds:.0f} s")
            self._results.append("kit", step, "started")
            started = time.monotonic()
            work = {"proof": self._prove, "speed": self._measure, "train": self._train}[step]
            try:
                status, reason = work(seconds)
            except OSError as error:  # a missing program or file, which the next may not need
                status, reason = "failed", str(error)
            taken = time.monotonic() - started
        values = {"seconds": round(taken, 1), "reason": reason}
        self._results.append("kit", step, status, values)
        write_report(self._results, self._out / "report.md")
        self._callback(f"{step}: {status} ({taken:.0f} s){': ' if reason else ''}{reason}")
        return status in ("ok", "skipped")

    def _python(
        self,
        name: str,
        command: Sequence[str],
        seconds: float,
        *,
        grace: float = GRACE,
        max_idle: float = math.inf,
    ) -> Ending:
        """Run ``python`` with arguments, from the checkout."""
        return run_limited(
            [sys.executable, *command],
            seconds=seconds,
            log_path=self._out / f"{name}.log",
            folder=CHECKOUT,
            environment=self._environment,
            grace=grace,
            progress_path=self._results.path,
            max_idle=max_idle,
        )

    # --- proof

    def _prove(self, seconds: float) -> tuple[Status, str]:
        done = self._results.finished("proof")
        if self._options.retries:
            latest = self._results.latest("proof")
            done = {name for name in done if latest[name].status == "ok"}
        finished = self._out / "finished-tests.txt"
        finished.write_text("\n".join(sorted(done)), encoding="utf-8")
        on_gpu = self._options.device.startswith("cuda")
        # pytest-benchmark warns under pytest-xdist, and warnings are errors here.
        command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark"]
        command += ["-p", "vots_hqtrack.bench.gpu.record_tests"]
        command += [f"{FILE_OPTION}={self._results.path}", f"{FINISHED_OPTION}={finished}"]
        command += self._options.test_args or select_tests(
            CHECKOUT / "tests", on_gpu=on_gpu, is_quick=self._options.is_quick
        )
        if on_gpu:  # a test that needs CUDA gets it or fails
            self._environment["VOTS_HQTRACK_REQUIRE"] = "gpu"
        ended = self._python("proof", command, seconds)
        statuses = [row.status for row in self._results.latest("proof").values()]
        passed, failed = statuses.count("ok"), statuses.count("failed")
        if ended.kind == "late":
            return "stopped", f"{passed} tests passed when the time was over"
        if ended.code == _NO_TESTS and not passed:
            return "failed", "no test was selected"
        if ended.code not in (0, _NO_TESTS) or failed or not passed:
            return "failed", f"{failed} tests failed, {passed} passed; see proof.log"
        return "ok", f"{passed} tests passed"

    # --- speed

    def _measure(self, seconds: float) -> tuple[Status, str]:
        options, results = self._options, self._results
        deadline = time.monotonic() + seconds
        if options.retries:
            for name, row in results.latest("speed").items():
                if row.status != "ok":
                    results.append("speed", name, "stopped")
        command = ["-m", "vots_hqtrack", "gpu", "speed", "--out", str(self._out)]
        command += ["--device", options.device, *(["--quick"] if options.is_quick else [])]
        for model in options.models:
            command += ["--model", model]
        max_idle = MAX_IDLE_QUICK if options.is_quick else MAX_IDLE
        while (left := deadline - time.monotonic()) > 0:
            ended = self._python("speed", command, left, max_idle=max_idle)
            latest = results.latest("speed")
            running = [name for name, row in latest.items() if row.status == "started"]
            if ended.kind == "exited" and ended.code == 0:
                break
            if not running and ended.kind != "late":  # it ended before its first case
                return "failed", _last_line(self._out / "speed.log") or f"exit code {ended.code}"
            status = _SPEED_STATUS[ended.kind]
            reason = {"error": f"the process ended with code {ended.code}"}
            for name in running:  # the next process begins after it
                results.append("speed", name, status, {} if status == "stopped" else reason)
            if status == "stopped":
                return status, self._count_speed()[1]
        return self._count_speed()

    def _count_speed(self) -> tuple[Status, str]:
        statuses = [row.status for row in self._results.latest("speed").values()]
        measured = statuses.count("ok")
        status: Status = "ok" if measured == len(statuses) else "failed"
        return status, f"{measured} of {len(statuses)} cases measured"

    # --- train

    def _train(self, seconds: float) -> tuple[Status, str]:
        options = self._options
        if options.data is None:
            return "skipped", "no folder of training data was given"
        if seconds < _MIN_TRAINING and not options.is_quick:
            return "stopped", f"only {seconds:.0f} s were left"
        run, earlier = self._run_folders()
        command = ["-m", "vots_hqtrack", "train", TRAIN_CONFIG]
        command += ["--data", str(options.data.absolute()), "--out", str(run)]
        if earlier is not None:
            command += ["--from", str(earlier / "state.safetensors")]
        minutes = max(seconds - TRAIN_MARGIN, 1.0) / 60
        settings = QUICK_TRAINING if options.is_quick else [f"train.max_minutes={minutes:.2f}"]
        command += [word for setting in settings for word in ("--set", setting)]
        command += options.train_args
        log = self._out / "train.log"
        before = log.stat().st_size if log.exists() else 0
        ended = self._python("train", command, seconds, grace=TRAIN_GRACE)
        lines = _clean(log.read_bytes()[before:])
        values = {
            "code": ended.code,
            "seconds": round(ended.seconds, 1),
            "command": command,
            "said": lines[-_LAST_LINES:],
            "log": _last_entry(run / "log.jsonl"),
        }
        status: Status = "ok" if ended.kind == "exited" and ended.code == 0 else "failed"
        status = "stopped" if ended.kind == "late" else status
        call = f"call {len(self._results.latest('train')) + 1}"
        self._results.append("train", call, status, values)
        last = lines[-1] if lines else f"exit code {ended.code}"
        return status, "" if status == "ok" else last

    def _run_folders(self) -> tuple[Path, Path | None]:
        """Folder of this call's training, and that of an earlier one, from which it continues."""
        number, earlier = 1, None
        while (run := self._out / f"run-{number}").exists():
            if (run / "state.safetensors").exists():
                earlier = run
            number += 1
        return run, earlier


def select_tests(tests: Path, *, on_gpu: bool, is_quick: bool) -> list[str]:
    """Return pytest's arguments that select the tests of the proof.

    Args:
        tests: Folder with the tests.
        on_gpu: On CUDA, not on the CPU, where some of them run their bodies too.
        is_quick: Only one of them.
    """
    if is_quick:
        return [str(tests / QUICK_TEST.format(device="on_cuda" if on_gpu else "on_cpu"))]
    selected = [str(path) for path in gpu_test_files(tests)]
    selected += ["-m", "gpu"] if on_gpu else ["-m", "not gpu", "-k", "on_cpu"]
    return [*selected, "-n", "auto"] if importlib.util.find_spec("xdist") else selected


def gpu_test_files(tests: Path) -> list[Path]:
    """Return the test files with a test marked ``gpu``, sorted."""
    files = sorted(tests.rglob("test_*.py"))
    marked = re.compile(r"\bmark\.gpu\b|\bON_CUDA\b")
    return [path for path in files if marked.search(path.read_text(encoding="utf-8"))]


def _clean(output: bytes) -> list[str]:
    """Return the lines of a terminal without control codes and overwritten parts."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode("utf-8", "replace"))
    lines = (line.rpartition("\r")[2].rstrip() for line in text.replace("\r\n", "\n").split("\n"))
    return [line for line in lines if line]


def _last_line(path: Path) -> str:
    return (_clean(path.read_bytes()) or [""])[-1] if path.exists() else ""


def _last_entry(path: Path) -> dict[str, object]:
    """Return the last complete line of a training log with a speed, or an empty one."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            entry: dict[str, object] = json.loads(line)
        except ValueError:  # cut off
            continue
        if entry.get("clips_per_second"):
            return entry
    return {}
