"""Scalars and pictures of a run for TensorBoard."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.types import LabelArray
from vots_hqtrack.video.label_maps import palette

TINT = 0.6

_log = logging.getLogger(__name__)


class Board:
    """Writes to ``RUN/tensorboard``.

    Args:
        folder: Where the event files lie.
        step: Step that the run goes on from; what an interrupted run wrote of later ones is hidden.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # wants the package tensorboard

        self._writer = SummaryWriter(str(folder), purge_step=step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers of a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def clip(self, step: int, batch: ClipBatch, predicted: Sequence[Tensor]) -> None:
        """Draw the first clip of a batch: true labels above, predicted ones below.

        Args:
            step: Number of the step.
            batch: Its frames are drawn where there are some.
            predicted: For each frame ``(B, N + 1, H'/4, W'/4)`` logits; an empty one is not drawn.
        """
        size = (int(batch.labels.shape[-2]), int(batch.labels.shape[-1]))
        truth = batch.labels[0].cpu().numpy()
        found = [
            F.interpolate(logits[:1].float(), size, mode="bilinear")
            .argmax(1)[0]
            .byte()
            .cpu()
            .numpy()
            if logits.numel()
            else np.zeros(size, np.uint8)
            for logits in predicted
        ]
        pictures = _pictures(batch, size)
        rows = [
            np.concatenate([_tint(*pair) for pair in zip(pictures, maps, strict=True)], axis=1)
            for maps in (list(truth), found)
        ]
        self._writer.add_image("clip", np.concatenate(rows), step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


@contextlib.contextmanager
def open_board(folder: Path | None, step: int) -> Iterator[Board | None]:
    """Open a board for as long as a context lasts.

    Args:
        folder: Where the event files lie; None where no process shall write, which gives None.
        step: Step that the run goes on from.

    Yields:
        The board; None too where the package is not installed, as on machines that are lent for
        minutes: ``log.jsonl`` has all scalars.
    """
    if folder is not None and importlib.util.find_spec("tensorboard") is None:
        _log.warning("no scalars and pictures for TensorBoard: the package is not installed")
        folder = None
    if folder is None:
        yield None
        return
    board = Board(folder, step)
    try:
        yield board
    finally:
        board.close()


def _pictures(batch: ClipBatch, size: tuple[int, int]) -> list[np.ndarray]:
    if batch.frames is None:
        return [np.full((*size, 3), 64, np.uint8) for _ in range(batch.labels.shape[1])]
    small = F.interpolate(batch.frames[0].float(), size, mode="area")
    pictures: list[np.ndarray] = list(small.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy())
    return pictures


def _tint(picture: np.ndarray, labels: LabelArray) -> np.ndarray:
    colours = np.array(palette(), np.uint8).reshape(-1, 3)[labels]
    mixed = (1 - TINT) * picture + TINT * colours
    return np.where(labels[..., None] > 0, mixed, picture).astype(np.uint8)
