"""Several videos at once: frames with shapes that agree go through the networks in one batch.

Each video's own are its memory, which is read as it is stored, and the refinement of its masks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch

from vots_hqtrack.config import CompileBackend
from vots_hqtrack.encoder.frames import EncodedFrame, FrameEncoder
from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.memory import TrackState
from vots_hqtrack.replay import launched_once
from vots_hqtrack.segmenter import FrameInputs, FrameOutputs, FrameSegmenter
from vots_hqtrack.types import FrameArray, check_frame

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class FrameBatcher:
    """Encodes and segments the frames of several videos in as few batches as their shapes allow.

    Args:
        encoder: Image encoder.
        segmenter: Segments frames.
        compile_with: Option ``runtime.compile``.
        device: Compute device.
    """

    def __init__(
        self,
        encoder: FrameEncoder,
        segmenter: FrameSegmenter,
        compile_with: CompileBackend,
        device: torch.device,
    ) -> None:
        self._encoder = encoder
        self._launch = launched_once(segmenter.segment_together, compile_with, device)

    def encode(
        self, frames: Sequence[FrameArray], states: Sequence[TrackState]
    ) -> list[EncodedFrame]:
        """Encode a frame of each video: one batch for each size of the network image."""

        def compute(batch: list[tuple[FrameArray, TrackState]]) -> list[EncodedFrame]:
            geometries = [state.geometry for _, state in batch]
            return self._encoder.encode_together([frame for frame, _ in batch], geometries)

        sizes = [state.geometry.padded_size for state in states]
        return in_batches(list(zip(frames, states, strict=True)), sizes, compute)

    def segment(self, videos: Sequence[FrameInputs]) -> list[FrameOutputs]:
        """Segment a frame of each video: one batch for each shape of features and memory."""
        return in_batches(
            videos, list(map(_shape, videos)), lambda batch: self._launch(tuple(batch))
        )


def _shape(inputs: FrameInputs) -> Hashable:
    """Return what videos of one batch have in common.

    Numbers of memory entries are part of it, so that a batch of videos that began together has one
    shape for many frames, and its recorded graph is used again.
    """
    num_entries = tuple(len(memory.long_term) for memory in inputs.memory)
    return inputs.features.s4.shape, inputs.features.s8.shape, num_entries


def in_batches(
    items: Sequence[_Item],
    keys: Sequence[Hashable],
    compute: Callable[[list[_Item]], Sequence[_Result]],
) -> list[_Result]:
    """Compute items in batches of equal keys.

    Args:
        items: The items.
        keys: Key of each item.
        compute: Returns the results of a batch, in its order.

    Returns:
        The results in the order of the items.

    Example:
        >>> in_batches([1, 2, 3], ["odd", "even", "odd"], lambda batch: [sum(batch)] * len(batch))
        [4, 2, 4]
    """
    batches: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        batches.setdefault(key, []).append(index)
    found: dict[int, _Result] = {}
    for indices in batches.values():
        results = compute([items[index] for index in indices])
        found.update(zip(indices, results, strict=True))
    return [found[index] for index in range(len(items))]


def check_videos(frames: Sequence[object], states: Sequence[TrackState]) -> None:
    """Check the next frames of several videos.

    Raises:
        InputError: There is not one frame for each state, or a state is there twice.
        ShapeError: A frame has another size than its video, or is not such an array.
    """
    if not isinstance(frames, Sequence):
        raise InputError(f"wanted a list of frames, got {type(frames).__name__}")
    if len(frames) != len(states):
        raise InputError(
            f"wanted one frame for each video, got {len(frames)} for {len(states)} states"
        )
    if len({id(state) for state in states}) < len(states):
        raise InputError("a state is there twice: the frames of a video are tracked in turn")
    for index, (frame, state) in enumerate(zip(frames, states, strict=True)):
        try:
            check_frame(frame, expected=state.geometry.frame_size)
        except ShapeError as error:
            raise ShapeError(f"video {index}: {error}") from error
