"""``hqtrack presets`` tells every option, its type, default and meaning."""

import json

from vots_hqtrack.cli.main import app
from vots_hqtrack.cli.presets import describe_options, read_attributes
from vots_hqtrack.presets import PRESETS, lite, lite_vmos
from vots_hqtrack.settings import apply_settings


def test_every_option_is_described():
    described = describe_options()
    assert list(described) == list(lite().options())
    for option, description in described.items():
        assert description.type, option
        assert description.meaning.endswith("."), option
    assert described["memory.gap"].type == "int"
    assert described["refiner.enabled"].type == "true | false"
    assert described["refiner.prompt"].type == "box | box+mask | box+mask+point"
    assert described["encoder.kind"].type == "text"


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


def _run(runner, *words, code=0):
    result = runner.invoke(app, ["presets", *words], env={"COLUMNS": "80"})
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_all_presets_fit_one_screen(runner):
    lines = _run(runner).splitlines()
    assert len(lines) <= 26
    assert max(map(len, lines)) <= 84
    starts = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert starts[: len(PRESETS)] == list(PRESETS)


def test_what_a_preset_sets_can_be_given_to_set(runner):
    lines = _run(runner, "lite-vmos").splitlines()
    settings = [line.split("  ")[0].strip() for line in lines if "=" in line.split("  ")[0]]
    assert "refiner.enabled=false" in settings
    config = lite_vmos()
    assert [line.partition("=")[0] for line in settings] == list(config.options())
    assert apply_settings(config, settings) == config


def test_options_of_a_section_or_one_are_explained(runner):
    section = _run(runner, "vmos", "memory")
    assert "memory.gap=50   (int)\n    Frames between two entries of the long-term" in section
    assert "tracking" not in section
    single = _run(runner, "lite", "memory.gap")
    assert single.startswith("memory.gap=10   (int)")
    assert "capacity" not in single


def test_exception_unknown_preset_or_section(runner):
    assert "(did you mean lite?)" in _run(runner, "lit", code=2)
    assert "(did you mean memory?)" in _run(runner, "lite", "memry", code=2)
    assert "(did you mean memory.gap?)" in _run(runner, "lite", "memory.gab", code=2)


def test_json_of_presets_and_options(runner):
    presets = json.loads(_run(runner, "--json"))
    assert list(presets) == list(PRESETS)
    assert presets["lite"]["weights"] == list(lite().weights_needed())
    options = json.loads(_run(runner, "lite", "--json"))
    assert {name: facts["value"] for name, facts in options.items()} == lite().options()
    assert options["memory.gap"]["type"] == "int"
