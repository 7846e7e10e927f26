"""Small objects: a crop around each is tracked at a higher scale, beside the whole frame.

In the network image of a whole frame a small object is smaller than what the network can tell from
its surroundings. So it is tracked once more in a square crop, which follows it. Its mask and score
are those of the crop; the other objects have those of the whole frame. Once the object has grown,
the whole frame goes on with the masks of the crop. The paper has no such rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.entry import public
from vots_hqtrack.frame import find_small, is_small, network_area
from vots_hqtrack.masks import mask_boxes
from vots_hqtrack.memory import TrackState
from vots_hqtrack.saved_state import SavedState
from vots_hqtrack.segmenter import FrameOutputs
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, LabelArray, MaskArray, ObjectId, Size

SIDE = 4
"""Side of a crop in longer sides of the object's first box."""
_MIN_SIDE = 24
"""Smallest side of a crop in pixels of the frame."""
_MAX_STRETCH = 4
"""A lost object is looked for in a part of the frame that is so many times as long at most."""
_OWN, _OTHERS = ObjectId(1), ObjectId(2)
"""Ids within a crop: the small object, and all other objects together."""


@dataclass(slots=True)
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
    def is_outgrown(self) -> bool:
        """Whether the object has become too large for the crop."""
        return 2 * self.length > self.state.geometry.frame_size.height

    def part(self, frame_size: Size) -> tuple[slice, slice]:
        """Return the rows and columns of the frame to look at, equally many and all inside."""
        side = min(self.state.geometry.frame_size.height * self.stretch, *frame_size)
        top, left = (
            min(max(round(centre - side / 2), 0), length - side)
            for centre, length in zip((self.row, self.column), frame_size, strict=True)
        )
        return slice(top, top + side), slice(left, left + side)

    def cut(self, frame: FrameArray) -> FrameArray:
        """Cut the part out of a frame, reduced to the size of the crop."""
        size = self.state.geometry.frame_size
        found = frame[self.part(Size(*frame.shape[:2]))]
        if found.shape[:2] != size:
            found = np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_AREA))
        return np.ascontiguousarray(found)

    def follow(self, mask: MaskArray, top: int = 0, left: int = 0) -> None:
        """Move to where the object is seen.

        Args:
            mask: ``(H', W')`` bool with pixels, the object in a part of the frame.
            top: Row of the part's first pixel.
            left: Column of it.
        """
        x0, y0, x1, y1 = mask_boxes(torch.from_numpy(mask)[None])[0].tolist()
        self.row, self.column = top + (y0 + y1) / 2, left + (x0 + x1) / 2
        self.length, self.stretch = max(x1 - x0, y1 - y0), 1


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
        for crop in state.crops:
            if (own := _mask(crop.object_id, state)).any():
                crop.follow(own.cpu().numpy())
        state.crops = [crop for crop in state.crops if not crop.is_outgrown]
        for crop in state.crops:
            self._give(crop, encoded.frame, state, is_reference=is_reference)
        small = find_small(state.label_map, state.geometry)
        self._open_crops(encoded.frame, small, state)

    @public
    def restore(self, saved: SavedState) -> TrackState:
        """Return the state of a video that was saved; see the base class."""
        state = super().restore(saved)
        for place, inner in saved.crops():
            crop = Crop(**place, state=self._make_state(self._encoder.plan_crop(inner.frame_size)))
            self._fill(crop.state, inner)
            state.crops.append(crop)
        return state

    def _watch_small(
        self, frame: FrameArray, small: Mapping[ObjectId, int], state: TrackState
    ) -> None:
        super()._watch_small(frame, self._open_crops(frame, small, state), state)

    def _write_memory(
        self, encoded: EncodedFrame, outputs: FrameOutputs, state: TrackState
    ) -> FrameOutputs:
        # What can fail comes first, so that the state changes as a whole.
        found = [self._segment_crop(crop, encoded) for crop in state.crops]
        super()._write_memory(encoded, outputs, state)
        for crop, (cut, inner) in zip(state.crops, found, strict=True):
            super()._write_memory(cut, inner, crop.state)
            outputs = _merge(crop, inner, outputs, state)
        state.slot_map = outputs.slot_map
        for crop in [crop for crop in state.crops if crop.is_outgrown]:
            self._leave(crop, encoded, state)
        return outputs

    def _leave(self, crop: Crop, encoded: EncodedFrame, state: TrackState) -> None:
        """Go on with an object that has grown: in a larger crop, or else in the whole frame."""
        state.crops.remove(crop)
        area = int(_mask(crop.object_id, state).sum())
        small = {crop.object_id: area} if is_small(area, state.geometry) else {}
        if not small or self._open_crops(encoded.frame, small, state):
            group, _ = state.slots.group_and_slot(crop.object_id)
            given = encoded.features, state.slot_map, [group], state
            self._write_reference(state.frame_index, *given, is_kept=False)

    def _segment_crop(self, crop: Crop, encoded: EncodedFrame) -> tuple[EncodedFrame, FrameOutputs]:
        cut = self._encoder.encode(crop.cut(encoded.frame), crop.state.geometry)
        inputs = self._read(cut, crop.state, None, use_refiner=encoded.embedding is not None)
        return cut, self._launch_segment(inputs)

    def _open_crops(
        self, frame: FrameArray, small: Mapping[ObjectId, int], state: TrackState
    ) -> dict[ObjectId, int]:
        """Begin to track small objects in crops, smallest first; return those without one.

        A long thin object may be small, and its crop too large to enlarge anything.
        """
        known = {crop.object_id for crop in state.crops}
        left = {number: area for number, area in small.items() if number not in known}
        ids = [_OWN, _OTHERS] if self.config.tracking.mode == "joint" else [_OWN]
        for number, area in sorted(left.items(), key=lambda item: item[1]):
            if len(state.crops) >= self.config.tracking.max_crops:
                break
            x0, y0, x1, y1 = mask_boxes(_mask(number, state)[None])[0].tolist()
            side = int(min(max(SIDE * max(x1 - x0, y1 - y0), _MIN_SIDE), *frame.shape[:2]))
            geometry = self._encoder.plan_crop(Size(side, side))
            is_enlarged = network_area(area, geometry) > 2 * network_area(area, state.geometry)
            if not is_enlarged:
                continue
            crop = Crop(number, self._make_state(geometry))
            crop.follow(_mask(number, state).cpu().numpy())
            self._add_unseen(ids, crop.state, num_references=1)
            self._give(crop, frame, state)
            state.crops.append(crop)
            del left[number]
        return left

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
) -> FrameOutputs:
    """Put the mask and score of a crop in the place of those of the whole frame, and follow it."""
    slot = state.slots.object_ids.index(crop.object_id) + 1
    part, device = crop.part(state.geometry.frame_size), state.slot_map.device
    side = part[0].stop - part[0].start

    def read(slot_map: Tensor) -> MaskArray:
        mask = (slot_map == _OWN).cpu().numpy()
        if len(mask) == side:
            return mask
        return np.asarray(cv2.resize(mask.astype(np.float32), (side, side))) >= 0.5

    def put(mask: MaskArray, slot_map: Tensor) -> Tensor:
        slot_map = torch.where(slot_map == slot, 0, slot_map)
        slot_map[part][torch.from_numpy(mask).to(device)] = slot
        return slot_map

    final, scored = read(inner.scored.slot_map), outputs.scored
    numbers = scored.numbers.clone()
    numbers[slot - 1] = inner.scored.numbers[0]
    scored = replace(
        scored,
        slot_map=put(final, scored.slot_map),
        initial=put(read(inner.scored.initial), scored.initial),
        numbers=numbers,
    )
    written = put(read(inner.slot_map), outputs.slot_map)
    if final.any():
        crop.follow(final, part[0].start, part[1].start)
    else:
        crop.stretch = min(2 * crop.stretch, _MAX_STRETCH)
    return replace(outputs, scored=scored, slot_map=written)


def _mask(object_id: ObjectId, state: TrackState) -> Tensor:
    return state.slot_map == state.slots.object_ids.index(object_id) + 1
