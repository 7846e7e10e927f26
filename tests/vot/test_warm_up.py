"""The warm-up takes every step once before the greeting, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from vots_hqtrack.result import FrameResult
from vots_hqtrack.types import FrameArray, MaskArray, Size
from vots_hqtrack.vot import __main__ as program
from vots_hqtrack.vot.__main__ import warm_up
from vots_hqtrack.vot.server import VideoTracker


class Recorder:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def initialize(self, frame: FrameArray, masks: Mapping[int, MaskArray]) -> object:
        (mask,) = masks.values()
        assert frame.dtype == np.uint8
        assert frame.shape == (*mask.shape, 3)
        assert mask.any()
        assert not mask.all()
        self.steps.append("initialize")
        return self

    def track(self, frame: FrameArray, state: object) -> FrameResult:
        assert state is self
        self.steps.append("track")
        return FrameResult(1, {}, {}, {})

    def add_objects(self, frame: FrameArray, masks: Mapping[int, MaskArray], state: object) -> None:
        raise AssertionError("no object is added")


def test_every_step_is_taken_once() -> None:
    tracker = Recorder()
    assert warm_up(tracker, size=Size(36, 64)) is tracker
    assert tracker.steps == ["initialize", "track"]


def test_a_slow_first_step_is_not_followed_by_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "STEP_LIMIT_S", 0.0)
    tracker = Recorder()
    warm_up(tracker, size=Size(36, 64))
    assert tracker.steps == ["initialize"]


def test_the_program_warms_up_while_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Recorder()
    steps_at_hello: list[str] = []

    def run(load: object) -> int:
        assert callable(load)
        loaded: VideoTracker = load()
        assert loaded is tracker
        steps_at_hello.extend(tracker.steps)
        return 0

    monkeypatch.setattr(program, "load_tracker", lambda _: tracker)
    monkeypatch.setattr(program, "run", run)
    monkeypatch.setattr(program.sys.stdin, "isatty", lambda: False, raising=False)
    assert program.main([]) == 0
    assert steps_at_hello == ["initialize", "track"]
