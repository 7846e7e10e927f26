"""Trains VMOS (paper section 3): steps, moving average, checkpoints, dev split, on any devices.

Everything random in a step depends on the seed, the step and the place in the batch, so a run that
goes on from a checkpoint is the run that was never interrupted.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import gather_object
from torch import Tensor

from vots_hqtrack.errors import HQTrackError, WeightsError
from vots_hqtrack.training.batch import ClipBatch, ClipSource, PartDataset, Share, part_stream
from vots_hqtrack.training.board import Board
from vots_hqtrack.training.dev import DevSplit, dev_tracker
from vots_hqtrack.training.engine import StopRequest, start_accelerator
from vots_hqtrack.training.losses import ClipLoss, LossWeights, bootstrap_fraction, clip_loss
from vots_hqtrack.training.mixture import open_mixture
from vots_hqtrack.training.network import (
    build_network,
    copy_average,
    frame_encoder,
    tracker_config,
    update_average,
)
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.regularise import regularise_encoder, regularise_vmos
from vots_hqtrack.training.run_folder import RunFolder, read_checkpoint
from vots_hqtrack.training.schedule import (
    auxiliary_weight,
    average_decay,
    parameter_groups,
    role_rates,
    uses_own_labels,
)

SEED_STRIDE = 1_000_003
"""Keeps the seeds of steps and processes apart."""


class Reporter(Protocol):
    """Who is told how a run goes on."""

    def cached(self, name: str, done: int, total: int) -> None:
        """A clip of a data set has its features on disk."""

    def stepped(self, step: int, loss: float) -> None:
        """A step was made; ``step`` counts from 1."""

    def evaluated(self, step: int, mean: float, best: float) -> None:
        """The dev split was tracked; mean J now and at best."""


class Silence:
    """A reporter that tells nobody."""

    def cached(self, name: str, done: int, total: int) -> None:
        """See :class:`Reporter`."""

    def stepped(self, step: int, loss: float) -> None:
        """See :class:`Reporter`."""

    def evaluated(self, step: int, mean: float, best: float) -> None:
        """See :class:`Reporter`."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step's numbers on this process.

    Attributes:
        loss: Mean over the accumulated parts.
        gradient_norm: Before it was clipped.
        rate: Learning rate of most parameters.
        batch: The last part.
        predicted: Its logits, frame by frame.
    """

    loss: ClipLoss
    gradient_norm: float
    rate: float
    batch: ClipBatch
    predicted: list[Tensor]


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
    """One run.

    Args:
        recipe: What to do.
        folder: Where the run is kept; it goes on from the newest checkpoint there.
        data: Folder that relative data roots are looked up in.
        reporter: Told of the progress, on the main process.
        source: Where batches come from; None opens the recipe's data.

    Raises:
        ConfigError: The recipe cannot be carried out, or the folder holds another run.
        InputError: Data are missing.
        WeightsError: Weights or a checkpoint are missing, damaged, or do not fit.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        data: Path,
        reporter: Reporter | None = None,
        source: ClipSource | None = None,
    ) -> None:
        if recipe.train.threads:
            torch.set_num_threads(recipe.train.threads)
        self.recipe = recipe
        self.accelerator = start_accelerator(recipe.train.precision)
        is_main = self.accelerator.is_main_process
        self.reporter: Reporter = reporter if reporter is not None and is_main else Silence()
        self.folder = RunFolder(folder)
        with self.accelerator.main_process_first():
            self.folder.open(recipe)
        self.dev = DevSplit(recipe.dev, data) if recipe.dev.root else None
        torch.manual_seed(recipe.train.seed)
        self.network = build_network(recipe.model, recipe.clip).to(self.accelerator.device)
        self.average = copy_average(self.network)
        self._regularise()
        self.optimizer: Any = torch.optim.AdamW(parameter_groups(self.network, recipe.optimizer))
        self.model, self.optimizer = self.accelerator.prepare(self.network, self.optimizer)
        share = Share(self.accelerator.process_index, self.accelerator.num_processes)
        source = source or open_mixture(recipe, data, self.folder, self.accelerator, self.reporter)
        self.parts = PartDataset(source, recipe, share)
        self.step = 0
        self.best: float | None = None
        newest = self.folder.newest()
        if newest is not None:
            self.load(newest)

    def run(self) -> RunResult:
        """Train to the end, or until SIGINT or SIGTERM; then a checkpoint is left.

        Raises:
            HQTrackError: The loss is no finite number.
        """
        options = self.recipe.train
        with StopRequest() as stop, self._board() as board:
            stream = part_stream(self.parts, self.step, options.workers)
            while self.step < options.steps:
                self._log(board, self.train_step(stream))
                is_last = self.step == options.steps
                if is_last or self.step % self.recipe.dev.every == 0:
                    self._evaluate(board)
                is_stopping = self._agree_to_stop(stop)
                if is_last or is_stopping or self.step % options.checkpoint_every == 0:
                    self.save()
                if is_stopping and not is_last:
                    return RunResult(self.step, stop.signal_number, self.best)
        return RunResult(self.step, None, self.best)

    def train_step(self, stream: Iterator[ClipBatch]) -> StepResult:
        """Make one optimiser step.

        Args:
            stream: Gives the step's parts next.
        """
        options, steps = self.recipe.optimizer, self.recipe.train.steps
        own_labels = uses_own_labels(self.recipe.clip, self.step, steps)
        rates = role_rates(options, self.step, steps, own_labels=own_labels)
        for group in self.optimizer.param_groups:
            group["lr"] = rates[group["role"]]
        loss, batch, predicted = self.accumulate_gradients(stream)
        if not math.isfinite(float(loss.total)):
            raise HQTrackError(
                f"the loss is {float(loss.total)} in step {self.step + 1}; go on from the newest "
                "checkpoint with a lower optimizer.learning_rate or train.precision=float32"
            )
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), options.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        update_average(self.average, self.network, average_decay(options, self.step, steps))
        self.step += 1
        return StepResult(loss, float(norm or 0.0), rates["rest"], batch, predicted)

    def accumulate_gradients(
        self, stream: Iterator[ClipBatch]
    ) -> tuple[ClipLoss, ClipBatch, list[Tensor]]:
        """Run the parts of the present step forwards and backwards; gradients are left behind.

        Returns:
            The mean loss, the last part, and its logits.
        """
        recipe, num_parts = self.recipe, self.recipe.train.accumulate
        process = self.accelerator.process_index
        torch.manual_seed((recipe.train.seed * SEED_STRIDE + self.step) * SEED_STRIDE + process)
        weights = self._loss_weights()
        own_labels = uses_own_labels(recipe.clip, self.step, recipe.train.steps)
        self.model.train()
        losses = []
        for part in range(num_parts):
            batch = next(stream).to(self.accelerator.device)
            waits = part < num_parts - 1
            with self.accelerator.no_sync(self.model) if waits else contextlib.nullcontext():
                predicted: list[Tensor] = self.model(
                    batch, use_own_labels=own_labels, with_reference=weights.auxiliary > 0
                )
                loss = clip_loss(
                    predicted, batch.labels, weights, align_corners=self.network.align_corners
                )
                self.accelerator.backward(loss.total / num_parts)
            losses.append(torch.stack([loss.total.detach(), loss.cross_entropy, loss.jaccard]))
        return ClipLoss(*torch.stack(losses).mean(0)), batch, [one.detach() for one in predicted]

    def save(self) -> None:
        """Write a checkpoint with everything that goes on changing, and the averaged weights."""
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            content = {
                "step": self.step,
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "best": self.best,
            }
            self.folder.save(content, self.recipe.train.keep_checkpoints)
            self._export("last")
        self.accelerator.wait_for_everyone()

    def load(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote.

        Raises:
            WeightsError: The file is damaged or belongs to another network.
        """
        content = read_checkpoint(path)
        try:
            self.network.load_state_dict(content["network"])
            self.average.load_state_dict(content["average"])
            self.optimizer.load_state_dict(content["optimizer"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(content["scaler"])
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise WeightsError(f"cannot go on from the checkpoint {path}: {error}") from error
        self.step, self.best = int(content["step"]), content["best"]

    def _regularise(self) -> None:
        regularise_vmos(self.network.vmos, self.recipe.regularisation)
        if self.network.encoder is not None and self.network.train_encoder:
            regularise_encoder(self.network.encoder, self.recipe.regularisation)

    def _loss_weights(self) -> LossWeights:
        options, steps = self.recipe.loss, self.recipe.train.steps
        return LossWeights(
            cross_entropy=options.cross_entropy,
            jaccard=options.jaccard,
            fraction=bootstrap_fraction(
                self.step, steps, share=options.hardest_share, until=options.hardest_until
            ),
            auxiliary=auxiliary_weight(options, self.step, steps),
        )

    @contextlib.contextmanager
    def _board(self) -> Iterator[Board | None]:
        if not self.accelerator.is_main_process:
            yield None
            return
        board = Board(self.folder.tensorboard, self.step + 1)
        try:
            yield board
        finally:
            board.close()

    def _log(self, board: Board | None, result: StepResult) -> None:
        options, loss = self.recipe.train, result.loss
        self.reporter.stepped(self.step, float(loss.total))
        if self.step % options.log_every == 0 or self.step == options.steps:
            parts = torch.stack([loss.total, loss.cross_entropy, loss.jaccard])
            total, cross_entropy, jaccard = self.accelerator.reduce(parts, "mean").tolist()
            if board is not None:
                values = {
                    "loss/total": total,
                    "loss/cross_entropy": cross_entropy,
                    "loss/jaccard": jaccard,
                    "optimizer/learning_rate": result.rate,
                    "optimizer/gradient_norm": result.gradient_norm,
                }
                board.scalars(self.step, values)
        every = options.picture_every
        if board is not None and every and (self.step % every == 0 or self.step == 1):
            board.clip(self.step, result.batch, result.predicted)

    def _evaluate(self, board: Board | None) -> None:
        """Track the dev split, the sequences shared out over the processes."""
        if self.dev is None:
            return
        config = tracker_config(self.recipe.model)
        encoder = frame_encoder(self.average, config)
        tracker = dev_tracker(config, encoder, self.average.vmos, self.accelerator.device)
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        found = self.dev.measure(tracker, self.dev.videos[process::processes])
        scores = dict(gather_object(list(found.items())))
        mean = sum(scores.values()) / len(scores)
        if self.best is None or mean > self.best:
            self.best = mean
            if self.accelerator.is_main_process:
                self._export("best")
        if board is not None:
            board.scalars(self.step, {f"dev/{name}": value for name, value in scores.items()})
            board.scalars(self.step, {"dev/mean": mean})
        self.reporter.evaluated(self.step, mean, self.best)

    def _export(self, name: str) -> None:
        facts = {
            "step": str(self.step),
            "preset": self.recipe.model.preset,
            "settings": " ".join(self.recipe.model.settings),
            "dev_mean_j": "" if self.best is None else f"{self.best:.4f}",
        }
        self.folder.export(name, self.average.trained_tensors(), facts)

    def _agree_to_stop(self, stop: StopRequest) -> bool:
        # A signal reaches the processes at different steps; they must leave in the same one.
        if stop.is_set:
            self.accelerator.set_trigger()
        return bool(self.accelerator.check_trigger())
