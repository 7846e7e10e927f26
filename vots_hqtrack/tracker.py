"""The tracker, where encoder, VMOS, memory, refiner and selector meet (paper, Figure 2).

One frame's way: encode once, propagate every group's memory, decode, refine the masks with the same
encoding, select, remember the labels, report.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.build import build_parts
from vots_hqtrack.confidence import read_logits
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.devices import device_clock, pick_device, pick_dtype
from vots_hqtrack.encoder.frames import EncodedFrame, FrameEncoder
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.frame import cells_to_network, labels_to_network, logits_to_frame
from vots_hqtrack.masks import combine_masks, one_hot_slots
from vots_hqtrack.memory.slots import ObjectSlots
from vots_hqtrack.memory.state import KeptFrame, TrackState, new_group
from vots_hqtrack.merge import merge_groups, merge_separate
from vots_hqtrack.motion_gate import LastSeen, close_outside, search_windows
from vots_hqtrack.pace import PaceKeeper, choose_scale
from vots_hqtrack.precision import uses_autocast
from vots_hqtrack.presets import load_preset
from vots_hqtrack.refiner.refiner import MaskRefiner, Refinement
from vots_hqtrack.report import Decision, Reading, coarse_masks, judge, report
from vots_hqtrack.selector import resolve_overlaps, select
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.types import (
    MAX_OBJECTS,
    SLOTS_PER_GROUP,
    FrameArray,
    FrameFeatures,
    FrameResult,
    LabelArray,
    MaskArray,
    ObjectId,
    Size,
    check_frame,
    check_masks,
)
from vots_hqtrack.vmos import VMOS


class HQTracker:
    """Tracks any number of objects through a video, frame by frame.

    The tracker holds weights only; a video's data lies in the ``TrackState`` that
    :meth:`initialize` returns, so one tracker serves several videos in turn.

    Args:
        config: How to track.
        encoder: Lays frames out and encodes them for both stages.
        vmos: Segmenter.
        refiner: Mask refiner, which also turns boxes into masks; None if there is none.
        device: Where to compute.

    Example:
        >>> tracker = HQTracker.from_preset("lite", device="cpu")  # doctest: +SKIP
        >>> state = tracker.initialize(frame, {1: mask_a, 2: mask_b})  # doctest: +SKIP
        >>> result = tracker.track(next_frame, state)  # doctest: +SKIP
    """

    def __init__(
        self,
        config: TrackerConfig,
        encoder: FrameEncoder,
        vmos: VMOS,
        refiner: MaskRefiner | None,
        device: torch.device,
    ) -> None:
        self.config = config
        self.device = device
        self.dtype = pick_dtype(config.runtime.dtype, device)
        self._encoder = encoder
        self._vmos = vmos.to(device).eval()
        self._refiner = None if refiner is None else refiner.to(device).eval()
        if config.runtime.threads:
            torch.set_num_threads(config.runtime.threads)

    @classmethod
    def from_preset(
        cls,
        name: str = "lite",
        *,
        device: str = "auto",
        weights: Path | None = None,
        settings: Iterable[str] = (),
    ) -> HQTracker:
        """Build a tracker from a preset.

        Args:
            name: A key of ``PRESETS``.
            device: ``auto``, ``cpu``, ``cuda`` or any name that PyTorch knows.
            weights: VMOS weights (safetensors) in place of the shipped ones.
            settings: ``section.option=value`` texts, applied in order.

        Raises:
            ConfigError: The preset, the device, an option or a value is unknown.
            WeightsError: Weights are missing, damaged, or do not fit.
        """
        config = apply_settings(load_preset(name), settings)
        return cls.from_config(config, device=device, weights=weights)

    @classmethod
    def from_config(
        cls, config: TrackerConfig, *, device: str = "auto", weights: Path | None = None
    ) -> HQTracker:
        """Build a tracker from a configuration; arguments and errors as :meth:`from_preset`."""
        place = pick_device(device)
        return cls(config, *build_parts(config, place, weights), place)

    def initialize(self, frame: FrameArray, masks: Mapping[int, MaskArray]) -> TrackState:
        """Start a video.

        Args:
            frame: Reference frame, uint8 ``(H, W, 3)`` RGB.
            masks: Bool ``(H, W)`` by object id, 1..255. Where several claim a pixel, the lowest id
                gets it.

        Returns:
            The video's state, to be given to :meth:`track`.

        Raises:
            InputError: There is no object, an id is out of range, or a mask is empty.
            ShapeError: The frame or a mask is of another shape or dtype.
        """
        size = check_frame(frame)
        given = self._complete(check_masks(masks, size), size)
        start = self._start_paced if self.config.runtime.frame_budget else self._start_video
        with self._computing():
            return start(frame, given)

    def add_objects(
        self, frame: FrameArray, masks: Mapping[int, MaskArray], state: TrackState
    ) -> None:
        """Add objects on the frame that :meth:`track` or :meth:`initialize` saw last.

        The given masks win over what was predicted there. The frame becomes a reference frame of
        the groups that the new objects join, together with the predicted masks of the objects that
        they join.

        Args:
            frame: That frame again, uint8 ``(H, W, 3)`` RGB.
            masks: Bool ``(H, W)`` by object id; ids that are not tracked yet.
            state: The video.

        Raises:
            InputError: An object is tracked already, or a mask is empty.
            ShapeError: The frame or a mask has another size than the video.
        """
        size = check_frame(frame, expected=state.geometry.frame_size)
        given = self._complete(check_masks(masks, size), size, known=state.slots.object_ids)
        with self._computing():
            self._start_objects(frame, given, state.label_map, state)

    def track(self, frame: FrameArray, state: TrackState) -> FrameResult:
        """Find the objects in the next frame and remember it.

        Args:
            frame: uint8 ``(H, W, 3)`` RGB, of the size of the video's first frame.
            state: The video; it is changed.

        Returns:
            A mask for every object; all False for one that is not seen, which stays known and can
            come back.

        Raises:
            ShapeError: The frame has another size than the video, or is no such array. The state is
                unchanged.
        """
        check_frame(frame, expected=state.geometry.frame_size)
        if not state.groups:
            raise InputError("this video has no object yet: call initialize first")
        if state.pace is not None:
            state.pace.begin()
        with self._computing():
            self._follow_scale(state)
            encoded = self._encoder.encode(frame, state.geometry)
            reading = self._read(encoded.features, state)
            decision = self._decide(reading.coarse, encoded, state)
            judgement = judge(reading, decision, state, self.config.confidence)
            self._remember(reading, decision, state)
        state.newest = None if state.pace is None else frame.copy()
        absence_score = self.config.tracking.absence_score
        result = report(reading, decision, judgement, state, absence_score=absence_score)
        return result if state.pace is None else dataclasses.replace(result, pace=state.pace.end())

    def mask_from_box(self, frame: FrameArray, box: tuple[float, float, float, float]) -> MaskArray:
        """Segment what a box encloses, by the refiner.

        Args:
            frame: uint8 ``(H, W, 3)`` RGB.
            box: ``(x, y, width, height)`` in frame pixels.

        Returns:
            Bool ``(H, W)``.

        Raises:
            InputError: The box encloses no pixel of the frame, or nothing was found in it.
            ShapeError: The frame is no such array.
        """
        size = check_frame(frame)
        if self._refiner is None:
            raise ConfigError(f"the preset {self.config.preset!r} has no refiner to read boxes")
        with self._computing(refining=True):
            encoded = self._encoder.encode(frame, self._encoder.plan(size))
            mask: MaskArray = self._refiner.segment_box(encoded.embed(), box).cpu().numpy()
        if not mask.any():
            raise InputError(f"the refiner found no object in the box {box}")
        return mask

    def _start_video(
        self, frame: FrameArray, given: Mapping[ObjectId, MaskArray], scale: float = 1.0
    ) -> TrackState:
        size = Size(*frame.shape[:2])
        group_size = 1 if self.config.tracking.mode == "separate" else SLOTS_PER_GROUP
        state = TrackState(self._encoder.plan(size, scale), slots=ObjectSlots(group_size))
        if self.config.tracking.search_reach:
            state.last_seen = LastSeen.nothing(self.device)
        self._start_objects(frame, given, np.zeros(size, np.uint8), state)
        return state

    def _start_paced(self, frame: FrameArray, given: Mapping[ObjectId, MaskArray]) -> TrackState:
        """Start a video at the largest resolution that keeps the time budget."""
        clock = device_clock(self.device)
        started: dict[float, TrackState] = {}

        def measure(scale: float) -> float:
            state = started[scale] = self._start_video(frame, given, scale)
            began = clock()
            self._read(self._encoder.encode(frame, state.geometry).features, state)
            return clock() - began

        budget = self.config.runtime.frame_budget
        state = started[scale := choose_scale(measure, budget)]
        state.pace = PaceKeeper(
            budget,
            scale=scale,
            capacity=self.config.memory.capacity,
            can_refine=self._refiner is not None and self.config.refiner.enabled,
            clock=clock,
        )
        return state

    def _complete(
        self, given: dict[ObjectId, MaskArray], size: Size, known: Sequence[ObjectId] = ()
    ) -> dict[ObjectId, MaskArray]:
        """Where slots go by id, add the lower ids that were not given, without a pixel."""
        if self.config.tracking.slots == "packed":
            return given
        unseen = np.zeros(size, np.bool_)
        wanted = [ObjectId(number) for number in range(1, max(given) + 1)]
        return {one: given.get(one, unseen) for one in wanted if one in given or one not in known}

    def _start_objects(
        self,
        frame: FrameArray,
        given: Mapping[ObjectId, MaskArray],
        label_map: LabelArray,
        state: TrackState,
    ) -> None:
        slots = state.slots
        first_group = len(slots.object_ids) // slots.group_size
        slots.add(given)
        if state.last_seen is not None:
            masks = torch.from_numpy(np.stack(list(given.values()))).to(self.device)
            state.last_seen = state.last_seen.add(masks)
        added = combine_masks(given)
        areas = np.bincount(added.ravel(), minlength=MAX_OBJECTS + 1)
        state.given_areas.update({one: int(areas[one]) for one in given})
        state.label_map = np.where(added > 0, added, label_map)
        while len(state.groups) < slots.num_groups:
            state.groups.append(new_group(self.config.memory))
        groups = range(first_group, slots.num_groups)
        kept = KeptFrame(state.frame_index, frame, state.label_map, groups)
        self._start_memory(kept, state)
        if self.config.runtime.frame_budget:
            state.references.append(dataclasses.replace(kept, frame=frame.copy()))

    def _start_memory(self, kept: KeptFrame, state: TrackState) -> None:
        """Remember a reference frame at the state's resolution."""
        features = self._encoder.encode(kept.frame, state.geometry).features
        for number in kept.groups:
            labels = _group_labels(kept.label_map, state.slots.members(number))
            embedding = self._vmos.encode_masks(self._one_hot(labels, state))
            output = self._vmos.propagate_reference(features, embedding)
            entry = self._vmos.write_memory(kept.frame_index, output.proposals, embedding)
            state.groups[number].start(entry)

    def _follow_scale(self, state: TrackState) -> None:
        """Begin the memory anew where the pace asks for another resolution.

        Of what was remembered the reference frames and the newest frame are left.
        """
        pace = state.pace
        if pace is None:
            return
        geometry = self._encoder.plan(state.geometry.frame_size, pace.scale)
        if geometry == state.geometry:
            return
        memory = self.config.memory
        groups = [new_group(memory) for _ in state.groups]
        fresh = TrackState(geometry, slots=state.slots, groups=groups)
        with pace.restart():
            for kept in state.references:
                self._start_memory(kept, fresh)
            if state.newest is not None:
                features = self._encoder.encode(state.newest, geometry).features
                for number, group in enumerate(groups):
                    long_term = group.long_term.newest(memory.capacity)
                    output = self._vmos.propagate(features, long_term, group.short_term[0])
                    labels = _group_labels(state.label_map, state.slots.members(number))
                    embedding = self._vmos.encode_masks(self._one_hot(labels, fresh))
                    entry = self._vmos.write_memory(state.frame_index, output.proposals, embedding)
                    group.commit(entry, memory.gap)
        state.geometry, state.groups = geometry, groups

    def _read(self, features: FrameFeatures, state: TrackState) -> Reading:
        """Propagate all groups' memories into a frame; nothing is written."""
        logits, cells, outputs, refused = [], [], [], []
        count = self.config.memory.capacity if state.pace is None else state.pace.memory_frames
        windows = None
        if state.last_seen is not None:
            reach = self.config.tracking.search_reach
            windows = search_windows(state.last_seen, reach, state.geometry)
        for number, group in enumerate(state.groups):
            long_term = group.long_term.newest(count)
            output = self._vmos.propagate(features, long_term, group.short_term[0])
            live = len(state.slots.members(number)) + 1
            decoded = self._vmos.decode(output)[0, :live].float()
            if windows is not None:
                first = number * state.slots.group_size
                decoded, is_refused = close_outside(decoded, windows[first : first + live - 1])
                refused.append(is_refused)
            cells.append(decoded)
            logits.append(logits_to_frame(decoded, state.geometry))
            outputs.append(output)
        separate = self.config.tracking.mode == "separate"
        merge = merge_separate if separate else merge_groups
        coarse, mean_probabilities = coarse_masks(merge(logits))
        signs = read_logits(merge(cells), state.geometry)
        own = [one.argmax(0).to(torch.uint8) for one in logits] if separate else []
        return Reading(outputs, own, refused, coarse, mean_probabilities, signs)

    def _decide(self, coarse: Tensor, encoded: EncodedFrame, state: TrackState) -> Decision:
        """Refine the masks, and take the better one for each object."""
        has_time = state.pace is None or state.pace.is_refining
        if self._refiner is None or not self.config.refiner.enabled or not has_time:
            return Decision(coarse, [False] * len(coarse))
        measured = state.pace.refinement() if state.pace else contextlib.nullcontext()
        with self._computing(refining=True), measured:
            refinement: Refinement = self._refiner(encoded.embed(), coarse)
        threshold = self.config.selector.iou_threshold
        selection = select(coarse, refinement.masks, iou_threshold=threshold)
        masks = resolve_overlaps(selection.masks, state.slots.object_ids, coarse=coarse)
        return Decision(masks, selection.is_refined.tolist())

    def _remember(self, reading: Reading, decision: Decision, state: TrackState) -> None:
        """Commit the frame with the labels that were decided on to all groups' memories."""
        is_coarse = self.config.tracking.remember == "coarse"
        label_map = _label_map(self._masks_to_remember(reading, decision, state), state)
        entries = []
        for number, output in enumerate(reading.outputs):
            if reading.own and is_coarse:
                labels = reading.own[number]
            else:
                labels = _group_labels(label_map, state.slots.members(number))
            one_hot = self._one_hot(labels, state)
            if reading.refused:
                one_hot = one_hot * ~cells_to_network(reading.refused[number], state.geometry)
            embedding = self._vmos.encode_masks(one_hot)
            entry = self._vmos.write_memory(state.frame_index + 1, output.proposals, embedding)
            entries.append(entry)
        last_seen = None if state.last_seen is None else state.last_seen.update(reading.coarse)
        # From here on nothing can fail: the state changes as a whole or not at all.
        state.frame_index += 1
        state.label_map, state.last_seen = label_map, last_seen
        for group, entry in zip(state.groups, entries, strict=True):
            group.commit(entry, self.config.memory.gap)

    def _masks_to_remember(self, reading: Reading, decision: Decision, state: TrackState) -> Tensor:
        """Return ``(N, H, W)`` bool masks without overlaps, by ``tracking.remember``."""
        tracking = self.config.tracking
        if tracking.remember == "coarse" or not any(decision.is_refined):
            return reading.coarse
        if tracking.remember == "refined":
            return decision.masks
        agreed = select(reading.coarse, decision.masks, iou_threshold=tracking.agreement)
        return resolve_overlaps(agreed.masks, state.slots.object_ids, coarse=reading.coarse)

    def _one_hot(self, slots: Tensor, state: TrackState) -> Tensor:
        """Bring ``(H, W)`` uint8 slots to the network: one-hot ``(1, 11, H', W')`` float."""
        labels = slots.to(self.device)
        return one_hot_slots(labels_to_network(labels, state.geometry)[None])

    @contextlib.contextmanager
    def _computing(self, *, refining: bool = False) -> Iterator[None]:
        is_cast = uses_autocast(self.config, self.dtype, refining=refining)
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=is_cast):
            yield


def _label_map(masks: Tensor, state: TrackState) -> LabelArray:
    """Return ``(H, W)`` uint8 object ids of ``(N, H, W)`` masks that do not overlap."""
    numbers = torch.tensor(state.slots.object_ids, dtype=torch.uint8, device=masks.device)
    label_map: LabelArray = (masks * numbers[:, None, None]).amax(0).cpu().numpy()
    return label_map


def _group_labels(label_map: LabelArray, members: Sequence[ObjectId]) -> Tensor:
    """Return ``(H, W)`` uint8 slots of one group's members, the rest background."""
    table = np.zeros(256, np.uint8)
    for slot, object_id in enumerate(members, start=1):
        table[object_id] = slot
    return torch.from_numpy(table[label_map])
