"""The command line as a whole: help, version, errors, and what starting it costs."""

import subprocess
import sys

import pytest
import typer
from typer.main import get_command

import vots_hqtrack
from vots_hqtrack.cli.main import ErrorLineGroup, app
from vots_hqtrack.cli.verbs import VERBS
from vots_hqtrack.errors import ConfigError, InputError, ProtocolError, WeightsError


def test_help_names_the_verbs(runner):
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    for verb in ("track", "demo", "vot", "train", "weights", "presets", "doctor"):
        assert verb in result.stdout


def test_version(runner):
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"hqtrack {vots_hqtrack.__version__}\n")


def test_help_is_quick_and_loads_no_torch():
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from vots_hqtrack.cli.main import app\n"
        "result = CliRunner().invoke(app, ['track', '--help'])\n"
        "assert result.exit_code == 0, result.output\n"
        "assert '--mask' in result.stdout\n"
        "heavy = {'torch', 'cv2', 'timm', 'segment_anything_hq'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_the_list_of_verbs_imports_none_of_them():
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from vots_hqtrack.cli.main import app\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "assert result.exit_code == 0 and 'track' in result.stdout, result.output\n"
        "heavy = {'torch', 'numpy', 'cv2', 'PIL', 'av', 'httpx2', 'huggingface_hub', 'asyncio',\n"
        "         'rich.progress', 'rich.logging', 'vots_hqtrack.config'} & set(sys.modules)\n"
        "verbs = [name for name in sys.modules if name.startswith('vots_hqtrack.cli.')]\n"
        "assert not heavy, heavy\n"
        "assert {name.rpartition('.')[2] for name in verbs} "
        "== {'console', 'main', 'signals', 'verbs'}, verbs\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_is_listed_with_the_summary_of_its_own_help(name):
    command = get_command(app).commands[name]
    assert command.name == name
    assert " ".join(command.help.split("\n\n")[0].split()) == VERBS[name].help


def test_module_is_the_command():
    command = [sys.executable, "-m", "vots_hqtrack", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == f"hqtrack {vots_hqtrack.__version__}\n"


@pytest.fixture
def failing():
    """Make a command line of one command that raises an error."""

    def make(error):
        failing_app = typer.Typer(cls=ErrorLineGroup, pretty_exceptions_enable=False)

        @failing_app.command()
        def fail():
            raise error

        @failing_app.callback()
        def set_up(debug: bool = False):
            pass

        return failing_app

    return make


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("wanted a [frame],\n got none"), 2, "error: wanted a [frame], got none"),
        (ConfigError("no"), 2, "error: no"),
        (WeightsError("x" * 300), 3, "error: " + "x" * 300),
        (ProtocolError("broken"), 4, "error: broken"),
        (PermissionError(13, "denied", "a.png"), 1, "error: [Errno 13] denied: 'a.png'"),
        (
            ImportError("no libGL"),
            1,
            "error: a package that this needs fails: no libGL; look at: hqtrack doctor",
        ),
        (KeyboardInterrupt(), 130, "error: stopped"),
    ],
)
def test_error_is_one_line_and_an_exit_code(runner, failing, error, code, line):
    result = runner.invoke(failing(error), ["fail"])
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == line + "\n"


def test_debug_shows_where_an_error_comes_from(runner, failing):
    result = runner.invoke(failing(InputError("wrong")), ["--debug", "fail"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: wrong\n")


def test_bugs_are_not_hidden(runner, failing):
    result = runner.invoke(failing(ZeroDivisionError("a bug")), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    "words", [["track", "{}", "--mask", "{}"], ["export", "{}"], ["vot", "check", "{}"]]
)
def test_a_file_without_permission_is_one_line(runner, tmp_path, monkeypatch, words):
    path = tmp_path / "mask.png"
    path.touch()
    # Tests may run as root, who may read every file.
    monkeypatch.setattr("os.access", lambda found, mode: str(found) != str(path))
    result = runner.invoke(app, [word.format(path) for word in words])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(f"'{path}' is not readable.")
