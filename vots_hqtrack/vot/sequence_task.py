"""One tracker on one sequence, run by a worker: the part of `vots_hqtrack.vot.cluster` without Ray.

A worker makes a private workspace of the one sequence and evaluates in it as any run does, by
`vots_hqtrack.vot.run`. It returns the whole result files, or the reason why there are none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import vots_hqtrack
from vots_hqtrack.errors import ConfigError, HQTrackError, InputError
from vots_hqtrack.io import hold_lock
from vots_hqtrack.vot.registry import localise_registry, package_parent
from vots_hqtrack.vot.run import evaluate
from vots_hqtrack.vot.sequences import SequenceCheck, write_sequence_list
from vots_hqtrack.vot.workspace import EXPERIMENT, make_workspace

CHUNK_BYTES = 64 * 2**20
"""Size from which on the files of a sequence travel in several parts."""

LOG_BYTES = 2**20

Chunk = Mapping[str, bytes]
"""Content of some files of a sequence, by their path in its folder."""

_SCRATCH = "hqtrack-run-"
_REMOVE_TRIES = 30


@dataclass(frozen=True, slots=True)
class SequenceTask:
    """Everything that a worker must know of its task.

    Attributes:
        tracker: The tracker's identifier.
        sequence: The sequence where the driver sees it.
        registry: Path of the registry where the driver sees it.
        registry_text: The registry.
        fingerprint: Digest of the sequence's files, see :func:`fingerprint_of`.
        python: The driver's interpreter.
        package_root: Folder in which the driver has the package.
        version: The driver's version of the package.
        environment: The driver's variables of this package.
    """

    tracker: str
    sequence: SequenceCheck
    registry: Path
    registry_text: str
    fingerprint: str = ""
    python: str = sys.executable
    package_root: str = field(default_factory=lambda: str(package_parent()))
    version: str = vots_hqtrack.__version__
    environment: Mapping[str, str] = field(default_factory=lambda: _own_environment())

    @property
    def cost(self) -> int:
        """Frames times objects, to which the time of a run is about proportional."""
        return self.sequence.num_frames * len(self.sequence.objects)

    @property
    def name(self) -> str:
        """Tracker and sequence, for messages."""
        return f"{self.tracker} on {self.sequence.name}"


@dataclass(frozen=True, slots=True)
class TaskResult:
    """Answer of a worker.

    Attributes:
        host: Name of the worker's machine.
        seconds: Time that the task took.
        files: Content of the whole result files by name; empty after a failure.
        failure: Reason of a failure, its first line a sentence; empty without one.
        log: Output of toolkit and tracker, after a failure.
        is_lacking: The machine does not see the sequence: send its files.
    """

    host: str
    seconds: float
    files: Mapping[str, bytes] = field(default_factory=dict)
    failure: str = ""
    log: bytes = b""
    is_lacking: bool = False


def run_task(task: SequenceTask, chunks: Iterable[Chunk] | None = None) -> TaskResult:
    """Run the official toolkit on a task's sequence in a private workspace.

    Args:
        task: The task.
        chunks: Files of the sequence, used where this machine does not see the same ones.

    Returns:
        The result files, the reason of a failure, or that the sequence is not here.
    """
    started, host = time.perf_counter(), platform.node()

    def seconds() -> float:
        return time.perf_counter() - started

    os.environ.update(task.environment)
    with scratch_folder() as scratch:
        logs = scratch / "space" / "logs"
        try:
            if task.version != vots_hqtrack.__version__:
                theirs = f"wanted vots-hqtrack {task.version}, as the driver has"
                raise ConfigError(f"{theirs}; {host} has {vots_hqtrack.__version__}")
            folder = task.sequence.folder
            if fingerprint_of(folder) != task.fingerprint:
                if chunks is None:
                    return TaskResult(host, seconds(), is_lacking=True)
                folder = scratch / "sequences" / folder.name
                unpack(chunks, folder)
            files = _evaluate_alone(task, folder, scratch)
        except (HQTrackError, OSError) as error:
            return TaskResult(host, seconds(), failure=str(error), log=_read_logs(logs))
        return TaskResult(host, seconds(), files)


def sequence_files(folder: Path) -> dict[str, Path]:
    """Find all files of a sequence's folder, through links too, by their path in it."""
    found: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder, followlinks=True):
        above = {
            os.path.realpath(folder / path) for path in Path(parent).relative_to(folder).parents
        }
        if os.path.realpath(parent) in above:
            folders.clear()  # a link to a folder above would have no end
            continue
        paths = [Path(parent, name) for name in names]
        found |= {str(path.relative_to(folder)): path for path in paths if path.is_file()}
    return dict(sorted(found.items()))


