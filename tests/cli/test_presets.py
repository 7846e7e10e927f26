"""``hqtrack presets`` tells every option, its type, default and meaning."""

import re

import pytest

from vots_hqtrack.cli.main import app
from vots_hqtrack.cli.presets import describe_options, read_attributes
from vots_hqtrack.presets import PRESETS, lite
from vots_hqtrack.settings import apply_settings


def test_every_option_is_described():
    described = describe_options()
    assert list(described) == list(lite().options())
    for option, description in described.items():
        assert description.kind, option
        assert description.meaning.endswith("."), option
    assert described["memory.gap"].kind == "int"
    assert described["refiner.enabled"].kind == "true | false"
    assert described["refiner.prompt"].kind == "box | box+mask | box+mask+point"
    assert described["encoder.kind"].kind == "text"


def test_attributes_end_where_their_section_ends():
    class Documented:
        """Something.

        Attributes:
            first: Begins here
                and ends ``here``.
            second: Short.

        Example:
            no: attribute
        """

    assert read_attributes(Documented) == {
        "first": "Begins here and ends here.",
        "second": "Short.",
    }
    assert read_attributes(int) == {}


@pytest.fixture
def shown(runner, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    result = runner.invoke(app, ["presets"])
    assert result.exit_code == 0
    return result.stdout


def test_presets_and_options_are_shown(shown):
    for name in PRESETS:
        assert name in shown
    for option in lite().options():
        assert f" {option}: " in shown
    assert re.search(r"memory\.gap: int +│ lite: 10 +│ Frames between two entries", shown)


def test_presets_that_differ_are_told_apart(shown):
    assert "lite: true" in shown
    assert "lite-vmos: false" in shown


def test_shown_defaults_can_be_set(shown):
    config = lite()
    for line in shown.splitlines():
        match = re.match(r"│ ([a-z]+\.[a-z0-9_]+): [^│]+│ ([^│ ]+) +│", line)
        if match and not match[2].endswith(":"):
            assert apply_settings(config, [f"{match[1]}={match[2]}"]) == config
    assert shown.count("│") > 3 * len(config.options())
