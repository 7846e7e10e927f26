"""Training of a network (paper section 3): steps, moving average, checkpoints, dev split.

Everything random in a step depends on the seed, the step and the index in the batch, so a run that
goes on from a checkpoint is the run that was never interrupted. Steps or the clock drive it. A step
never waits for the device: losses stay there until a line of the log is due.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast, gather_object
from torch import Tensor

from vots_hqtrack.checkpoints.load import load_tensors, save_tensors
from vots_hqtrack.errors import WeightsError
from vots_hqtrack.training.batch import ClipSource, PartDataset, part_stream
from vots_hqtrack.training.callback import Callback
from vots_hqtrack.training.engine import (
    agree_to_stop,
    compute_dtype,
    fast_kernels,
    start_accelerator,
    stop_on_signals,
)
from vots_hqtrack.training.hq.recipe import HQRecipe
from vots_hqtrack.training.losses import Loss
from vots_hqtrack.training.passes import Passes, PassResult
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.run_folder import RunFolder, read_checkpoint
from vots_hqtrack.training.run_log import RunLog, StepResult
from vots_hqtrack.training.schedule import (
    RunProgress,
    average_decay,
    parameter_groups,
    progress_of_steps,
    role_rates,
)
from vots_hqtrack.training.session import Counters, HostLead, RunClock, StepTimer
from vots_hqtrack.training.state_file import find_average, load_state, restore_state, save_state
from vots_hqtrack.training.task import Task
from vots_hqtrack.training.tensorboard import TensorBoardLogger, open_logger
from vots_hqtrack.training.vmos_task import VMOSTask

SEED_STRIDE = 1_000_003
"""Keeps the seeds of steps and processes apart."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """End of a run.

    Attributes:
        step: Steps made.
        signal_number: Signal that stopped it early, or None.
        best: Best mean J on the dev split, or None.
    """

    step: int
    signal_number: int | None
    best: float | None


class Trainer:
    """One session of a run.

    Args:
        recipe: Recipe of the run.
        folder: Folder of the run; it goes on from the newest checkpoint there.
        data: Folder that relative data roots are looked up in.
        callback: Called on the main process.
        source: Source of batches; None opens the recipe's data.
        state: Compact state of an earlier session that this one goes on from, with a schedule of
            its own; a checkpoint in the folder goes before it.
        average: Averaged weights that go with the state; None looks beside it.

    Raises:
        ConfigError: The recipe cannot be carried out, or the folder holds another run.
        InputError: Data are missing.
        WeightsError: Weights, a state or a checkpoint are missing, damaged, or do not fit.
    """

    def __init__(
        self,
        recipe: Recipe | HQRecipe,
        folder: Path,
        *,
        data: Path,
        callback: Callback | None = None,
        source: ClipSource[Any] | None = None,
        state: Path | None = None,
        average: Path | None = None,
    ) -> None:
        if recipe.train.threads:
            torch.set_num_threads(recipe.train.threads)
        self.recipe = recipe
        self.accelerator = start_accelerator(recipe.train.precision)
        self.device: torch.device = self.accelerator.device
        is_main = self.accelerator.is_main_process
        self.callback = callback if callback is not None and is_main else Callback()
        self.folder = RunFolder(folder)
        with self.accelerator.main_process_first():
            self.folder.open(recipe)
        self.task = _open_task(recipe, data)
        self.timer = StepTimer(self.device)
        self._build()
        self.step, self.clips, self.fraction = 0, 0, 0.0
        self.earlier = Counters()
        self.clock = RunClock()
        self.best: float | None = None
        newest = self.folder.newest()
        if newest is not None:
            self.load(newest)
        elif state is not None:
            self.go_on_from(state, average)
        if source is None:
            cache = self.folder.path / "cache"
            source = self.task.open_source(cache, self.accelerator, self.callback.cached)
        self.parts = PartDataset(
            source,
            recipe,
            self.earlier.steps,
            rank=self.accelerator.process_index,
            num_processes=self.accelerator.num_processes,
        )
        self.lead = HostLead(self.device)
        self.log = RunLog(recipe.train, self.folder, self.accelerator, self.callback, self.timer)

    def run(self) -> RunResult:
        """Train to the end, or until SIGINT or SIGTERM; then a checkpoint is left.

        Raises:
            HQTrackError: The loss is not finite.
        """
        options, dev = self.recipe.train, self.task.dev
        folder = self.folder.tensorboard if self.accelerator.is_main_process else None
        with (
            stop_on_signals() as stop,
            open_logger(folder, self.step + 1) as tensorboard,
            fast_kernels(self.device, compute_dtype(self.accelerator)),
        ):
            stream = part_stream(
                self.parts, self.step, options.workers, pin_memory=self.device.type == "cuda"
            )
            exported = time.monotonic()
            while not self.is_done:
                self.log.add(self.train_step(stream), tensorboard)
                if dev is not None and (self.is_done or self.step % dev.every == 0):
                    self.evaluate(tensorboard)
                is_stopping = agree_to_stop(self.accelerator, stop)
                every, waited = options.export_every_seconds, time.monotonic() - exported
                if self.is_done or is_stopping or self.step % options.checkpoint_every == 0:
                    self.save()
                elif not every or waited < every:
                    continue
                else:
                    self.export()
                exported = time.monotonic()
                if is_stopping and not self.is_done:
                    return RunResult(self.step, stop.signal_number, self.best)
        return RunResult(self.step, None, self.best)

    @property
    def is_done(self) -> bool:
        """Whether the session is over."""
        return self.fraction >= 1

    @property
    def progress(self) -> RunProgress:
        """Progress of the session in the eyes of its schedule."""
        train = self.recipe.train
        if not train.max_minutes:
            return progress_of_steps(self.step, train.steps, self.earlier.steps)
        return RunProgress(self.fraction, self.step, earlier_steps=self.earlier.steps)

    @property
    def totals(self) -> Counters:
        """Counters of all sessions, this one included."""
        minutes = self.clock.elapsed / 60
        return self.earlier.plus(steps=self.step, clips=self.clips, minutes=minutes)

    def train_step(self, stream: Iterator[Any]) -> StepResult:
        """Make one optimiser step; the host does not wait for the device.

        Args:
            stream: Gives the step's micro-batches next, as the source draws them.
        """
        options, progress = self.recipe.optimizer, self.progress
        self.timer.begin(measure=self.log.is_due(self.step + 1))
        predicted_masks = self.task.step_options(progress.fraction).predicted_masks
        rates = role_rates(options, progress, predicted_masks=predicted_masks)
        for group in self.optimizer.param_groups:
            group["lr"] = rates[group["role"]]
        result = self.accumulate_gradients(stream)
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), options.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._update_average()
        self.timer.mark("optimizer")
        self.lead.end_step()
        self.step += 1
        num_parts = self.accelerator.num_processes * self.recipe.train.accumulate
        self.clips += len(result.batch) * num_parts
        self._measure_progress()
        norm = torch.zeros((), device=self.device) if norm is None else norm
        return StepResult(
            result,
            norm,
            rates["rest"],
            progress,
            step=self.step,
            is_last=self.is_done,
            totals=self.totals,
            minutes=self.clock.elapsed / 60,
            graphs=self.passes.num_graphs,
        )

    def accumulate_gradients(self, stream: Iterator[Any]) -> PassResult:
        """Run the micro-batches of a step forwards and backwards; gradients are left behind.

        Args:
            stream: Gives the micro-batches next, as the source draws them.

        Returns:
            The last micro-batch, with the mean loss of all.
        """
        train, count = self.recipe.train, self.recipe.train.accumulate
        step_seed = train.seed * SEED_STRIDE + self.earlier.steps + self.step
        torch.manual_seed(step_seed * SEED_STRIDE + self.accelerator.process_index)
        options = self.task.step_options(self.progress.fraction)
        self.model.train()
        losses: list[Loss] = []
        for part in range(count):
            drawn = next(stream)
            self.clock.start()
            self.timer.mark("data")
            batch = self.passes.prepare(self.parts.source, drawn)
            waits = part < count - 1
            with self.accelerator.no_sync(self.model) if waits else contextlib.nullcontext():
                result = self.passes.run(batch, options)
            losses.append(result.loss)
        total, entropy, jaccard = (
            torch.stack([getattr(loss, name) for loss in losses]).mean(0)
            for name in ("total", "cross_entropy", "jaccard")
        )
        return dataclasses.replace(result, loss=Loss(total, entropy, jaccard))

    def evaluate(self, tensorboard: TensorBoardLogger | None) -> None:
        """Track the dev split, its sequences shared by the processes, and keep the best weights."""
        if self.task.dev is None:
            return
        tracker = self.task.dev_tracker(self.network, self.learnt)
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        measured = self.task.dev.measure(tracker, self.task.dev.videos[process::processes])
        scores = dict(gather_object([(name, score.mean) for name, score in measured]))
        mean = sum(score.region for score in scores.values()) / len(scores)
        if self.best is None or mean > self.best:
            self.best = mean
            if self.accelerator.is_main_process:
                self._export("best")
        if tensorboard is not None:
            boundary = sum(score.boundary for score in scores.values()) / len(scores)
            regions = {f"dev/{name}": score.region for name, score in scores.items()}
            means = {"dev/mean": mean, "dev/mean J&F": (mean + boundary) / 2}
            tensorboard.scalars(self.step, regions | means)
        self.callback.evaluated(self.step, mean, self.best)

    def save(self) -> None:
        """Write a checkpoint of everything that changes, and what :meth:`export` does.

        Raises:
            HQTrackError: The loss is not finite.
        """
        self.log.check(self.step)
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            content = {
                "step": self.step,
                "network": self.learning.state_dict(),
                "average": self.learnt.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "best": self.best,
                "clips": self.clips,
                "seconds": self.clock.elapsed,
                "earlier": dataclasses.asdict(self.earlier),
            }
            self.folder.save(content, self.recipe.train.keep_checkpoints)
        self.export()
        self.accelerator.wait_for_everyone()

    def export(self) -> None:
        """Write the averaged weights and the compact state.

        Raises:
            HQTrackError: The loss is not finite.
        """
        self.log.check(self.step)
        if not self.accelerator.is_main_process:
            return
        self._export("last")
        if self.recipe.train.keep_exports:
            self._export(f"minute-{round(self.clock.elapsed / 60):02d}.fp16")
        save_state(self.folder.state, self.learning, self._adamw, self.totals, self._facts())

    def load(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote.

        Raises:
            WeightsError: The file is damaged or belongs to another network.
        """
        content = read_checkpoint(path)
        try:
            self.learning.load_state_dict(content["network"])
            self.learnt.load_state_dict(content["average"])
            self.optimizer.load_state_dict(content["optimizer"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(content["scaler"])
            self.earlier = Counters(**content.get("earlier", {}))
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise WeightsError(f"cannot go on from the checkpoint {path}: {error}") from error
        self.step, self.best = int(content["step"]), content["best"]
        self.clips = int(content.get("clips", 0))
        self.clock = RunClock(float(content.get("seconds", 0.0)))
        self.fraction = self._own_fraction()

    def go_on_from(self, path: Path, average: Path | None) -> None:
        """Begin a session where another one ended, with a schedule of its own.

        Args:
            path: Compact state of the other session.
            average: Its averaged weights; None looks beside the state.

        Raises:
            WeightsError: A file is missing, damaged, or belongs to another network.
        """
        state = load_state(path)
        weights = find_average(path) if average is None else average
        self.network.load_export(load_tensors(weights, expected_sha256=None), str(weights))
        self.learnt.load_state_dict(self.learning.state_dict())
        restore_state(state, self.learning, self._adamw, str(path))
        self.earlier = state.counters

    def _build(self) -> None:
        """Build network, moving average, optimiser and passes."""
        torch.manual_seed(self.recipe.train.seed)
        network = self.task.build_network(compute_dtype(self.accelerator))
        self.network = network.to(self.device)
        self.learning = network.learning_modules()
        # PyTorch's AveragedModel makes the host wait for the device in every step.
        self.learnt = copy.deepcopy(self.learning).requires_grad_(False).eval()
        groups = parameter_groups(self.learning, self.recipe.optimizer)
        fused = True if self.device.type == "cuda" else None
        self._adamw = torch.optim.AdamW(groups, fused=fused)
        self.model, self.optimizer = self.accelerator.prepare(self.network, self._adamw)
        self.passes = Passes(
            self.recipe.train, self.network, self.model, self.accelerator, self.timer
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the average towards the network; buffers are copied."""
        decay = average_decay(self.recipe.optimizer, self.progress)
        averaged: list[Tensor] = list(self.learnt.parameters())
        current: list[Tensor] = list(self.learning.parameters())
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for kept, new in zip(self.learnt.buffers(), self.learning.buffers(), strict=True):
            kept.copy_(new)

    def _measure_progress(self) -> None:
        """Measure the progress; all processes get the same."""
        fraction = self._own_fraction()
        if self.recipe.train.max_minutes and self.accelerator.num_processes > 1:
            shared = torch.tensor(fraction, dtype=torch.float64, device=self.device)
            fraction = float(broadcast(shared))
        self.fraction = fraction
        self.parts.progress.fill_(fraction)

    def _own_fraction(self) -> float:
        train = self.recipe.train
        if train.max_minutes:
            return min(self.clock.elapsed / (60 * train.max_minutes), 1.0)
        return self.step / train.steps

    def _export(self, name: str) -> None:
        """Write the averaged weights for ``hqtrack track --weights``."""
        tensors: dict[str, Tensor] = self.network.export_tensors(self.learnt)
        save_tensors(self.folder.path / f"{name}.safetensors", tensors, self._facts())

    def _facts(self) -> dict[str, str]:
        return {
            "step": str(self.step),
            **self.task.facts(),
            "dev_mean_j": "" if self.best is None else f"{self.best:.4f}",
            **self.totals.to_strings(),
        }


def _open_task(recipe: Recipe | HQRecipe, data: Path) -> Task:
    if isinstance(recipe, Recipe):
        return VMOSTask(recipe, data)
    from vots_hqtrack.training.hq.network import HQHeadTask

    return HQHeadTask(recipe, data)
