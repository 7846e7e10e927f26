"""Commands and snippets in the README and in the docs work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *(str(path.relative_to(REPOSITORY)) for path in sorted((REPOSITORY / "docs").glob("*.md"))),
    *(
        str(path.relative_to(REPOSITORY))
        for path in sorted((REPOSITORY / "docs" / "model-cards").glob("*.md"))
    ),
]


def _text(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", _text(page), flags=re.MULTILINE | re.DOTALL)


def _commands(start: str) -> list[str]:
    """Command lines in the pages' shell blocks and inline code, without their comments."""
    found = []
    for page in PAGES:
        inline = re.findall(r"`([^`\n]+)`", _text(page))
        blocks = [block.replace("\\\n", " ") for block in _blocks(page, "sh")]
        lines = [line for block in blocks for line in block.splitlines()]
        found += [text.partition("  #")[0].strip() for text in [*inline, *lines]]
    return [text for text in found if re.match(rf"{re.escape(start)}[-a-z]", text)]


@pytest.mark.weights
def test_readme_python_tracks_the_square(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = _blocks("README.md", "python")
    names: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), names)  # noqa: S102 - our own text
    assert len(capsys.readouterr().out.splitlines()) == 3
    truth = np.zeros((180, 320), bool)
    truth[60:120, 58:118] = True
    found = names["result"].masks[1]  # type: ignore[attr-defined]
    assert (found & truth).sum() / (found | truth).sum() > 0.5


@pytest.mark.weights
@pytest.mark.parametrize("page", ["docs/correcting.md", "docs/migrating.md", "docs/track.md"])
def test_python_of_a_page_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    for block in _blocks(page, "python"):
        exec(compile(block, page, "exec"), {})  # noqa: S102 - our own text
        assert capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_compile_and_their_imports_exist(page: str) -> None:
    for block in _blocks(page, "python"):
        compile(block, page, "exec")
        imports = [line for line in block.splitlines() if re.match(r"(from|import) ", line)]
        exec("\n".join(imports), {})  # noqa: S102 - our own text


@cache
def _help(*verbs: str) -> str:
    shown = CliRunner().invoke(app, [*verbs, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0, shown.output
    return shown.output


@pytest.mark.parametrize("command", sorted(set(_commands("hqtrack "))))
def test_hqtrack_commands_have_the_options_that_we_name(command: str) -> None:
    words = command.split()[1:]
    known = getattr(get_command(app).commands.get(words[0]), "commands", {})  # type: ignore[attr-defined]
    # `hqtrack train` takes a recipe where others take a verb.
    is_verb = len(words) > 1 and (words[1] in known or (known and "CONFIG" not in known))
    verbs = words[: 2 if is_verb and not words[1].startswith("-") else 1]
    if verbs == ["COMMAND"]:
        pytest.skip("a placeholder")
    for option in re.findall(r"--[a-z-]+", command):
        assert re.search(rf"{option}\b", _help(*verbs)), f"{option} is not in:\n{_help(*verbs)}"


@pytest.mark.parametrize("command", sorted(set(_commands("python examples/"))))
def test_examples_have_the_options_that_we_name(command: str) -> None:
    program = command.split()[1]
    for option in re.findall(r"--[a-z-]+", command):
        assert f'"{option}"' in _text(program), f"{program} has no {option}"


def test_extras_that_the_docs_install_are_in_the_metadata() -> None:
    _, _, extras = _text("pyproject.toml").partition("\n[project.optional-dependencies]\n")
    known = set(re.findall(r"^(\w+) = \[", extras.partition("\n[")[0], flags=re.MULTILINE))
    named = {
        extra.strip()
        for page in PAGES
        for names in re.findall(r"'\.\[([a-z, -]+)\]'", _text(page))
        for extra in names.split(",")
    }
    assert {"toolkit", "ui", "train"} <= named <= known
    table = re.findall(r"^\| (`[^|]+) \| [^|]+\|$", _text("docs/install.md"), flags=re.MULTILINE)
    listed = {extra for names in table for extra in re.findall(r"`([^`]+)`", names)}
    assert listed == known - {"bench", "dev"}


def test_git_ignores_what_the_commands_leave_behind() -> None:
    lines = _text(".gitignore").splitlines()
    ignored = [line.strip("/") for line in lines if line.startswith("/")]
    written = {
        name.split("/")[0]
        for command in [*_commands("hqtrack "), *_commands("python examples/")]
        for name in re.findall(r"(?: --(?:out|workspace|inspect)|>) ([a-z][\w./-]*)", command)
    }
    assert {"tracked", "evaluation", "mine.toml"} <= written
    ignored.append("workspace")  # with a file of ours; all else in it is ignored
    assert "/workspace/*" in lines
    assert not [name for name in written if not any(fnmatch(name, line) for line in ignored)]


def test_every_command_is_in_the_docs() -> None:
    named = {" ".join(command.split()[1:3]) for command in _commands("hqtrack ")}
    names = list(get_command(app).commands)  # type: ignore[attr-defined]
    assert len(names) >= 4
    for name in names:
        assert any(text.split()[0] == name for text in named), f"no page names {name}"


@pytest.mark.parametrize("target", sorted({text.split()[1] for text in _commands("make ")}))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", _text("Makefile"), flags=re.MULTILINE)


@cache
def _vot_help(*verbs: str) -> str:
    return subprocess.run(
        [Path(sys.executable).with_name("vot"), *verbs, "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200"},
    ).stdout


@pytest.mark.vot
@pytest.mark.parametrize("command", sorted(set(_commands("vot "))))
def test_vot_commands_are_understood_by_the_toolkit(command: str) -> None:
    options = re.findall(r"--[a-z-]+", command)
    verb = next(word for word in command.split() if word in {"test", "evaluate", "pack"})
    texts = [_vot_help(), _vot_help(verb)]
    for option in options:
        assert any(option in text for text in texts), f"vot has no {option}"


@pytest.mark.parametrize("page", PAGES)
def test_links_anchors_and_images_are_there(page: str) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", _text(page))):
        file, _, anchor = target.partition("#")
        path = (REPOSITORY / page).parent / file if file else REPOSITORY / page
        if target.startswith("https://"):
            continue
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            broken.append(target)
    assert broken == []


def _anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_trackers_that_the_readme_names_are_in_the_registry() -> None:
    sections = re.findall(r"^\[(.+)\]$", _text("trackers.ini"), flags=re.MULTILINE)
    assert sections == ["HQTrack", "HQTrackLite"]
    for name in sections:
        assert f"`{name}`" in _text("README.md")


def test_decision_notes_keep_their_form() -> None:
    notes = sorted((REPOSITORY / "docs" / "decisions").glob("*.md"))
    assert notes
    numbers = [note.name[:4] for note in notes]
    assert len(set(numbers)) == len(numbers)
    for note in notes:
        text = note.read_text(encoding="utf-8")
        assert re.match(rf"# {note.name[:4]}: ", text), note.name
        assert len(text.splitlines()) <= 40, note.name
        for part in ("Context", "Choice", "Consequence"):
            assert f"## {part}\n" in text, f"{note.name} has no part {part}"
