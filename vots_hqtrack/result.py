"""Result of one frame: masks that stay on the device until they are asked for, and scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.config import ConfidenceKind, TrackerConfig
from vots_hqtrack.frame import FrameGeometry
from vots_hqtrack.masks import combine_masks, count_pixels, has_pixels, split_slot_map
from vots_hqtrack.memory import TrackState
from vots_hqtrack.merge import InitialMasks
from vots_hqtrack.scoring import calibrated_score, confidence_features, mean_probabilities
from vots_hqtrack.selector import FinalMasks
from vots_hqtrack.types import (
    ConfidenceFeatures,
    FramePace,
    LabelArray,
    MaskArray,
    ObjectId,
    Source,
    label_table,
)

if TYPE_CHECKING:
    from supervision import Detections

_Value = TypeVar("_Value")


class LazyMapping(Mapping[ObjectId, _Value]):
    """Values by object id, computed all together when the first one is read, and kept.

    Args:
        object_ids: The keys, in order.
        compute: Returns the values in the same order.
    """

    def __init__(
        self, object_ids: Sequence[ObjectId], compute: Callable[[], Sequence[_Value]]
    ) -> None:
        self._object_ids = object_ids
        self._compute = compute

    @cached_property
    def _values(self) -> Mapping[ObjectId, _Value]:
        return dict(zip(self._object_ids, self._compute(), strict=True))

    def __getitem__(self, object_id: ObjectId) -> _Value:
        """Return one value."""
        return self._values[object_id]

    def __iter__(self) -> Iterator[ObjectId]:
        """Iterate over the object ids; computes nothing."""
        return iter(self._object_ids)

    def __len__(self) -> int:
        """Return the number of objects; computes nothing."""
        return len(self._object_ids)


class DeviceMasks(Mapping[ObjectId, MaskArray]):
    """Masks of a slot map on its device, which is copied to the CPU when the first one is read.

    Each reading makes a new array, so a result holds one byte a pixel for all objects together, and
    nobody changes a mask for others.

    Args:
        slot_map: ``(H, W)``: number of the object in ``object_ids``, from 1; 0 = background.
        object_ids: The objects.
        absent: Objects without a mask here, whatever the slot map says.
    """

    def __init__(
        self, slot_map: Tensor, object_ids: Sequence[ObjectId], absent: Sequence[ObjectId] = ()
    ) -> None:
        self._slot_map = slot_map
        self._object_ids = object_ids
        self._absent = absent

    def __getitem__(self, object_id: ObjectId) -> MaskArray:
        """Return one mask, bool ``(H, W)``."""
        if object_id not in self._object_ids:
            raise KeyError(object_id)
        mask: MaskArray = self._label_map == object_id
        return mask

    def __iter__(self) -> Iterator[ObjectId]:
        """Iterate over the object ids; computes nothing."""
        return iter(self._object_ids)

    def __len__(self) -> int:
        """Return the number of objects; computes nothing."""
        return len(self._object_ids)

    @property
    def label_map(self) -> LabelArray:
        """``(H, W)`` object ids on the CPU, 0 = background; a new array."""
        return self._label_map.copy()

    @cached_property
    def _label_map(self) -> LabelArray:
        table = label_table(self._object_ids)
        table[np.isin(table, self._absent)] = 0
        label_map: LabelArray = table[self._slot_map.cpu().numpy()]
        del self._slot_map
        return label_map


@dataclass(frozen=True, slots=True)
class FrameResult:
    """Masks and scores of one frame.

    Attributes:
        frame_index: Index of the frame in the video; the reference frame is 0.
        masks: Bool ``(H, W)`` for every object of the video; all False where it is not seen. The
            masks of one frame do not overlap.
        scores: Confidence in ``[0, 1]`` of every object; 0 where it is not seen. Where the preset
            is calibrated, the estimated probability that the mask overlaps with the truth with an
            IoU of one half or more; else the mean probability inside the initial mask.
        sources: Origin of every mask.
        initial_masks: VMOS's masks before refinement, bool ``(H, W)``.
        confidence_features: Inputs of calibrated scores; also of objects that are reported as not
            seen.
        pace: Steps left out to keep a latency budget; None without one.
    """

    frame_index: int
    masks: Mapping[ObjectId, MaskArray]
    scores: Mapping[ObjectId, float]
    sources: Mapping[ObjectId, Source]
    initial_masks: Mapping[ObjectId, MaskArray] = field(default_factory=dict)
    confidence_features: Mapping[ObjectId, ConfidenceFeatures] = field(default_factory=dict)
    pace: FramePace | None = None

    @property
    def label_map(self) -> LabelArray:
        """``(H, W)`` object ids of the masks, 0 = background."""
        masks = self.masks
        return masks.label_map if isinstance(masks, DeviceMasks) else combine_masks(masks)

    def to_supervision(self) -> Detections:
        """Return the objects that are seen as ``supervision.Detections``, ids ascending.

        ``mask``, ``xyxy`` in pixel edges, ``confidence`` (the score) and ``tracker_id`` (the object
        id). There is no ``class_id``: annotators want ``color_lookup=ColorLookup.TRACK``.

        Raises:
            ConfigError: The extra ``supervision`` is not installed.
        """
        from vots_hqtrack.integrations.supervision import to_detections

        return to_detections(self)


@dataclass(frozen=True, slots=True)
class ScoredMasks:
    """Masks of N objects to report, on the device, with what their scores are computed from.

    Attributes:
        slot_map: ``(H, W)`` uint8 or int16, number of the object from 1; 0 = background.
        initial: ``(H, W)``, the same before refinement.
        numbers: ``(N, 2 + K)`` float: the object has a pixel; its mask is the refined one; then the
            confidence features of calibrated scores, or the mean probability.
        probabilities: ``(1 + N, H'/4, W'/4)`` float, the background first.
        areas: ``(N,)`` int64, frame pixels of the initial masks.
    """

    slot_map: Tensor
    initial: Tensor
    numbers: Tensor
    probabilities: Tensor
    areas: Tensor


def score_masks(
    initial: InitialMasks,
    final: FinalMasks,
    probabilities: Tensor,
    given_areas: Tensor,
    geometry: FrameGeometry,
    kind: ConfidenceKind,
) -> ScoredMasks:
    """Compute what the scores of a frame's masks need, on the device.

    Args:
        initial: Masks before refinement.
        final: Masks to report.
        probabilities: ``(1 + N, H'/4, W'/4)`` float, the background first.
        given_areas: ``(N,)`` int64, pixels of the masks that the caller gave.
        geometry: Layout of the frame.
        kind: Kind of the scores.
    """
    areas = count_pixels(initial.masks)
    if kind == "calibrated":
        measured = confidence_features(probabilities, areas, given_areas, geometry)
    else:
        measured = mean_probabilities(initial.probability, initial.masks)[:, None]
    has_mask = has_pixels(split_slot_map(final.slot_map, len(areas)))
    flags = torch.stack([has_mask, final.is_refined], dim=1).to(measured.dtype)
    numbers = torch.cat([flags, measured], dim=1)
    return ScoredMasks(final.slot_map, initial.slot_map, numbers, probabilities, areas)


def make_result(state: TrackState, scored: ScoredMasks, config: TrackerConfig) -> FrameResult:
    """Score the masks of a tracked frame, and report objects with a low score as not seen.

    The host waits for the device once, for all numbers of all objects.

    Args:
        state: The video after the frame.
        scored: The masks.
        config: Options of the tracker.
    """
    object_ids, geometry, given_areas = state.slots.object_ids, state.geometry, state.given_areas
    rows = scored.numbers.tolist()

    def compute() -> Tensor:
        return confidence_features(scored.probabilities, scored.areas, given_areas, geometry)

    features: Mapping[ObjectId, ConfidenceFeatures]
    if config.confidence.kind == "calibrated":
        found = [ConfidenceFeatures(*row[2:]) for row in rows]
        features = dict(zip(object_ids, found, strict=True))
        scores = [calibrated_score(values, config.confidence) for values in found]
    else:
        features = LazyMapping(
            object_ids, lambda: [ConfidenceFeatures(*row) for row in compute().tolist()]
        )
        scores = [row[2] for row in rows]
    reported: dict[ObjectId, float] = {}
    sources: dict[ObjectId, Source] = {}
    for object_id, score, (has_pixel, is_refined, *_) in zip(object_ids, scores, rows, strict=True):
        is_seen = bool(has_pixel) and score > 0 and score >= config.tracking.absence_score
        reported[object_id] = score if is_seen else 0.0
        sources[object_id] = ("refined" if is_refined else "initial") if is_seen else "absent"
    absent = [object_id for object_id, source in sources.items() if source == "absent"]
    return FrameResult(
        state.frame_index,
        DeviceMasks(scored.slot_map, object_ids, absent),
        reported,
        sources,
        initial_masks=DeviceMasks(scored.initial, object_ids),
        confidence_features=features,
    )
