"""Small objects: a crop around each is tracked at a higher scale, beside the whole frame.

In the network image of a whole frame a small object is smaller than what the network can tell from
its surroundings. So it is tracked once more in a square crop, which follows it. Its mask and score
are those of the crop; the other objects have those of the whole frame. Once the object has grown,
the whole frame goes on with the masks of the crop. The paper has no such rule; see decision 0086.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.entry import public
from vots_hqtrack.frame import find_small, is_small, network_area
from vots_hqtrack.masks import mask_boxes, mask_iou
from vots_hqtrack.memory import TrackState
from vots_hqtrack.saved_state import SavedState
from vots_hqtrack.segmenter import FrameOutputs
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, LabelArray, MaskArray, MemoryEntry, ObjectId, Size

SIDE = 4
"""Side of a crop in longer sides of the object's first box."""
_MIN_SIDE = 24
"""Smallest side of a crop in pixels of the frame."""
_MAX_STRETCH = 4
"""A lost object is looked for in a part of the frame that is so many times as long at most."""
_MAX_GROWTH = 1.5
"""A lost object that is found again is so many times as long at most, or it is another one."""
_MIN_AGREEMENT = 0.1
"""IoU with the mask of a crop from which on the whole frame is believed to see the same object."""
_OWN, _OTHERS = ObjectId(1), ObjectId(2)
"""Ids within a crop: the small object, and all other objects together."""


@dataclass(frozen=True, slots=True)
class Crop:
    """Square part of the frame in which a small object is tracked at a higher scale.

    Attributes:
        object_id: The object.
        state: The crop as a video of its own, with the ids 1 and 2 (all other objects).
        row: Middle of the object's box when it was seen last, in frame pixels.
        column: The same across.
        length: Longer side of that box.
        stretch: Side of the part that is looked at, in sides of the crop; 1 while it is seen.
    """

    object_id: ObjectId
    state: TrackState
    row: float = 0.0
    column: float = 0.0
    length: float = 0.0
    stretch: int = 1

    @property
    def side(self) -> int:
        """Side in pixels; it stays, so that all of its memory has one scale."""
        return self.state.geometry.frame_size.height

    @property
    def is_outgrown(self) -> bool:
        """Whether the object has become too large for the crop."""
        return 2 * self.length > self.side

    def part(self, frame_size: Size) -> tuple[slice, slice]:
        """Return the rows and columns of the frame to look at, equally many and all inside."""
        side = min(self.side * self.stretch, *frame_size)
        top, left = (
            min(max(round(centre - side / 2), 0), length - side)
            for centre, length in zip((self.row, self.column), frame_size, strict=True)
        )
        return slice(top, top + side), slice(left, left + side)

    def cut(self, frame: FrameArray) -> FrameArray:
        """Cut the part out of a frame, reduced to the size of the crop."""
        found = frame[self.part(Size(*frame.shape[:2]))]
        if len(found) != self.side:
            size = self.side, self.side
            found = np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_AREA))
        return np.ascontiguousarray(found)

    def after(self, mask: MaskArray, top: int = 0, left: int = 0) -> Crop:
        """Return the crop after a frame: around the object, or with a longer part to look at.

        Args:
            mask: ``(H', W')`` bool, the object in a part of the frame.
            top: Row of the part's first pixel.
            left: Column of it.
        """
        if not mask.any():
            return replace(self, stretch=min(2 * self.stretch, _MAX_STRETCH))
        x0, y0, x1, y1 = mask_boxes(torch.from_numpy(mask)[None])[0].tolist()
        row, column, length = top + (y0 + y1) / 2, left + (x0 + x1) / 2, max(x1 - x0, y1 - y0)
        return replace(self, row=row, column=column, length=length, stretch=1)


@dataclass(frozen=True, slots=True)
class CroppedOutputs(FrameOutputs):
    """Outputs of a frame with those of its crops in their places; nothing is written yet.

    Attributes:
        inner: Each crop's state, with its encoded part of the frame and the outputs for that.
        crops: The crops after the frame.
        references: Entry of the frame for each group that goes on with the mask of a crop.
    """

    inner: tuple[tuple[TrackState, EncodedFrame, FrameOutputs], ...]
    crops: tuple[Crop, ...]
    references: tuple[tuple[int, MemoryEntry], ...]


