"""The page on training names the folders that each recipe wants below DATA."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vots_hqtrack.training.recipe_files import build_recipe, read_tables, shipped_recipes

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", shipped_recipes())
def test_the_folders_of_a_recipe_are_in_the_docs(name: str) -> None:
    recipe = build_recipe(read_tables(name))
    if recipe.KIND == "hq-head":
        wanted = {recipe.cache.photos, recipe.cache.videos}
    else:
        wanted = {data.root for data in recipe.data}
    _, _, table = PAGE.partition("| recipe | folders below `DATA` |")
    row = re.search(rf"^\| `{name}` \| (.*) \|$", table, flags=re.MULTILINE)
    assert row is not None
    assert set(re.findall(r"`([^`]+)`", row[1])) == wanted
