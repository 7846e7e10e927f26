"""The HQ head's recipe as a file."""

from __future__ import annotations

from typing import Any

import pytest
from vots_hqtrack.training.hq.head import HQTrainConfig

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.training.hq.recipe import HQ_KIND, build_hq_recipe
from vots_hqtrack.training.recipe_files import apply_to_tables, kind_of, read_tables


def test_the_shipped_recipe() -> None:
    tables = read_tables("hq-head")
    assert kind_of(tables) == HQ_KIND
    config = build_hq_recipe(tables)
    assert [source.folder for source in config.sources] == ["videos"] + ["photos"] * 3
    assert sum(source.weight for source in config.sources) == pytest.approx(1)
    assert config.samples.prompts[0] == "box+mask+point"


def test_settings_change_it() -> None:
    settings = ["train.steps=3", "sources.0.excluded=bear,boat", "degrade.noise=0.1"]
    config = build_hq_recipe(apply_to_tables(read_tables("hq-head"), settings))
    assert config.train.steps == 3
    assert config.sources[0].excluded == ("bear", "boat")
    assert config.degrade.noise == 0.1


def test_defaults_are_the_shipped_recipes() -> None:
    assert build_hq_recipe(read_tables("hq-head")).train == HQTrainConfig()


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, r"at least one table \[\[sources\]\]"),
        ({"sources": [{"folder": "videos"}]}, r"must say sources\.weight"),
        ({"train": {"speed": 1}}, r"unknown option 'train\.speed'"),
        ({"model": {}}, "unknown section 'model'"),
        ({"samples": {"prompts": ["scribble"]}}, r"samples\.prompts must be one of box"),
    ],
)
def test_exceptions(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_hq_recipe(tables)
