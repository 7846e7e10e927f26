"""The tracker, where encoder, VMOS, memory, refiner and selector meet (paper, Figure 1).

Steps of a frame: encode once, read memory, segment (`segmenter.py`), write memory, report.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.devices import pick_device, pick_dtype
from vots_hqtrack.encoder.frames import EncodedFrame, FrameEncoder
from vots_hqtrack.entry import public, tracker_numbers
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.frame import FrameGeometry, find_small, labels_to_network, warn_of_tiny
from vots_hqtrack.masks import BACKGROUND, combine_masks, lay_over, split_slot_map
from vots_hqtrack.memory import ObjectSlots, TrackState, new_group, warn_if_many, without_numbers
from vots_hqtrack.motion_gate import LastSeen
from vots_hqtrack.presets import load_preset
from vots_hqtrack.prompt_segmenter import PromptSegmenter
from vots_hqtrack.published import PublishedTracker
from vots_hqtrack.refiner import Refiner
from vots_hqtrack.replay import SideStream, launched_once
from vots_hqtrack.result import FrameResult, make_result
from vots_hqtrack.saved_state import SavedState, fill_state
from vots_hqtrack.segmenter import FrameInputs, FrameOutputs, FrameSegmenter, Timer
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.together import FrameBatcher, check_videos
from vots_hqtrack.types import (
    FrameArray,
    FrameFeatures,
    LabelArray,
    MaskArray,
    MemoryEntry,
    ObjectId,
    Size,
    check_frame,
    check_masks,
    check_path,
    check_track_options,
)
from vots_hqtrack.vmos import VMOS


class HQTracker(PublishedTracker, PromptSegmenter):
    """Tracks any number of objects through a video, frame by frame.

    The tracker holds weights only; a video's data is in the ``TrackState`` that :meth:`initialize`
    returns, so one tracker serves several videos in turn.

    Args:
        config: Options of tracking.
        encoder: Image encoder, with the layout of its input.
        vmos: Segmenter.
        refiner: Mask refiner on its device, which also segments boxes; None without a refiner.
        device: Compute device.
        files: Files that the weights were read from, by name, for :meth:`save_pretrained`; None if
            they were not read from files.

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
        *,
        files: Mapping[str, Path] | None = None,
    ) -> None:
        super().__init__(config, encoder, refiner)
        self.files = dict(files or {})
        self.number = next(tracker_numbers)
        self.device = device
        self.dtype = pick_dtype(config.runtime.dtype, device)
        self._vmos = vmos.to(device).eval()
        self._segmenter = FrameSegmenter(config, self._vmos, refiner)
        self._segment = self._segmenter.segment
        self._launch_segment = launched_once(self._segment, config.runtime.compile, device)
        self._batcher = FrameBatcher(encoder, self._segmenter, config.runtime.compile, device)
        self._encodes_ahead = device.type == "cuda" and not config.runtime.frame_budget

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
        from vots_hqtrack.build import build_parts, find_weights, make_tracker

        if not isinstance(config, TrackerConfig):
            raise ConfigError(f"wanted a TrackerConfig, got {type(config).__name__}")
        place, file = pick_device(device), None if weights is None else check_path(weights)
        files = find_weights(config, file)
        return make_tracker(config, build_parts(config, place, file), place, files)

    @public
    def initialize(self, frame: FrameArray, masks: Mapping[int, MaskArray]) -> TrackState:
        """Start a video.

        Args:
            frame: Reference frame, uint8 ``(H, W, 3)`` RGB.
            masks: Bool ``(H, W)`` by object id, 1..1000. Where several claim a pixel, the smallest
                gets it.

        Returns:
            The video's state, to be given to :meth:`track`.

        Raises:
            InputError: No object, an id out of range, an empty mask, or one that others cover.
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

        The masks hold where they meet what was predicted there, but for a known object that lies on
        them; of two given masks the smaller lies above (:func:`masks.lay_over`). The frame becomes
        a reference frame of the groups that the new objects join, together with the predicted masks
        of the objects that they join. The features of the frame are used again.

        Args:
            frame: That frame again, uint8 ``(H, W, 3)`` RGB.
            masks: Bool ``(H, W)`` by object id; ids that are not tracked yet.
            state: The video.

        Raises:
            InputError: It is another frame, an object is tracked already, or a mask is empty or
                covered by others.
            ShapeError: The frame or a mask has another size than the video.
        """
        size = check_frame(frame, expected=state.geometry.frame_size)
        given = self._complete(check_masks(masks, size), size, known=state.slots.object_ids)
        if not state.has_seen(frame):
            raise InputError(
                f"objects are added on the frame that was tracked last (frame {state.frame_index} "
                "of this video), got another one: track it first"
            )
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
        with torch.inference_mode():
            encoded = self._encoder.encode(frame, state.geometry)
            outputs = self._advance(encoded, state, memory_frames, use_refiner=use_refiner)
            return make_result(state, outputs.scored, self.config)

    def track_video(
        self, frames: Iterable[FrameArray], state: TrackState
    ) -> Generator[FrameResult, None, None]:
        """Find the objects in the frames that follow, as :meth:`track` does in each of them.

        A GPU encodes the next frame while it propagates the masks of this one, so that frame is
        read before this one's result is returned. On the CPU frames are read when their turn comes.

        Args:
            frames: uint8 ``(H, W, 3)`` RGB, in order; nobody may write to one afterwards.
            state: The video. Between two results, objects may be added and masks be given.

        Yields:
            The result of each frame. An error of a frame comes after the results before it.

        Raises:
            InputError: As :meth:`track`.
            ShapeError: As :meth:`track`.
        """
        if not isinstance(frames, Iterable):
            raise InputError(f"frames must be several arrays in order, got {type(frames).__name__}")
        if not self._encodes_ahead:
            for frame in frames:
                yield self.track(frame, state)
            return
        coming, side = iter(frames), SideStream[EncodedFrame](self.device)

        def encode_next() -> Callable[[], EncodedFrame] | None:
            for frame in coming:
                return side.put(partial(self._encode_ahead, frame, state))
            return None

        take = encode_next()
        while take is not None:
            outputs = self._advance(take(), state)
            take = None
            try:
                take = encode_next()
            finally:  # a frame that cannot be read costs none before it
                with torch.inference_mode():
                    result = make_result(state, outputs.scored, self.config)
                yield result

    @public
    def track_together(
        self, frames: Sequence[FrameArray], states: Sequence[TrackState]
    ) -> list[FrameResult]:
        """Find the objects in the next frame of each of several videos, as :meth:`track` does.

        Videos with network images of one size and equally many memory entries are computed in one
        batch. A GPU then tracks more frames a second than of one video after the other.

        Args:
            frames: The next frame of each video.
            states: The videos; they are changed, all or none.

        Returns:
            The result of each video.

        Raises:
            InputError: A video has no object, or is there twice.
            ShapeError: As :meth:`track`.
            ConfigError: The tracker keeps a latency budget.
        """
        check_videos(frames, states)
        with torch.inference_mode():
            encoded = self._batcher.encode(frames, states)
            inputs = [
                self._read(each, state, None, use_refiner=True)
                for each, state in zip(encoded, states, strict=True)
            ]
            videos = list(zip(encoded, self._batcher.segment(inputs), states, strict=True))
            found = [self._look_closer(*video, None, use_refiner=True) for video in videos]
            for each, outputs, state in zip(encoded, found, states, strict=True):
                self._write_memory(each, outputs, state)
            pairs = zip(states, found, strict=True)
            return [make_result(state, each.scored, self.config) for state, each in pairs]

    @public
    def restore(self, saved: SavedState) -> TrackState:
        """Return the state of a video that was saved, by which :meth:`track` goes on.

        Args:
            saved: From `saved_state.save_state`, of a tracker with the same options and weights.

        Raises:
            InputError: The options were others.
        """
        num_crops, max_crops = len(list(saved.crops())), self.config.tracking.max_crops
        if num_crops > max_crops:
            raise InputError(
                f"the saved state has crops around {num_crops} small objects, and this tracker has "
                f"tracking.max_crops={max_crops}"
            )
        state = self._new_state(saved.frame_size)
        self._fill(state, saved)
        return state

    @public
    def begin(
        self, frame_size: Size, object_ids: Iterable[int], *, num_references: int = 1
    ) -> TrackState:
        """Start a video, the given masks of which follow by :meth:`write_given`.

        Args:
            frame_size: Size of its frames.
            object_ids: All its objects, 1..1000.
            num_references: Reference frames to make room for, beside the frames that are tracked.
        """
        ids = sorted(ObjectId(number) for number in object_ids)
        if self.config.tracking.slots == "by_id":
            ids = [ObjectId(number) for number in range(1, max(ids) + 1)]
        state = self._new_state(frame_size)
        self._add_unseen(ids, state, num_references)
        return state

    @public
    def write_given(
        self,
        encoded: EncodedFrame,
        label_map: LabelArray,
        state: TrackState,
        *,
        frame_index: int,
        is_reference: bool = True,
    ) -> None:
        """Write a frame with masks that the caller knows; :meth:`track` goes on from it.

        It may be any frame of the video, earlier ones and later ones, once or again.

        Args:
            encoded: The frame, of :meth:`encode`.
            label_map: ``(H, W)`` object ids of all objects, 0 = background; other ids are
                background.
            state: The video; it is changed.
            frame_index: Index of the frame: the next frame that is tracked is the one after it.
            is_reference: Keep it in the memory for ever; False lets it be evicted in its turn.
        """
        slot_map = torch.from_numpy(state.slots.to_slots(label_map)).to(self.device)
        with torch.inference_mode():
            masks = split_slot_map(slot_map, len(state.slots.object_ids))
            groups = range(state.slots.num_groups)
            self._write_reference(
                frame_index, encoded.features, slot_map, groups, state, is_kept=is_reference
            )
            if is_reference:
                areas = masks.flatten(1).sum(1)
                state.given_areas = torch.where(areas > 0, areas, state.given_areas)
            if state.last_seen is not None:
                state.last_seen = state.last_seen.update(masks)
        state.frame_index, state.slot_map = frame_index, slot_map
        state.given = frozenset(state.slots.object_ids)
        state.keep_features(encoded)

    def _new_state(self, frame_size: Size, scale: float = 1.0) -> TrackState:
        return self._make_state(self._encoder.plan(frame_size, scale))

    def _make_state(self, geometry: FrameGeometry) -> TrackState:
        return TrackState(
            geometry,
            torch.zeros(geometry.frame_size, dtype=torch.uint8, device=self.device),
            ObjectSlots(self._segmenter.group_size),
            given_areas=torch.zeros(0, dtype=torch.int64, device=self.device),
            last_seen=LastSeen.nothing(self.device) if self.config.tracking.search_reach else None,
        )

    def _add_unseen(
        self, object_ids: Sequence[ObjectId], state: TrackState, num_references: int
    ) -> None:
        """Give objects their slots in a new state, the masks of which follow."""
        state.slots.add(object_ids)
        num_objects = len(object_ids)
        state.given_areas = state.given_areas.new_zeros(num_objects)
        if state.last_seen is not None:
            state.last_seen = state.last_seen.add(split_slot_map(state.slot_map, num_objects))
        state.groups = [
            new_group(self.config.memory, num_references) for _ in range(state.slots.num_groups)
        ]

    def _fill(self, state: TrackState, saved: SavedState) -> None:
        """Put what was saved into a new state."""
        num_groups = -(-len(saved.object_ids) // state.slots.group_size)
        fill_state(state, saved, [new_group(self.config.memory) for _ in range(num_groups)])

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
        slots.require_new(given)
        first = len(slots.object_ids)
        if first:
            # Object ids, in which new and known objects cannot be mistaken for each other.
            known = slots.to_object_ids(state.slot_map.cpu().numpy())
            predicted = set(slots.object_ids) - state.given
            label_map = lay_over(known, given, predicted=predicted)
            label_map[np.isin(label_map, slots.object_ids)] = BACKGROUND
        else:
            label_map = combine_masks(given)
        slots.add(given)
        state.given = state.given.union(given)
        added = torch.from_numpy(slots.to_slots(label_map)).to(self.device)
        areas = torch.bincount(added.flatten(), minlength=len(slots.object_ids) + 1)
        state.given_areas = torch.cat([state.given_areas, areas[first + 1 :]])
        state.slot_map = torch.where(added > 0, added, state.slot_map)
        if state.last_seen is not None:
            whole = torch.from_numpy(np.stack(list(given.values()))).to(self.device)
            state.last_seen = state.last_seen.add(whole)
        while len(state.groups) < slots.num_groups:
            state.groups.append(new_group(self.config.memory))
        features = state.features
        if features is None:
            encoded = self._encoder.encode(frame, state.geometry)
            state.keep_features(encoded)
            features = encoded.features
        groups = range(first // slots.group_size, slots.num_groups)
        self._write_reference(state.frame_index, features, state.slot_map, groups, state)
        self._watch_small(frame, find_small(label_map, state.geometry), state)
        return groups

    def _watch_small(
        self, frame: FrameArray, small: Mapping[ObjectId, int], state: TrackState
    ) -> None:
        """Warn of new objects that are tiny; see `CroppingTracker` for more."""
        del frame
        warn_of_tiny(small, state.geometry)

    def _write_reference(
        self,
        frame_index: int,
        features: FrameFeatures,
        slot_map: Tensor,
        groups: Iterable[int],
        state: TrackState,
        *,
        is_kept: bool = True,
    ) -> None:
        """Write a frame with given masks to the memory of some groups."""
        entries = self._make_references(frame_index, features, slot_map, groups, state)
        for number, entry in zip(groups, entries, strict=True):
            state.groups[number].write_reference(entry, is_kept=is_kept)
        warn_if_many(state, groups, self.config.memory)

    def _make_references(
        self,
        frame_index: int,
        features: FrameFeatures,
        slot_map: Tensor,
        groups: Iterable[int],
        state: TrackState,
    ) -> list[MemoryEntry]:
        """Make the memory entries of a frame with given masks; nothing is written."""
        labels, entries = labels_to_network(slot_map, state.geometry), []
        for number in groups:
            slots = state.slots.in_group(labels, number)
            identity = self._segmenter.encode_masks(slots, state.geometry)
            output = self._vmos.propagate(features, identity)
            entries.append(self._vmos.write_memory(frame_index, output.proposals, identity))
        return entries

    @public
    def _encode_ahead(self, frame: FrameArray, state: TrackState) -> EncodedFrame:
        """Encode a frame that comes later, for VMOS and the refiner."""
        check_frame(frame, expected=state.geometry.frame_size)
        with torch.inference_mode():
            encoded = self._encoder.encode(frame, state.geometry)
            self._embed(encoded, state)
        return encoded

    @public
    def _advance(
        self,
        encoded: EncodedFrame,
        state: TrackState,
        memory_frames: int | None = None,
        *,
        use_refiner: bool = True,
    ) -> FrameOutputs:
        """Segment the next frame, and write it to memory, without waiting for the device."""
        with torch.inference_mode():
            inputs = self._read(encoded, state, memory_frames, use_refiner=use_refiner)
            timer = self._timer(state)
            is_timed = timer is not nullcontext
            outputs = self._segment(inputs, timer) if is_timed else self._launch_segment(inputs)
            outputs = self._look_closer(
                encoded, outputs, state, memory_frames, use_refiner=use_refiner
            )
            self._write_memory(encoded, outputs, state)
            return outputs

    def _look_closer(
        self,
        encoded: EncodedFrame,
        outputs: FrameOutputs,
        state: TrackState,
        memory_frames: int | None,
        *,
        use_refiner: bool,
    ) -> FrameOutputs:
        """Segment parts of the frame once more; nothing is written. See `CroppingTracker`."""
        del encoded, state, memory_frames, use_refiner
        return outputs

    def _embed(self, encoded: EncodedFrame, state: TrackState) -> Any:  # noqa: ANN401 - the refiner's own
        """Return the refiner's embedding of a frame; None if the preset does not refine."""
        is_missing = encoded.embedding is None and self.config.refiner.enabled
        if is_missing and self._refiner is not None:
            with self._timer(state)():
                encoded.embedding = self._refiner.embed(encoded)
        return encoded.embedding

    def _read(
        self,
        encoded: EncodedFrame,
        state: TrackState,
        memory_frames: int | None,
        *,
        use_refiner: bool,
    ) -> FrameInputs:
        """Collect what the segmentation of a frame reads."""
        if not state.groups:
            raise InputError("this video has no object yet: call initialize first")
        return FrameInputs(
            encoded.features,
            self._embed(encoded, state) if use_refiner else None,
            tuple(without_numbers(group.read(memory_frames)) for group in state.groups),
            state.last_seen,
            state.given_areas,
            state.geometry,
            state.slots.object_ids,
        )

    def _timer(self, state: TrackState) -> Timer:
        """Return what measures a refinement; a latency budget asks for it."""
        del state
        return nullcontext

    def _write_memory(
        self, encoded: EncodedFrame, outputs: FrameOutputs, state: TrackState
    ) -> None:
        """Write the frame to all groups' memories; nothing can fail from here on."""
        state.frame_index += 1
        state.slot_map, state.last_seen = outputs.slot_map, outputs.last_seen
        state.given = frozenset()
        for memory, entry in zip(state.groups, outputs.entries, strict=True):
            memory.write(replace(entry, frame_index=state.frame_index))
        state.keep_features(encoded)
