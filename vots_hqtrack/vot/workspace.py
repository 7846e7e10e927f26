"""Workspaces of the VOT toolkit: trackers, sequences and measures of an evaluation.

One evaluation has two of them over the same results, because the challenge's stack defines no
measures: the workspace itself (stack ``vots2023``, for ``evaluate`` and ``pack``) and its folder
``measures`` (for ``analysis`` and ``report``).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.io import atomic_path, hold_lock
from vots_hqtrack.vot.registry import check_identifier

CHALLENGE_STACK = "vots2023"
STACKS = (
    *(CHALLENGE_STACK, "vots2024/main", "vots2025/main", "vots2026/main"),
    *("vots2024/votst", "vots2025/votst"),
)
"""Official stacks of one experiment without measures, for which a workspace may be made."""

REALTIME_STACK = "vots2025/realtime"
"""Official stack with a second experiment, which needs a command of its own."""

EXPERIMENT = "baseline"

_ALL_FRAMES = {"burnin": 0, "ignore_unknown": False}

MEASURES_STACK: Mapping[str, object] = {
    "title": "VOTS measures",
    "experiments": {
        EXPERIMENT: {
            "type": "unsupervised",
            "repetitions": 1,
            "multiobject": True,
            # The first four are those of the toolkit's stack tests/multiobject, the others the
            # same measures sequence by sequence.
            "analyses": [
                {"type": "average_accuracy", "name": "Quality", "weighted": False, **_ALL_FRAMES},
                {"type": "average_success_plot", "name": "Quality plot", **_ALL_FRAMES},
                {"type": "longterm_ar", "name": "AR"},
                {"type": "average_quality_auxiliary", "name": "Auxiliary"},
                {"type": "accuracy", "name": "Quality by sequence", **_ALL_FRAMES},
                {
                    "type": "accuracy",
                    "name": "Accuracy by sequence",
                    "ignore_invisible": True,
                    "threshold": 0,
                    **_ALL_FRAMES,
                },
                {"type": "quality_auxiliary", "name": "Auxiliary by sequence"},
            ],
        }
    },
}


_BAD_LETTERS = (("%", "a percent sign"), ("[]*?", "[, ], * or ?"))


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace of the challenge's stack and its measures.

    Attributes:
        folder: The workspace, absolute.
        sequences: Folder of the sequences, absolute.
        registry: The file that lists the trackers, absolute.
    """

    folder: Path
    sequences: Path
    registry: Path

    @property
    def measures(self) -> Path:
        """The workspace with measures over the same results."""
        return self.folder / "measures"

    @property
    def results(self) -> Path:
        """Folder of the trackers' masks."""
        return self.folder / "results"

    @property
    def hidden(self) -> Path:
        """Folder of locks and of runs that are not finished."""
        return self.folder / ".hqtrack"

    def results_of(self, tracker: str) -> Path:
        """Folder of one tracker's masks.

        Raises:
            ConfigError: The identifier would name another folder, or the folder is a link.
        """
        path = self.results / check_identifier(tracker)
        for folder in (path, path / EXPERIMENT):
            if folder.is_symlink():
                raise ConfigError(f"{folder} is a link: results are kept in the workspace only")
        return path

    @contextlib.contextmanager
    def claim(
        self, tracker: str, *, on_wait: Callable[[str], object] | None = None
    ) -> Iterator[None]:
        """Be the only run that evaluates a tracker here, for the body.

        Args:
            tracker: The tracker's identifier.
            on_wait: Called with a message before this process waits; None refuses to wait.

        Raises:
            ConfigError: Another run evaluates it now.
        """
        busy = f"another run evaluates {tracker} in {self.folder} now"
        path = self.hidden / f"run-{check_identifier(tracker)}.lock"
        with hold_lock(path, busy=busy, on_wait=on_wait):
            yield

    @contextlib.contextmanager
    def hold(self, on_wait: Callable[[str], object]) -> Iterator[None]:
        """Be the only run that writes files which all trackers have in common, for the body."""
        busy = f"another run writes measures in {self.folder}: waiting for it"
        with hold_lock(self.hidden / "workspace.lock", busy=busy, on_wait=on_wait):
            yield


def make_workspace(
    folder: Path,
    sequences: Path,
    registry: Path,
    *,
    on_wait: Callable[[str], object] = lambda message: None,
) -> Workspace:
    """Make a workspace and its measures, or open the same one again.

    Args:
        folder: The workspace's folder; made where it is missing.
        sequences: Folder with ``list.txt`` and the sequences.
        registry: File that lists the trackers.
        on_wait: Called with a message before this process waits for another one.

    Raises:
        InputError: A path cannot be used by the toolkit.
        ConfigError: The folder is a workspace with another configuration, or cannot be written.
    """
    workspace = Workspace(folder.absolute(), sequences.absolute(), registry.absolute())
    for path in (workspace.folder, workspace.sequences, workspace.registry):
        check_toolkit_path(path)
    if not (workspace.sequences / "list.txt").is_file():
        raise InputError(f"{sequences} holds no VOTS sequences: wanted a file list.txt")
    with workspace.hold(on_wait):
        try:
            for path in (workspace.results, workspace.measures):
                path.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make the folder {path}: {error.strerror}") from error
        write_config(workspace, workspace.folder, STACKS)
        _write_stack(workspace.measures / "stack.yaml")
        write_config(workspace, workspace.measures, ("stack.yaml",))
        _link_results(workspace.measures / "results")
    return workspace


