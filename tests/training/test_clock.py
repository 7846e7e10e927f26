"""Runs that the clock drives: schedule, weights on the way, what the log says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from toy_run import Losses, toy_trainer

from vots_hqtrack.errors import WeightsError
from vots_hqtrack.training import session, trainer
from vots_hqtrack.training.batch import part_stream
from vots_hqtrack.training.session import Counters, RunClock, StepTimer

CLOCK = ("train.max_minutes=1", "optimizer.average_steps=5", "optimizer.warm_up_steps=2")
SECONDS = 4.0
"""A step's time by the clock of these tests."""


class SteppingTime:
    """Stands for the module ``time``; a test says how time passes."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SteppingTime:
    stepping = SteppingTime()
    monkeypatch.setattr(session, "time", stepping)
    monkeypatch.setattr(trainer, "time", stepping)
    return stepping


class Steps(Losses):
    """A callback that lets time pass with each step."""

    def __init__(self, time: SteppingTime) -> None:
        super().__init__()
        self._time = time

    def stepped(self, step: int, loss: float) -> None:
        super().stepped(step, loss)
        self._time.now += SECONDS


def test_values(cache: Path, tmp_path: Path, time: SteppingTime) -> None:
    """Rates, phases and weights on the way follow the time of the session."""
    callback = Steps(time)
    settings = [*CLOCK, "train.export_every_seconds=20", "train.keep_exports=true"]
    made = toy_trainer(cache, tmp_path / "run", settings, callback)
    time.now += 1000  # before the first step nothing counts
    assert made.run().step == 16
    progress = [entry.progress for entry in callback.entries]
    # The time of a step passes after it, here: it is seen by the second of the steps that follow.
    assert progress[:4] == pytest.approx([0, 0, SECONDS / 60, 2 * SECONDS / 60])
    rates = [entry.learning_rate for entry in callback.entries]
    options = made.recipe.optimizer
    assert rates[0] == pytest.approx(options.min_learning_rate)
    assert max(rates) == rates[2]
    assert rates[-1] < 0.12 * max(rates)
    names = sorted(path.name for path in (tmp_path / "run").glob("minute-*"))
    assert names == ["minute-00.fp16.safetensors", "minute-01.fp16.safetensors"]


def test_lines_of_the_log(cache: Path, tmp_path: Path, time: SteppingTime) -> None:
    callback = Steps(time)
    toy_trainer(cache, tmp_path / "run", [*CLOCK, "train.log_every=3"], callback).run()
    text = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 9, 12, 15, 16]
    assert [line["total_clips"] for line in lines] == [6, 12, 18, 24, 30, 32]
    assert [line["loss"] for line in lines] == pytest.approx(
        [
            sum(callback.losses[start : start + 3]) / len(callback.losses[start : start + 3])
            for start in (0, 3, 6, 9, 12, 15)
        ]
    )
    assert lines[0]["clips_per_second"] is None
    assert all(line["clips_per_second"] > 0 for line in lines[1:])
    assert set(lines[0]["milliseconds"]) == {
        "data",
        "compose",
        "encode",
        "forward_backward",
        "optimizer",
    }
    assert lines[0]["memory_gib"] > 0.05


def test_a_killed_run_has_the_rest_of_its_time(
    cache: Path, tmp_path: Path, time: SteppingTime
) -> None:
    made = toy_trainer(cache, tmp_path / "run", CLOCK)
    stream = part_stream(made.parts, 0, 0)
    for _ in range(3):
        made.train_step(stream)
        time.now += 10
    made.save()
    time.now += 5000
    again = toy_trainer(cache, tmp_path / "run", CLOCK)
    assert (again.step, again.clips, again.fraction) == (3, 6, pytest.approx(0.5))
    assert again.totals.minutes == pytest.approx(0.5)


def test_workers_see_how_far_the_run_is(cache: Path, tmp_path: Path, time: SteppingTime) -> None:
    settings = [*CLOCK, "phases.batch_size=2"]
    made = toy_trainer(cache, tmp_path / "run", settings)
    assert next(iter(made.parts.indices(7))) == 7
    stream = part_stream(made.parts, 0, 0)
    made.train_step(stream)
    time.now += 45
    made.train_step(stream)
    assert float(made.parts.progress) == pytest.approx(0.75)
    assert made.parts.progress.is_shared()


def test_clock_begins_with_the_first_step(time: SteppingTime) -> None:
    clock = RunClock(5.0)
    time.now += 100
    assert clock.elapsed == 5.0
    clock.start()
    time.now += 2
    clock.start()
    assert clock.elapsed == 7.0


def test_timer_adds_up_parts_of_one_name(time: SteppingTime) -> None:
    timer = StepTimer(torch.device("cpu"))
    timer.begin(measure=True)
    for name, seconds in (("data", 1), ("encode", 2), ("data", 4)):
        time.now += seconds
        timer.mark(name)
    assert timer.milliseconds() == {"data": 5000.0, "encode": 2000.0}
    timer.begin(measure=False)
    timer.mark("data")
    assert timer.milliseconds() == {}


def test_counters_are_kept_in_headers(cache: Path, tmp_path: Path) -> None:
    counters = Counters(3, 12, 0.1 + 0.2, 1)
    assert Counters.from_strings(counters.to_strings(), "it") == counters
    assert counters.plus(steps=2, clips=8, minutes=1.0) == Counters(5, 20, 1.0 + 0.1 + 0.2, 2)
    with pytest.raises(WeightsError, match="it lacks the counters of a training: 'clips'"):
        Counters.from_strings({"steps": "3"}, "it")
    toy_trainer(cache, tmp_path / "run", ["train.steps=1"]).run()
    with safe_open(tmp_path / "run" / "last.safetensors", framework="pt") as file:
        assert (file.metadata()["steps"], file.metadata()["clips"]) == ("1", "2")
