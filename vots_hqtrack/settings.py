"""Configurations from settings and TOML files, and back: trackers and training recipes alike.

A configuration is a frozen dataclass. Its sections are dataclasses of options, or tuples of such,
which a file writes as ``[[section]]``; other fields, such as a preset's name, cannot be set.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import reprlib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from vots_hqtrack.errors import ConfigError, did_you_mean

Config = TypeVar("Config", bound=Any)

Tables = dict[str, Any]
"""Content of a TOML file, before it is checked."""
_MAX_DEPTH = 8
"""Depth of nested values in a TOML file; recipes have two."""
_MAX_INT = 2**31 - 1
_MAX_FILE_BYTES = 1 << 20


def apply_settings(config: Config, settings: Iterable[str]) -> Config:
    """Return the configuration with ``section.option=value`` settings applied in order.

    Raises:
        ConfigError: A setting is malformed, names no option, or its value does not fit.

    Example:
        >>> from vots_hqtrack.presets import lite
        >>> apply_settings(lite(), ["memory.gap=5"]).memory.gap
        5
    """
    tables = set_options(config_to_tables(config), settings)
    return dataclasses.replace(config, **_build_sections(type(config), tables))


def load_toml(config: Config, path: Path) -> Config:
    """Return the configuration with the tables of a TOML file applied; a table is a section.

    Raises:
        ConfigError: The file cannot be read, or names an unknown option or value.
    """
    tables = config_to_tables(config)
    for section, options in read_toml(path, f"configuration file {path}").items():
        if not isinstance(options, dict):
            raise ConfigError(
                f"{path}: wanted tables such as [memory], got a bare value {reprlib.repr(section)}"
            )
        known = tables.get(section, {})
        tables[section] = {**(known if isinstance(known, dict) else {}), **options}
    return dataclasses.replace(config, **_build_sections(type(config), tables))


def read_toml(path: Any, what: str) -> Tables:  # noqa: ANN401 - a path or a resource
    """Read a TOML file; errors call it ``what``.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise ConfigError(f"cannot read the {what}: wanted 1 MB at most")
        tables = tomllib.loads(content.decode("utf-8").replace("\r\n", "\n"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read the {what}: {error}") from error
    if not _is_plain(tables):
        raise ConfigError(
            f"cannot read the {what}: wanted values nested {_MAX_DEPTH} deep at most, and whole "
            f"numbers up to {_MAX_INT}"
        )
    return tables


def _is_plain(value: object, depth: int = 0) -> bool:
    """Return whether a TOML value can be copied and printed, however strange it is."""
    if isinstance(value, (dict, list)):
        parts = value.values() if isinstance(value, dict) else value
        return depth < _MAX_DEPTH and all(_is_plain(part, depth + 1) for part in parts)
    return not isinstance(value, int) or abs(value) <= _MAX_INT


def check_types(options: Any, name: str) -> None:  # noqa: ANN401 - any section
    """Check the types of a section's values, which callers in Python may have mixed up.

    Args:
        options: The section.
        name: Its name in errors.

    Raises:
        ConfigError: A value has another type than the option, is not finite, or is beyond 32 bits.
    """
    hints = typing.get_type_hints(type(options))
    for option in dataclasses.fields(options):
        value, wanted = getattr(options, option.name), hints[option.name]
        full_name, got = f"{name}.{option.name}", reprlib.repr(value)
        is_choice = typing.get_origin(wanted) is Literal
        if is_choice or isinstance(value, _accepted(wanted)):
            parsed = parse_value(full_name, value, wanted)
            if type(parsed) is type(value) or wanted is float:
                continue
        kind = "one of its choices" if is_choice else f"of type {wanted.__name__}"
        raise ConfigError(f"{full_name} must be {kind}, got {got}")


def _accepted(wanted: type) -> tuple[type, ...]:
    return (int, float) if wanted is float else (wanted,)


def set_options(tables: Tables, settings: Iterable[str]) -> Tables:
    """Return the tables with settings applied in order; whether they fit is checked later.

    Args:
        tables: Sections by name.
        settings: ``section.option=value``; of a list of tables, ``data.option=value`` changes all
            and ``data.0.option=value`` the first.

    Raises:
        ConfigError: A setting is malformed, or a table of that number is missing.

    Example:
        >>> tables = {"phases": [{"batch_size": 4}, {"batch_size": 2}]}
        >>> set_options(tables, ["phases.1.batch_size=8"])["phases"][1]
        {'batch_size': '8'}
    """
    changed = copy.deepcopy(tables)
    for setting in _listed(settings):
        name, separator, value = setting.partition("=")
        section, *numbers, option = name.strip().split(".") if "." in name else ("", "")
        content = changed.setdefault(section, [{}] if numbers else {}) if section else {}
        is_list, malformed = isinstance(content, list), not separator or not section
        is_number = all(n.isdecimal() and len(n) < 10 for n in numbers)
        if malformed or len(numbers) > is_list or not is_number:
            raise ConfigError(f"a setting reads section.option=value, got {reprlib.repr(setting)}")
        if numbers and int(numbers[0]) >= len(content):
            raise ConfigError(
                f"{section} has {len(content)} tables, counted from 0; got {reprlib.repr(setting)}"
            )
        chosen = content if is_list else [content]
        chosen = [chosen[int(numbers[0])]] if numbers else chosen
        for table in chosen:
            if not isinstance(table, dict):
                raise ConfigError(f"wanted a table [{section}], got {reprlib.repr(table)}")
            table[option] = value.strip()
    return changed


def _listed(settings: Iterable[str]) -> list[str]:
    """List settings; a bare string would be read letter by letter."""
    if isinstance(settings, (str, bytes)) or not isinstance(settings, Iterable):
        raise ConfigError(f"wanted a list of settings, got {reprlib.repr(settings)}")
    listed = list(settings)
    for setting in listed:
        if not isinstance(setting, str):
            raise ConfigError(f"a setting is a string, got {reprlib.repr(setting)}")
    return listed


def build_config(kind: type[Config], tables: Mapping[str, Any]) -> Config:
    """Build a configuration of tables; options that they lack keep their defaults.

    Raises:
        ConfigError: A section or option is unknown, or a value does not fit.
    """
    built: Config = kind(**_build_sections(kind, tables))
    return built


def config_to_tables(config: Any) -> Tables:  # noqa: ANN401 - any configuration
    """Return all sections with all options as a TOML file holds them."""
    tables: Tables = {}
    for name in _section_types(type(config)):
        section = getattr(config, name)
        if isinstance(section, tuple):
            tables[name] = [dataclasses.asdict(table) for table in section]
        else:
            tables[name] = dataclasses.asdict(section)
    return tables


def config_to_toml(config: Any) -> str:  # noqa: ANN401 - any configuration
    """Write all sections with all options as TOML."""
    lines = []
    for name, content in config_to_tables(config).items():
        is_list = isinstance(content, list)
        for table in content if is_list else [content]:
            lines += ["", f"[[{name}]]" if is_list else f"[{name}]"]
            lines += [f"{option} = {json.dumps(value)}" for option, value in table.items()]
    return "\n".join(lines[1:]) + "\n"


def flat_options(config: Any) -> dict[str, object]:  # noqa: ANN401 - any configuration
    """Return every option by its full name, such as ``memory.gap`` or ``data.0.root``."""
    found: dict[str, object] = {}
    for name, content in config_to_tables(config).items():
        numbered = enumerate(content) if isinstance(content, list) else [(None, content)]
        for number, table in numbered:
            start = name if number is None else f"{name}.{number}"
            found |= {f"{start}.{option}": value for option, value in table.items()}
    return found


def parse_value(name: str, value: object, wanted: Any) -> object:  # noqa: ANN401 - a type hint
    """Read a value from a TOML file or a string as the type that an option has.

    Args:
        name: Name of the option in errors.
        value: A string, or the value in TOML; commas separate a tuple's parts in a string.
        wanted: Type hint: a scalar, a ``Literal`` or a tuple of scalars.

    Raises:
        ConfigError: The value does not fit, or options of that type cannot be set.

    Example:
        >>> parse_value("clip.crop", "97,129", tuple[int, int])
        (97, 129)
    """
    origin = typing.get_origin(wanted)
    if origin is Literal:
        choices = {str(choice): choice for choice in typing.get_args(wanted)}
        if str(value) not in choices:
            raise ConfigError(
                f"{name} must be one of {', '.join(choices)}, got {reprlib.repr(value)}"
            )
        return choices[str(value)]
    if origin is tuple:
        return _parse_tuple(name, value, typing.get_args(wanted))
    if origin in (typing.Union, types.UnionType):
        raise ConfigError(f"{name} cannot be set")
    return _parse_scalar(name, value, wanted)


def _parse_tuple(name: str, value: object, kinds: tuple[Any, ...]) -> tuple[object, ...]:
    parts = (value.split(",") if value else []) if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        raise ConfigError(f"{name} must be values separated by commas, got {reprlib.repr(value)}")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(parts)
    if len(parts) != len(kinds):
        raise ConfigError(f"{name} must be {len(kinds)} values, got {reprlib.repr(value)}")
    return tuple(parse_value(name, part, kind) for part, kind in zip(parts, kinds, strict=True))


def _parse_scalar(name: str, value: object, wanted: type) -> object:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if wanted is bool:
        if str(value).lower() not in words:
            raise ConfigError(f"{name} must be true or false, got {reprlib.repr(value)}")
        return words[str(value).lower()]
    wrong = ConfigError(f"{name} must be of type {wanted.__name__}, got {reprlib.repr(value)}")
    is_string = isinstance(value, str)
    if isinstance(value, bool) or not (is_string or isinstance(value, _accepted(wanted))):
        raise wrong
    try:
        parsed: Any = wanted(value)
    except (ValueError, OverflowError) as error:
        raise wrong from error
    if wanted is float and not math.isfinite(parsed):
        raise ConfigError(f"{name} must be a finite number, got {reprlib.repr(value)}")
    if wanted is int and abs(parsed) > _MAX_INT:
        raise ConfigError(f"{name} must be {_MAX_INT} at most, got {reprlib.repr(value)}")
    return parsed


def _section_types(kind: type[Any]) -> dict[str, Any]:
    """Return a configuration's sections and the dataclasses of their options, or tuples of them."""
    hints = typing.get_type_hints(kind)
    found = {item.name: hints[item.name] for item in dataclasses.fields(kind)}
    return {
        name: hint
        for name, hint in found.items()
        if dataclasses.is_dataclass((*typing.get_args(hint), hint)[0])
    }


def _build_sections(kind: type[Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    wanted = _section_types(kind)
    defaults: dict[str, Any] = {
        item.name: item.default_factory for item in dataclasses.fields(kind)
    }
    built: dict[str, Any] = {}
    for name, content in tables.items():
        if name not in wanted:
            meant = did_you_mean(name, wanted)
            raise ConfigError(
                f"unknown section {name!r}; wanted one of: {', '.join(sorted(wanted))}{meant}"
            )
        if typing.get_origin(wanted[name]) is tuple:
            table_type = typing.get_args(wanted[name])[0]
            # Settings alone make one table.
            listed = [content] if isinstance(content, dict) else content
            if not isinstance(listed, list):
                raise ConfigError(f"wanted tables [[{name}]], got {reprlib.repr(content)}")
            built[name] = tuple(_build_section(table_type, name, table) for table in listed)
        else:
            built[name] = _build_section(wanted[name], name, content, base=defaults[name]())
    return built


def _build_section(kind: type[Any], name: str, content: object, base: Any = None) -> object:  # noqa: ANN401 - a section
    """Build a section, from its defaults in the configuration where it has some."""
    if not isinstance(content, dict):
        raise ConfigError(f"wanted a table [{name}], got {reprlib.repr(content)}")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(content) - set(hints))
    if unknown:
        known = [f"{name}.{option}" for option in sorted(hints)]
        wrong = f"{name}.{unknown[0]}"
        meant = did_you_mean(wrong, known)
        raise ConfigError(f"unknown option {wrong!r}; wanted one of: {', '.join(known)}{meant}")
    given = {
        option: parse_value(f"{name}.{option}", value, hints[option])
        for option, value in content.items()
    }
    if base is not None:
        return dataclasses.replace(base, **given)
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
