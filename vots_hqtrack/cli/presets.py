"""``hqtrack presets``: the presets and every option that ``--set`` can change."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.padding import Padding

from vots_hqtrack.cli.console import out, print_json, print_rows, show
from vots_hqtrack.cli.options import JsonOption
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.errors import ConfigError, did_you_mean
from vots_hqtrack.presets import PRESETS, load_preset


def presets(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Preset, of which all options are listed.")
    ] = None,
    part: Annotated[
        str, typer.Argument(metavar="SECTION[.OPTION]", help="Options to explain, such as memory.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """List the presets, or all options of one."""
    if name is None:
        found = {key: (inspect.getdoc(make) or "", make()) for key, make in PRESETS.items()}
        if as_json:
            print_json(
                {
                    key: {"description": text, "weights": config.weights_needed()}
                    for key, (text, config) in found.items()
                }
            )
            return
        print_rows((key, text) for key, (text, _) in found.items())
        show("\nhqtrack presets lite lists its options, hqtrack presets lite memory explains some,")
        show("and --set memory.gap=5 changes one.")
        return
    chosen = _choose(load_preset(name), part)
    described = describe_options()
    if as_json:
        print_json(
            {
                option: {"value": value, **dataclasses.asdict(described[option])}
                for option, value in chosen.items()
            }
        )
    elif part:
        for option, value in chosen.items():
            show(f"{option}={_show(value)}   ({described[option].type})")
            out.print(Padding(escape(described[option].meaning), (0, 0, 0, 4)))
    else:
        print_rows(
            (f"{option}={_show(value)}", described[option].type) for option, value in chosen.items()
        )
        show(f"\nhqtrack presets {name} memory explains the options of a section.")


def _choose(config: TrackerConfig, part: str) -> dict[str, object]:
    """Return the options of a section, or a single one; all if the part is empty."""
    options = config.options()
    if part in options or not part:
        return {part: options[part]} if part else options
    chosen = {key: value for key, value in options.items() if key.startswith(f"{part}.")}
    if not chosen:
        sections = list(dict.fromkeys(key.partition(".")[0] for key in options))
        meant = did_you_mean(part, [*sections, *options])
        raise ConfigError(
            f"no section or option {part!r}; wanted one of: {', '.join(sections)}{meant}"
        )
    return chosen


@dataclasses.dataclass(frozen=True, slots=True)
class OptionDescription:
    """Type and meaning of one option.

    Attributes:
        type: Its type or the values that it takes.
        meaning: Description from the docstring, one line.
    """

    type: str
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


def _show(value: object) -> str:
    """Write a value as ``--set`` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(_show(part) for part in value)
    return str(value)