class CroppingTracker(HQTracker):
    """A tracker that looks at up to ``tracking.max_crops`` small objects at a higher scale."""

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
        """Write a frame with masks that the caller knows; see the base class."""
        super().write_given(
            encoded, label_map, state, frame_index=frame_index, is_reference=is_reference
        )
        masks = [_mask(crop.object_id, state).cpu().numpy() for crop in state.crops]
        crops = [
            crop.after(mask) if mask.any() else crop
            for crop, mask in zip(state.crops, masks, strict=True)
        ]
        state.crops = [crop for crop in crops if not crop.is_outgrown]
        for crop in state.crops:
            self._give(crop, encoded.frame, state, is_reference=is_reference)
        if is_reference:
            self._open_crops(encoded.frame, find_small(state.label_map, state.geometry), state)

    @public
    def restore(self, saved: SavedState) -> TrackState:
        """Return the state of a video that was saved; see the base class."""
        state = super().restore(saved)
        for place, inner in saved.crops():
            crop = Crop(**place, state=self._crop_state(inner.frame_size.height))
            self._fill(crop.state, inner)
            state.crops.append(crop)
        return state

    def _watch_small(
        self, frame: FrameArray, small: Mapping[ObjectId, int], state: TrackState
    ) -> None:
        super()._watch_small(frame, self._open_crops(frame, small, state), state)

    def _look_closer(
        self,
        encoded: EncodedFrame,
        outputs: FrameOutputs,
        state: TrackState,
        memory_frames: int | None,
        *,
        use_refiner: bool,
    ) -> FrameOutputs:
        if not state.crops:
            return outputs
        whole = outputs.slot_map
        inner: list[tuple[TrackState, EncodedFrame, FrameOutputs]] = []
        crops: list[Crop] = []
        grown: list[Crop] = []
        # The smaller of two objects lies above, as among given masks.
        for crop in sorted(state.crops, key=lambda crop: crop.length, reverse=True):
            cut = self._encoder.encode(crop.cut(encoded.frame), crop.state.geometry)
            inputs = self._read(cut, crop.state, memory_frames, use_refiner=use_refiner)
            reduced = (crop.side / _side(crop.part(state.geometry.frame_size))) ** 2
            areas = (crop.state.given_areas * reduced).long()
            found = self._launch_segment(replace(inputs, given_areas=areas))
            moved, outputs = _merge(crop, found, outputs, state)
            if crop.stretch == 1:  # all of its memory has one scale
                inner.append((crop.state, cut, found))
            # A mask may be too large by mistake in a single frame.
            (grown if crop.is_outgrown and moved.is_outgrown else crops).append(moved)
        after = replace(
            state,
            frame_index=state.frame_index + 1,
            slot_map=outputs.slot_map,
            last_seen=outputs.last_seen,
            crops=crops,
        )
        references: list[tuple[int, MemoryEntry]] = []
        for crop in grown:
            references += self._leave(crop, encoded, whole, after)
        values = {field.name: getattr(outputs, field.name) for field in fields(FrameOutputs)}
        values["last_seen"] = after.last_seen
        return CroppedOutputs(
            **values, inner=tuple(inner), crops=tuple(after.crops), references=tuple(references)
        )

    def _write_memory(
        self, encoded: EncodedFrame, outputs: FrameOutputs, state: TrackState
    ) -> None:
        super()._write_memory(encoded, outputs, state)
        if not isinstance(outputs, CroppedOutputs):
            return
        for inner_state, cut, inner in outputs.inner:
            super()._write_memory(cut, inner, inner_state)
        state.crops = list(outputs.crops)
        for group, entry in outputs.references:
            state.groups[group].write_reference(entry, is_kept=False)

    def _leave(
        self, crop: Crop, encoded: EncodedFrame, whole: Tensor, after: TrackState
    ) -> list[tuple[int, MemoryEntry]]:
        """Go on with an object that has grown: in a larger crop, or else in the whole frame.

        Where the whole frame has found it by itself, its memory stays as it is, and with it the
        masks of the other objects.

        Args:
            crop: The crop that it leaves.
            encoded: The frame.
            whole: ``(H, W)`` slot map of the whole frame alone.
            after: Copy of the state as it will be after the frame; it is changed.

        Returns:
            The object's group and its entry for that, if the whole frame goes on.
        """
        mask = _mask(crop.object_id, after)
        area = int(mask.sum())
        if not area:  # a smaller object lies above all of it
            after.crops.append(crop)
            return []
        small = {crop.object_id: area} if is_small(area, after.geometry) else {}
        if small and not self._open_crops(encoded.frame, small, after):
            return []
        slot = after.slots.number_of(crop.object_id)
        if after.last_seen is not None:
            after.last_seen = after.last_seen.found(slot - 1, mask)
        if mask_iou((whole == slot)[None], mask[None]) >= _MIN_AGREEMENT:
            return []
        group, _ = after.slots.group_and_slot(crop.object_id)
        given = after.frame_index, encoded.features, after.slot_map, [group], after
        (entry,) = self._make_references(*given)
        return [(group, entry)]

    def _open_crops(
        self, frame: FrameArray, small: Mapping[ObjectId, int], state: TrackState
    ) -> dict[ObjectId, int]:
        """Begin to track small objects in crops, smallest first; return those without one.

        A long thin object may be small, and its crop too large to enlarge anything, or larger than
        the frame.
        """
        known = {crop.object_id for crop in state.crops}
        left = {number: area for number, area in small.items() if number not in known}
        ids = [_OWN, _OTHERS] if self.config.tracking.mode == "joint" else [_OWN]
        num_references = state.groups[0].capacity - self.config.memory.capacity + 1
        for number, area in sorted(left.items(), key=lambda item: item[1]):
            if len(state.crops) >= self.config.tracking.max_crops:
                break
            mask = _mask(number, state)
            x0, y0, x1, y1 = mask_boxes(mask[None])[0].tolist()
            side = int(min(max(SIDE * max(x1 - x0, y1 - y0), _MIN_SIDE), *frame.shape[:2]))
            crop = Crop(number, self._crop_state(side)).after(mask.cpu().numpy())
            enlarged = network_area(area, crop.state.geometry)
            is_enlarged = enlarged > 2 * network_area(area, state.geometry)
            if crop.is_outgrown or not is_enlarged:
                continue
            self._add_unseen(ids, crop.state, num_references)
            self._give(crop, frame, state)
            state.crops.append(crop)
            del left[number]
        return left

    def _crop_state(self, side: int) -> TrackState:
        """Return an empty state; positions in a crop that moves are none for a motion gate."""
        return replace(self._make_state(self._encoder.plan_crop(Size(side, side))), last_seen=None)

    def _give(
        self, crop: Crop, frame: FrameArray, state: TrackState, *, is_reference: bool = True
    ) -> None:
        """Write the state's last frame with its masks to the memory of a crop."""
        own = _mask(crop.object_id, state).cpu().numpy()
        part, size = crop.part(state.geometry.frame_size), crop.state.geometry.frame_size
        label_map = np.where(state.slot_map[part].cpu().numpy(), np.uint8(_OTHERS), np.uint8(0))
        label_map[own[part]] = _OWN
        label_map = np.asarray(cv2.resize(label_map, size, interpolation=cv2.INTER_NEAREST))
        with torch.inference_mode():
            encoded = self._encoder.encode(crop.cut(frame), crop.state.geometry)
        super().write_given(
            encoded,
            label_map,
            crop.state,
            frame_index=state.frame_index,
            is_reference=is_reference,
        )


