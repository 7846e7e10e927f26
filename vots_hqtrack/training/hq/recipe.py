"""The recipe file of the HQ head's training: tables in, configuration out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.training.hq.head import HQHeadConfig
from vots_hqtrack.training.recipe_files import build_sections

HQ_KIND = "hq-head"
"""What ``kind`` the recipe of an HQ head names, at the top of its file."""


def build_hq_recipe(tables: Mapping[str, Any]) -> HQHeadConfig:
    """Turn a recipe's tables into the configuration of a run.

    Args:
        tables: ``[train]``, ``[samples]``, ``[degrade]``, ``[cache]`` and any number of
            ``[[sources]]``.

    Raises:
        ConfigError: A section or option is unknown, a value does not fit, or there is no source.
    """
    sections = build_sections(HQHeadConfig, tables)
    if not sections.get("sources"):
        raise ConfigError("wanted at least one table [[sources]] of cached pictures, got none")
    return HQHeadConfig(**sections)
