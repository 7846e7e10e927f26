"""Segmentation of one frame: propagate, decode, refine, select, score (paper, Figure 1).

A function of tensors: the host reads none of them and decides nothing in the middle, so that it can
be recorded and launched at once (decision 0030). Nothing is written; `tracker.py` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.frame import (
    FrameGeometry,
    labels_to_network,
    logits_to_frame,
    logits_to_frame_rows,
    mask_to_network,
)
from vots_hqtrack.masks import one_hot_slots, split_slot_map
from vots_hqtrack.memory import slots_in_group
from vots_hqtrack.merge import InitialMasks, initial_masks_by_rows, merge_groups, merge_separate
from vots_hqtrack.motion_gate import LastSeen, close_outside, search_windows
from vots_hqtrack.refiner import Refiner
from vots_hqtrack.result import ScoredMasks, score_masks
from vots_hqtrack.selector import FinalMasks, choose_masks, keep_initial
from vots_hqtrack.types import (
    SLOTS_PER_GROUP,
    FrameFeatures,
    IdentityEmbedding,
    LayerProposal,
    MemoryEntry,
    MemoryFrames,
    ObjectId,
)
from vots_hqtrack.vmos import VMOS

Timer = Callable[[], AbstractContextManager[None]]
"""Makes a context that measures its body."""


@dataclass(frozen=True, slots=True)
class FrameInputs:
    """All that the segmentation of one frame reads; the frame's number is not part of it.

    Attributes:
        features: Encoder features of the frame.
        embedding: Embedding of the frame for the refiner; None if the masks are not refined.
        memory: Memory frames of each group.
        last_seen: Boxes for the motion gate; None without one.
        given_areas: ``(N,)`` int64, pixels of the masks that the caller gave.
        geometry: Layout of the frame.
        object_ids: The N objects in the order in which they were added.
    """

    features: FrameFeatures
    embedding: Any
    memory: tuple[MemoryFrames, ...]
    last_seen: LastSeen | None
    given_areas: Tensor
    geometry: FrameGeometry
    object_ids: tuple[ObjectId, ...]


@dataclass(frozen=True, slots=True)
class FrameOutputs:
    """All that comes of it; nothing is written yet.

    Attributes:
        scored: Masks to report, with what their scores are computed from.
        slot_map: ``(H, W)`` uint8 or int16, the masks for the memory.
        entries: The frame's memory entry of each group, without its number.
        last_seen: Boxes for the motion gate; None without one.
    """

    scored: ScoredMasks
    slot_map: Tensor
    entries: tuple[MemoryEntry, ...]
    last_seen: LastSeen | None


@dataclass(frozen=True, slots=True)
class GroupPrediction:
    """Prediction of one group for one frame.

    Attributes:
        proposals: The frame's proposals for the memory.
        logits: ``(1 + n, H'/4, W'/4)`` float32, the background and the group's objects.
        frame_logits: Returns them at frame size, ``(1 + n, rows, W)`` float32 of some rows.
        refused: ``(H'/4, W'/4)`` bool, True where an object was found outside its search window;
            None without search windows.
    """

    proposals: tuple[LayerProposal, ...]
    logits: Tensor
    frame_logits: Callable[[slice], Tensor]
    refused: Tensor | None


class FrameSegmenter:
    """Segments frames by a memory that it is given.

    Args:
        config: Options of tracking.
        vmos: The network.
        refiner: Mask refiner; None without one.

    Attributes:
        group_size: Objects that share a group's memory, 1 or 10.
    """

    def __init__(self, config: TrackerConfig, vmos: VMOS, refiner: Refiner | None) -> None:
        self.group_size = 1 if config.tracking.mode == "separate" else SLOTS_PER_GROUP
        self._config, self._vmos, self._refiner = config, vmos, refiner

    def segment(self, inputs: FrameInputs, timer: Timer = nullcontext) -> FrameOutputs:
        """Propagate, decode, refine, select, score: a function of tensors that waits for none."""
        return self._complete(inputs, self.predict([inputs])[0], timer)

    def segment_together(self, videos: tuple[FrameInputs, ...]) -> tuple[FrameOutputs, ...]:
        """Do the same for a frame of each of several videos, propagated in one batch.

        Args:
            videos: Inputs with features of one size, and the same number of memory entries.
        """
        predictions = self.predict(videos)
        return tuple(map(self._complete, videos, predictions))

    def _complete(
        self,
        inputs: FrameInputs,
        predictions: Sequence[GroupPrediction],
        timer: Timer = nullcontext,
    ) -> FrameOutputs:
        """Merge, refine, select, score, and make the memory entries."""
        initial = initial_masks_by_rows(
            lambda rows: self._merge([group.frame_logits(rows) for group in predictions]),
            inputs.geometry.frame_size,
            len(inputs.object_ids),
        )
        with timer():
            final = self._refine(inputs, initial)
        logits = self._merge([group.logits for group in predictions])
        kind = self._config.confidence.kind
        scored = score_masks(initial, final, logits, inputs.given_areas, inputs.geometry, kind)
        slot_map = self._choose_memory_masks(initial, final, inputs)
        entries = self._make_entries(predictions, slot_map, inputs)
        seen = None if inputs.last_seen is None else inputs.last_seen.update(initial.masks)
        return FrameOutputs(scored, slot_map, entries, seen)

    def predict(self, videos: Sequence[FrameInputs]) -> list[list[GroupPrediction]]:
        """Propagate every group's memory into a frame of each video, and decode.

        Args:
            videos: As for :meth:`segment_together`.

        Returns:
            The predictions of each video's groups.
        """
        features = join_features([inputs.features for inputs in videos])
        windows = [self._search_windows(inputs) for inputs in videos]
        found: list[list[GroupPrediction]] = [[] for _ in videos]
        for number, memory in enumerate(videos[0].memory):
            memories = tuple(inputs.memory[number] for inputs in videos)
            output = self._vmos.propagate(features, memory if len(videos) == 1 else memories)
            raw = self._vmos.decode(output)
            for index, inputs in enumerate(videos):
                proposals = output.proposals
                if len(videos) > 1:
                    proposals = tuple(proposal.sample(index) for proposal in proposals)
                prediction = self._read_logits(
                    raw[index], number, inputs, windows[index], proposals
                )
                found[index].append(prediction)
        return found

    def _read_logits(
        self,
        raw: Tensor,
        number: int,
        inputs: FrameInputs,
        windows: Tensor | None,
        proposals: tuple[LayerProposal, ...],
    ) -> GroupPrediction:
        """Take the logits ``(11, H'/4, W'/4)`` of a group's objects."""
        first = number * self.group_size
        last = min(first + self.group_size, len(inputs.object_ids))
        raw = raw[: 1 + last - first]
        logits, refused = raw.float(), None
        if windows is not None:
            logits, refused = close_outside(logits, windows[first:last])
        # Resized to the frame in the dtype of the network.
        frame_logits = partial(_at_rows, logits.to(raw.dtype), inputs.geometry)
        return GroupPrediction(proposals, logits, frame_logits, refused)

    def _search_windows(self, inputs: FrameInputs) -> Tensor | None:
        if inputs.last_seen is None:
            return None
        reach = self._config.tracking.search_reach
        return search_windows(inputs.last_seen, reach, inputs.geometry)

    def _merge(self, logits: Sequence[Tensor]) -> Tensor:
        """Merge all groups' logits to probabilities ``(1 + N, H, W)``."""
        separate = self._config.tracking.mode == "separate"
        return merge_separate(logits) if separate else merge_groups(logits)

    def _refine(self, inputs: FrameInputs, initial: InitialMasks) -> FinalMasks:
        """Refine the masks, and take the better mask of each object."""
        if self._refiner is None or inputs.embedding is None:
            return keep_initial(initial)
        refined = self._refiner.refine(inputs.embedding, initial.masks).masks
        threshold = self._config.selector.iou_threshold
        return choose_masks(initial, refined, inputs.object_ids, iou_threshold=threshold)

    def _choose_memory_masks(
        self, initial: InitialMasks, final: FinalMasks, inputs: FrameInputs
    ) -> Tensor:
        """Return the masks for the memory that the preset names, a slot map."""
        tracking = self._config.tracking
        if tracking.memory_masks == "initial":
            return initial.slot_map
        if tracking.memory_masks == "refined":
            return final.slot_map
        reported = split_slot_map(final.slot_map, len(initial.masks))
        ids, threshold = inputs.object_ids, tracking.agreement
        return choose_masks(initial, reported, ids, iou_threshold=threshold).slot_map

    def _make_entries(
        self, predictions: Sequence[GroupPrediction], slot_map: Tensor, inputs: FrameInputs
    ) -> tuple[MemoryEntry, ...]:
        """Make every group's memory entry."""
        tracking, geometry = self._config.tracking, inputs.geometry
        labels = labels_to_network(slot_map, geometry)
        entries = []
        for number, group in enumerate(predictions):
            slots = slots_in_group(labels, number, self.group_size)
            if tracking.mode == "separate" and tracking.memory_masks == "initial":
                # The object's own prediction, whatever the others claim.
                own = group.frame_logits(slice(0, geometry.frame_size.height)).argmax(0).byte()
                slots = labels_to_network(own, geometry)
            identity = self.encode_masks(slots, geometry, refused=group.refused)
            entries.append(self._vmos.write_memory(0, group.proposals, identity))
        return tuple(entries)

    def encode_masks(
        self, slots: Tensor, geometry: FrameGeometry, *, refused: Tensor | None = None
    ) -> IdentityEmbedding:
        """Embed ``(H', W')`` integer slots of a group; refused pixels have no identity."""
        one_hot = one_hot_slots(slots[None])
        if refused is not None:
            one_hot = one_hot * ~mask_to_network(refused, geometry)
        return self._vmos.encode_masks(one_hot)


def join_features(samples: Sequence[FrameFeatures]) -> FrameFeatures:
    """Make one batch of the features of several images."""
    if len(samples) == 1:
        return samples[0]
    return FrameFeatures(
        torch.cat([each.s4 for each in samples]),
        torch.cat([each.s8 for each in samples]),
        torch.cat([each.s16 for each in samples]),
    )


def _at_rows(logits: Tensor, geometry: FrameGeometry, rows: slice) -> Tensor:
    """Resize logits to some rows of the frame: float32."""
    is_whole = rows.stop - rows.start == geometry.frame_size.height
    if is_whole:
        return logits_to_frame(logits, geometry).float()
    return logits_to_frame_rows(logits, geometry, rows).float()
