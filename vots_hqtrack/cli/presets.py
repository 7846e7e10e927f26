"""``hqtrack presets``: the presets and every option that ``--set`` can change."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

from vots_hqtrack.cli.console import out
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.presets import PRESETS


def presets() -> None:
    """List the presets, or all options of one."""
    configs = {name: make() for name, make in PRESETS.items()}
    table = Table("preset", "what it is", "weights", title="presets", title_justify="left")
    for name, make in PRESETS.items():
        table.add_row(name, inspect.getdoc(make) or "", configs[name].weights)
    out.print(table)
    table = Table("option: type", "default", "meaning", title="options", title_justify="left")
    for option, description in describe_options().items():
        name = escape(f"{option}: {description.kind}")
        table.add_row(name, escape(_defaults(option, configs)), escape(description.meaning))
    out.print(table)


@dataclasses.dataclass(frozen=True, slots=True)
class OptionDescription:
    """Type and meaning of one option.

    Attributes:
        kind: Its type or the values that it takes.
        meaning: Description from the docstring, one line.
    """

    kind: str
    meaning: str


def describe_options() -> dict[str, OptionDescription]:
    """Describe every option, by ``section.option``, from the configuration's own docstrings."""
    described: dict[str, OptionDescription] = {}
    for section, section_type in typing.get_type_hints(TrackerConfig).items():
        if not (isinstance(section_type, type) and dataclasses.is_dataclass(section_type)):
            continue
        meanings = read_attributes(section_type)
        hints = typing.get_type_hints(section_type)
        for field in dataclasses.fields(section_type):
            described[f"{section}.{field.name}"] = OptionDescription(
                _kind(hints[field.name]), meanings.get(field.name, "")
            )
    return described


def read_attributes(documented: type) -> dict[str, str]:
    """Read the ``Attributes:`` section of a class's Google-style docstring.

    Args:
        documented: The class.

    Returns:
        The descriptions by attribute, each in one line; empty without such a section.

    Example:
        >>> from vots_hqtrack.config import MemoryConfig
        >>> read_attributes(MemoryConfig)["capacity"]
        'Maximum number of long-term frames, the reference frame included.'
    """
    lines = (inspect.getdoc(documented) or "").splitlines()
    if "Attributes:" not in lines:
        return {}
    found: dict[str, str] = {}
    name = ""
    for line in lines[lines.index("Attributes:") + 1 :]:
        indent = len(line) - len(line.lstrip())
        if line and indent == 0:
            break
        if indent == 4:
            name, _, line = line.partition(":")
            name = name.strip()
        found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return {name: text.replace("``", "") for name, text in found.items()}


def _kind(hint: Any) -> str:  # noqa: ANN401 - any type annotation
    if typing.get_origin(hint) is Literal:
        return " | ".join(str(choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return ",".join(_kind(part) for part in typing.get_args(hint))
    return {int: "int", float: "float", bool: "true | false", str: "text"}[hint]


def _defaults(option: str, configs: Mapping[str, TrackerConfig]) -> str:
    """Return an option's default; of each preset where they differ."""
    values = {name: _show(config.options()[option]) for name, config in configs.items()}
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return "\n".join(f"{name}: {value}" for name, value in values.items())


def _show(value: object) -> str:
    """Write a value as ``--set`` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(_show(part) for part in value)
    return str(value)
