"""The GPU kit on the CPU, with toy sizes: every step, going on after a cut, failing alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vots_hqtrack.bench.gpu.kit import (
    QUICK_TEST,
    KitOptions,
    gpu_test_files,
    run_kit,
    select_tests,
)
from vots_hqtrack.bench.gpu.process import install_missing, run_limited
from vots_hqtrack.bench.gpu.report import render_report
from vots_hqtrack.bench.gpu.results import ResultFile, ResultRow
from vots_hqtrack.bench.gpu.speed import plan_speed
from vots_hqtrack.errors import ConfigError, InputError

TOY_DATA = (
    "--set data.kind=folder --set data.root=photos --set data.options= --set composer.held_out="
)
"""Images of one folder in place of all data sets of the recipe."""
PASSING = "def test_one(): pass\ndef test_two(): pass\n"
FAILING = "def test_good(): pass\ndef test_bad(): assert 1 == 2, 'not so'\n"


@pytest.fixture(autouse=True)
def plain_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pytest that the kit starts load no plugin: importing them takes seconds."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def write_tests(folder: Path, text: str) -> str:
    path = folder / "test_toy.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def quick(out: Path, *steps: str, **changes: object) -> KitOptions:
    options: dict[str, object] = {"out": out, "steps": steps, "device": "cpu", "is_quick": True}
    options |= {"seconds": 1200.0, "limits": {"proof": 400.0, "speed": 400.0}}  # for busy machines
    return KitOptions(**{**options, **changes})  # type: ignore[arg-type]


def statuses(out: Path, step: str) -> dict[str, str]:
    latest = ResultFile(out / "results.jsonl").latest(step)
    return {name: row.status for name, row in latest.items()}


# --- the file


def test_a_cut_line_costs_only_itself(tmp_path: Path) -> None:
    results = ResultFile(tmp_path / "results.jsonl")
    results.append("speed", "a", "ok", {"ms": 1.5})
    with results.path.open("a", encoding="utf-8") as file:
        file.write('{"step": "speed", "na')
    results.append("speed", "b", "started")
    assert [row.name for row in results.rows()] == ["a", "b"]
    assert results.finished("speed") == {"a"}
    assert results.latest("speed")["a"].values == {"ms": 1.5}


def test_exception_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"other": 1}\n', encoding="utf-8")
    with pytest.raises(InputError, match="wanted rows with step, name and status"):
        ResultFile(path).rows()


# --- the supervisor


def run_python(code: str, folder: Path, seconds: float) -> tuple[str, int, str]:
    log = folder / "log"
    ended = run_limited(
        [sys.executable, "-c", code],
        seconds=seconds,
        log_path=log,
        folder=folder,
        environment=os.environ,
        grace=0.5,
    )
    return ended.kind, ended.code, log.read_text(encoding="utf-8")


def test_command_that_ends(tmp_path: Path) -> None:
    assert run_python("print('done'); raise SystemExit(3)", tmp_path, 60) == ("exited", 3, "done\n")


def test_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    kind, ended, said = run_python(code, tmp_path, 5)
    assert (kind, ended) == ("late", -signal.SIGKILL)
    assert not is_running(int(said))


def is_running(number: int) -> bool:
    """Whether a process is there and not a zombie that waits for its parent."""
    stat = Path(f"/proc/{number}/stat")
    for _ in range(50):
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX":
            return False
        time.sleep(0.1)
    return True


# --- the steps


def test_passing_tests_are_recorded_and_not_run_again(tmp_path: Path) -> None:
    tests = write_tests(tmp_path, PASSING)
    options = quick(tmp_path / "out", "proof", test_args=[tests])
    assert run_kit(options)
    assert list(statuses(options.out, "proof").values()) == ["ok", "ok"]
    rows = len(ResultFile(options.out / "results.jsonl").rows())
    assert run_kit(options)
    # A row that the step began and one that it ended; none of a test.
    assert len(ResultFile(options.out / "results.jsonl").rows()) == rows + 2
    assert "2 deselected" in (options.out / "proof.log").read_text(encoding="utf-8")


def test_failing_tests_are_named_and_cost_the_next_step_nothing(tmp_path: Path) -> None:
    tests = write_tests(tmp_path, FAILING)
    options = quick(
        tmp_path / "out",
        "proof",
        "train",
        test_args=[tests],
        data=tmp_path,
        train_args=["--set", "no.such=1"],
    )
    assert not run_kit(options)
    assert statuses(options.out, "kit") == {"proof": "failed", "train": "failed"}
    report = (options.out / "report.md").read_text(encoding="utf-8")
    assert "2 tests: 1 failed, 1 ok." in report
    assert "test_bad`: AssertionError: not so" in report
    assert "unknown section 'no'" in report


@pytest.mark.parametrize("arguments", [["-k", "nothing"], []])
def test_no_selected_test_is_no_success(tmp_path: Path, arguments: Sequence[str]) -> None:
    tests = write_tests(tmp_path, PASSING if arguments else "")
    options = quick(tmp_path / "out", "proof", test_args=[tests, *arguments])
    assert not run_kit(options)
    (row,) = ResultFile(options.out / "results.jsonl").latest("kit").values()
    assert row.values["reason"] == "no test was selected"


def test_tests_that_only_skip_are_no_success(tmp_path: Path) -> None:
    tests = write_tests(tmp_path, "import pytest\ndef test_one(): pytest.skip('no card')\n")
    assert not run_kit(quick(tmp_path / "out", "proof", test_args=[tests]))
    assert list(statuses(tmp_path / "out", "proof").values()) == ["skipped"]


def test_late_tests_leave_what_they_had(tmp_path: Path) -> None:
    tests = write_tests(tmp_path, PASSING + "def test_z():\n    import time; time.sleep(600)\n")
    options = quick(tmp_path / "out", "proof", test_args=[tests], limits={"proof": 20.0})
    assert not run_kit(options)
    assert statuses(options.out, "kit") == {"proof": "stopped"}
    assert list(statuses(options.out, "proof").values()) == ["ok", "ok"]


def test_without_data_nothing_is_trained(tmp_path: Path) -> None:
    assert run_kit(quick(tmp_path, "train"))
    assert statuses(tmp_path, "kit") == {"train": "skipped"}


def write_photos(root: Path) -> None:
    """Two noise images with a bright disc each."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:160, :240]
    disc = (rows - 80) ** 2 + (columns - 120) ** 2 < 45**2
    for kind in ("JPEGImages", "Annotations"):
        (root / kind).mkdir(parents=True)
    for name in ("a", "b"):
        image = rng.integers(0, 120, (160, 240, 3), dtype=np.uint8)
        image[disc] += 100
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg")
        Image.fromarray(disc.astype(np.uint8)).save(root / "Annotations" / f"{name}.png")


