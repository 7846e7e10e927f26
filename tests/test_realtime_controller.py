"""The controller keeps the budget on average, spends saved time, and reports what it left out."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vots_hqtrack.realtime import SCALE_COOLDOWN, SCALES, LatencyController, choose_scale
from vots_hqtrack.types import FramePace

CAPACITY = 6


class Machine:
    """A clock, and frames that take as long as they say.

    With an area, ``plain`` is what a frame takes at the smallest resolution, and more at others.
    """

    def __init__(
        self, plain: float, memory: float, refinement: float, *, has_area: bool = False
    ) -> None:
        self.now = 100.0
        self.has_area = has_area
        self.plain = plain
        self.memory = memory
        self.refinement = refinement

    def frame(self, controller: LatencyController, noise: float = 1.0) -> tuple[float, FramePace]:
        began = self.now
        controller.begin()
        area = (controller.scale / SCALES[-1]) ** 2 if self.has_area else 1.0
        self.now += (self.plain + self.memory * controller.memory_frames) * area * noise
        if controller.is_refining:
            with controller.refinement():
                self.now += self.refinement * noise
        return self.now - began, controller.end()

    def controller(
        self, budget: float, *, can_refine: bool = True, scale: float = SCALES[-1]
    ) -> LatencyController:
        return LatencyController(
            budget, scale=scale, capacity=CAPACITY, can_refine=can_refine, clock=lambda: self.now
        )


def run(
    machine: Machine, controller: LatencyController, count: int
) -> tuple[list[float], list[FramePace]]:
    rows = [machine.frame(controller) for _ in range(count)]
    return [row[0] for row in rows], [row[1] for row in rows]


def test_where_there_is_time_everything_is_done() -> None:
    machine = Machine(0.1, 0.01, 0.1)
    _, paces = run(machine, controller := machine.controller(0.4), 30)
    assert paces[0].is_refinement_skipped  # nobody knows yet what a frame takes
    assert not any(pace.is_refinement_skipped for pace in paces[1:])
    assert controller.memory_frames == CAPACITY
    assert all(pace.is_in_budget for pace in paces)
    assert {pace.scale for pace in paces} == {SCALES[-1]}
    assert all(pace.restart_seconds == 0 for pace in paces)


def test_refinement_comes_as_often_as_it_can_be_afforded() -> None:
    """0.1 s are saved by each plain frame and a refinement takes 0.3: one frame in three."""
    machine = Machine(0.24, 0.01, 0.3)
    seconds, paces = run(machine, machine.controller(0.4), 300)
    refined = [not pace.is_refinement_skipped for pace in paces[50:]]
    assert np.mean(refined) == pytest.approx(1 / 3, abs=0.02)
    assert np.mean(seconds[50:]) == pytest.approx(0.4, rel=0.03)
    assert np.mean(seconds[50:]) <= 0.4 * 1.01


def test_less_memory_is_read_where_frames_take_too_long() -> None:
    machine = Machine(0.3, 0.03, 0.3)
    seconds, paces = run(machine, controller := machine.controller(0.4), 100)
    assert controller.memory_frames == 3
    assert paces[0].memory_frames == CAPACITY
    assert np.mean(seconds[20:]) <= 0.4


def test_memory_comes_back_when_the_machine_is_free_again() -> None:
    machine = Machine(0.35, 0.03, 0.3)
    run(machine, controller := machine.controller(0.4), 50)
    assert controller.memory_frames < CAPACITY
    machine.plain = 0.05
    _, paces = run(machine, controller, 100)
    assert controller.memory_frames == CAPACITY
    assert paces[-1].is_in_budget


def test_out_of_reach_it_takes_the_cheapest_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(0.2, 0.02, 0.3)
    with caplog.at_level(logging.WARNING):
        _, paces = run(machine, machine.controller(0.05), 60)
    assert paces[-1].memory_frames == 1
    assert all(pace.is_refinement_skipped for pace in paces)
    assert not any(pace.is_in_budget for pace in paces)
    assert paces[-1].mean_seconds == pytest.approx(0.22, rel=0.1)
    (record,) = caplog.records
    assert "0.220 s at the cheapest setting, and the budget is 0.050 s" in record.getMessage()


def test_without_a_refiner_nothing_is_said_to_be_skipped() -> None:
    machine = Machine(0.1, 0.01, 0.0)
    _, paces = run(machine, machine.controller(0.4, can_refine=False), 20)
    assert not any(pace.is_refinement_skipped for pace in paces)


def test_a_hiccup_is_paid_back_and_forgiven() -> None:
    machine = Machine(0.1, 0.0, 0.2)
    controller = machine.controller(0.35)
    run(machine, controller, 20)
    machine.frame(controller, noise=1000)
    _, paces = run(machine, controller, 100)
    skipped = [pace.is_refinement_skipped for pace in paces]
    assert all(skipped[:10])
    assert not any(skipped[60:])


@settings(max_examples=50, deadline=None)
@given(
    st.floats(0.01, 0.5), st.floats(0, 0.05), st.floats(0.01, 1), st.floats(0.02, 1), st.randoms()
)
def test_the_mean_holds_wherever_it_can(
    plain: float, memory: float, refinement: float, budget: float, random: object
) -> None:
    machine = Machine(plain, memory, refinement, has_area=True)
    controller = machine.controller(budget)
    uniform: Callable[[float, float], float] = random.uniform  # type: ignore[attr-defined]
    seconds = [machine.frame(controller, uniform(0.9, 1.1))[0] for _ in range(400)]
    cheapest = plain + memory
    # Noise of 10 % and one refinement ahead of its time are the slack.
    assert np.mean(seconds[100:]) <= max(budget, cheapest) * 1.1 + refinement / 300


class TestResolution:
    """It follows the machine where memory and refinement cannot."""

    def test_it_falls_where_the_machine_becomes_slower(self) -> None:
        machine = Machine(0.08, 0.001, 0.1, has_area=True)
        controller = machine.controller(0.4, scale=0.75)
        _, before = run(machine, controller, 100)
        machine.plain = 0.2
        seconds, after = run(machine, controller, 100)
        assert {pace.scale for pace in before} == {0.75}
        assert after[-1].scale < 0.75
        assert np.mean(seconds[50:]) <= 0.4
        assert after[-1].is_in_budget

    def test_it_rises_again_when_all_else_is_done(self) -> None:
        machine = Machine(0.2, 0.001, 0.1, has_area=True)
        controller = machine.controller(0.4)
        run(machine, controller, 100)
        assert controller.scale == SCALES[-1]
        machine.plain = 0.02
        _, paces = run(machine, controller, 200)
        assert paces[-1].scale > SCALES[-1]
        assert not paces[-1].is_refinement_skipped
        assert paces[-1].memory_frames == CAPACITY
        assert all(pace.is_in_budget for pace in paces[50:])

    def test_it_changes_seldom_whatever_the_machine_does(self) -> None:
        machine = Machine(0.1, 0.01, 0.1, has_area=True)
        controller, scales = machine.controller(0.4), []
        for number in range(600):
            noise = 0.05 if number // 20 % 2 else 6.0
            scales.append(machine.frame(controller, noise)[1].scale)
        changes = np.flatnonzero(np.diff(scales))
        assert len(changes) >= 2
        assert np.diff(changes).min() >= SCALE_COOLDOWN

    def test_a_restart_counts_for_the_mean_but_not_for_what_frames_take(self) -> None:
        machine = Machine(0.1, 0.0, 0.0)
        controller = machine.controller(0.4, can_refine=False)
        controller.begin()
        with controller.restart():
            machine.now += 5.0
        machine.now += 0.1
        pace = controller.end()
        assert pace.restart_seconds == pytest.approx(5.0)
        assert pace.mean_seconds == pytest.approx(5.1)
        _, paces = run(machine, controller, 20)
        assert controller.memory_frames == CAPACITY
        assert all(pace.restart_seconds == 0 for pace in paces)


def test_the_same_times_lead_to_the_same_decisions() -> None:
    first, second = Machine(0.24, 0.01, 0.3), Machine(0.24, 0.01, 0.3)
    assert run(first, first.controller(0.4), 50) == run(second, second.controller(0.4), 50)


@pytest.mark.parametrize(
    ("seconds", "budget", "wanted", "measured"),
    [
        (0.1, 0.2, 1.0, [1.0]),
        (0.2, 0.2, 0.75, [1.0, 0.75]),
        (1.0, 0.2, 0.375, [1.0, 0.375]),
        (9.0, 0.05, 0.375, [1.0, 0.375]),
    ],
)
def test_scales_are_tried_only_where_they_can_be_enough(
    seconds: float, budget: float, wanted: float, measured: list[float]
) -> None:
    tried: list[float] = []

    def measure(scale: float) -> float:
        tried.append(scale)
        return seconds * scale**2

    assert choose_scale(measure, budget) == wanted
    assert tried == measured


def test_a_scale_that_disappoints_is_followed_by_a_smaller_one() -> None:
    tried: list[float] = []

    def measure(scale: float) -> float:
        tried.append(scale)
        return 0.1 + 0.1 * scale**2  # a part of the time does not shrink

    assert choose_scale(measure, 0.15) == SCALES[-1]
    assert tried == [1.0, 0.75, 0.625, 0.5, 0.375]
