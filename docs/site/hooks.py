"""Hooks of the site's build.

A folder in the navigation stands for all of its pages, and roles of docstrings, such as
``:meth:``, are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace a navigation entry that names a folder by the folder's pages."""
    config.nav = _expand(config.nav, Path(config.docs_dir))
    return config


def on_page_content(html: str, **_: object) -> str:
    """Leave out the roles that stand before names in docstrings."""
    return re.sub(r":(?:attr|class|func|meth|mod):(?=<code>)", "", html)


def _expand(entry: object, docs: Path) -> object:
    if isinstance(entry, list):
        return [_expand(part, docs) for part in entry]
    if isinstance(entry, dict):
        return {title: _expand(part, docs) for title, part in entry.items()}
    if isinstance(entry, str) and entry.endswith("/"):
        return [path.relative_to(docs).as_posix() for path in sorted((docs / entry).glob("*.md"))]
    return entry
