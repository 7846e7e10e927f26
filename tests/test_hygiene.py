"""Rules of the project that no single module can keep by itself."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import vots_hqtrack

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "vots_hqtrack"
MODULES = sorted(path.relative_to(REPOSITORY).as_posix() for path in PACKAGE.rglob("*.py"))
TESTS = sorted(
    path.relative_to(REPOSITORY).as_posix() for path in Path(__file__).parent.rglob("*.py")
)

PUBLIC_NAMES = [
    "PRESETS",
    "FrameResult",
    "HQTrackError",
    "HQTracker",
    "ObjectId",
    "TrackState",
    "TrackerConfig",
    "__version__",
    "load_preset",
]
HEAVY = {"torch", "torchvision", "timm", "segment_anything_hq", "cv2", "trax", "vot"}
PARSERS = {"argparse", "click", "getopt", "optparse", "typer"}
NEVER = {
    r"\bload_state_dict\([^)]*strict\s*=\s*False": "keys that do not fit must be errors",
    r"(?<![\w.])torch\.load\((?![^)]*weights_only\s*=\s*True)": "pickles may run code",
    r"\bempty_cache\(": "the allocator knows better",
    r"\.cuda\(": "the device is the caller's choice",
    r"\bsys\.path\b": "imports must not depend on where we are",
    r"\bexcept\s*:|\bexcept (Base)?Exception\b[^:]*:\s*pass": "errors must not vanish",
    r"\bTODO\b|\bFIXME\b|\bXXX\b": "what is not done is an issue, not a comment",
}
PERSONAL = re.compile(r"(?<![\w.)}\]*-])/(?:home|Users|root|work|mnt|srv|media|scratch)/[\w.]")
PRIVATE_WORDS = re.compile(
    r"(?<![A-Za-z])(?:cells?|canvas|opinions?|own labels?|coarse|made[- ]up|chance|anew|cascaded?"
    r"|number formats?|forth and back|photographs?|catalogue|perceptron|hollow|collages?"
    r"|trial clips?|cutaways?|veils?|nudge|sway|fill(?:s|ed)? up|patience|forgetting|lower_products"
    r"|bbox|curr|prev)(?![A-Za-z])|PaceKeeper|Opinion|Judgement",
    re.IGNORECASE,
)
"""Words for which the field has its own, in names, comments, docstrings and messages."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LINES_OF_A_FILE = 600
LINES_OF_A_FUNCTION = 60


@cache
def _read(module: str) -> str:
    return (REPOSITORY / module).read_text(encoding="utf-8")


@cache
def _nodes(module: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(_read(module))))


@cache
def _imports(module: str) -> set[str]:
    """Top-level names of absolute imports, those under TYPE_CHECKING included."""
    found = []
    for node in _nodes(module):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append(node.module or "")
    return {name.partition(".")[0] for name in found}


