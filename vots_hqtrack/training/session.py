"""A session of a run: its counters, the clock that may drive it, the times of a step's parts."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from vots_hqtrack.errors import WeightsError

STEPS_AHEAD = 2
"""Steps that the host may prepare before the device has done the first of them."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals of the sessions of a run.

    Attributes:
        steps: Optimiser steps.
        clips: Clips seen, those of all processes counted.
        minutes: Minutes of training.
        sessions: Sessions begun.
    """

    steps: int = 0
    clips: int = 0
    minutes: float = 0.0
    sessions: int = 0

    def plus(self, *, steps: int, clips: int, minutes: float) -> Counters:
        """Return the counters after one more session."""
        return Counters(
            self.steps + steps, self.clips + clips, self.minutes + minutes, self.sessions + 1
        )

    def to_strings(self) -> dict[str, str]:
        """Return the counters as a file's header holds them."""
        return {name: str(value) for name, value in dataclasses.asdict(self).items()}

    @staticmethod
    def from_strings(header: Mapping[str, str], source: str) -> Counters:
        """Read what :meth:`to_strings` wrote.

        Args:
            header: It may hold other entries too.
            source: Name of the file in errors.

        Raises:
            WeightsError: A counter is missing or malformed.
        """
        try:
            return Counters(
                int(header["steps"]),
                int(header["clips"]),
                float(header["minutes"]),
                int(header["sessions"]),
            )
        except (KeyError, ValueError) as error:
            raise WeightsError(f"{source} lacks the counters of a training: {error}") from error


class RunClock:
    """Counts the seconds of a session from its first step on.

    Args:
        elapsed: Seconds before this process, where it goes on from a checkpoint.
    """

    def __init__(self, elapsed: float = 0.0) -> None:
        self._before = elapsed
        self._began: float | None = None

    def start(self) -> None:
        """Begin to count; later calls change nothing."""
        if self._began is None:
            self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of the session."""
        return self._before + (0.0 if self._began is None else time.monotonic() - self._began)


class StepTimer:
    """Times the parts of a step where they run: on a GPU by its own clock.

    Args:
        device: Device of the training.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._is_on = False
        self._marks: list[tuple[str, Any]] = []

    def begin(self, *, measure: bool) -> None:
        """Begin a step, which is measured or not."""
        self._is_on = measure
        self._marks = []
        self.mark("")

    def mark(self, name: str) -> None:
        """End a part of the step; parts of one name are added up."""
        if not self._is_on:
            return
        mark: Any = time.perf_counter()
        if self._is_cuda:
            mark = torch.cuda.Event(enable_timing=True)
            mark.record()
        self._marks.append((name, mark))

    def milliseconds(self) -> dict[str, float]:
        """Return the parts of the step, empty if it was not measured; waits for the device."""
        found: dict[str, float] = {}
        for (_, start), (name, end) in zip(self._marks, self._marks[1:], strict=False):
            if self._is_cuda:
                end.synchronize()
            taken = start.elapsed_time(end) if self._is_cuda else 1000 * (end - start)
            found[name] = found.get(name, 0.0) + float(taken)
        return found


class HostLead:
    """Keeps the host from filling a GPU's queue with seconds of work.

    Args:
        device: Device of the training.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._steps: deque[torch.cuda.Event] = deque()

    def end_step(self) -> None:
        """Note the end of a step, and wait until the one ``STEPS_AHEAD`` before is done."""
        if not self._is_cuda:
            return
        event = torch.cuda.Event()
        event.record()
        self._steps.append(event)
        if len(self._steps) > STEPS_AHEAD:
            self._steps.popleft().synchronize()
