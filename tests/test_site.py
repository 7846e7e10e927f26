"""The documentation site builds strictly, is complete, and needs no other server."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import vots_hqtrack
from vots_hqtrack import errors, session
from vots_hqtrack.formats.registry import FORMATS

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = [*DOCS.glob("*.md"), *DOCS.glob("model-cards/*.md"), REPOSITORY / "README.md"]
API = (DOCS / "api.md").read_text(encoding="utf-8")
LISTED = re.findall(r"^::: (\S+)$", API, flags=re.MULTILINE)


class _Page(HTMLParser):
    """Collects what a page links to, what it loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found.get("id", ""), found.get("name", "")}
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        elif tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loaded.add(found.get("href", ""))
        if "src" in found:
            self.loaded.add(found["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, _Page]:
    """All pages of the site, built as ``make docs`` does, by path."""
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings_handlers.python")
    folder = tmp_path_factory.mktemp("site")
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"),
            *("--site-dir", folder, "--config-file", DOCS / "site" / "mkdocs.yml"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"},
    )
    assert ended.returncode == 0, ended.stderr
    return {path: _Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}


def test_every_link_and_anchor_of_the_built_site_leads_somewhere(site: dict[Path, _Page]) -> None:
    broken = []
    for path, page in site.items():
        if path.name == "404.html":  # its links begin at the server's root
            continue
        for link in page.links | page.loaded:
            file, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:", file):
                continue
            target = path if not file else (path.parent / file).resolve()
            known = site[target].anchors if target in site else {""}
            if not target.exists() or (target in site and anchor not in known | {""}):
                broken.append(f"{path.name}: {link}")
    assert broken == []


def test_the_site_loads_nothing_from_other_servers(site: dict[Path, _Page]) -> None:
    loaded = {url for page in site.values() for url in page.loaded}
    assert [url for url in sorted(loaded) if url.startswith(("http:", "https:", "//"))] == []
    assert not any("mermaid" in path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))


def test_every_public_name_is_documented_in_the_site(site: dict[Path, _Page]) -> None:
    anchors = next(page.anchors for path, page in site.items() if path.name == "api.html")
    assert set(LISTED) <= anchors
    assert "vots_hqtrack.HQTracker.mask_from_box" in anchors  # inherited ones too


def test_public_names_and_all_errors_are_in_the_api_page() -> None:
    wanted = {f"vots_hqtrack.{name}" for name in vots_hqtrack.__all__}
    wanted |= {f"vots_hqtrack.session.{name}" for name in session.__all__}
    wanted |= {
        f"vots_hqtrack.errors.{name}"
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    } - {"vots_hqtrack.errors.HQTrackError"}
    assert wanted - set(LISTED) == set()


def test_names_that_docs_and_examples_import_are_in_the_api_page() -> None:
    texts = [path.read_text(encoding="utf-8") for path in PAGES]
    code = [
        block for text in texts for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    ]
    code += [path.read_text(encoding="utf-8") for path in (REPOSITORY / "examples").glob("*.py")]
    imported = {
        f"{module}.{name.strip()}"
        for text in code
        for module, names in re.findall(r"^from (vots_hqtrack\S*) import \(?([^)\n]+)", text, re.M)
        for name in names.split(",")
    }
    assert len(imported) > 15
    assert imported - set(LISTED) == set()


@pytest.mark.parametrize("name", LISTED)
def test_names_of_the_api_page_exist(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


def test_the_table_of_formats_has_every_format_as_it_is() -> None:
    table = (DOCS / "formats.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (`[^|]+`) \|(.*)$", table, flags=re.MULTILINE))
    rows = {name: line for names, line in rows.items() for name in re.findall(r"`([^`]+)`", names)}
    for name, kind in FORMATS.items():
        columns = [each.strip() for each in rows[name].split("|")]
        assert (columns[1] != "by their commands") == (kind.write is not None), name
        assert (columns[2] == "yes") == (kind.read is not None), name
        if kind.write is not None:
            assert columns[3] == ("any" if kind.last_id is None else str(kind.last_id)), name
            assert (columns[5], columns[6]) == tuple(
                "yes" if has else "no" for has in (kind.has_scores, kind.has_names)
            ), name
