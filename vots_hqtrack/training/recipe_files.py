"""Recipe files: TOML tables of a run of VMOS or of the HQ head, shipped or the user's own."""

from __future__ import annotations

import importlib.resources
import json
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vots_hqtrack.errors import ConfigError, did_you_mean
from vots_hqtrack.settings import Tables, build_config, config_to_toml, read_toml, set_options
from vots_hqtrack.training.hq.recipe import HQRecipe
from vots_hqtrack.training.recipe import Recipe

RECIPES: Mapping[str, type[Recipe | HQRecipe]] = {kind.KIND: kind for kind in (Recipe, HQRecipe)}
"""Recipes by the ``kind`` at the top of their files."""

_SHIPPED = importlib.resources.files("vots_hqtrack.training") / "configs"


def shipped_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package."""
    names = [entry.name for entry in _SHIPPED.iterdir() if entry.name.endswith(".toml")]
    return tuple(sorted(name.removesuffix(".toml") for name in names))


def read_tables(name: str) -> Tables:
    """Read a recipe's file.

    Args:
        name: Path of a TOML file, or the name of a shipped recipe.

    Raises:
        ConfigError: The file or name does not exist, or the file is malformed.
    """
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        return read_toml(path, f"recipe {name}")
    if name in shipped_recipes():
        return read_toml(_SHIPPED / f"{name}.toml", f"recipe {name}")
    shipped = ", ".join(shipped_recipes())
    raise ConfigError(f"unknown recipe {name!r}; wanted a TOML file or one of: {shipped}")


def leave_out(tables: Tables, roots: Iterable[str]) -> Tables:
    """Return the tables without the data sets in some folders.

    Args:
        tables: A recipe's, with a list of tables ``data``.
        roots: Values of their option ``root``.

    Raises:
        ConfigError: The recipe has no data set in such a folder, or would have none left.
    """
    listed = tables.get("data")
    data = listed if isinstance(listed, list) else []
    known = [str(table.get("root", "")) for table in data if isinstance(table, dict)]
    unwanted = list(roots)
    for root in unwanted:
        if root not in known:
            raise ConfigError(
                f"the recipe has no data set {root!r}; wanted one of: "
                f"{', '.join(dict.fromkeys(known)) or 'none, for it has no list of data sets'}"
                f"{did_you_mean(root, known)}"
            )
    if not unwanted:
        return tables
    kept = [
        table for table in data if not isinstance(table, dict) or table.get("root") not in unwanted
    ]
    if not kept:
        raise ConfigError(f"without {', '.join(unwanted)} the recipe has no data set left")
    return {**tables, "data": kept}


def build_recipe(tables: Mapping[str, Any]) -> Recipe | HQRecipe:
    """Turn tables into the recipe of their ``kind``, or of VMOS where they name none.

    Raises:
        ConfigError: Kind, section or option is unknown, or a value does not fit.
    """
    kind = tables.get("kind", Recipe.KIND)
    if not isinstance(kind, str) or kind not in RECIPES:
        raise ConfigError(
            f"unknown kind of recipe {reprlib.repr(kind)}; wanted {' or '.join(RECIPES)}"
        )
    sections = {name: table for name, table in tables.items() if name != "kind"}
    return build_config(RECIPES[kind], sections)


def load_recipe(name: str, settings: Iterable[str] = ()) -> Recipe:
    """Read a recipe of VMOS by path or name, with settings on top.

    Raises:
        ConfigError: It cannot be read, is of another kind, or an option or value is not known.
    """
    recipe = build_recipe(set_options(read_tables(name), settings))
    if not isinstance(recipe, Recipe):
        raise ConfigError(f"wanted a recipe of kind {Recipe.KIND!r}, got {recipe.KIND!r}")
    return recipe


def recipe_to_toml(recipe: Recipe | HQRecipe) -> str:
    """Write a recipe with every option, as :func:`read_tables` reads it."""
    return f"kind = {json.dumps(recipe.KIND)}\n\n{config_to_toml(recipe)}"
