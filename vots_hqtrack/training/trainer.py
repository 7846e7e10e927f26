"""Trains VMOS (paper section 3): steps, moving average, checkpoints, dev split, on any devices.

Everything random in a step depends on the seed, the step and the index in the batch, so a run that
goes on from a checkpoint is the run that was never interrupted. Steps or the clock drive it. A step
never waits for the device: losses stay there until a line of the log is due.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast, gather_object

from vots_hqtrack.checkpoints.load import load_tensors
from vots_hqtrack.errors import WeightsError
from vots_hqtrack.training.batch import ClipSource, PartDataset, Share, part_stream
from vots_hqtrack.training.board import Board, open_board
from vots_hqtrack.training.dev import DevSplit, average_tracker
from vots_hqtrack.training.engine import (
    StopRequest,
    agree_to_stop,
    compute_dtype,
    fast_kernels,
    start_accelerator,
)
from vots_hqtrack.training.losses import ClipLoss
from vots_hqtrack.training.mixture import open_mixture
from vots_hqtrack.training.network import (
    build_network,
    copy_average,
    update_average,
)
from vots_hqtrack.training.passes import Gradients, Passes
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.regularise import regularise_encoder, regularise_vmos
from vots_hqtrack.training.run_folder import RunFolder, read_checkpoint
from vots_hqtrack.training.run_log import Reporter, RunLog, Silence, StepResult
from vots_hqtrack.training.schedule import (
    RunProgress,
    average_decay,
    loss_weights,
    parameter_groups,
    progress_of_steps,
    role_rates,
    uses_own_labels,
)
from vots_hqtrack.training.session import Counters, HostLead, RunClock, StepTimer
from vots_hqtrack.training.state_file import find_average, load_state, restore_state, save_state

SEED_STRIDE = 1_000_003
"""Keeps the seeds of steps and processes apart."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

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
        recipe: What to do.
        folder: Where the run is kept; it goes on from the newest checkpoint there.
        data: Folder that relative data roots are looked up in.
        reporter: Callback, on the main process.
        source: Where batches come from; None opens the recipe's data.
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
        recipe: Recipe,
        folder: Path,
        *,
        data: Path,
        reporter: Reporter | None = None,
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
        self.reporter: Reporter = reporter if reporter is not None and is_main else Silence()
        self.folder = RunFolder(folder)
        with self.accelerator.main_process_first():
            self.folder.open(recipe)
        self.dev = DevSplit(recipe.dev, data) if recipe.dev.root else None
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
        share = Share(self.accelerator.process_index, self.accelerator.num_processes)
        source = source or open_mixture(recipe, data, self.folder, self.accelerator, self.reporter)
        self.parts = PartDataset(source, recipe, share, self.earlier.steps)
        self.lead = HostLead(self.device)
        self.log = RunLog(recipe.train, self.folder, self.accelerator, self.reporter, self.timer)

    def run(self) -> RunResult:
        """Train to the end, or until SIGINT or SIGTERM; then a checkpoint is left.

        Raises:
            HQTrackError: The loss is not finite.
        """
        options = self.recipe.train
        folder = self.folder.tensorboard if self.accelerator.is_main_process else None
        with (
            StopRequest() as stop,
            open_board(folder, self.step + 1) as board,
            fast_kernels(self.device, compute_dtype(self.accelerator)),
        ):
            stream = part_stream(
                self.parts, self.step, options.workers, pin_memory=self.device.type == "cuda"
            )
            exported = time.monotonic()
            while not self.is_done:
                self._report(self.train_step(stream), board)
                if self.is_done or self.step % self.recipe.dev.every == 0:
                    self._evaluate(board)
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
        """How far the session is, as its schedule sees it."""
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
            stream: Gives the step's parts next, as the source draws them.
        """
        options, progress = self.recipe.optimizer, self.progress
        self.timer.begin(measure=self.log.is_due(self.step + 1))
        own_labels = uses_own_labels(self.recipe.clip, progress.fraction)
        rates = role_rates(options, progress, own_labels=own_labels)
        for group in self.optimizer.param_groups:
            group["lr"] = rates[group["role"]]
        found = self.accumulate_gradients(stream)
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), options.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        update_average(self.average, self.network, average_decay(options, progress))
        self.timer.mark("optimizer")
        self.lead.end_step()
        self.step += 1
        parts = self.accelerator.num_processes * self.recipe.train.accumulate
        self.clips += len(found.batch.labels) * parts
        self._measure_progress()
        norm = torch.zeros((), device=self.device) if norm is None else norm
        return StepResult(found.loss, norm, rates["rest"], progress, found.batch, found.predicted)

    def accumulate_gradients(self, stream: Iterator[Any]) -> Gradients:
        """Run the parts of the present step forwards and backwards; gradients are left behind.

        Args:
            stream: Gives the parts next, as the source draws them.
        """
        recipe, num_parts = self.recipe, self.recipe.train.accumulate
        process = self.accelerator.process_index
        torch.manual_seed(
            (recipe.train.seed * SEED_STRIDE + self.earlier.steps + self.step) * SEED_STRIDE
            + process
        )
        weights = loss_weights(recipe.loss, self.progress.fraction)
        own_labels = uses_own_labels(recipe.clip, self.progress.fraction)
        self.model.train()
        losses = []
        for part in range(num_parts):
            drawn = next(stream)
            self.clock.start()
            self.timer.mark("data")
            batch = self.passes.prepare(self.parts.source, drawn)
            waits = part < num_parts - 1
            with self.accelerator.no_sync(self.model) if waits else contextlib.nullcontext():
                result = self.passes.run(batch, weights, own_labels=own_labels)
            losses.append(result.loss)
        mean = [
            torch.stack([getattr(one, name) for one in losses]).mean(0)
            for name in ("total", "cross_entropy", "jaccard")
        ]
        return Gradients(ClipLoss(*mean), batch, result.predicted)

    def save(self) -> None:
        """Write a checkpoint with everything that goes on changing, and what :meth:`export` does.

        Raises:
            HQTrackError: The loss is not finite.
        """
        self.log.check(self.step)
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            content = {
                "step": self.step,
                "network": self.network.learning_state(),
                "average": self.average.learning_state(),
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
        save_state(self.folder.state, self.network, self._adamw, self.totals, self._facts())

    def load(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote.

        Raises:
            WeightsError: The file is damaged or belongs to another network.
        """
        content = read_checkpoint(path)
        try:
            self.network.load_learning_state(content["network"])
            self.average.load_learning_state(content["average"])
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
        tensors = load_tensors(weights, expected_sha256=None)
        for network in (self.network, self.average):
            network.load_trained(tensors, str(weights))
        restore_state(state, self.network, self._adamw, str(path))
        self.earlier = state.counters

    def _build(self) -> None:
        """Make network, average, optimiser, and what runs batches."""
        recipe = self.recipe
        torch.manual_seed(recipe.train.seed)
        self.network = build_network(
            recipe.model,
            recipe.clip,
            encoder_dtype=compute_dtype(self.accelerator),
            compile_encoder=recipe.train.compile_encoder,
        ).to(self.device)
        self.average = copy_average(self.network)
        regularise_vmos(self.network.vmos, recipe.regularisation)
        if self.network.encoder is not None and self.network.train_encoder:
            regularise_encoder(self.network.encoder, recipe.regularisation)
        groups = parameter_groups(self.network, recipe.optimizer)
        fused = True if self.device.type == "cuda" else None
        self._adamw = torch.optim.AdamW(groups, fused=fused)
        self.model, self.optimizer = self.accelerator.prepare(self.network, self._adamw)
        self.passes = Passes(recipe.train, self.network, self.model, self.accelerator, self.timer)

    def _measure_progress(self) -> None:
        """See how far the session is; all processes see the same."""
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

    def _report(self, result: StepResult, board: Board | None) -> None:
        self.log.add(
            result,
            step=self.step,
            totals=self.totals,
            minutes=self.clock.elapsed / 60,
            graphs=self.passes.num_graphs,
            is_last=self.is_done,
            board=board,
        )

    def _evaluate(self, board: Board | None) -> None:
        """Track the dev split, the sequences shared out over the processes."""
        if self.dev is None:
            return
        tracker = average_tracker(self.average, self.recipe.model)
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        found = self.dev.measure(tracker, self.dev.videos[process::processes])
        scores = dict(gather_object([(name, one.mean) for name, one in found]))
        mean = sum(one.region for one in scores.values()) / len(scores)
        if self.best is None or mean > self.best:
            self.best = mean
            if self.accelerator.is_main_process:
                self._export("best")
        if board is not None:
            board.scalars(self.step, {f"dev/{name}": one.region for name, one in scores.items()})
            boundary = sum(one.boundary for one in scores.values()) / len(scores)
            board.scalars(self.step, {"dev/mean": mean, "dev/mean J&F": (mean + boundary) / 2})
        self.reporter.evaluated(self.step, mean, self.best)

    def _export(self, name: str) -> None:
        self.folder.export(name, self.average.trained_tensors(), self._facts())

    def _facts(self) -> dict[str, str]:
        return {
            "step": str(self.step),
            "preset": self.recipe.model.preset,
            "settings": " ".join(self.recipe.model.settings),
            "dev_mean_j": "" if self.best is None else f"{self.best:.4f}",
            **self.totals.to_strings(),
        }