def open_workspace(folder: Path) -> Workspace:
    """Open a workspace for reading, by its ``config.yaml``.

    Raises:
        ConfigError: The file cannot be read, or names no folder of sequences.
    """
    path = folder.absolute() / "config.yaml"
    found = _parse_config(_read(path), path)
    sequences = found.get("sequences", "sequences")
    if not found or not isinstance(sequences, str):
        raise ConfigError(f"{path} must name the folder of the sequences, got {sequences!r}")
    return Workspace(path.parent, path.parent / sequences, path.parent / "trackers.ini")


def make_challenge_workspace(folder: Path, stack: str, sequences: Path | None = None) -> Workspace:
    """Make the workspace of an official challenge, into which the toolkit downloads its sequences.

    Args:
        folder: The workspace's folder; made where it is missing.
        stack: One of ``STACKS``, or ``REALTIME_STACK``.
        sequences: Folder with sequences that are here already; the toolkit's own place if None.

    Raises:
        InputError: A path cannot be used by the toolkit.
        ConfigError: The stack is another one, or the folder is a workspace with another
            configuration.
    """
    stacks = (*STACKS, REALTIME_STACK)
    if stack not in stacks:
        raise ConfigError(f"the stack must be one of {', '.join(stacks)}, got {stack}")
    folder = folder.absolute()
    data = folder / "sequences" if sequences is None else sequences.absolute()
    workspace = Workspace(folder, data, folder / "trackers.ini")
    for path in (folder, data):
        check_toolkit_path(path)
    try:
        workspace.results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error.strerror}") from error
    write_config(workspace, folder, (stack,))
    return workspace


def read_stack(workspace: Workspace) -> str:
    """Official stack of a workspace, which the manifest of its submissions names.

    Raises:
        ConfigError: Its ``config.yaml`` cannot be read, or has another stack.
    """
    path = workspace.folder / "config.yaml"
    stack = _parse_config(_read(path), path).get("stack", CHALLENGE_STACK)
    if stack not in STACKS:
        raise ConfigError(f"{path} must have a stack of {', '.join(STACKS)}, got {stack}")
    return str(stack)


def check_toolkit_path(path: Path) -> None:
    """Refuse a path that breaks the toolkit's protocol or its configuration files.

    Raises:
        InputError: It holds a percent sign, a character of file name patterns, or one that is not
            printable ASCII.
    """
    text = str(path)
    found = next((what for letters, what in _BAD_LETTERS if set(letters) & set(text)), None)
    if found is None and not (text.isascii() and text.isprintable()):
        found = "control characters" if text.isascii() else "characters that are not ASCII"
    if found is not None:
        hint = "move the folder, or choose another one"
        shown = text if text.isprintable() else repr(text)
        raise InputError(f"the VOT toolkit cannot work with {found} in a path: {shown}; {hint}")


def write_config(workspace: Workspace, folder: Path, stacks: tuple[str, ...]) -> None:
    """Write a workspace's ``config.yaml``, or add to it what is missing there.

    Args:
        workspace: Its sequences and registry are written.
        folder: Folder of the file: the workspace, or another one with the same sequences.
        stacks: Stacks that the file may name; the first one is written.

    Raises:
        ConfigError: The file says something else, or cannot be read.
    """
    path = folder / "config.yaml"
    text = _read(path)
    found = _parse_config(text, path)
    wanted = {
        "stack": stacks[0],
        "registry": [str(workspace.registry)],
        "sequences": str(workspace.sequences),
    }
    fits = {
        "stack": lambda value: value in stacks,
        "registry": lambda value: (
            isinstance(value, list) and _is_path(value[:1], folder, workspace.registry)
        ),
        "sequences": lambda value: _is_path([value], folder, workspace.sequences),
    }
    if found and "sequences" not in found:
        found["sequences"] = "sequences"  # the toolkit's default
    for key in wanted:
        if key in found and not fits[key](found[key]):
            raise ConfigError(
                f"{folder} is a VOT workspace with another configuration ({path.name} has {key}: "
                f"{found[key]}): choose another folder, or change it there to {wanted[key]}"
            )
    missing = {key: value for key, value in wanted.items() if key not in found}
    if not missing:
        return
    if found or text.strip():
        lines = "".join(f"{key}: {json.dumps(value)}\n" for key, value in missing.items())
        new = text + ("" if text.endswith("\n") else "\n") + lines
    else:
        new = json.dumps(wanted, indent=2) + "\n"  # YAML too, and its quoting has no surprises
    if not missing.items() <= _parse_config(new, path).items():
        raise ConfigError(f"cannot add {', '.join(missing)} to {path}: write it by hand")
    with atomic_path(path.resolve()) as temporary:
        temporary.write_text(new, encoding="utf-8")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _parse_config(text: str, path: Path) -> dict[str, object]:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is not a configuration: {reason}; remove it") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is not a configuration: wanted keys and values; remove it")
    return found


def _is_path(values: list[object], folder: Path, wanted: Path) -> bool:
    paths = [folder / value for value in values if isinstance(value, str)]
    return bool(paths) and os.path.realpath(paths[0]) == os.path.realpath(wanted)


def _write_stack(path: Path) -> None:
    content = json.dumps(MEASURES_STACK, indent=2)
    before = _read(path)
    if before.strip() and json.dumps(MEASURES_STACK["title"]) not in before:
        raise ConfigError(f"{path} was not written by this program: choose another workspace")
    if before != content:
        with atomic_path(path) as temporary:
            temporary.write_text(content, encoding="utf-8")


def _link_results(link: Path) -> None:
    target = Path("..") / "results"
    if not link.is_symlink() and not link.exists():
        link.symlink_to(target, target_is_directory=True)
    if not link.is_symlink() or link.readlink() != target:
        raise ConfigError(f"{link} must be a link to {target}: choose another workspace")
