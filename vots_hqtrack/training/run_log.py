"""Log of a run: lines of ``log.jsonl``, TensorBoard's scalars, and calls of the callback."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vots_hqtrack.bench.machine import peak_memory
from vots_hqtrack.errors import HQTrackError
from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.training.callback import Callback, LogEntry
from vots_hqtrack.training.passes import PassResult
from vots_hqtrack.training.recipe import RunOptions
from vots_hqtrack.training.run_folder import RunFolder
from vots_hqtrack.training.schedule import RunProgress
from vots_hqtrack.training.session import Counters, StepTimer
from vots_hqtrack.training.tensorboard import TensorBoardLogger


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step on this process; its numbers are still on the device.

    Attributes:
        last: Last micro-batch, with the mean loss of all.
        gradient_norm: ``()`` float, before clipping.
        rate: Learning rate of most parameters.
        progress: Progress when the step began.
        step: Number in this session, from 1.
        is_last: It is the last step.
        totals: Counters of all sessions after it.
        minutes: Minutes of this session.
        graphs: CUDA graphs in use.
    """

    last: PassResult
    gradient_norm: Tensor
    rate: float
    progress: RunProgress
    step: int
    is_last: bool
    totals: Counters
    minutes: float
    graphs: int


class RunLog:
    """Logs steps, asking the device only now and then.

    Args:
        options: Intervals of lines and images.
        folder: Folder of the run.
        accelerator: Accelerate's, for means over all processes.
        callback: Called on the main process.
        timer: Times of the steps that are logged.
    """

    def __init__(
        self,
        options: RunOptions,
        folder: RunFolder,
        accelerator: Any,  # noqa: ANN401 - Accelerate is not annotated
        callback: Callback,
        timer: StepTimer,
    ) -> None:
        self._options = options
        self._folder = folder
        self._accelerator = accelerator
        self._callback = callback
        self._timer = timer
        self._sums: Tensor | None = None
        self._count = 0
        self._before: tuple[float, int] | None = None

    def is_due(self, step: int) -> bool:
        """Return whether a step has a line of its own, even if it is not the last."""
        return step % self._options.log_every == 0

    def add(self, result: StepResult, tensorboard: TensorBoardLogger | None) -> None:
        """Add a step, and write a line where one is due.

        Args:
            result: Result of the step.
            tensorboard: Logger of the main process.

        Raises:
            HQTrackError: The loss is not finite.
        """
        step = result.step
        loss = result.last.loss
        numbers = torch.stack([loss.total, loss.cross_entropy, loss.jaccard, result.gradient_norm])
        self._sums = numbers if self._sums is None else self._sums + numbers
        self._count += 1
        is_cpu = self._accelerator.device.type == "cpu"
        if is_cpu:
            self._callback.stepped(step, _finite(float(loss.total), step))
        if self.is_due(step) or result.is_last:
            entry = self._entry(result)
            if self._accelerator.is_main_process:
                self._folder.log(dataclasses.asdict(entry))
            if not is_cpu:
                self._callback.stepped(step, entry.loss)
            self._callback.logged(entry)
            if tensorboard is not None:
                tensorboard.scalars(step, _scalars(entry))
        every, batch = self._options.image_every, result.last.batch
        is_drawn = every and (step % every == 0 or step == 1)
        if tensorboard is not None and is_drawn and isinstance(batch, ClipBatch):
            tensorboard.clip(step, batch, result.last.predicted)

    def check(self, step: int) -> None:
        """Raise ``HQTrackError`` if a loss since the last line was not finite."""
        if self._sums is not None:
            _finite(float(self._sums[0]), step)

    def _entry(self, result: StepResult) -> LogEntry:
        sums = self._sums if self._sums is not None else torch.zeros(4)
        means = self._accelerator.reduce(sums / self._count, "mean").tolist()
        self._sums, self._count = None, 0
        now, speed = time.monotonic(), None
        if self._before is not None:
            speed = (result.totals.clips - self._before[1]) / max(now - self._before[0], 1e-9)
        self._before = (now, result.totals.clips)
        memory = peak_memory(self._accelerator.device)
        return LogEntry(
            step=result.step,
            total_steps=result.totals.steps,
            total_clips=result.totals.clips,
            minutes=result.minutes,
            progress=result.progress.fraction,
            loss=_finite(means[0], result.step),
            cross_entropy=means[1],
            jaccard=means[2],
            gradient_norm=means[3],
            learning_rate=result.rate,
            clips_per_second=speed,
            milliseconds={name: round(x, 2) for name, x in self._timer.milliseconds().items()},
            memory_gib=memory.get("device", memory["resident"]) / 2**30,
            graphs=result.graphs,
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
    return found | {f"milliseconds/{name}": time for name, time in entry.milliseconds.items()}
