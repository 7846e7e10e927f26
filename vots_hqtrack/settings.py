"""Settings on top of a configuration: ``section.option=value`` strings and TOML files."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def apply_settings(config: TrackerConfig, settings: Iterable[str]) -> TrackerConfig:
    """Return the configuration with ``section.option=value`` settings applied in order.

    Raises:
        ConfigError: A setting is malformed, names no option, or its value does not fit.

    Example:
        >>> from vots_hqtrack.presets import lite
        >>> apply_settings(lite(), ["memory.gap=5"]).memory.gap
        5
    """
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise ConfigError(f"a setting reads section.option=value, got {setting!r}")
        config = _set_option(config, name.strip(), value.strip())
    return config


def load_toml(config: TrackerConfig, path: Path) -> TrackerConfig:
    """Return the configuration with the tables of a TOML file applied; a table is a section.

    Raises:
        ConfigError: The file cannot be read, or names an unknown option or value.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error}") from error
    for section, options in tables.items():
        if not isinstance(options, dict):
            raise ConfigError(
                f"{path}: wanted tables such as [memory], got a bare value {section!r}"
            )
        for option, value in options.items():
            config = _set_option(config, f"{section}.{option}", value)
    return config


def _set_option(config: TrackerConfig, name: str, value: object) -> TrackerConfig:
    options = config.options()
    if name not in options:
        raise ConfigError(f"unknown option {name!r}; wanted one of: {', '.join(sorted(options))}")
    section_name, option_name = name.split(".")
    section = getattr(config, section_name)
    wanted = typing.get_type_hints(type(section))[option_name]
    parsed = parse_value(name, value, wanted)
    return dataclasses.replace(
        config, **{section_name: dataclasses.replace(section, **{option_name: parsed})}
    )


def parse_value(name: str, value: object, wanted: Any) -> object:  # noqa: ANN401 - a type hint
    """Read a value from a TOML file or a string as the type of an option.

    Args:
        name: Name of the option in errors.
        value: A string or a TOML value; strings separate the parts of a tuple by commas.
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
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        return choices[str(value)]
    if origin is tuple:
        return _parse_tuple(name, value, typing.get_args(wanted))
    if origin in (typing.Union, types.UnionType):
        raise ConfigError(f"{name} cannot be set")
    return _parse_scalar(name, value, wanted)


def _parse_tuple(name: str, value: object, kinds: tuple[Any, ...]) -> tuple[object, ...]:
    parts = (value.split(",") if value else []) if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        raise ConfigError(f"{name} must be values separated by commas, got {value!r}")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(parts)
    if len(parts) != len(kinds):
        raise ConfigError(f"{name} must be {len(kinds)} values, got {value!r}")
    return tuple(parse_value(name, part, kind) for part, kind in zip(parts, kinds, strict=True))


def _parse_scalar(name: str, value: object, wanted: type) -> object:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if wanted is bool:
        if str(value).lower() not in words:
            raise ConfigError(f"{name} must be true or false, got {value!r}")
        return words[str(value).lower()]
    if isinstance(value, bool) or (wanted is int and isinstance(value, float)):
        raise ConfigError(f"{name} must be of type {wanted.__name__}, got {value!r}")
    try:
        return wanted(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} must be of type {wanted.__name__}, got {value!r}") from error
