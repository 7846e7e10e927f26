"""The toolkit's ``vot`` command as a subprocess, judged by what it leaves behind.

Its exit code is 0 for a tracker that crashed, for an analysis that failed and for a submission that
was not packed. So callers look for the files they want; `failure_text` has the reason for a missing
one. The toolkit is never imported: it is GPL-3, and it lives in a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.extras import install_command
from vots_hqtrack.vot.workspace import Workspace

POLL_S = 0.5
TAIL_LINES = 15

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TRACKER_ERROR = re.compile(r"^Tracker \S+ encountered an error at sequence (.+?): (.*)$", re.M)
_TRACKER_LOG = re.compile(r"^Tracker output written to file: (.+)$", re.M)
# The toolkit, and with it its tracker, must not outlive the process that reads its results. Linux
# ends it with us; the check covers a parent that died before.
_DIE_WITH_PARENT = """
import ctypes, os, signal
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == {parent}:
    os.execv({program!r}, {command!r})
"""
_NO_CONNECTION = "Unable to connect to tracker"
_PROTOCOL_MARK = "@@TRAX:"


def find_toolkit() -> Path:
    """Return the ``vot`` command of the running interpreter's environment.

    Raises:
        ConfigError: It is not installed.
    """
    # The interpreter's own folder comes first: in a virtual environment it is the right one.
    folders = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
    for path in (folder / name for folder in folders for name in ("vot", "vot.exe")):
        if path.is_file():
            return path
    raise ConfigError(
        f"the VOT toolkit is not installed: wanted the command vot in {folders[0]}; "
        f"install it with: {install_command('toolkit')}"
    )


def run_toolkit(
    arguments: Sequence[str],
    workspace: Workspace,
    *,
    tracker: str = "",
    on_poll: Callable[[], object] | None = None,
    program: str | None = None,
) -> str:
    """Run one command of the toolkit to its end.

    Args:
        arguments: Command line after ``vot``.
        workspace: Workspace in which the command runs, with its registry.
        tracker: The one tracker that it is about, for the name of the log.
        on_poll: Called about twice a second while the command runs.
        program: Python program that starts the toolkit's command line, in place of ``vot``.

    Returns:
        Its output on both streams, without colours.

    Raises:
        ConfigError: The toolkit is not installed.
    """
    command = [str(find_toolkit()), *arguments]
    if program is not None:
        command = [sys.executable, "-c", program, *arguments]
    if sys.platform == "linux":
        start = _DIE_WITH_PARENT.format(parent=os.getpid(), program=command[0], command=command)
        command = [sys.executable, "-ISc", start]
    # The user's own settings of the toolkit must not change what we measure; its cache of analyses
    # goes by names, and would bring back the numbers of earlier weights.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VOT_")}
    environment |= {"VOT_PERSISTENT_CACHE": "0", "VOT_REGISTRY": str(workspace.registry)}
    log_folder = workspace.folder / "logs"
    log_folder.mkdir(exist_ok=True)
    log_path = log_folder / "-".join(["vot", arguments[0], *([tracker] if tracker else [])])
    log_path = log_path.with_suffix(".log")
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
            command,
            cwd=workspace.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
                    break
                if on_poll is not None:
                    on_poll()
        finally:
            _stop(process)
    return _COLOUR.sub("", log_path.read_text(encoding="utf-8", errors="replace"))


def failure_text(output: str, tracker: str, workspace: Workspace) -> str:
    """Find the reason why a command of the toolkit left no result.

    Args:
        output: Output of the command.
        tracker: The tracker that it ran.
        workspace: Its workspace. A tracker that did not even start is started once more there, by
            the one command of the toolkit that shows why.

    Returns:
        The reason, and below it the last lines of the tracker's or toolkit's output.
    """
    if _NO_CONNECTION in output:
        test_output = run_toolkit(["test", tracker], workspace)
        return f"the tracker {tracker} did not start\n{_tail(test_output)}"
    found = _TRACKER_ERROR.search(output)
    if found is None:
        return f"the toolkit gave no reason; its last lines:\n{_tail(output)}"
    sequence, reason = found.groups()
    text = f"the tracker {tracker} failed on the sequence {sequence}: {reason}"
    log = _TRACKER_LOG.search(output)
    if log is None or not Path(log[1]).is_file():
        return text
    path = Path(log[1]).resolve()  # a run's hidden workspace, which has a link, goes away
    lines = path.read_text(encoding="utf-8", errors="replace")
    return f"{text}\nlog: {path}\n{_tail(lines)}"


def _tail(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(_PROTOCOL_MARK)]
    return "\n".join(f"  {line}" for line in kept[-TAIL_LINES:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    # On Ctrl-C the toolkit has got the signal too, and ends its tracker by itself.
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
