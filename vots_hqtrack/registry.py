"""Lookup of encoders and refiners by the names that a configuration has for them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Generic, TypeVar

from vots_hqtrack.errors import ConfigError

_Entry = TypeVar("_Entry")


class Registry(Generic[_Entry]):
    """Entries by name; those of this package are registered when they are asked for.

    Args:
        option: Option that names an entry, such as ``refiner.kind``.
        built_in: Names of this package's entries, with the module that registers each.
    """

    def __init__(self, option: str, built_in: Mapping[str, str]) -> None:
        self._option = option
        self._built_in = built_in
        self._entries: dict[str, _Entry] = {}

    def add(self, name: str, entry: _Entry) -> None:
        """Register an entry; a second one of the same name replaces the first."""
        self._entries[name] = entry

    def find(self, name: str) -> _Entry | None:
        """Return the entry of a name, or None."""
        if name not in self._entries and name in self._built_in:
            importlib.import_module(self._built_in[name])
        return self._entries.get(name)

    def unknown(self, name: str, hint: str = "") -> ConfigError:
        """Return the error for a name without an entry."""
        known = ", ".join(sorted({*self._entries, *self._built_in}))
        return ConfigError(f"unknown {self._option} {name!r}; wanted one of: {known}{hint}")
