"""Runs a command as a subprocess that cannot outlive its time, nor leave children behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GRACE = 5.0
"""Seconds from the request to end until force is used."""

_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended.

    Attributes:
        kind: ``exited`` by itself, ``late`` when its time was over, or ``stuck`` because the watch
            saw no progress.
        code: Exit code; negative for a signal.
        seconds: Time that it took.
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
    is_stuck: Callable[[], bool] | None = None,
    grace: float = GRACE,
) -> Ending:
    """Run a command, and end it with all its children when its time is over.

    Args:
        command: Program and arguments.
        seconds: Time that it may take.
        log_path: File that its output is appended to.
        folder: Where it runs.
        environment: All of its environment variables.
        is_stuck: Asked ten times a second; True ends the command.
        grace: Seconds between the request to end (SIGTERM) and force (SIGKILL).

    Returns:
        How it ended.

    Raises:
        OSError: It could not be started.
    """
    started = time.monotonic()
    kind: Literal["exited", "late", "stuck"] = "exited"
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
            while process.poll() is None:
                if time.monotonic() - started >= seconds:
                    kind = "late"
                    break
                if is_stuck is not None and is_stuck():
                    kind = "stuck"
                    break
                time.sleep(_POLL)
        finally:
            _end(process, grace)
    return Ending(kind, process.returncode, time.monotonic() - started)


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """End a process and all that it started; those that it left behind too."""
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            pass
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # nobody is left in it
        return