def fingerprint_of(folder: Path) -> str:
    """Digest of the names and sizes of a sequence's files, and of its description and truth.

    Raises:
        InputError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for name, path in sequence_files(folder).items():
        try:
            digest.update(f"{name}\0{path.stat().st_size}\0".encode("utf-8", "surrogateescape"))
            if path.parent == folder and (path.suffix == ".txt" or name == "sequence"):
                digest.update(path.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


def pack_sequence(folder: Path, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[dict[str, bytes]]:
    """Yield the files of a sequence's folder in parts of about ``chunk_bytes``.

    Raises:
        InputError: A file cannot be read.
    """
    chunk: dict[str, bytes] = {}
    size = 0
    for name, path in sequence_files(folder).items():
        try:
            chunk[name] = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        size += len(chunk[name])
        if size >= chunk_bytes:
            yield chunk
            chunk, size = {}, 0
    if chunk:
        yield chunk


def unpack(chunks: Iterable[Chunk], folder: Path) -> None:
    """Write the files that :func:`pack_sequence` gave below a new folder."""
    folder.mkdir(parents=True)
    for chunk in chunks:
        for name, content in chunk.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _evaluate_alone(task: SequenceTask, folder: Path, scratch: Path) -> dict[str, bytes]:
    """Evaluate on one sequence in a workspace of its own, and return the result files."""
    text = localise_registry(task.registry_text, task.python, task.package_root)
    registry = task.registry
    # Where the file itself is here, what it says of paths beside it holds too.
    if not _holds(registry, text):
        registry = scratch / "trackers.ini"
        registry.write_bytes(text.encode("utf-8"))
    listed, space = scratch / "listed", scratch / "space"
    for path in (listed, space):
        path.mkdir()
    write_sequence_list(listed, [str(folder)])
    workspace = make_workspace(space, listed, registry)
    evaluate(workspace, task.tracker, on_word=lambda sentence: None)
    results = workspace.results_of(task.tracker) / EXPERIMENT / folder.name
    return {path.name: path.read_bytes() for path in sorted(results.iterdir())}


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode("utf-8")
    except OSError:
        return False


def _own_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key.startswith("VOTS_HQTRACK_")}


def _read_logs(folder: Path) -> bytes:
    """Join the last part of every log."""
    paths = sorted(folder.glob("*")) if folder.is_dir() else []
    parts = [path.read_bytes()[-LOG_BYTES:] for path in paths if path.is_file()]
    return b"\n".join(parts)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a temporary folder, and remove it at the end; those of killed processes too.

    Its path is short, as Ray's sockets need it.
    """
    root = Path(tempfile.gettempdir()).resolve()
    for lock_path in root.glob(f"{_SCRATCH}*.lock"):
        # A process holds the lock of its folder as long as it lives.
        with contextlib.suppress(ConfigError), hold_lock(lock_path, busy="in use", remove=True):
            shutil.rmtree(lock_path.with_suffix(""), ignore_errors=True)
    folder = root / f"{_SCRATCH}{secrets.token_hex(4)}"
    with hold_lock(folder.with_suffix(".lock"), busy="in use", remove=True):
        try:
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            for _ in range(_REMOVE_TRIES):  # processes that are just being ended may still write
                shutil.rmtree(folder, ignore_errors=True)
                if not folder.exists():
                    break
                time.sleep(0.1)
