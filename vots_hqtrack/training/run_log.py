"""What a run says of itself: lines of ``log.jsonl``, TensorBoard's scalars, and a callback."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vots_hqtrack.bench.machine import peak_memory
from vots_hqtrack.errors import HQTrackError
from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.training.board import Board
from vots_hqtrack.training.losses import ClipLoss
from vots_hqtrack.training.recipe import RunOptions
from vots_hqtrack.training.run_folder import RunFolder
from vots_hqtrack.training.schedule import RunProgress
from vots_hqtrack.training.session import Counters, StepTimer


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line of ``log.jsonl``; losses, norm and speed are means since the line before.

    Attributes:
        step: Steps of this session.
        total_steps: Steps of all sessions.
        total_clips: Clips of all sessions.
        minutes: Minutes of this session, from its first step on.
        progress: How far the session is, from 0 to 1.
        loss: What is minimised.
        cross_entropy: Bootstrapped cross-entropy of the tracked frames.
        jaccard: Soft Jaccard loss of the tracked frames.
        gradient_norm: Before clipping.
        learning_rate: Of most parameters.
        clips_per_second: Clips of all processes; from the second line on.
        milliseconds: Parts of the last step where they ran: ``data`` (wait for what workers
            prepare), ``compose`` (copy to the device, or rendering there), ``encode`` (frozen
            encoder), ``forward_backward``, ``optimizer`` (the average too).
        memory_gib: Peak memory of the device, or of the process on a CPU.
        graphs: CUDA graphs in use.
    """

    step: int
    total_steps: int
    total_clips: int
    minutes: float
    progress: float
    loss: float
    cross_entropy: float
    jaccard: float
    gradient_norm: float
    learning_rate: float
    clips_per_second: float | None
    milliseconds: dict[str, float]
    memory_gib: float
    graphs: int


class Reporter(Protocol):
    """Callback of a run."""

    def cached(self, name: str, done: int, total: int) -> None:
        """A clip of a data set has its features on disk."""

    def stepped(self, step: int, loss: float) -> None:
        """Steps were made; ``step`` counts from 1. On a GPU called with the lines of the log."""

    def logged(self, entry: LogEntry) -> None:
        """A line was added to the log."""

    def evaluated(self, step: int, mean: float, best: float) -> None:
        """The dev split was tracked; mean J now and at best."""


class Silence:
    """A callback that does nothing."""

    def cached(self, name: str, done: int, total: int) -> None:
        """See :class:`Reporter`."""

    def stepped(self, step: int, loss: float) -> None:
        """See :class:`Reporter`."""

    def logged(self, entry: LogEntry) -> None:
        """See :class:`Reporter`."""

    def evaluated(self, step: int, mean: float, best: float) -> None:
        """See :class:`Reporter`."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step on this process; its numbers are on the device still.

    Attributes:
        loss: Mean over the accumulated parts.
        gradient_norm: ``()`` float, before clipping.
        rate: Learning rate of most parameters.
        progress: When the step began.
        batch: The last part.
        predicted: Its logits, frame by frame.
    """

    loss: ClipLoss
    gradient_norm: Tensor
    rate: float
    progress: RunProgress
    batch: ClipBatch
    predicted: list[Tensor]


class RunLog:
    """Writes what there is to say of each step, asking the device only now and then.

    Args:
        options: How often.
        folder: Of the run.
        accelerator: Says which process this is, and averages over all.
        reporter: Called on the main process.
        timer: Measures the steps that are logged.
    """

    def __init__(
        self,
        options: RunOptions,
        folder: RunFolder,
        accelerator: Any,  # noqa: ANN401 - Accelerate is not annotated
        reporter: Reporter,
        timer: StepTimer,
    ) -> None:
        self._options = options
        self._folder = folder
        self._accelerator = accelerator
        self._reporter = reporter
        self._timer = timer
        self._sums: Tensor | None = None
        self._count = 0
        self._last: tuple[float, int] | None = None

    def is_due(self, step: int) -> bool:
        """Say whether a step will have a line of its own, unless it turns out to be the last."""
        return step % self._options.log_every == 0

    def add(
        self,
        result: StepResult,
        *,
        step: int,
        totals: Counters,
        minutes: float,
        graphs: int,
        is_last: bool,
        board: Board | None,
    ) -> None:
        """Take in a step, and write a line where one is due.

        Args:
            result: Of the step.
            step: Its number in this session, from 1.
            totals: Counters of all sessions after it.
            minutes: Of this session.
            graphs: CUDA graphs in use.
            is_last: It is the last step.
            board: TensorBoard's, on the main process.

        Raises:
            HQTrackError: The loss is not finite.
        """
        loss = result.loss
        numbers = torch.stack([loss.total, loss.cross_entropy, loss.jaccard, result.gradient_norm])
        self._sums = numbers if self._sums is None else self._sums + numbers
        self._count += 1
        if self._accelerator.device.type == "cpu":
            self._reporter.stepped(step, _finite(float(loss.total), step))
        if self.is_due(step) or is_last:
            entry = self._entry(result, step, totals, minutes, graphs)
            if self._accelerator.is_main_process:
                self._folder.log(dataclasses.asdict(entry))
            if self._accelerator.device.type != "cpu":
                self._reporter.stepped(step, entry.loss)
            self._reporter.logged(entry)
            if board is not None:
                board.scalars(step, _scalars(entry))
        every = self._options.picture_every
        if board is not None and every and (step % every == 0 or step == 1):
            board.clip(step, result.batch, result.predicted)

    def check(self, step: int) -> None:
        """Raise ``HQTrackError`` if a loss since the last line was not finite."""
        if self._sums is not None:
            _finite(float(self._sums[0]), step)

    def _entry(
        self, result: StepResult, step: int, totals: Counters, minutes: float, graphs: int
    ) -> LogEntry:
        sums = self._sums if self._sums is not None else torch.zeros(4)
        means = self._accelerator.reduce(sums / self._count, "mean").tolist()
        self._sums, self._count = None, 0
        _finite(means[0], step)
        now, before = time.monotonic(), self._last
        self._last = (now, totals.clips)
        device = self._accelerator.device
        memory = peak_memory(device)
        return LogEntry(
            step=step,
            total_steps=totals.steps,
            total_clips=totals.clips,
            minutes=minutes,
            progress=result.progress.fraction,
            loss=means[0],
            cross_entropy=means[1],
            jaccard=means[2],
            gradient_norm=means[3],
            learning_rate=result.rate,
            clips_per_second=None
            if before is None
            else (totals.clips - before[1]) / max(now - before[0], 1e-9),
            milliseconds={name: round(x, 2) for name, x in self._timer.milliseconds().items()},
            memory_gib=memory.get("device", memory["resident"]) / 2**30,
            graphs=graphs,
        )


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise HQTrackError(
            f"the loss is {loss} in step {step}; go on from the newest checkpoint with a lower "
            "optimizer.learning_rate or train.precision=float32"
        )
    return loss


def _scalars(entry: LogEntry) -> dict[str, float]:
    found = {
        "loss/total": entry.loss,
        "loss/cross_entropy": entry.cross_entropy,
        "loss/jaccard": entry.jaccard,
        "optimizer/learning_rate": entry.learning_rate,
        "optimizer/gradient_norm": entry.gradient_norm,
    }
    if entry.clips_per_second is not None:
        found["speed/clips_per_second"] = entry.clips_per_second
    return found | {f"milliseconds/{name}": one for name, one in entry.milliseconds.items()}
