"""The verbs of ``hqtrack``, each imported when it is used: ``hqtrack --help`` imports none."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup


class Verb(NamedTuple):
    """A command, or a group of commands, of ``hqtrack``.

    Attributes:
        help: Summary in the list of the verbs: the first sentences of the verb's own help.
        home: Module in this folder and the name in it: a function, or a ``typer.Typer``.
        more: Other modules in this folder that add commands to the group.
    """

    help: str
    home: str
    more: tuple[str, ...] = ()


VERBS: Mapping[str, Verb] = {
    "track": Verb("Track objects through videos.", "track:track"),
    "ui": Verb(
        "Open a web page to give objects by click, box or brush, to track and to correct them.",
        "ui:ui",
    ),
    "export": Verb("Write masks in the format of another tool.", "export:export"),
    "demo": Verb("Render three short videos, track them, and measure the result.", "demo:demo"),
    "vot": Verb(
        "Work with the VOT toolkit and its sequences.",
        "vot:vot_app",
        ("vot_report", "vot_workspace"),
    ),
    "presets": Verb("List the presets, or all options of one.", "presets:presets"),
    "weights": Verb(
        "List, fetch, import and check weights. Nothing is downloaded without `fetch`.",
        "weights:weights_app",
    ),
    "doctor": Verb(
        "Show versions, devices, weights and presets; exit with 3 if weights are damaged or lost.",
        "doctor:doctor",
    ),
    "train": Verb("Train, or work with training data.", "train:train_app"),
    "calibrate": Verb(
        "Fit the scores, so that 0.8 means that 8 of 10 such masks are good.",
        "calibrate:calibrate_app",
    ),
    "bench": Verb("Measure every stage of a frame, or compare two measurements.", "bench:bench"),
    "gpu": Verb("Prove, measure and train on a GPU, from a checkout, offline.", "gpu:gpu_app"),
}
"""The verbs in the order of the help."""


class LoadedVerbs(Mapping[str, Any]):
    """Typer's commands by verb, each made at its first use."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - Click's class, inside Typer
        """Import a verb and make its command."""
        if name not in self._made:
            self._made[name] = _make(name, VERBS[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the verbs."""
        return iter(VERBS)

    def __len__(self) -> int:
        """Return the number of verbs."""
        return len(VERBS)


class VerbGroup(TyperGroup):
    """Group of the verbs; its help lists them without importing them."""

    def __init__(self, **attrs: Any) -> None:  # noqa: ANN401 - whatever Typer passes
        super().__init__(**attrs)
        self.commands: Any = LoadedVerbs()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - Click's class
        """Return the verbs in the order of the help."""
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - Click's classes
        """Show the options, and a line for each verb."""
        listed = copy.copy(self)
        listed.commands = {name: TyperCommand(name, help=verb.help) for name, verb in VERBS.items()}
        super(VerbGroup, listed).format_help(ctx, formatter)


def _make(name: str, verb: Verb) -> Any:  # noqa: ANN401 - Click's class, inside Typer
    module, _, attribute = verb.home.partition(":")
    found = getattr(importlib.import_module(f"vots_hqtrack.cli.{module}"), attribute)
    for other in verb.more:
        importlib.import_module(f"vots_hqtrack.cli.{other}")
    holder = typer.Typer(add_completion=False)
    holder.callback()(lambda: None)  # so that Typer makes a group, of however few commands
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
    group: Any = typer.main.get_command(holder)
    return group.commands[name]
