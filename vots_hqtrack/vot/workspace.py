"""Workspaces of the VOT toolkit: trackers, sequences and measures of an evaluation.

One evaluation has two of them over the same results, because the challenge's stack defines no
measures: the workspace itself (stack ``vots2023``, for ``evaluate`` and ``pack``) and its folder
``measures`` (for ``analysis`` and ``report``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vots_hqtrack.errors import ConfigError, InputError

CHALLENGE_STACK = "vots2023"
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


def make_workspace(folder: Path, sequences: Path, registry: Path) -> Workspace:
    """Make a workspace and its measures, or open the same one again.

    Args:
        folder: The workspace's folder; made where it is missing.
        sequences: Folder with ``list.txt`` and the sequences.
        registry: File that lists the trackers.

    Raises:
        InputError: A path cannot be used by the toolkit.
        ConfigError: The folder is a workspace with another configuration.
    """
    workspace = Workspace(folder.absolute(), sequences.absolute(), registry.absolute())
    for path in (workspace.folder, workspace.sequences, workspace.registry):
        check_toolkit_path(path)
    if not (workspace.sequences / "list.txt").is_file():
        raise InputError(f"{sequences} holds no VOTS sequences: wanted a file list.txt")
    for path in (workspace.folder, workspace.results, workspace.measures):
        path.mkdir(parents=True, exist_ok=True)
    common = {"registry": [str(workspace.registry)], "sequences": str(workspace.sequences)}
    _write_config(workspace.folder, {"stack": CHALLENGE_STACK, **common})
    _write_config(workspace.measures, {"stack": "stack.yaml", **common})
    # JSON is YAML too, and its quoting has no surprises.
    stack = json.dumps(MEASURES_STACK, indent=2)
    (workspace.measures / "stack.yaml").write_text(stack, encoding="utf-8")
    link = workspace.measures / "results"
    if not link.is_symlink():
        link.symlink_to(Path("..") / "results", target_is_directory=True)
    return workspace


def check_toolkit_path(path: Path) -> None:
    """Refuse a path that breaks the toolkit's protocol or its configuration files.

    Raises:
        InputError: It holds a percent sign, or a character that is not ASCII.
    """
    text = str(path)
    if not text.isascii() or "%" in text:
        what = "a percent sign" if text.isascii() else "characters that are not ASCII"
        hint = "move the folder, or choose another one"
        raise InputError(f"the VOT toolkit cannot work with {what} in a path: {text}; {hint}")


def _write_config(folder: Path, config: Mapping[str, object]) -> None:
    path = folder / "config.yaml"
    content = json.dumps(config, indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != content:
        raise ConfigError(
            f"{folder} is a VOT workspace with another configuration ({path.name} differs): "
            "choose another folder, or remove it first"
        )
    path.write_text(content, encoding="utf-8")
