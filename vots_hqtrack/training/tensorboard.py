"""Scalars and images of a run for TensorBoard."""

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
from vots_hqtrack.video.sheet import draw_thumbnail

_log = logging.getLogger(__name__)


class TensorBoardLogger:
    """Writes to ``RUN/tensorboard``.

    Args:
        folder: Folder of the event files.
        step: Step that the run goes on from; later ones of an interrupted run are hidden.
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
        found = [_label_map(logits, size) for logits in predicted]
        images = _images(batch, size)
        rows = [
            np.concatenate(
                [draw_thumbnail(*pair) for pair in zip(images, maps, strict=True)], axis=1
            )
            for maps in (list(truth), found)
        ]
        self._writer.add_image("clip", np.concatenate(rows), step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


@contextlib.contextmanager
def open_logger(folder: Path | None, step: int) -> Iterator[TensorBoardLogger | None]:
    """Open a logger for as long as a context lasts.

    Args:
        folder: Folder of the event files; None on processes that do not write.
        step: Step that the run goes on from.

    Yields:
        The logger; None without a folder, and where the package is not installed: ``log.jsonl``
        has all scalars.
    """
    if folder is not None and importlib.util.find_spec("tensorboard") is None:
        _log.warning("no scalars and images for TensorBoard: the package is not installed")
        folder = None
    if folder is None:
        yield None
        return
    with contextlib.closing(TensorBoardLogger(folder, step)) as logger:
        yield logger


def _label_map(logits: Tensor, size: tuple[int, int]) -> LabelArray:
    if not logits.numel():
        return np.zeros(size, np.uint8)
    resized = F.interpolate(logits[:1].float(), size, mode="bilinear")
    labels: LabelArray = resized.argmax(1)[0].byte().cpu().numpy()
    return labels


def _images(batch: ClipBatch, size: tuple[int, int]) -> list[np.ndarray]:
    if batch.frames is None:
        return [np.full((*size, 3), 64, np.uint8) for _ in range(batch.labels.shape[1])]
    small = F.interpolate(batch.frames[0].float(), size, mode="area")
    images: list[np.ndarray] = list(small.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy())
    return images