@pytest.mark.weights
@pytest.mark.slow
def test_all_steps_after_a_cut(tmp_path: Path) -> None:
    """Kill the kit in the middle of the step speed; a command of all steps goes on behind it.

    The proof is a real one, and the training that of `lite-gpu`, at toy sizes.
    """
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vots_hqtrack", "gpu", "run", "--quick", "--device", "cpu"]
    command += ["--out", str(out), "--minutes", "20"]
    command += ["--limit", "proof=400", "--limit", "speed=400", "--model", "lite-vmos"]
    write_photos(tmp_path / "data" / "photos")
    command += ["--data", str(tmp_path / "data"), "--train-args", TOY_DATA]
    results = ResultFile(out / "results.jsonl")
    with subprocess.Popen([*command, "--steps", "speed,train"], stderr=subprocess.PIPE) as process:
        while "card" not in results.finished("speed"):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    before = results.rows()
    assert statuses(out, "kit") == {"speed": "started"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert statuses(out, "kit") == {"proof": "ok", "speed": "ok", "train": "ok"}, ended.stderr
    assert set(statuses(out, "speed").values()) == {"ok"}
    plan = plan_speed(is_quick=True, models=("lite-vmos",))
    assert set(statuses(out, "speed")) == {case.name for case in plan}
    again = [row.name for row in results.rows()[len(before) :] if row.step == "speed"]
    assert "card" not in again
    report = (out / "report.md").read_text(encoding="utf-8")
    assert list(statuses(out, "proof").values()) == ["ok"]
    assert (out / "run-1" / "last.safetensors").is_file()
    for part in (
        "## Machine",
        "## Proof",
        "## Speed",
        "## Several videos at once",
        "## Attention",
        "lite-vmos, 160x96",
        "weights in",
    ):
        assert part in report


@pytest.mark.slow
def test_a_case_that_fails_costs_only_itself(tmp_path: Path) -> None:
    assert not run_kit(quick(tmp_path, "speed", models=["no-such-model"]))
    assert statuses(tmp_path, "speed") == {
        "card": "ok",
        "no-such-model, 160x96, 2 objects": "failed",
        "attention: toy": "ok",
    }
    assert "unknown preset 'no-such-model'" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_exception_options() -> None:
    with pytest.raises(ConfigError, match="wanted steps out of proof, speed, train, got prove"):
        KitOptions(Path(), steps=("prove",))
    with pytest.raises(ConfigError, match="more than 0 seconds"):
        KitOptions(Path(), limits={"proof": 0.0})


def test_files_with_tests_for_a_gpu_are_found(repository: Path) -> None:
    names = {path.name for path in gpu_test_files(repository / "tests")}
    assert {"test_triton.py", "test_preset_devices.py", "test_tracker_devices.py"} <= names
    assert "test_vmos.py" not in names


def test_the_quick_proof_selects_one_test_on_each_device(repository: Path) -> None:
    """On CUDA too: what pytest would run, without running it."""
    selected = [
        name
        for on_gpu in (False, True)
        for name in select_tests(repository / "tests", on_gpu=on_gpu, is_quick=True)
    ]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
    ended = subprocess.run(
        [*command, *selected], cwd=repository, capture_output=True, text=True, check=False
    )
    names = [line for line in ended.stdout.splitlines() if "::" in line]
    wanted = [f"tests/{QUICK_TEST.format(device=name)}" for name in ("on_cpu", "on_cuda")]
    assert names == wanted, ended.stdout


# --- wheels and report


def make_wheel(folder: Path, name: str) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "WORD = 'there'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in files.items():
            archive.writestr(inner, text)
    return path


def test_only_missing_wheels_are_installed(tmp_path: Path) -> None:
    folder, target = tmp_path / "wheels", tmp_path / "packages"
    folder.mkdir()
    missing = make_wheel(folder, "a_package_that_nobody_has")
    make_wheel(folder, "pytest")
    broken = folder / "broken-1.0-py3-none-any.whl"
    broken.write_bytes(b"no archive")
    installed, problems = install_missing(folder, target)
    assert installed == [missing.name]
    assert [problem.partition(":")[0] for problem in problems] == [broken.name]
    assert (target / "a_package_that_nobody_has.py").is_file()
    assert not (target / "pytest.py").exists()
    broken.unlink()
    assert install_missing(folder, target) == ([], [])


def test_wheel_with_a_data_folder(tmp_path: Path) -> None:
    """Libraries of the data folder go to the target, scripts do not."""
    wheel = make_wheel(tmp_path, "a_package_that_nobody_has")
    with zipfile.ZipFile(wheel, "a") as archive:
        for inner in ("platlib/part/inside.py", "scripts/run"):
            archive.writestr(f"a_package_that_nobody_has-1.0.data/{inner}", "")
    assert install_missing(tmp_path, tmp_path / "packages") == ([wheel.name], [])
    assert (tmp_path / "packages" / "part" / "inside.py").is_file()
    found = {path.name for path in (tmp_path / "packages").iterdir()}
    assert found == {
        "part",
        "a_package_that_nobody_has.py",
        "a_package_that_nobody_has-1.0.dist-info",
    }


def test_exception_folder_without_wheels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"wanted a folder of \.whl files, found none"):
        install_missing(tmp_path, tmp_path / "packages")