def _merge(
    crop: Crop, inner: FrameOutputs, outputs: FrameOutputs, state: TrackState
) -> tuple[Crop, FrameOutputs]:
    """Put the mask and score of a crop in the place of those of the whole frame.

    Returns:
        The crop after the frame, and the outputs.
    """
    slot = state.slots.number_of(crop.object_id)
    part, device = crop.part(state.geometry.frame_size), state.slot_map.device
    side = _side(part)

    def read(slot_map: Tensor) -> MaskArray:
        mask = (slot_map == _OWN).cpu().numpy()
        if len(mask) == side:
            return mask
        return np.asarray(cv2.resize(mask.astype(np.float32), (side, side))) >= 0.5

    def put(mask: MaskArray, slot_map: Tensor) -> Tensor:
        slot_map = torch.where(slot_map == slot, 0, slot_map)
        slot_map[part][torch.from_numpy(mask).to(device)] = slot
        return slot_map

    mask, scored = read(inner.slot_map), outputs.scored
    moved = crop.after(mask, part[0].start, part[1].start)
    if crop.stretch > 1 and moved.length > _MAX_GROWTH * max(crop.length, crop.side / SIDE):
        return _merge(crop, _without_own(inner), outputs, state)
    if not mask.any() and crop.stretch == _MAX_STRETCH:  # the crop looks there next
        elsewhere = crop.after((outputs.slot_map == slot).cpu().numpy())
        moved = replace(elsewhere, length=crop.length)
    numbers = scored.numbers.clone()
    numbers[slot - 1] = inner.scored.numbers[0]
    scored = replace(
        scored,
        slot_map=put(read(inner.scored.slot_map), scored.slot_map),
        initial=put(read(inner.scored.initial), scored.initial),
        numbers=numbers,
    )
    return moved, replace(outputs, scored=scored, slot_map=put(mask, outputs.slot_map))


def _without_own(inner: FrameOutputs) -> FrameOutputs:
    """Return the outputs of a crop in which the object is not seen."""
    scored = inner.scored
    numbers = scored.numbers.clone()
    numbers[0] = 0
    maps = scored.slot_map, scored.initial, inner.slot_map
    final, initial, written = (torch.where(each == _OWN, 0, each) for each in maps)
    scored = replace(scored, slot_map=final, initial=initial, numbers=numbers)
    return replace(inner, scored=scored, slot_map=written)


def _side(part: tuple[slice, slice]) -> int:
    rows, _ = part
    side: int = rows.stop - rows.start
    return side


def _mask(object_id: ObjectId, state: TrackState) -> Tensor:
    return state.slot_map == state.slots.number_of(object_id)
