"""Options from settings, TOML files and Python: absurd ones are one line, never a traceback."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vots_hqtrack.config import (
    EncoderConfig,
    FrameConfig,
    MemoryConfig,
    RuntimeConfig,
    TrackerConfig,
    VMOSConfig,
)
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.presets import lite, load_preset
from vots_hqtrack.settings import apply_settings, load_toml
from vots_hqtrack.training.recipe_files import build_recipe, read_tables, set_options

OPTIONS = sorted(lite().options())
ABSURD = (
    "1e23",
    str(10**23),
    "-1",
    "-" + "9" * 30,
    "9" * 5000,
    "nan",
    "inf",
    "1e999",
    "",
    "\x1b[2J",
)


@pytest.mark.parametrize("value", ABSURD)
@pytest.mark.parametrize(
    "option",
    [
        *("memory.gap", "memory.capacity", "memory.short_term_delay", "runtime.threads"),
        *("vmos.num_blocks_s16", "vmos.width_s16", "vmos.window_radius", "vmos.identity_kernel"),
        *("frame.long_edge", "frame.min_short_edge", "frame.max_long_edge", "memory.eviction"),
        *("runtime.frame_budget", "tracking.search_reach", "selector.iou_threshold"),
    ],
)
def test_exception_absurd_values_of_an_option(option: str, value: str) -> None:
    with pytest.raises(ConfigError, match=option) as caught:
        apply_settings(lite(), [f"{option}={value}"])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "setting",
    [
        *("vmos.num_blocks_s16=1000000", "runtime.threads=100000", "vmos.width_s4=8000"),
        *("vmos.identity_kernel_s8=100000", "memory.short_term_delay=1000000000"),
        *("frame.min_short_edge=1000000", "runtime.frame_budget=1e30"),
    ],
)
def test_exception_sizes_that_no_machine_has(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.split("=")[0]):
        apply_settings(lite(), [setting])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("memory.gap=5", "a list of settings"), (5, "a list of settings"), ([5], "is a string")],
)
def test_exception_settings_of_another_type(wrong: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        apply_settings(lite(), wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MemoryConfig(gap="5"), r"memory\.gap must be of type int, got '5'"),
        (lambda: MemoryConfig(gap=True), r"memory\.gap must be of type int, got True"),
        (lambda: MemoryConfig(capacity=2.5), r"memory\.capacity must be of type int"),
        (lambda: MemoryConfig(eviction="newest"), r"memory\.eviction must be one of"),
        (lambda: VMOSConfig(identity_stride_s8="8"), r"vmos\.identity_stride_s8 must be one of"),
        (lambda: VMOSConfig(multi_scale=1), r"vmos\.multi_scale must be of type bool"),
        (lambda: EncoderConfig(kind=5), r"encoder\.kind must be of type str"),
        (lambda: RuntimeConfig(frame_budget=None), r"runtime\.frame_budget must be of type float"),
        (lambda: FrameConfig(long_edge=[1024]), r"frame\.long_edge must be of type int"),
        (lambda: load_preset(["lite"]), "unknown preset"),
    ],
)
def test_exception_python_values_of_another_type(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_float_option_takes_a_whole_number() -> None:
    assert RuntimeConfig(frame_budget=1).frame_budget == 1


@pytest.mark.parametrize(
    "content",
    [
        "a = " + "[" * 5000 + "]" * 5000,
        "[" + ".".join("a" * 5000) + "]\nb = 1",
        "memory.gap = " + "9" * 5000,
        "memory.gap = 0x" + "f" * 5000,
        "[memory]\ngap = [[[[[[[[[[5]]]]]]]]]]",
        "[memory]\ngap = {a = {b = {c = 1}}}",
        "[memory]\ngap = 1979-05-27T07:32:00Z",
        "[[memory]]\ngap = 5",
        "memory = 5",
        "[encoder]\nkind = [1]",
        "[runtime]\nframe_budget = inf",
        "\x00",
        "[memory\n",
        "# " + "x" * 2_000_000,
    ],
)
def test_exception_absurd_toml(tmp_path: Path, content: str) -> None:
    path = tmp_path / "options.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_toml(lite(), path)
    assert len(str(caught.value)) < 1500
    with pytest.raises(ConfigError):
        build_recipe(set_options(read_tables(str(path)), ["memory.gap=5"]))


_NAMES = st.one_of(st.sampled_from(OPTIONS), st.text(max_size=12))
_VALUES = st.one_of(
    st.text(max_size=20), st.integers().map(str), st.floats().map(str), st.sampled_from(ABSURD)
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.sampled_from(OPTIONS), st.text(max_size=12)), st.text("=.", max_size=2), _VALUES
)
def test_any_setting_is_applied_or_refused(option: str, separator: str, value: str) -> None:
    """Options that are applied have the type of the default."""
    try:
        config = apply_settings(lite(), [f"{option}{separator}{value}"])
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most are refused, not all
        return
    again = dataclasses.replace(config)
    assert isinstance(again, TrackerConfig)
    assert {name: type(found) for name, found in config.options().items()} == {
        name: type(found) for name, found in lite().options().items()
    }


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
        st.tuples(st.sampled_from(OPTIONS), _VALUES).map(lambda pair: " = ".join(pair).encode()),
    )
)
def test_any_toml_file_is_applied_or_refused(tmp_path_factory, content: bytes) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    try:
        assert isinstance(load_toml(lite(), path), TrackerConfig)
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - most are refused, not all
    try:
        build_recipe(set_options(read_tables(str(path)), ["train.seed=5", "data.0.root=a"]))
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - most are refused, not all
