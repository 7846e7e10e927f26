"""Recipes from TOML files and ``section.option=value`` texts, and back."""

from __future__ import annotations

import copy
import dataclasses
import importlib.resources
import json
import sys
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.settings import parse_value
from vots_hqtrack.training.recipe import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KIND = "vmos"
"""What ``kind`` a recipe of VMOS names, at the top of its file."""

_LISTS = ("data", "phases", "sources")
"""Sections that a file writes as ``[[section]]``, any number of times."""

Tables = dict[str, Any]
"""What a TOML file holds, before it is checked."""


def shipped_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package."""
    folder = importlib.resources.files("vots_hqtrack.training") / "configs"
    names = [entry.name for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return tuple(sorted(name.removesuffix(".toml") for name in names))


def read_tables(name: str) -> Tables:
    """Read a recipe's file.

    Args:
        name: Path of a TOML file, or the name of a shipped recipe.

    Raises:
        ConfigError: There is no such file or name, or the file is no TOML.
    """
    path = Path(name)
    try:
        if path.suffix == ".toml" or path.is_file():
            text = path.read_text(encoding="utf-8")
        elif name in shipped_recipes():
            folder = importlib.resources.files("vots_hqtrack.training") / "configs"
            text = (folder / f"{name}.toml").read_text(encoding="utf-8")
        else:
            shipped = ", ".join(shipped_recipes())
            raise ConfigError(f"unknown recipe {name!r}; wanted a TOML file or one of: {shipped}")
        return tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the recipe {name}: {error}") from error


def kind_of(tables: Tables) -> str:
    """Return what a recipe trains: its ``kind``, or VMOS where it names none."""
    return str(tables.get("kind", KIND))


def apply_to_tables(tables: Tables, settings: Iterable[str]) -> Tables:
    """Return the tables with settings applied in order; whether they fit is checked later.

    Args:
        tables: From :func:`read_tables`.
        settings: ``section.option=value``; of a list of tables, ``data.option=value`` changes all
            and ``data.0.option=value`` the first.

    Raises:
        ConfigError: A setting is malformed, or there is no table of that number.

    Example:
        >>> tables = {"phases": [{"batch_size": 4}, {"batch_size": 2}]}
        >>> apply_to_tables(tables, ["phases.1.batch_size=8"])["phases"][1]
        {'batch_size': '8'}
    """
    changed = copy.deepcopy(tables)
    for setting in settings:
        name, separator, text = setting.partition("=")
        section, *path = name.strip().split(".")
        if not separator or not path:
            raise ConfigError(f"a setting reads section.option=value, got {setting!r}")
        for table, option in _targets(changed, section, path, setting):
            table[option] = text.strip()
    return changed


def build_recipe(tables: Mapping[str, Any]) -> Recipe:
    """Turn tables into a recipe.

    Raises:
        ConfigError: A section or option is unknown, or a value does not fit.
    """
    return Recipe(**build_sections(Recipe, tables))


def build_sections(recipe: type[Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    """Turn tables into the sections of a class of recipes.

    Args:
        recipe: A dataclass whose fields are dataclasses, or tuples of one dataclass.
        tables: From :func:`read_tables`; ``kind`` is passed over.

    Raises:
        ConfigError: A section or option is unknown, or a value does not fit.
    """
    sections = {item.name: item for item in dataclasses.fields(recipe)}
    hints = typing.get_type_hints(recipe)
    built: dict[str, Any] = {}
    for name, content in tables.items():
        if name == "kind":
            continue
        if name not in sections:
            known = ", ".join(sorted(sections))
            raise ConfigError(f"unknown section {name!r}; wanted one of: {known}")
        wanted = hints[name]
        if typing.get_origin(wanted) is tuple:
            built[name] = _build_list(typing.get_args(wanted)[0], name, content)
        else:
            built[name] = _build_section(wanted, name, content)
    return built


def load_recipe(name: str, settings: Iterable[str] = ()) -> Recipe:
    """Read a recipe by path or name, with settings on top.

    Raises:
        ConfigError: It cannot be read, or an option or value is not known.
    """
    tables = apply_to_tables(read_tables(name), settings)
    kind = kind_of(tables)
    if kind != KIND:
        raise ConfigError(f"wanted a recipe of kind {KIND!r}, got {kind!r} in {name}")
    return build_recipe(tables)


def recipe_to_toml(recipe: Recipe) -> str:
    """Write a recipe with every option, as :func:`read_tables` reads it."""
    lines = [f"kind = {json.dumps(KIND)}", ""]
    for section in dataclasses.fields(recipe):
        content = getattr(recipe, section.name)
        if isinstance(content, tuple):
            for table in content:
                lines += [f"[[{section.name}]]", *_option_lines(table), ""]
        else:
            lines += [f"[{section.name}]", *_option_lines(content), ""]
    return "\n".join(lines)


def flat_options(recipe: Recipe) -> dict[str, object]:
    """Return every option by its full name, such as ``data.0.root``."""
    found: dict[str, object] = {}
    for section in dataclasses.fields(recipe):
        content = getattr(recipe, section.name)
        tables = enumerate(content) if isinstance(content, tuple) else [("", content)]
        for number, table in tables:
            start = f"{section.name}.{number}." if number != "" else f"{section.name}."
            for option in dataclasses.fields(table):
                found[start + option.name] = getattr(table, option.name)
    return found


def _targets(
    tables: Tables, section: str, path: list[str], setting: str
) -> list[tuple[Tables, str]]:
    """Find the tables that a setting changes, each with the option's name."""
    content = tables.setdefault(section, [{}] if section in _LISTS else {})
    *numbers, option = path
    if isinstance(content, dict) and not numbers:
        return [(content, option)]
    if isinstance(content, list) and not numbers:
        return [(table, option) for table in content]
    if isinstance(content, list) and len(numbers) == 1 and numbers[0].isdecimal():
        if int(numbers[0]) < len(content):
            return [(content[int(numbers[0])], option)]
        raise ConfigError(f"{section} has {len(content)} tables, counted from 0; got {setting!r}")
    raise ConfigError(f"a setting reads section.option=value, got {setting!r}")


def _build_list(kind: type[Any], name: str, content: object) -> tuple[object, ...]:
    if not isinstance(content, list):
        raise ConfigError(f"wanted tables [[{name}]], got {content!r}")
    return tuple(_build_section(kind, name, table) for table in content)


def _build_section(kind: type[Any], name: str, content: object) -> object:
    if not isinstance(content, dict):
        raise ConfigError(f"wanted a table [{name}], got {content!r}")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(content) - set(hints))
    if unknown:
        known = ", ".join(f"{name}.{option}" for option in sorted(hints))
        raise ConfigError(f"unknown option '{name}.{unknown[0]}'; wanted one of: {known}")
    given = {
        option: parse_value(f"{name}.{option}", value, hints[option])
        for option, value in content.items()
    }
    missing = [
        f"{name}.{item.name}"
        for item in dataclasses.fields(kind)
        if item.name not in given
        and item.default is dataclasses.MISSING
        and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"the recipe must say {', '.join(missing)}")
    return kind(**given)


def _option_lines(table: Any) -> list[str]:  # noqa: ANN401 - any of the option classes
    return [
        f"{option.name} = {json.dumps(getattr(table, option.name))}"
        for option in dataclasses.fields(table)
    ]
