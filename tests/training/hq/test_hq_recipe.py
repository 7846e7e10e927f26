"""The HQ head's recipe as a file, and its schedule."""

from __future__ import annotations

from typing import Any

import pytest

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.settings import set_options
from vots_hqtrack.training.hq.recipe import HQRecipe
from vots_hqtrack.training.recipe_files import build_recipe, read_tables
from vots_hqtrack.training.schedule import average_decay, learning_rate, progress_of_steps


def build(tables: dict[str, Any]) -> HQRecipe:
    recipe = build_recipe({"kind": "hq-head", **tables})
    assert isinstance(recipe, HQRecipe)
    return recipe


def test_the_shipped_recipe() -> None:
    tables = read_tables("hq-head")
    recipe = build(tables)
    assert tables["kind"] == HQRecipe.KIND
    assert [source.folder for source in recipe.sources] == ["videos"] + ["photos"] * 3
    assert sum(source.weight for source in recipe.sources) == pytest.approx(1)
    assert recipe.samples.prompts[0] == "box+mask+point"


def test_settings_change_it() -> None:
    settings = ["train.steps=3", "sources.0.excluded=bear,boat", "degrade.noise=0.1"]
    recipe = build(set_options(read_tables("hq-head"), settings))
    assert recipe.train.steps == 3
    assert recipe.sources[0].excluded == ("bear", "boat")
    assert recipe.degrade.noise == 0.1


def test_defaults_are_the_shipped_recipes() -> None:
    shipped = build(read_tables("hq-head"))
    plain = build({"sources": read_tables("hq-head")["sources"], "train": {}, "optimizer": {}})
    assert (plain.train, plain.optimizer) == (shipped.train, shipped.optimizer)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, r"at least one \[\[sources\]\] table"),
        ({"sources": [{"folder": "videos"}]}, r"must say sources\.weight"),
        ({"train": {"speed": 1}}, r"unknown option 'train\.speed'"),
        ({"model": {}}, "unknown section 'model'"),
        ({"samples": {"prompts": ["scribble"]}}, r"samples\.prompts must be one of box"),
        ({"samples": {"prompt_weights": [1.0]}}, r"as many as samples\.prompts \(4\), got 1"),
        ({"loss": {"sum_weight": 2.0}}, r"loss\.sum_weight must be a number from 0 to 1"),
        ({"kind": "hq"}, "unknown kind of recipe 'hq'; wanted vmos or hq-head"),
    ],
)
def test_exceptions(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(tables)


def test_schedule() -> None:
    """Half a cosine after the warm-up; the average's time constant is 0.05 of the steps."""
    options = build(read_tables("hq-head")).optimizer
    rates = [learning_rate(options, progress_of_steps(step, 900)) for step in range(901)]
    assert rates.index(max(rates)) == 27
    assert rates[27] == pytest.approx(options.learning_rate)
    middle = (options.learning_rate + options.min_learning_rate) / 2
    assert rates[27 + 436] == pytest.approx(middle, rel=0.01)
    assert rates[900] == pytest.approx(options.min_learning_rate)
    assert average_decay(options, progress_of_steps(899, 900)) == pytest.approx(1 - 1 / 45)
