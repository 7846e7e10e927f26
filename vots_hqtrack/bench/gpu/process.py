"""Subprocesses with a time limit, and packages for them from a folder of wheels."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vots_hqtrack.errors import InputError

GRACE = 5.0
"""Seconds from SIGTERM to SIGKILL."""

_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Ending:
    """End of a command.

    Attributes:
        kind: ``exited`` by itself, ``late`` at its time limit, or ``stuck`` without progress.
        code: Exit code; negative for a signal.
        seconds: Run time.
    """

    kind: Literal["exited", "late", "stuck"]
    code: int
    seconds: float


def run_limited(
    command: Sequence[str],
    *,
    seconds: float,
    log_path: Path,
    folder: Path,
    environment: Mapping[str, str],
    grace: float = GRACE,
    progress_path: Path | None = None,
    max_idle: float = math.inf,
) -> Ending:
    """Run a command; end it with all its children at its time limit or when it hangs.

    Args:
        command: Program and arguments.
        seconds: Time limit.
        log_path: File to which its output is appended.
        folder: Working directory.
        environment: All of its environment variables.
        grace: Seconds from SIGTERM to SIGKILL.
        progress_path: File that grows as long as the command makes progress, or None.
        max_idle: Seconds without growth of that file after which the command counts as stuck.

    Raises:
        OSError: The command could not be started.
    """
    started = grown = time.monotonic()
    kind: Literal["exited", "late", "stuck"] = "exited"
    size = -1
    with log_path.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            while process.poll() is None and kind == "exited":
                time.sleep(_POLL)
                now = time.monotonic()
                if progress_path is not None and progress_path.exists():
                    before, size = size, progress_path.stat().st_size
                    grown = now if size != before else grown
                if now - started >= seconds:
                    kind = "late"
                elif now - grown > max_idle:
                    kind = "stuck"
        finally:
            _end(process, grace)
    return Ending(kind, process.returncode, time.monotonic() - started)


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """End a process and its children, also those that it left behind."""
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in it
        os.killpg(group, number)


def install_missing(wheels: Path, target: Path) -> tuple[list[str], list[str]]:
    """Unpack the wheels of packages that are not installed, without their dependencies.

    A wheel that cannot be unpacked does not stop the others. Scripts of a wheel are left out.

    Args:
        wheels: Folder of ``.whl`` files.
        target: Destination folder; it must be put on ``PYTHONPATH``.

    Returns:
        Names of the unpacked files, and a line for each that failed.

    Raises:
        InputError: The folder is missing or has no wheel.
    """
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise InputError(f"wanted a folder of .whl files, found none in {wheels}")
    installed, problems = [], []
    for path in found:
        if _is_installed(path, target):
            continue
        try:
            _unpack(path, target)
            installed.append(path.name)
        except (OSError, zipfile.BadZipFile) as error:
            problems.append(f"{path.name}: {error}")
    return installed, problems


def _is_installed(wheel: Path, target: Path) -> bool:
    name, version = wheel.name.split("-")[:2]
    if (target / f"{name}-{version}.dist-info").is_dir():
        return True
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _unpack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            top, _, rest = entry.filename.partition("/")
            if top.endswith(".data"):
                kind, _, entry.filename = rest.partition("/")
                if kind not in ("purelib", "platlib") or not entry.filename:
                    continue
            archive.extract(entry, target)