def _distribution(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("vots_hqtrack", HEAVY),
        ("vots_hqtrack.cli.main", HEAVY),
        ("vots_hqtrack.vot.server", HEAVY - {"cv2", "trax"}),
        ("vots_hqtrack.tracker", {"torch._dynamo", "torchvision", "timm", "segment_anything_hq"}),
    ],
)
def test_import_is_light_and_silent(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; sys.stdout.write(repr(sorted({heavy} & sys.modules.keys())))"
    ended = _run(code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[]", "")


def test_every_module_can_be_imported_alone_without_a_warning() -> None:
    names = [
        module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for module in MODULES
        if not module.endswith("__main__.py")
        # Kernels are not reached where Triton, an extra, is not installed.
        and ("/triton_" not in module or importlib.util.find_spec("triton"))
    ]
    # The two libraries that warn at import do so in their own time; what comes after is ours.
    code = (
        "import importlib, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "import segment_anything_hq, torch, timm, trax\n"
        "warnings.simplefilter('error')\n"
        f"for name in {names!r}: importlib.import_module(name)"
    )
    ended = _run(code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_public_names_equal_the_list() -> None:
    assert vots_hqtrack.__all__ == PUBLIC_NAMES
    for name in PUBLIC_NAMES:
        assert getattr(vots_hqtrack, name) is not None
    assert callable(vots_hqtrack.HQTracker.from_preset)


def test_exception_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'HQTrakcer'"):
        getattr(vots_hqtrack, "HQTrakcer")  # noqa: B009 - the name is not there


def test_modules_were_found() -> None:
    assert len(MODULES) > 20
    assert "tests/test_hygiene.py" in TESTS


def test_only_the_vot_folder_talks_trax_and_nothing_imports_the_toolkit() -> None:
    found = {module: _imports(module) for module in MODULES}
    # The toolkit is GPL-3: its command line is called instead.
    assert [module for module, names in found.items() if "vot" in names] == []
    talking = {module for module, names in found.items() if "trax" in names}
    assert {module for module in talking if not module.startswith("vots_hqtrack/vot/")} == set()
    assert talking


def test_only_the_command_line_parses_arguments() -> None:
    parsing = {
        module
        for module in MODULES
        if _imports(module) & PARSERS or re.search(r"\bsys\.argv\b", _read(module))
    }
    # The TraX server is a program of its own, which the toolkit starts with options of its own.
    parsing.remove("vots_hqtrack/vot/__main__.py")
    assert "vots_hqtrack/cli/main.py" in parsing
    assert {module for module in parsing if not module.startswith("vots_hqtrack/cli/")} == set()


def test_third_party_imports_are_declared() -> None:
    project = tomllib.loads(_read("pyproject.toml"))["project"]
    declared = {_distribution(Requirement(line).name) for line in project["dependencies"]}
    # Extras may be used too, by code that is not reached without them.
    for lines in project["optional-dependencies"].values():
        declared |= {_distribution(Requirement(line).name) for line in lines}
    homes = importlib.metadata.packages_distributions()
    used = {name for module in MODULES for name in _imports(module)}
    used -= {*sys.stdlib_module_names, "vots_hqtrack"}
    assert "torch" in used
    undeclared = {
        name
        for name in used
        if not {_distribution(home) for home in homes.get(name, [name])} & declared
    }
    assert undeclared == set()


def test_files_stay_small() -> None:
    lengths = {module: len(_read(module).splitlines()) for module in [*MODULES, *TESTS]}
    assert {module: length for module, length in lengths.items() if length > LINES_OF_A_FILE} == {}


def test_functions_stay_small() -> None:
    lengths = {
        f"{module}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module in MODULES
        for node in _nodes(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > LINES_OF_A_FUNCTION} == {}


def test_names_and_prose_use_the_words_of_the_field() -> None:
    found = []
    for module in (*MODULES, *TESTS):
        if module == "tests/test_hygiene.py":
            continue
        for number, line in enumerate(_read(module).splitlines(), 1):
            found += [f"{module}:{number}: {word}" for word in PRIVATE_WORDS.findall(line)]
        for node in _nodes(module):
            name = getattr(node, "id", None) or getattr(node, "arg", None)
            if name in ("one", "img"):
                found.append(f"{module}:{node.lineno}: {name}")
    assert not found


@pytest.mark.parametrize("text", ["num_cells = 1", "the canvas.", "made-up", "BestOpinion"])
def test_convention_private_words_are_recognised(text: str) -> None:
    assert PRIVATE_WORDS.search(text)


@pytest.mark.parametrize("text", ["excellent", "prevent", "mechanical", "surveillance", "coarsen"])
def test_convention_other_words_pass(text: str) -> None:
    assert not PRIVATE_WORDS.search(text)


def test_summary_lines_are_noun_or_verb_phrases() -> None:
    found = []
    for module in MODULES:
        for node in _nodes(module):
            if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
                fragments = re.findall(
                    r"\A(?:What|Of|Whose|Where|How|Which) .*|^ {4}\w+: (?:What|Of|Whose) .*",
                    text,
                    re.MULTILINE,
                )
                found += [f"{module}: {line}" for line in fragments]
    assert not found


def test_only_the_command_line_prints() -> None:
    printing = {"print", "rprint", "pprint", "sys.stdout.write", "sys.stderr.write", "tqdm"}
    lines = [
        f"{module}:{node.lineno}"
        for module in MODULES
        if not module.startswith("vots_hqtrack/cli/")
        for node in _nodes(module)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in printing
    ]
    assert lines == []


@pytest.mark.parametrize("rule", NEVER)
def test_never_list(rule: str) -> None:
    assert [module for module in MODULES if re.search(rule, _read(module))] == [], NEVER[rule]


def test_only_programs_end_the_process() -> None:
    exits = re.compile(r"\bsys\.exit\(|\bos\._exit\(|(?<![\w.])exit\(|\bSystemExit\b")
    ending = {module for module in MODULES if exits.search(_read(module))}
    assert ending <= {
        "vots_hqtrack/__main__.py",
        "vots_hqtrack/vot/__main__.py",
        "vots_hqtrack/vot/server.py",  # a thread of libtrax may hang, so only this ends it for sure
    } | {module for module in MODULES if module.startswith("vots_hqtrack/cli/")}


def _tracked_texts() -> Iterator[tuple[str, str]]:
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-z"], capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.decode().split("\0"):
        path = REPOSITORY / name
        if path.is_file():
            content = path.read_bytes()
            if b"\0" not in content[:8192]:
                yield name, content.decode("utf-8")


def test_no_tracked_text_names_a_personal_folder() -> None:
    found = dict(_tracked_texts())
    assert "pyproject.toml" in found
    named = {name: hit.group() for name, text in found.items() if (hit := PERSONAL.search(text))}
    assert named == {}


@pytest.mark.parametrize("top", ["home", "Users", "root", "work", "mnt"])
def test_convention_personal_folders_are_recognised(top: str) -> None:
    assert PERSONAL.search(f"cd /{top}/ann/videos")
    assert not PERSONAL.search(f"https://example.org/{top}/x, ../{top}/x, $BASE/{top}/x")


def test_changelog_names_this_version() -> None:
    text = _read("CHANGELOG.md")
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert vots_hqtrack.__version__ in headings[0]
