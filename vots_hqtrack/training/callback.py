"""Callback of a training run, and the entries of its log. Imports no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line of ``log.jsonl``; losses, norm and speed are means since the line before.

    Attributes:
        step: Steps of this session.
        total_steps: Steps of all sessions.
        total_clips: Clips of all sessions.
        minutes: Minutes of this session, from its first step on.
        progress: Progress of the session, from 0 to 1.
        loss: The minimised loss.
        cross_entropy: Its cross-entropy, of the tracked frames or of the HQ head's points.
        jaccard: Soft Jaccard loss of the same.
        gradient_norm: Norm before clipping.
        learning_rate: Learning rate of most parameters.
        clips_per_second: Clips of all processes; from the second line on.
        milliseconds: Parts of the last step where they ran: ``data`` (wait for the workers),
            ``compose`` (copy to the device, or rendering there), ``encode`` (frozen encoder),
            ``forward_backward``, ``optimizer`` (moving average included).
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


class Callback:
    """Events of a run, on the main process; the methods of this class do nothing."""

    def cached(self, name: str, done: int, total: int) -> None:
        """An item of a data set has its features on disk."""

    def stepped(self, step: int, loss: float) -> None:
        """Steps were made; ``step`` counts from 1. On a GPU called with the lines of the log."""

    def logged(self, entry: LogEntry) -> None:
        """A line was added to the log."""

    def evaluated(self, step: int, mean: float, best: float) -> None:
        """The dev split was tracked; mean J now and at best."""
