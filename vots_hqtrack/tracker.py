"""The tracker, where encoder, VMOS, memory, refiner and selector meet (paper, Figure 2).

Steps of a frame: encode once, propagate every group's memory, decode, refine the masks with the
same encoding, select, write memory, report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.devices import pick_device, pick_dtype
from vots_hqtrack.encoder.frames import EncodedFrame, FrameEncoder
from vots_hqtrack.entry import public, tracker_numbers
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.frame import (
    FrameGeometry,
    labels_to_network,
    logits_to_frame,
    logits_to_frame_rows,
    mask_to_network,
)
from vots_hqtrack.masks import combine_masks, one_hot_slots, split_slot_map
from vots_hqtrack.memory import ObjectSlots, TrackState, new_group
from vots_hqtrack.merge import InitialMasks, initial_masks_by_rows, merge_groups, merge_separate
from vots_hqtrack.motion_gate import LastSeen, close_outside, search_windows
from vots_hqtrack.presets import load_preset
from vots_hqtrack.refiner import Box, Refiner
from vots_hqtrack.result import FrameResult, make_result
from vots_hqtrack.selector import FinalMasks, choose_masks, keep_initial
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.types import (
    SLOTS_PER_GROUP,
    FrameArray,
    FrameFeatures,
    IdentityEmbedding,
    MaskArray,
    ObjectId,
    PropagationOutput,
    Size,
    check_boxes,
    check_frame,
    check_masks,
    check_path,
    check_track_options,
)
from vots_hqtrack.vmos import VMOS


@dataclass(frozen=True, slots=True)
class GroupPrediction:
    """Prediction of one group for one frame; nothing is written yet.

    Attributes:
        output: Output of propagation, with the proposals for the memory.
        logits: ``(1 + n, H'/4, W'/4)`` float32, the background and the group's objects.
        frame_logits: Returns them at frame size, ``(1 + n, rows, W)`` float32 of some rows.
        refused: ``(H'/4, W'/4)`` bool, True where an object was found outside its search window;
            None without search windows.
    """

    output: PropagationOutput
    logits: Tensor
    frame_logits: Callable[[slice], Tensor]
    refused: Tensor | None


class HQTracker:
    """Tracks any number of objects through a video, frame by frame.

    The tracker holds weights only; a video's data is in the ``TrackState`` that :meth:`initialize`
    returns, so one tracker serves several videos in turn.

    Args:
        config: Options of tracking.
        encoder: Image encoder, with the layout of its input.
        vmos: Segmenter.
        refiner: Mask refiner on its device, which also segments boxes; None without a refiner.
        device: Compute device.

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
        refiner: Refiner | None,
        device: torch.device,
    ) -> None:
        self.number = next(tracker_numbers)
        self.config = config
        self.device = device
        self.dtype = pick_dtype(config.runtime.dtype, device)
        self._encoder = encoder
        self._vmos = vmos.to(device).eval()
        self._refiner = refiner

    @classmethod
    @public
    def from_preset(
        cls,
        name: str = "lite",
        *,
        device: str = "auto",
        weights: str | Path | None = None,
        settings: Iterable[str] = (),
    ) -> HQTracker:
        """Build a tracker from a preset.

        Args:
            name: A key of ``PRESETS``.
            device: ``auto``, ``cpu``, ``cuda`` or any name that PyTorch knows.
            weights: VMOS weights (safetensors) in place of the shipped ones.
            settings: ``section.option=value`` strings, applied in order.

        Raises:
            ConfigError: The preset, the device, an option or a value is unknown.
            WeightsError: Weights are missing, damaged, or do not fit.
        """
        config = apply_settings(load_preset(name), settings)
        return cls.from_config(config, device=device, weights=weights)

    @classmethod
    @public
    def from_config(
        cls, config: TrackerConfig, *, device: str = "auto", weights: str | Path | None = None
    ) -> HQTracker:
        """Build a tracker from a configuration; arguments and errors as :meth:`from_preset`."""
        from vots_hqtrack.build import build_parts, make_tracker

        if not isinstance(config, TrackerConfig):
            raise ConfigError(f"wanted a TrackerConfig, got {type(config).__name__}")
        place, file = pick_device(device), None if weights is None else check_path(weights)
        return make_tracker(config, build_parts(config, place, file), place)

    @public
    def initialize(self, frame: FrameArray, masks: Mapping[int, MaskArray]) -> TrackState:
        """Start a video.

        Args:
            frame: Reference frame, uint8 ``(H, W, 3)`` RGB.
            masks: Bool ``(H, W)`` by object id, 1..255. Where several claim a pixel, the lowest id
                gets it.

        Returns:
            The video's state, to be given to :meth:`track`.

        Raises:
            InputError: No object, an id out of range, or an empty mask.
            ShapeError: The frame or a mask is of another shape or dtype.
        """
        size = check_frame(frame)
        given = self._complete(check_masks(masks, size), size)
        with torch.inference_mode():
            state = self._new_state(size)
            self._start_objects(frame, given, state)
        state.owner = self.number
        return state

    @public
    def add_objects(
        self, frame: FrameArray, masks: Mapping[int, MaskArray], state: TrackState
    ) -> None:
        """Add objects on the frame that :meth:`track` or :meth:`initialize` saw last.

        The given masks win over what was predicted there. The frame becomes a reference frame of
        the groups that the new objects join, together with the predicted masks of the objects that
        they join. The features of the frame are used again.

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
        with torch.inference_mode():
            self._start_objects(frame, given, state)

    @public
    def track(
        self,
        frame: FrameArray,
        state: TrackState,
        *,
        memory_frames: int | None = None,
        use_refiner: bool = True,
    ) -> FrameResult:
        """Find the objects in the next frame and write it to memory.

        Args:
            frame: uint8 ``(H, W, 3)`` RGB, of the size of the video's first frame.
            state: The video; it is changed.
            memory_frames: Maximum number of long-term frames to read; None reads all.
            use_refiner: Refine the masks, if the preset has a refiner.

        Returns:
            A mask for every object; all False for one that is not seen, which stays known and can
            come back.

        Raises:
            InputError: The video has no object.
            ShapeError: The frame has another size than the video, or is not such an array. The
                state is unchanged.
        """
        check_frame(frame, expected=state.geometry.frame_size)
        check_track_options(memory_frames, use_refiner)
        if not state.groups:
            raise InputError("this video has no object yet: call initialize first")
        with torch.inference_mode():
            encoded = self._encoder.encode(frame, state.geometry)
            predictions = self._predict(encoded.features, state, memory_frames)
            initial = initial_masks_by_rows(
                lambda rows: self._merge([group.frame_logits(rows) for group in predictions]),
                state.geometry.frame_size,
                len(state.slots.object_ids),
            )
            final = self._refine(encoded, initial, state) if use_refiner else keep_initial(initial)
            self._write_memory(predictions, initial, final, state)
            state.features = encoded.features
            logits = [group.logits for group in predictions]
            return make_result(state, initial, final, lambda: self._merge(logits), self.config)

    @public
    def mask_from_box(self, frame: FrameArray, box: Box) -> MaskArray:
        """Segment the content of a box: bool ``(H, W)``; see :meth:`masks_from_boxes`."""
        return self.masks_from_boxes(frame, [box])[0]

    @public
    def masks_from_boxes(self, frame: FrameArray, boxes: Sequence[Box]) -> list[MaskArray]:
        """Segment the contents of boxes by the refiner, which encodes the frame once.

        Args:
            frame: uint8 ``(H, W, 3)`` RGB.
            boxes: ``(x, y, width, height)`` in frame pixels.

        Returns:
            Bool ``(H, W)`` of each box.

        Raises:
            ConfigError: The preset has no refiner.
            InputError: A box encloses no pixel of the frame, or nothing was found in it.
            ShapeError: The frame is not such an array.
        """
        size = check_frame(frame)
        boxes = check_boxes(boxes)
        if self._refiner is None:
            raise ConfigError(f"the preset {self.config.preset!r} has no refiner to read boxes")
        with torch.inference_mode():
            encoded = self._encoder.encode(frame, self._encoder.plan(size))
            found = self._refiner.segment_boxes(self._refiner.embed(encoded), boxes)
        masks: list[MaskArray] = list(found.cpu().numpy())
        for box, mask in zip(boxes, masks, strict=True):
            if not mask.any():
                raise InputError(f"the refiner found no object in the box {box}")
        return masks

    def _new_state(self, frame_size: Size, scale: float = 1.0) -> TrackState:
        separate = self.config.tracking.mode == "separate"
        return TrackState(
            self._encoder.plan(frame_size, scale),
            torch.zeros(frame_size, dtype=torch.uint8, device=self.device),
            ObjectSlots(1 if separate else SLOTS_PER_GROUP),
            given_areas=torch.zeros(0, dtype=torch.int64, device=self.device),
            last_seen=LastSeen.nothing(self.device) if self.config.tracking.search_reach else None,
        )

    def _complete(
        self, given: dict[ObjectId, MaskArray], size: Size, known: Sequence[ObjectId] = ()
    ) -> dict[ObjectId, MaskArray]:
        """Add an empty mask for each lower id that was not given, if slots go by id."""
        if self.config.tracking.slots == "packed":
            return given
        unseen = np.zeros(size, np.bool_)
        wanted = [ObjectId(number) for number in range(1, max(given) + 1)]
        return {i: given.get(i, unseen) for i in wanted if i in given or i not in known}

    def _start_objects(
        self, frame: FrameArray, given: Mapping[ObjectId, MaskArray], state: TrackState
    ) -> range:
        """Give new objects their slots, and write the frame to the memory of their groups."""
        slots = state.slots
        first = len(slots.object_ids)
        slots.add(given)
        added = torch.from_numpy(slots.to_slots(combine_masks(given))).to(self.device)
        areas = torch.bincount(added.flatten(), minlength=len(slots.object_ids) + 1)
        state.given_areas = torch.cat([state.given_areas, areas[first + 1 :]])
        state.slot_map = torch.where(added > 0, added, state.slot_map)
        if state.last_seen is not None:
            whole = torch.from_numpy(np.stack(list(given.values()))).to(self.device)
            state.last_seen = state.last_seen.add(whole)
        while len(state.groups) < slots.num_groups:
            state.groups.append(new_group(self.config.memory))
        if state.features is None:
            state.features = self._encoder.encode(frame, state.geometry).features
        groups = range(first // slots.group_size, slots.num_groups)
        self._write_reference(state.frame_index, state.features, state.slot_map, groups, state)
        return groups

    def _write_reference(
        self,
        frame_index: int,
        features: FrameFeatures,
        slot_map: Tensor,
        groups: Iterable[int],
        state: TrackState,
    ) -> None:
        """Write a frame with given masks to the memory of some groups."""
        labels = labels_to_network(slot_map, state.geometry)
        for number in groups:
            identity = self._encode_masks(state.slots.in_group(labels, number), state.geometry)
            output = self._vmos.propagate(features, identity)
            entry = self._vmos.write_memory(frame_index, output.proposals, identity)
            state.groups[number].write_reference(entry)

    def _encode_masks(
        self, slots: Tensor, geometry: FrameGeometry, *, refused: Tensor | None = None
    ) -> IdentityEmbedding:
        """Embed ``(H', W')`` uint8 slots of a group; refused pixels have no identity."""
        one_hot = one_hot_slots(slots[None])
        if refused is not None:
            one_hot = one_hot * ~mask_to_network(refused, geometry)
        return self._vmos.encode_masks(one_hot)

    def _predict(
        self, features: FrameFeatures, state: TrackState, memory_frames: int | None
    ) -> list[GroupPrediction]:
        """Propagate every group's memory into a frame, and decode."""
        windows = None
        if state.last_seen is not None:
            reach = self.config.tracking.search_reach
            windows = search_windows(state.last_seen, reach, state.geometry)
        found = []
        for number, group in enumerate(state.groups):
            output = self._vmos.propagate(features, group.read(memory_frames))
            num_objects = len(state.slots.members(number))
            raw = self._vmos.decode(output)[0, : 1 + num_objects]
            logits, refused = raw.float(), None
            if windows is not None:
                first = number * state.slots.group_size
                logits, refused = close_outside(logits, windows[first : first + num_objects])
            # Resized to the frame in the dtype of the network.
            frame_logits = partial(_at_rows, logits.to(raw.dtype), state.geometry)
            found.append(GroupPrediction(output, logits, frame_logits, refused))
        return found

    def _merge(self, logits: Sequence[Tensor]) -> Tensor:
        """Merge all groups' logits to probabilities ``(1 + N, H, W)``."""
        separate = self.config.tracking.mode == "separate"
        return merge_separate(logits) if separate else merge_groups(logits)

    def _refine(
        self, encoded: EncodedFrame, initial: InitialMasks, state: TrackState
    ) -> FinalMasks:
        """Refine the masks, and take the better mask of each object."""
        if self._refiner is None or not self.config.refiner.enabled:
            return keep_initial(initial)
        refined = self._refiner.refine(self._refiner.embed(encoded), initial.masks).masks
        threshold = self.config.selector.iou_threshold
        return choose_masks(initial, refined, state.slots.object_ids, iou_threshold=threshold)

    def _write_memory(
        self,
        predictions: Sequence[GroupPrediction],
        initial: InitialMasks,
        final: FinalMasks,
        state: TrackState,
    ) -> None:
        """Write the frame to all groups' memories, with the masks that the preset names."""
        tracking, geometry = self.config.tracking, state.geometry
        slot_map = initial.slot_map
        if tracking.memory_masks == "refined":
            slot_map = final.slot_map
        elif tracking.memory_masks == "agreed":
            reported = split_slot_map(final.slot_map, len(initial.masks))
            ids, threshold = state.slots.object_ids, tracking.agreement
            slot_map = choose_masks(initial, reported, ids, iou_threshold=threshold).slot_map
        labels = labels_to_network(slot_map, geometry)
        entries = []
        for number, group in enumerate(predictions):
            slots = state.slots.in_group(labels, number)
            if tracking.mode == "separate" and tracking.memory_masks == "initial":
                # The object's own prediction, whatever the others claim.
                own = group.frame_logits(slice(0, geometry.frame_size.height)).argmax(0).byte()
                slots = labels_to_network(own, geometry)
            identity = self._encode_masks(slots, geometry, refused=group.refused)
            proposals = group.output.proposals
            entries.append(self._vmos.write_memory(state.frame_index + 1, proposals, identity))
        last_seen = None if state.last_seen is None else state.last_seen.update(initial.masks)
        # Nothing can fail from here on: the state changes as a whole or not at all.
        state.frame_index += 1
        state.slot_map, state.last_seen = slot_map, last_seen
        for memory, entry in zip(state.groups, entries, strict=True):
            memory.write(entry)


def _at_rows(logits: Tensor, geometry: FrameGeometry, rows: slice) -> Tensor:
    """Resize logits to some rows of the frame: float32."""
    is_whole = rows.stop - rows.start == geometry.frame_size.height
    if is_whole:
        return logits_to_frame(logits, geometry).float()
    return logits_to_frame_rows(logits, geometry, rows).float()