def test_report_gives_every_number() -> None:
    values = {
        "model": "lite",
        "ms": 50.0,
        "ms_slowest": 61.5,
        "ms_ahead": 31.5,
        "seen": 1.0,
        "busy_ms": 7.04,
        "num_kernels": 1594.0,
        "num_syncs": 12.0,
        "peak_mib": 512.0,
        "gflop": 500.0,
        "weights": "shipped",
        "dtype": "bfloat16",
    }
    several = {"together": "lite", "frames_per_second": 251.5, "ms": 3.98, "dtype": "bfloat16"}
    rows = [
        ResultRow("speed", "card", "failed", {"error": "no card"}),
        ResultRow("speed", "lite, toy", "started"),
        ResultRow("speed", "lite, toy", "ok", values),
        ResultRow("speed", "lite, toy, 8 videos", "ok", several),
        ResultRow("speed", "vmos, toy", "hung", {"error": "ended\nwith code 9"}),
    ]
    report = render_report(rows)
    times = "| lite, toy | 50 | 61.5 | 31.5 | 7.04 |"
    assert f"{times} 1,594 | 12 | 512 | 500 |  | 100% | shipped | bfloat16 |" in report
    assert "- vmos, toy: hung. ended\n" in report
    assert "| lite, toy, 8 videos | 252 | 3.98 | bfloat16 |" in report
