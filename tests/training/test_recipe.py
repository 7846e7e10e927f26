"""Recipes: what ships, what is refused, and that a file gives back what was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.settings import flat_options, set_options
from vots_hqtrack.training.recipe import OptimizerOptions, Recipe
from vots_hqtrack.training.recipe_data import DataOptions, PhaseOptions
from vots_hqtrack.training.recipe_files import (
    build_recipe,
    load_recipe,
    read_tables,
    recipe_to_toml,
    shipped_recipes,
)
from vots_hqtrack.training.schedule import (
    RunProgress,
    average_decay,
    learning_rate,
    progress_of_steps,
    role_rates,
    step_options,
)

DATA = {"data": [{"kind": "folder", "root": "a"}, {"kind": "davis", "root": "b"}]}


def test_shipped_recipes_are_read() -> None:
    assert {"lite", "paper-stage1", "paper-stage2"} <= set(shipped_recipes())
    for name in shipped_recipes():
        assert build_recipe(read_tables(name)).train.steps


def test_values_of_the_paper() -> None:
    """As the released code has them (its stages `pre` and `ytb_vip_dav`)."""
    first, second = load_recipe("paper-stage1"), load_recipe("paper-stage2")
    assert (first.train.steps, second.train.steps) == (100_000, 150_000)
    assert first.optimizer == OptimizerOptions()
    rates = second.optimizer.learning_rate, second.optimizer.min_learning_rate
    assert rates == (2e-4, 1e-5)
    assert second.optimizer.weight_decay == 0.07
    assert (first.clip.merge_probability, second.clip.merge_probability) == (1.0, 0.3)
    assert (first.clip.predicted_masks_from, second.clip.predicted_masks_from) == (1.0, 0.5)
    assert (first.loss.auxiliary_until, second.loss.auxiliary_until) == (0.1, 1.0)
    for recipe in (first, second):
        assert recipe.phases == (PhaseOptions(1.0, 16, 5, (465, 465)),)
        assert (recipe.clip.memory_gap, recipe.clip.short_term_delay) == (2, 1)
        shares = recipe.regularisation
        assert (shares.drop_path, shares.dropout, shares.encoder_drop_path) == (0.1, 0.1, 0.2)
    # 1 - 1 / (0.1 steps)
    assert average_decay(first.optimizer, progress_of_steps(99_999, 100_000)) == pytest.approx(
        0.9999
    )
    assert average_decay(second.optimizer, progress_of_steps(149_999, 150_000)) == pytest.approx(
        0.99993, abs=1e-5
    )


def test_written_recipe_is_read_back(tmp_path: Path) -> None:
    recipe = load_recipe("lite", ["train.seed=5", "data.1.options=year=2016,split=train"])
    path = tmp_path / "r.toml"
    path.write_text(recipe_to_toml(recipe), encoding="utf-8")
    assert load_recipe(str(path)) == recipe
    assert flat_options(recipe)["data.1.options"] == ("year=2016", "split=train")


def test_settings_change_one_table_or_all() -> None:
    tables = set_options(DATA, ["data.weight=2", "data.1.max_gap=7", "phases.crop=33,49"])
    recipe = build_recipe(tables)
    assert [(table.weight, table.max_gap) for table in recipe.data] == [(2.0, 3), (2.0, 7)]
    assert recipe.phases[0].crop == (33, 49)
    recipe = build_recipe(set_options(DATA, ["phases.0.batch_size=3"]))
    assert [phase.batch_size for phase in recipe.phases] == [3]
    assert DATA["data"][0].keys() == {"kind", "root"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.step=5", r"unknown option 'train\.step'; wanted one of: .*train\.steps"),
        ("trainer.steps=5", "unknown section 'trainer'; wanted one of: .*train"),
        ("train.steps=0", r"train\.steps must be at least 1, got 0"),
        ("train.steps=2.5", r"train\.steps must be of type int"),
        ("train.precision=int8", "must be one of auto, float32"),
        ("train.steps", "reads section.option=value"),
        ("data.7.root=x", "data has 2 tables, counted from 0"),
        ("data.augment=strong", r"data\.augment must be one of photo, video"),
        ("phases.until=0.5", r"phases\.until must be rising, the last 1\.0"),
        ("phases.crop=465", r"phases\.crop must be 2 values"),
        ("clip.merge_probability=1.5", "a number from 0 to 1"),
        ("train.max_minutes=6", r"optimizer\.average_steps must be above 0 with train\.max_min"),
        ("train.max_minutes=-1", r"train\.max_minutes must be 0 or more, got -1"),
        ("optimizer.hold=1", r"optimizer\.hold must be 0 or more, below 1"),
        ("optimizer.warm_up_steps=-1", r"optimizer\.warm_up_steps must be 0 or more"),
        ("model.features=cached", r"model\.train_encoder must be false with cached features"),
    ],
)
def test_exception_settings(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_recipe(set_options(DATA, [setting]))


def test_exception_files(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[train\n", encoding="utf-8")
    for name, message in (
        ("paper-stage3", "wanted a TOML file or one of: .*paper-stage1"),
        (str(tmp_path / "none.toml"), "cannot read the recipe"),
        (str(broken), "cannot read the recipe"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_recipe(name)


def test_exception_no_data() -> None:
    with pytest.raises(ConfigError, match=r"at least one \[\[data\]\] table"):
        Recipe()
    with pytest.raises(ConfigError, match=r"data\.root must be a folder"):
        DataOptions(kind="davis")


def test_learning_rate_warms_up_and_falls() -> None:
    options = OptimizerOptions()
    rates = [learning_rate(options, progress_of_steps(step, 100)) for step in range(101)]
    assert rates[0] == options.min_learning_rate
    assert max(rates) == pytest.approx(options.learning_rate)
    assert rates.index(max(rates)) == 5
    assert rates[-1] == pytest.approx(options.min_learning_rate)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    half = options.min_learning_rate + 3.8e-4 * 0.5**0.9
    assert learning_rate(options, progress_of_steps(525, 1000)) == pytest.approx(half)


def test_roles_have_rates_of_their_own() -> None:
    options = OptimizerOptions(learning_rate=1.1, min_learning_rate=0.1, encoder_factor=0.1)
    assert role_rates(options, progress_of_steps(5, 100), predicted_masks=False) == pytest.approx(
        {"encoder": 0.2, "bank": 1.1, "rest": 1.1}
    )
    assert role_rates(options, progress_of_steps(5, 100), predicted_masks=True)["bank"] == 0.0


def test_memory_and_auxiliary_loss_follow_the_steps() -> None:
    first, second = load_recipe("paper-stage1"), load_recipe("paper-stage2")
    options = [step_options(second.loss, second.clip, step / 100) for step in (0, 49, 50, 99)]
    assert [each.predicted_masks for each in options] == [False, False, True, True]
    options = [step_options(first.loss, first.clip, step / 100) for step in (0, 5, 10, 100)]
    assert not options[-1].predicted_masks
    assert [each.auxiliary for each in options] == [1.0, 0.5, 0.0, 0.0]
    assert [each.with_reference for each in options] == [True, True, False, False]


def test_rate_of_a_clock_run_warms_up_by_steps_holds_and_reaches_its_end() -> None:
    options = OptimizerOptions(
        learning_rate=1.0, min_learning_rate=0.1, power=1.0, warm_up_steps=4, hold=0.5
    )
    rates = [learning_rate(options, RunProgress(0.001 * step, step)) for step in range(6)]
    assert rates == pytest.approx([0.1, 0.325, 0.55, 0.775, 1.0, 1.0])
    later = [learning_rate(options, RunProgress(part, 100)) for part in (0.5, 0.75, 0.9, 1.0)]
    assert later == pytest.approx([1.0, 0.55, 0.28, 0.1])


def test_hold_of_a_step_run_follows_its_warm_up() -> None:
    options = OptimizerOptions(
        learning_rate=1.0, min_learning_rate=0.0, power=1.0, warm_up=0.1, hold=0.4
    )
    rates = [learning_rate(options, progress_of_steps(step, 100)) for step in (5, 10, 50, 75, 100)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])


def test_average_reaches_back_by_steps_of_all_sessions() -> None:
    options = OptimizerOptions(average_steps=100)
    fresh, later = RunProgress(0.1, 5), RunProgress(0.1, 5, earlier_steps=5000)
    assert average_decay(options, fresh) == pytest.approx(6 / 15)
    assert average_decay(options, later) == 0.99


def test_phases_follow_the_progress() -> None:
    tables = {**DATA, "phases": [{"until": 0.7, "batch_size": 8}, {"until": 1.0}]}
    recipe = build_recipe(tables)
    sizes = [recipe.phase(progress).batch_size for progress in (0.0, 0.69, 0.7, 1.0)]
    assert sizes == [8, 8, 16, 16]
